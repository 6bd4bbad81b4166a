"""What the System area opens: the schedules, and who is told that something waits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial

from textual.content import Content

from helmr.filters import Facts, Fields
from helmr.forms import pretty
from helmr.models import NoticeTargetInfo, ScheduleInfo
from helmr_console import countdown, safe, system_views
from helmr_console.actions import Context, Scope
from helmr_console.reads import first
from helmr_console.screens.base import ConsoleScreen, bindings
from helmr_console.screens.confirm import Act, ConfirmScreen
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import copy_menu
from helmr_console.screens.session import SessionScreen
from helmr_console.views import Row
from helmr_console.widgets.lines import Column
from helmr_console.widgets.panes import fact, head, lines, nothing_here

READ_EVERY_S = 5.0
"""Most of it is in no entry that the feed would tell of."""
SCHEDULES_MAX = 1_000
"""A ledger holds no more."""

SCHEDULE_FIELDS = Fields(
    noun="schedule",
    texts=("name", "status", "task", "when", "last"),
    times={"due": ("due", True)},
    pushed={},
)
TARGET_FIELDS = Fields(
    noun="target",
    texts=("name", "type", "error"),
    times={"failing": ("failing", False), "taken": ("taken", False)},
    pushed={},
)


class ReadingScreen(ConsoleScreen):
    """A screen over schedules and notice targets, which are read while one looks at them."""

    _read_at_s = 0.0
    _is_reading = False

    def on_screen_resume(self) -> None:
        """In front: read now."""
        self._read()

    def tick(self) -> None:
        """Read again, now and then."""
        super().tick()
        since_s = self.console.store.mono() - self._read_at_s
        if self.app.screen is self and since_s >= READ_EVERY_S:
            self._read()

    def do_refresh(self) -> None:
        """Read now."""
        self.console.ask_again()
        self._read()

    def _read(self) -> None:
        if self._is_reading or self.console.store.freshness.failing:
            return
        self._is_reading, self._read_at_s = True, self.console.store.mono()
        self.console.background.start(self._load(), group="system", on_error=self._not_read)

    async def _load(self) -> None:
        client, store = self.console.client, self.console.store
        try:
            schedules = await first(client.schedules.list(), SCHEDULES_MAX)
            targets = await client.notices.list()
        finally:
            self._is_reading = False
        store.schedules = {one.name: one for one in schedules}
        store.targets = {one.name: one for one in targets}
        self.store_changed()

    def _not_read(self, text: str) -> None:
        """That the gateway is away is said by the header."""


class SchedulesScreen(ListScreen, ReadingScreen):
    """What starts sessions by the clock."""

    AREA = "system"
    SCOPES = (Scope.ANYWHERE, Scope.LIST, Scope.AREA, Scope.SCHEDULES)
    BINDINGS = bindings(*SCOPES)
    FIELDS = SCHEDULE_FIELDS
    TITLE_TEXT = "Schedules, next due first"
    NOUN = "schedules"
    SORTS = ("due", "name")
    COLUMNS = (
        Column("due", 9),
        Column("name", 16),
        Column("task", 14, from_width=90),
        Column("when", 0),
        Column("last", 8),
        Column("ago", 8, right=True, from_width=90),
    )
    HELP_TEXT = (
        "Each schedule with its next due time. `gone` is one whose code or task is not there. "
        "Enter opens the session that it started last. P pauses or resumes, R starts a session now."
    )

    def all_keys(self) -> Iterable[str]:
        """Names, in the wanted order; what is not due comes last."""
        found = sorted((self.console.store.schedules or {}).values(), key=lambda one: one.name)
        if self.sort == 0:
            found.sort(key=system_views.by_due)
        return [one.name for one in found]

    def row(self, key: str) -> Row:
        """A schedule as it is now."""
        one = (self.console.store.schedules or {}).get(key)
        return system_views.schedule_row(one, self.console.store.now()) if one is not None else ()

    def facts(self, key: str) -> Facts:
        """What the filter sees."""
        one = (self.console.store.schedules or {}).get(key)
        if one is None:
            return {}
        return {
            "name": one.name,
            "status": one.status,
            "task": one.task,
            "when": one.when,
            "last": one.last_outcome or "",
            "due": one.next_due_at,
        }

    def empty_text(self) -> str:
        """What no schedule says."""
        known = self.console.store.schedules
        if known is None:
            return "Asking the gateway…"
        if known:
            return f"0 of {len(known)} match. esc clears the filter."
        return "Nothing is started by the clock. helmr schedule create makes a schedule."

    def _selected(self) -> ScheduleInfo | None:
        return (self.console.store.schedules or {}).get(self.list.cursor or "")

    def context(self) -> Context:
        """Which schedule."""
        one = self._selected()
        return replace(super().context(), schedule=one.status if one is not None else "")

    def store_changed(self) -> None:
        """The pane, too."""
        super().store_changed()
        if self.is_attached:
            self.moved()

    def moved(self) -> None:
        """The pane follows."""
        one = self._selected()
        hint = nothing_here(self.filter_text, "What a schedule starts and when is shown here.")
        now = self.console.store.now()
        self.pane.say(schedule_content(one, now) if one is not None else hint, "Schedule")

    def do_open(self) -> None:
        """The session that it started last."""
        one = self._selected()
        if one is None:
            return
        if one.last_session_id is None:
            self.console.say("It has started no session yet", "warning")
            return
        self.app.push_screen(SessionScreen(one.last_session_id))

    def do_copy(self) -> None:
        """What can be copied of a schedule."""
        one = self._selected()
        if one is not None:
            items = [
                ("name", one.name),
                ("JSON", one.model_dump_json(indent=2)),
                ("CLI command", f"helmr schedule get {one.name}"),
            ]
            self.app.push_screen(copy_menu(self, items))

    def do_schedule_pause(self) -> None:
        """Pause it, or go on with it."""
        one = self._selected()
        if one is not None:
            pauses = one.status == "active"
            verb = "Pause" if pauses else "Resume"
            act = partial(self.console.writer.pause_schedule, name=one.name, paused=pauses)
            self._confirm("schedule.pause", f"{verb} {one.name}", act, system_views.pausing(one))

    def do_schedule_run(self) -> None:
        """Start a session now."""
        one = self._selected()
        if one is not None:
            act = partial(self.console.writer.run_schedule, name=one.name)
            self._confirm("schedule.run", f"Run {one.name} now", act, system_views.running_now(one))

    def _confirm(self, action_id: str, title: str, act: Act, texts: tuple[str, ...]) -> None:
        self.app.push_screen(
            ConfirmScreen(
                action_id, title, act, expect="", texts=texts, given=self.context(), area=self.AREA
            )
        )


class NoticesScreen(ListScreen, ReadingScreen):
    """Who is told that something waits."""

    AREA = "system"
    SCOPES = (Scope.ANYWHERE, Scope.LIST, Scope.AREA, Scope.NOTICES)
    BINDINGS = bindings(*SCOPES)
    FIELDS = TARGET_FIELDS
    TITLE_TEXT = "Notice targets"
    NOUN = "targets"
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

    def all_keys(self) -> Iterable[str]:
        """Names; those that fail first."""
        found = (self.console.store.targets or {}).values()
        return [
            one.name for one in sorted(found, key=lambda one: (not one.failing_since, one.name))
        ]

    def row(self, key: str) -> Row:
        """A target as it is now."""
        one = (self.console.store.targets or {}).get(key)
        return system_views.target_row(one, self.console.store.now()) if one is not None else ()

    def facts(self, key: str) -> Facts:
        """What the filter sees."""
        one = (self.console.store.targets or {}).get(key)
        if one is None:
            return {}
        return {
            "name": one.name,
            "type": one.type,
            "error": one.last_error or "",
            "failing": one.failing_since,
            "taken": one.last_taken_at,
        }

    def empty_text(self) -> str:
        """What no target says."""
        known = self.console.store.targets
        if known is None:
            return "Asking the gateway…"
        if known:
            return f"0 of {len(known)} match. esc clears the filter."
        return "Nobody is told: helmr.toml names no notice targets."

    def _selected(self) -> NoticeTargetInfo | None:
        return (self.console.store.targets or {}).get(self.list.cursor or "")

    def store_changed(self) -> None:
        """The pane, too."""
        super().store_changed()
        if self.is_attached:
            self.moved()

    def moved(self) -> None:
        """The pane follows."""
        one = self._selected()
        hint = nothing_here(self.filter_text, "How far a target is, is shown here.")
        now = self.console.store.now()
        self.pane.say(target_content(one, now) if one is not None else hint, "Target")

    def do_open(self) -> None:
        """All there is to know stands in the pane."""
        self.do_zoom()

    def do_copy(self) -> None:
        """What can be copied of a target."""
        one = self._selected()
        if one is not None:
            items = [("name", one.name), ("JSON", one.model_dump_json(indent=2))]
            items.append(("CLI command", f"helmr notices retry {one.name}"))
            self.app.push_screen(copy_menu(self, items))

    def do_notice_retry(self) -> None:
        """Try again now."""
        one = self._selected()
        if one is not None:
            act = partial(self.console.writer.retry_notices, name=one.name)
            self.app.push_screen(
                ConfirmScreen(
                    "notice.retry",
                    f"Try {one.name} again",
                    act,
                    expect="",
                    texts=system_views.trying_again(one),
                    given=self.context(),
                    area=self.AREA,
                )
            )


def schedule_content(one: ScheduleInfo, now: datetime) -> Content:
    """A schedule in full."""
    role = {"active": "success", "paused": "warning"}.get(one.status, "error")
    parts = [
        Content.assemble(
            safe.line(one.name, "bold", limit=100), ("  ", ""), (one.status, f"bold $c-{role}")
        ),
        fact("task", safe.line(one.task, limit=200)),
        fact("when", safe.line(one.when, limit=200)),
    ]
    if one.next_due_at is not None:
        left = countdown.due(one.next_due_at, now).text
        parts.append(fact("next due", f"{countdown.stamp(one.next_due_at)} (in {left})"))
    if one.last_due_at is not None:
        ago = countdown.ago(one.last_due_at, now)
        parts.append(fact("last due", f"{countdown.stamp(one.last_due_at)} ({ago})"))
    if one.last_outcome is not None:
        parts.append(fact("outcome", system_views.OUTCOMES[one.last_outcome]))
    if one.last_session_id is not None:
        parts.append(fact("session", safe.line(one.last_session_id, limit=80)))
    parts += [
        fact("missed", one.missed),
        fact("overlap", one.overlap),
        fact("made by", "the code" if one.declared_in == "code" else "a program or person"),
        fact("made at", countdown.stamp(one.created_at)),
        Content(""),
        head("Payload"),
        safe.text(pretty(one.payload), limit=4_000),
    ]
    return lines(parts)


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
            f"{countdown.stamp(taken)} ({countdown.ago(taken, now)})" if taken else "nothing yet",
        ),
    ]
    if failing is not None:
        stamped = f"{countdown.stamp(failing)} ({countdown.ago(failing, now)})"
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
