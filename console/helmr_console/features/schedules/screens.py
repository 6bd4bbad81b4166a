"""The list of schedules, and the form of a new one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from textual.content import Content

from helmr.models import ScheduleInfo, TaskInfo
from helmr.person.filters import Facts, Fields
from helmr.person.forms import Built, form_of, pretty
from helmr.person.review import words
from helmr.person.review.outcome import AnswerOutcome, Result
from helmr.wire.safe_text import one_line
from helmr_console import safe
from helmr_console.actions import ActionContext, ActionScope, Permit
from helmr_console.features.schedules import NAME, views
from helmr_console.features.schedules.actions import SCOPE
from helmr_console.features.schedules.views import LookedAt
from helmr_console.link import CATALOG_MAX, first
from helmr_console.screens.base import bindings
from helmr_console.screens.lists import ListScreen
from helmr_console.screens.overlays import MenuItem, PickScreen, copy_menu
from helmr_console.screens.session import SessionScreen
from helmr_console.screens.submit import SubmitScreen
from helmr_console.screens.system import SystemReads
from helmr_console.views import Row
from helmr_console.widgets.lines import Column
from helmr_console.widgets.panes import fact, head, lines

SCHEDULE_FIELDS = Fields(
    noun="schedule",
    texts=("name", "status", "task", "when", "last"),
    times={"due": ("due", True)},
    pushed={},
)


class SchedulesScreen(ListScreen[ScheduleInfo]):
    """The schedules, which start sessions by the clock."""

    AREA = "system"
    SCOPES = (ActionScope.ANYWHERE, ActionScope.LIST, ActionScope.AREA, SCOPE)
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
            found.sort(key=views.by_due)
        return [one.name for one in found]

    def things(self) -> Mapping[str, ScheduleInfo] | None:
        """The schedules."""
        return self.console.store.of_features.get(NAME)

    def row_of(self, one: ScheduleInfo, now: datetime) -> Row:
        """A schedule as it is now."""
        return views.row(one, now)

    def facts_of(self, one: ScheduleInfo) -> Facts:
        """Fields that the filter reads."""
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
        """The context, with the selected schedule."""
        return replace(super().context(), thing=self.selected())

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
        """Texts of a schedule that can be copied."""
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

            self.reads.confirm("schedule.pause", f"{verb} {one.name}", act, views.pausing(one))

    def do_schedule_run(self) -> None:
        """Start a session now."""
        one = self.selected()
        if one is not None:

            async def act(permit: Permit, operation_id: str) -> None:
                await permit.client.schedules.run(one.name, operation_id=operation_id)

            self.reads.confirm("schedule.run", f"Run {one.name} now", act, views.running_now(one))

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

            texts = views.deleting(one)
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
        await self.fields.show(form_of(views.schema(self.task_info)))
        self._look_soon()

    def on_schema_form_form_changed(self) -> None:
        """Show due times as the operator types."""
        super().on_schema_form_form_changed()
        self._look_soon()

    def _look_soon(self) -> None:
        self.console.background.start(self._look(), group="due", exclusive=True, holds_keys=True)

    async def _look(self) -> None:
        """Zones are read from files, which no key waits for on the loop."""
        data, now = super().result().data, self.console.store.now()
        self._looked = await asyncio.to_thread(views.look, data, now)
        self.redraw()

    def draft_name(self) -> str | None:
        """One draft for each task."""
        return f"schedule_{self.task_info.id}"

    def facts(self) -> Sequence[Content]:
        """The context of a form of this task."""
        doc = (self.task_info.doc or "").partition("\n")[0]
        return (
            fact("starts", safe.line(self.task_info.id, "bold", limit=100)),
            *([fact("", safe.line(doc, "$c-muted", limit=200))] if doc else []),
            *(fact("due first", text) for text in self._dues()[:1]),
        )

    def effects(self) -> Sequence[str]:
        """The effect, and the first due time."""
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
            **views.parts(data),
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
        parts.append(fact("outcome", views.OUTCOMES[one.last_outcome]))
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
