"""What the System area opens: a list that is read while one looks at it, and who is told that something waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from textual.app import App
from textual.content import Content

from helmr.filters import Facts, Fields
from helmr.models import NoticeTargetInfo
from helmr.review import words
from helmr_console import safe, system_views
from helmr_console.actions import ActionContext, ActionScope
from helmr_console.console import Console
from helmr_console.permits import Permit
from helmr_console.reads import first
from helmr_console.screens.base import bindings
from helmr_console.screens.confirm import Act, ConfirmScreen
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import copy_menu
from helmr_console.views import Row
from helmr_console.widgets.lines import Column
from helmr_console.widgets.panes import fact, head, lines

READ_EVERY_S = 5.0
"""Most of it is in no entry that the feed would tell of."""
SCHEDULES_MAX = 1_000
"""A ledger holds no more."""

TARGET_FIELDS = Fields(
    noun="target",
    texts=("name", "type", "error"),
    times={"failing": ("failing", False), "taken": ("taken", False)},
    pushed={},
)


class SystemPage(Protocol):
    """A screen over schedules and notice targets."""

    @property
    def console(self) -> Console: ...
    @property
    def app(self) -> App[Any]: ...
    @property
    def is_current(self) -> bool: ...
    def context(self) -> ActionContext: ...
    def store_changed(self) -> None: ...
    def merge(self) -> None:
        """Show at once what was read."""
        ...


class SystemReads:
    """Schedules and notice targets are read while one looks at them; what was done from there is shown at once."""

    def __init__(self, page: SystemPage) -> None:
        self._page = page
        self._read_at_s = 0.0
        self._is_reading = False
        self.has_changed = False
        """Something was done from here: what comes of it is not shown as what others did."""

    def resumed(self) -> None:
        """In front: read now."""
        self._read()

    def tick(self) -> None:
        """Read again, now and then."""
        since_s = self._page.console.store.mono() - self._read_at_s
        if self._page.is_current and since_s >= READ_EVERY_S:
            self._read()

    def do_refresh(self) -> None:
        """Read now."""
        self._page.console.ask_again()
        self._read()

    def _read(self) -> None:
        console = self._page.console
        if self._is_reading or console.store.freshness.failing:
            return
        self._is_reading, self._read_at_s = True, console.store.mono()
        console.background.start(self._load(), group="system", on_error=_not_read)

    async def _load(self) -> None:
        client, store = self._page.console.client, self._page.console.store
        try:
            schedules = await first(client.schedules.list(), SCHEDULES_MAX)
            targets = await client.notices.list()
        finally:
            self._is_reading = False
        store.schedules = {one.name: one for one in schedules}
        store.targets = {one.name: one for one in targets}
        self._page.store_changed()
        if self.has_changed and self._page.is_current:
            self.has_changed = False
            self._page.merge()

    def confirm(
        self, action_id: str, title: str, act: Act, texts: Sequence[str], *, expect: str = ""
    ) -> None:
        """Say what it does, and do it if that is confirmed."""
        self.has_changed = True
        given = self._page.context()
        self._page.app.push_screen(
            ConfirmScreen(action_id, title, act, expect=expect, texts=texts, given=given)
        )


def _not_read(text: str) -> None:
    """That the gateway is away is said by the header."""


class NoticesScreen(ListScreen[NoticeTargetInfo]):
    """Who is told that something waits."""

    AREA = "system"
    SCOPES = (ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.AREA, ActionScope.NOTICES)
    BINDINGS = bindings(*SCOPES)
    FIELDS = TARGET_FIELDS
    TITLE_TEXT = "Notice targets"
    NOUN = "targets"
    PANE = "Target"
    HINT = "How far a target is, is shown here."
    NONE = "Nobody is told: helmr.toml names no notice targets."
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
        "The targets that helmr.toml names, and how far each is: events that wait for it, events that it was passed "
        "by, when it took one last, since when it fails. R tries again now what it has not taken."
    )

    def __init__(self) -> None:
        super().__init__()
        self.reads = SystemReads(self)
        self.parts = (self.reads,)

    def all_keys(self) -> Iterable[str]:
        """Names; those that fail first."""
        found = (self.things() or {}).values()
        return [
            one.name for one in sorted(found, key=lambda one: (not one.failing_since, one.name))
        ]

    def things(self) -> Mapping[str, NoticeTargetInfo] | None:
        """The targets."""
        return self.console.store.targets

    def row_of(self, one: NoticeTargetInfo, now: datetime) -> Row:
        """A target as it is now."""
        return system_views.target_row(one, now)

    def facts_of(self, one: NoticeTargetInfo) -> Facts:
        """What the filter sees."""
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
        """All there is to know stands in the pane."""
        self.do_zoom()

    def do_copy(self) -> None:
        """What can be copied of a target."""
        one = self.selected()
        if one is not None:
            items = [("name", one.name), ("JSON", one.model_dump_json(indent=2))]
            items.append(("CLI command", f"helmr notices retry {one.name}"))
            self.app.push_screen(copy_menu(self, items))

    def do_notice_retry(self) -> None:
        """Try again now."""
        one = self.selected()
        if one is not None:

            async def act(permit: Permit, operation_id: str) -> None:
                await permit.client.notices.retry(one.name)  # twice is as good as once

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
        head("Is told"),
        fact("events", safe.line(", ".join(one.events), limit=300)),
        fact("filter", safe.line(one.filter or "none", limit=300)),
        fact("detail", one.detail),
    ]
    return lines(parts)
