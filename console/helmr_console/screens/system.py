"""Reads of the System area while it is on screen, and its list of notice targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from textual.app import App
from textual.content import Content

from helmr.models import NoticeTargetInfo
from helmr.person.filters import Facts, Fields
from helmr.person.review import words
from helmr_console import safe, system_views
from helmr_console.actions import ActionContext, ActionScope, Permit
from helmr_console.console import Console
from helmr_console.feature import lists_in_use
from helmr_console.link import first
from helmr_console.screens.base import bindings
from helmr_console.screens.confirm import Act, ConfirmScreen
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import copy_menu
from helmr_console.views import Row
from helmr_console.widgets.lines import Column
from helmr_console.widgets.panes import fact, head, lines

READ_EVERY_S = 5.0
"""Most of it is in no entry, so the feed does not bring it."""
LIMITS_MAX = 50

TARGET_FIELDS = Fields(
    noun="target",
    texts=("name", "type", "error"),
    times={"failing": ("failing", False), "taken": ("taken", False)},
    pushed={},
)


class SystemPage(Protocol):
    """A screen that shows these reads."""

    @property
    def console(self) -> Console: ...
    @property
    def app(self) -> App[Any]: ...
    @property
    def is_current(self) -> bool: ...
    def context(self) -> ActionContext: ...
    def store_changed(self) -> None: ...
    def merge(self) -> None:
        """Show the new data at once."""
        ...


class SystemReads:
    """Reads lists of features, notice targets and limits; shows the operator's own changes at once."""

    def __init__(self, page: SystemPage) -> None:
        self._page = page
        self._read_at_s = 0.0
        self._is_reading = False
        self._again = False
        """The read in progress began before the operator's last action."""
        self.has_changed = False
        """The operator changed something; its effects are shown at once, not held back like others' changes."""

    def resumed(self) -> None:
        """Read when the screen comes to the front."""
        self._read()

    def tick(self) -> None:
        """Read again every `READ_EVERY_S`, while in front."""
        since_s = self._page.console.store.mono() - self._read_at_s
        if self._page.is_current and since_s >= READ_EVERY_S:
            self._read()

    def do_refresh(self) -> None:
        """Read everything again now."""
        self._page.console.ask_again()
        self._read()

    def _read(self) -> None:
        console = self._page.console
        if console.store.freshness.failing:
            return
        self._again = True
        if self._is_reading:
            return
        self._is_reading, self._read_at_s = True, console.store.mono()
        console.background.start(self._load(), group="system", on_error=_not_read)

    async def _load(self) -> None:
        client, store = self._page.console.client, self._page.console.store
        try:
            while True:
                self._again = False
                of_features = {one.name: await one.read(client) for one in lists_in_use()}
                targets = await client.notices.list()
                has_limits = store.health is not None and store.health.pool.get("limits")
                limits = await first(client.limits.list(), LIMITS_MAX) if has_limits else []
                if not self._again:
                    break
        finally:
            self._is_reading = False
        store.of_features = of_features
        store.targets = {one.name: one for one in targets}
        store.limits = {one.name: one for one in limits}
        self._page.store_changed()
        if self.has_changed and self._page.is_current:
            self.has_changed = False
            self._page.merge()

    def confirm(
        self, action_id: str, title: str, act: Act, texts: Sequence[str], *, expect: str = ""
    ) -> None:
        """Open the page that confirms an action."""

        async def acts(permit: Permit, operation_id: str) -> Any:
            done = await act(permit, operation_id)
            self.has_changed = True
            return done

        given = self._page.context()
        self._page.app.push_screen(
            ConfirmScreen(action_id, title, acts, expect=expect, texts=texts, given=given)
        )


def _not_read(text: str) -> None:
    """Ignore a failed read; the header shows that the gateway is away."""


class NoticesScreen(ListScreen[NoticeTargetInfo]):
    """Notice targets, and their progress."""

    AREA = "system"
    SCOPES = (ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.AREA, ActionScope.NOTICES)
    BINDINGS = bindings(*SCOPES)
    FIELDS = TARGET_FIELDS
    TITLE_TEXT = "Notice targets"
    NOUN = "targets"
    PANE = "Target"
    HINT = "How far a target is, is shown here."
    NONE = "No notices are sent: helmr.toml names no notice targets."
    COLUMNS = (
        Column("", 1),
        Column("name", 16),
        Column("type", 8),
        Column("queued", 7, right=True),
        Column("late", 5, right=True),
        Column("taken", 8, right=True),
        Column("failing", 8, right=True),
        Column("error", 0),
    )
    HELP_TEXT = (
        "The targets in helmr.toml, and how far each is: events that wait for it, events that it did not take and that "
        "are tried again, when it last took one, since when it fails. R sends again now what it has not taken."
    )

    def __init__(self) -> None:
        super().__init__()
        self.reads = SystemReads(self)
        self.parts = (self.reads,)

    def all_keys(self) -> Iterable[str]:
        """Names of targets, failing ones first."""
        found = (self.things() or {}).values()
        return [
            one.name for one in sorted(found, key=lambda one: (not one.failing_since, one.name))
        ]

    def things(self) -> Mapping[str, NoticeTargetInfo] | None:
        """The targets."""
        return self.console.store.targets

    def row_of(self, one: NoticeTargetInfo, now: datetime) -> Row:
        """The row of a target."""
        return system_views.target_row(one, now)

    def facts_of(self, one: NoticeTargetInfo) -> Facts:
        """Facts for the filter."""
        return {
            "name": one.name,
            "type": one.type,
            "error": one.last_error or "",
            "failing": one.failing_since,
            "taken": one.last_taken_at,
        }

    def content_of(self, one: NoticeTargetInfo, now: datetime) -> Content:
        """A target in full."""
        return target_content(one, now)

    def do_open(self) -> None:
        """Zoom the pane, which has all the facts."""
        self.do_zoom()

    def do_copy(self) -> None:
        """Copy a target's name, JSON or CLI command."""
        one = self.selected()
        if one is not None:
            items = [("name", one.name), ("JSON", one.model_dump_json(indent=2))]
            items.append(("CLI command", f"helmr notices retry {one.name}"))
            self.app.push_screen(copy_menu(self, items))

    def do_notice_retry(self) -> None:
        """Confirm, then send now what the target has not taken."""
        one = self.selected()
        if one is not None:

            async def act(permit: Permit, operation_id: str) -> None:
                await permit.client.notices.retry(one.name)  # repeats are harmless

            texts = system_views.trying_again(one)
            self.reads.confirm("notice.retry", f"Try {one.name} again", act, texts)


def target_content(one: NoticeTargetInfo, now: datetime) -> Content:
    """A notice target in full."""
    taken, failing = one.last_taken_at, one.failing_since
    state, role = system_views.target_state(one)
    parts = [
        Content.assemble(
            safe.line(one.name, "bold", limit=100), ("  ", ""), (one.type, "$c-muted")
        ),
        fact("state", Content.styled(state, f"$c-{role}")),
        fact("queued", f"{one.queued}, in order"),
        fact("late", f"{one.late} that it was passed by, tried apart"),
        fact("given up", f"{one.given_up} since the gateway began"),
        fact(
            "last taken",
            f"{words.stamp(taken)} ({words.ago(taken, now)})" if taken else "nothing yet",
        ),
    ]
    if failing is not None:
        stamped = f"{words.stamp(failing)} ({words.ago(failing, now)})"
        parts.append(fact("failing", Content.styled(f"since {stamped}", "$c-error")))
    if one.last_error:
        parts.append(fact("error", safe.line(one.last_error, "$c-error", limit=300)))
    parts += [
        Content(""),
        head("Receives"),
        fact("events", safe.line(", ".join(one.events), limit=300)),
        fact("filter", safe.line(one.filter or "none", limit=300)),
        fact("detail", one.detail),
    ]
    return lines(parts)
