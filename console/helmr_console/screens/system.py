"""What the System area reads while it is on screen; its schedules, and where notices go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from textual.app import App
from textual.content import Content

from helmr.filters import Facts, Fields
from helmr.forms import Built, form_of, pretty
from helmr.models import NoticeTargetInfo, ScheduleInfo, TaskInfo
from helmr.review import words
from helmr.review.outcome import AnswerOutcome, Result
from helmr.safe_text import one_line
from helmr_console import safe, system_views
from helmr_console.actions import ActionContext, ActionScope, Permit
from helmr_console.console import Console
from helmr_console.link import CATALOG_MAX, first
from helmr_console.screens.base import bindings
from helmr_console.screens.confirm import Act, ConfirmScreen
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import MenuItem, PickScreen, copy_menu
from helmr_console.screens.session import SessionScreen
from helmr_console.screens.submit import SubmitScreen
from helmr_console.system_views import LookedAt
from helmr_console.views import Row
from helmr_console.widgets.lines import Column
from helmr_console.widgets.panes import fact, head, lines

READ_EVERY_S = 5.0
"""Most of it is in no entry, so the feed does not bring it."""
SCHEDULES_MAX = 1_000
"""A ledger holds no more."""
GRANTS_MAX = UNKNOWN_MAX = 200
"""Of each the newest."""
LIMITS_MAX = 50

TARGET_FIELDS = Fields(
    noun="target",
    texts=("name", "type", "error"),
    times={"failing": ("failing", False), "taken": ("taken", False)},
    pushed={},
)


class SystemPage(Protocol):
    """A screen over what is read here."""

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
    """Schedules, notice targets, grants and unknown outcomes: what was done from there is shown at once."""

    def __init__(self, page: SystemPage) -> None:
        self._page = page
        self._read_at_s = 0.0
        self._is_reading = False
        self._again = False
        """What is being read was asked for before the last thing that was done."""
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
                schedules = await first(client.schedules.list(), SCHEDULES_MAX)
                targets = await client.notices.list()
                grants = await first(client.grants.list(), GRANTS_MAX)
                unknown = await first(client.outcomes.list(), UNKNOWN_MAX)
                has_limits = store.health is not None and store.health.pool.get("limits")
                limits = await first(client.limits.list(), LIMITS_MAX) if has_limits else []
                if not self._again:
                    break
        finally:
            self._is_reading = False
        store.schedules = {one.name: one for one in schedules}
        store.targets = {one.name: one for one in targets}
        store.grants = {one.id: one for one in grants}
        store.unknown = {one.session_id: one for one in unknown}
        store.limits = {one.name: one for one in limits}
        self._page.store_changed()
        if self.has_changed and self._page.is_current:
            self.has_changed = False
            self._page.merge()

    def confirm(
        self, action_id: str, title: str, act: Act, texts: Sequence[str], *, expect: str = ""
    ) -> None:
        """Say what it does, and do it if that is confirmed."""

        async def acts(permit: Permit, operation_id: str) -> Any:
            done = await act(permit, operation_id)
            self.has_changed = True
            return done

        given = self._page.context()
        self._page.app.push_screen(
            ConfirmScreen(action_id, title, acts, expect=expect, texts=texts, given=given)
        )


def _not_read(text: str) -> None:
    """The header says that the gateway is away."""


class NoticesScreen(ListScreen[NoticeTargetInfo]):
    """Where notices go."""

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
        head("Receives"),
        fact("events", safe.line(", ".join(one.events), limit=300)),
        fact("filter", safe.line(one.filter or "none", limit=300)),
        fact("detail", one.detail),
    ]
    return lines(parts)


SCHEDULE_FIELDS = Fields(
    noun="schedule",
    texts=("name", "status", "task", "when", "last"),
    times={"due": ("due", True)},
    pushed={},
)


class SchedulesScreen(ListScreen[ScheduleInfo]):
    """What starts sessions by the clock."""

    AREA = "system"
    SCOPES = (ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.AREA, ActionScope.SCHEDULES)
    BINDINGS = bindings(*SCOPES)
    FIELDS = SCHEDULE_FIELDS
    TITLE_TEXT = "Schedules, next due first"
    NOUN = "schedules"
    PANE = "Schedule"
    HINT = "What a schedule starts and when is shown here."
    NONE = "Nothing is started by the clock. n makes a schedule."
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
        "Each schedule with its next due time. `gone`: its code or its task no longer exists. "
        "Enter opens the session that it started last. P pauses or resumes it, R starts a session now, "
        "n makes a schedule, X deletes this one."
    )

    def __init__(self) -> None:
        super().__init__()
        self.reads = SystemReads(self)
        self.parts = (self.reads,)

    def all_keys(self) -> Iterable[str]:
        """Names, in the wanted order; what is not due comes last."""
        found = sorted((self.things() or {}).values(), key=lambda one: one.name)
        if self.sort == 0:
            found.sort(key=system_views.by_due)
        return [one.name for one in found]

    def things(self) -> Mapping[str, ScheduleInfo] | None:
        """The schedules."""
        return self.console.store.schedules

    def row_of(self, one: ScheduleInfo, now: datetime) -> Row:
        """A schedule as it is now."""
        return system_views.schedule_row(one, now)

    def facts_of(self, one: ScheduleInfo) -> Facts:
        """What the filter sees."""
        return {
            "name": one.name,
            "status": one.status,
            "task": one.task,
            "when": one.when,
            "last": one.last_outcome or "",
            "due": one.next_due_at,
        }

    def content_of(self, one: ScheduleInfo, now: datetime) -> Content:
        """A schedule in full."""
        return schedule_content(one, now)

    def context(self) -> ActionContext:
        """Which schedule."""
        one = self.selected()
        return replace(
            super().context(),
            schedule=one.status if one is not None else "",
            schedule_of_code=one is not None and one.declared_in == "code",
        )

    def do_open(self) -> None:
        """The session that it started last."""
        one = self.selected()
        if one is None:
            return
        if one.last_session_id is None:
            self.console.say("It has started no session yet", "warning")
            return
        self.app.push_screen(SessionScreen(one.last_session_id))

    def do_copy(self) -> None:
        """What can be copied of a schedule."""
        one = self.selected()
        if one is not None:
            items = [
                ("name", one.name),
                ("JSON", one.model_dump_json(indent=2)),
                ("CLI command", f"helmr schedule get {one.name}"),
            ]
            self.app.push_screen(copy_menu(self, items))

    def do_schedule_pause(self) -> None:
        """Pause it, or go on with it."""
        one = self.selected()
        if one is not None:
            pauses = one.status == "active"
            verb = "Pause" if pauses else "Resume"

            async def act(permit: Permit, operation_id: str) -> None:
                schedules = permit.client.schedules
                change = schedules.pause if pauses else schedules.resume
                await change(one.name, operation_id=operation_id)

            self.reads.confirm(
                "schedule.pause", f"{verb} {one.name}", act, system_views.pausing(one)
            )

    def do_schedule_run(self) -> None:
        """Start a session now."""
        one = self.selected()
        if one is not None:

            async def act(permit: Permit, operation_id: str) -> None:
                await permit.client.schedules.run(one.name, operation_id=operation_id)

            self.reads.confirm(
                "schedule.run", f"Run {one.name} now", act, system_views.running_now(one)
            )

    async def do_schedule_new(self) -> None:
        """Pick the task, of those that there are now; then the form."""
        tasks = await first(self.console.client.tasks.list(), CATALOG_MAX)
        choices = [
            MenuItem(one.id, (one.doc or "").partition("\n")[0], partial(self._make, one))
            for one in sorted(tasks, key=lambda one: one.id)
        ]
        self.app.push_screen(PickScreen("Whose sessions are to be started?", choices, typed=True))

    def _make(self, task: TaskInfo) -> None:
        self.app.push_screen(NewScheduleScreen(task, self.reads))

    def do_schedule_delete(self) -> None:
        """Delete it, once its name is typed."""
        one = self.selected()
        if one is not None:

            async def act(permit: Permit, operation_id: str) -> None:
                await permit.client.schedules.delete(one.name, operation_id=operation_id)

            texts = system_views.deleting(one)
            self.reads.confirm("schedule.delete", f"Delete {one.name}", act, texts, expect=one.name)


class NewScheduleScreen(SubmitScreen):
    """The form of a schedule that starts sessions of a task: what it is called, when it is due, what each gets."""

    ACTION = "schedule.new"
    AREA = "system"
    TITLE_TEXT = "New schedule"
    HELP_TEXT = (
        "A name, when it is due, and what each session gets. Write when as a duration (15m, 1d) or as five cron "
        "fields: minute, hour, day of month, month, day of week (0 3 * * mon-fri). The next due times show beside the "
        "form."
    )

    def __init__(self, task: TaskInfo, reads: SystemReads) -> None:
        super().__init__()
        self.fields = self.composes()
        self.task_info = task
        self._reads = reads
        self._looked = LookedAt()

    async def load(self) -> None:
        """The fields of a schedule, then those of the task's payload."""
        await self.fields.show(form_of(system_views.schema(self.task_info)))
        self._look_soon()

    def on_schema_form_form_changed(self) -> None:
        """When it is due follows what is typed."""
        super().on_schema_form_form_changed()
        self._look_soon()

    def _look_soon(self) -> None:
        self.console.background.start(self._look(), group="due", exclusive=True, holds_keys=True)

    async def _look(self) -> None:
        """Zones are read from files, which no key waits for on the loop."""
        data, now = super().result().data, self.console.store.now()
        self._looked = await asyncio.to_thread(system_views.look, data, now)
        self.redraw()

    def draft_name(self) -> str | None:
        """One draft for each task."""
        return f"schedule_{self.task_info.id}"

    def facts(self) -> Sequence[Content]:
        """Which task."""
        doc = (self.task_info.doc or "").partition("\n")[0]
        return (
            fact("starts", safe.line(self.task_info.id, "bold", limit=100)),
            *([fact("", safe.line(doc, "$c-muted", limit=200))] if doc else []),
            *(fact("due first", text) for text in self._dues()[:1]),
        )

    def effects(self) -> Sequence[str]:
        """What it does, and when first."""
        return (
            f"starts a session of {one_line(self.task_info.id, 100)} whenever it is due, from now on",
            *(f"due {text}" for text in self._dues()[:1]),
        )

    def context_content(self) -> Content:
        """The next times, then the JSON."""
        found = [safe.line(f"  {text}", limit=100) for text in self._dues()]
        none = [safe.line("  not yet: say when", "$c-muted")]
        return lines([head("Due next"), *(found or none), Content(""), *self.preview()])

    def _dues(self) -> list[str]:
        now = self.console.store.now()
        return [f"{words.stamp(at)} (in {words.due(at, now).text})" for at in self._looked.times]

    def result(self) -> Built:
        """The JSON, if it is a schedule that comes to be due."""
        built = super().result()
        problems = self._looked.problems if self._looked.data == built.data else {}
        return Built(None, dict(problems)) if problems and not built.problems else built

    def path(self) -> str:
        """System > Schedules > New schedule."""
        return "System > Schedules > New schedule"

    async def deliver(self, permit: Permit, data: Any) -> AnswerOutcome:
        """Make it."""
        made = await permit.client.schedules.create(
            **system_views.parts(data),
            task=self.task_info.id,
            operation_id=self.submission.operation_id,
        )
        self._reads.has_changed = True
        at = words.stamp(made.next_due_at) if made.next_due_at is not None else "never"
        return AnswerOutcome(Result.ACCEPTED, (f"{one_line(made.name, 100)} is due next {at}",))


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
        left = words.due(one.next_due_at, now).text
        parts.append(fact("next due", f"{words.stamp(one.next_due_at)} (in {left})"))
    if one.last_due_at is not None:
        ago = words.ago(one.last_due_at, now)
        parts.append(fact("last due", f"{words.stamp(one.last_due_at)} ({ago})"))
    if one.last_outcome is not None:
        parts.append(fact("outcome", system_views.OUTCOMES[one.last_outcome]))
    if one.last_session_id is not None:
        parts.append(fact("session", safe.line(one.last_session_id, limit=80)))
    parts += [
        fact("missed", one.missed),
        fact("overlap", one.overlap),
        fact("made by", "the code" if one.declared_in == "code" else "a program or person"),
        fact("made at", words.stamp(one.created_at)),
        Content(""),
        head("Payload"),
        safe.text(pretty(one.payload), limit=4_000),
    ]
    return lines(parts)
