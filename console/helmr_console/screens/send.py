"""Forms that send input to any stream of a session, and notes to its transcript."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from helmr.models import (
    NOTE_MAX_BYTES,
    AnswerReceipt,
    SendReceipt,
    SessionInfo,
    SessionStatus,
    StreamInfo,
)
from helmr.person.forms import form_of
from helmr.person.review import words
from helmr.person.review.outcome import AnswerOutcome, Result
from helmr.wire.safe_text import one_line
from helmr_console import effects, safe
from helmr_console.actions import ActionContext, Permit
from helmr_console.screens.submit import SubmitScreen
from helmr_console.widgets.field_row import ChoiceField, SafeInput
from helmr_console.widgets.panes import fact, head, lines

NOTE_SCHEMA = {
    "type": "string",
    "title": "Note",
    "minLength": 1,
    "maxLength": NOTE_MAX_BYTES // 4,
}


class SendScreen(SubmitScreen):
    """Sends input to a session, waited for or not; shows the effect before."""

    ACTION = "send"
    AREA = "sessions"
    TITLE_TEXT = "Send input"
    HELP_TEXT = (
        "Sends a record to one of the session's input streams. The effect line says whether it answers the open "
        "wait, stays in the stream until a wait takes it, or has another correlation id than the open wait."
    )
    DEFAULT_CSS = "SendScreen #where { height: auto; margin: 1 0 0 0; }"

    def __init__(self, session: SessionInfo) -> None:
        super().__init__()
        self.fields = self.composes()
        self.session = session
        self.streams: list[StreamInfo] = []
        self.stream: StreamInfo | None = None
        self.choice: ChoiceField | None = None
        self.correlation = SafeInput(id="correlation", select_on_focus=False)

    async def load(self) -> None:
        """Read the session again, then show the form of its likeliest stream."""
        self.session = await self.console.client.sessions.open(self.session.id).get()
        self.streams = effects.streams_of(self.session, self.console.store.streams)
        if not self.streams:
            self.tell(("this session's task has no input stream",), "error")
            return
        self.stream = self.streams[0]
        self.choice = ChoiceField([stream.name for stream in self.streams])
        self.choice.set_chosen([0])
        wait = self.session.wait
        if wait is not None and wait.stream == self.stream.name and wait.correlation_id:
            self.correlation.value = one_line(wait.correlation_id, 512)
        where = Vertical(
            Static(head("stream")),
            self.choice,
            Static(head("correlation id")),
            self.correlation,
            id="where",
        )
        await self.slot.mount(where)
        await self.fields.show(form_of(self.stream.json_schema))

    def draft_name(self) -> str | None:
        """Name of the draft, one per session and stream."""
        return f"send_{self.session.id}_{self.stream.name}" if self.stream is not None else None

    async def on_choice_field_changed(self, event: ChoiceField.Changed) -> None:
        """Show the form of another stream, and keep this one's draft."""
        if event.field is not self.choice or self.form is None:
            return
        event.stop()
        await self.keep()
        self.stream = self.streams[min(event.field.chosen)]
        await self.fields.remove()
        await self.fields.show(form_of(self.stream.json_schema))

    def on_input_changed(self) -> None:
        """Redraw, because the effect depends on the correlation id."""
        self.redraw()

    def facts(self) -> Sequence[Content]:
        """The session, its wait and the effect."""
        parts = [
            Content.assemble(
                safe.line(self.session.task, "bold", limit=60), ("  session", "$c-muted")
            ),
            fact("session", safe.line(self.session.id, limit=80)),
        ]
        if self.session.wait is not None:
            parts.append(
                fact("waits for", safe.line(words.subject_of(self.session.wait), limit=200))
            )
        effect = self.effects()
        if effect:
            role = "$c-success" if effect[0].startswith("fulfilled") else "$c-warning"
            parts.append(fact("effect", safe.line(effect[0], f"bold {role}", limit=300)))
            parts += [fact("", safe.line(text, "$c-muted", limit=300)) for text in effect[1:]]
        return parts

    def effects(self) -> Sequence[str]:
        """The likely effect: fulfil, buffer or miss (S-25)."""
        if self.stream is None:
            return ()
        return effects.of_send(self.session, self.stream.name, self.correlation.value)

    def context(self) -> ActionContext:
        """The context with the session's status."""
        return replace(super().context(), session_status=self.session.status)

    def path(self) -> str:
        """Sessions > id > Send input."""
        return f"Sessions > {words.short_id(self.session.id)} > Send input"

    async def deliver(self, permit: Permit, data: Any) -> SendReceipt:
        """Append the record."""
        assert self.stream is not None, "reviewed without a stream"
        inputs = permit.client.sessions.open(self.session.id).input(self.stream.name)
        return await inputs.send(
            data,
            correlation_id=self.correlation.value.strip() or None,
            operation_id=self.submission.operation_id,
        )


class NoteScreen(SubmitScreen):
    """Adds a person's note to a transcript, without waking the run."""

    ACTION = "note"
    AREA = "sessions"
    TITLE_TEXT = "Note"

    def __init__(self, session_id: str) -> None:
        super().__init__()
        self.fields = self.composes()
        self.session_id = session_id

    async def load(self) -> None:
        """Show the form, one field."""
        await self.fields.show(form_of(NOTE_SCHEMA))

    def draft_name(self) -> str | None:
        """Name of the draft, one per session."""
        return f"note_{self.session_id}"

    def facts(self) -> Sequence[Content]:
        """The session."""
        return (fact("session", safe.line(self.session_id, limit=80)),)

    def effects(self) -> Sequence[str]:
        """Effects of a note."""
        return ("appends a note to the transcript", "the run is not woken and does not see it")

    def context_content(self) -> Content:
        """Effects of a note, beside the form."""
        return lines([head("A note"), *(safe.line(text) for text in self.effects())])

    def context(self) -> ActionContext:
        """The context of an open session, because any session takes a note."""
        return replace(super().context(), session_status=SessionStatus.OPEN)

    def path(self) -> str:
        """Sessions > id > Note."""
        return f"Sessions > {words.short_id(self.session_id)} > Note"

    async def deliver(self, permit: Permit, data: Any) -> AnswerReceipt | AnswerOutcome:
        """Append the note."""
        session = permit.client.sessions.open(self.session_id)
        receipt = await session.note(data, operation_id=self.submission.operation_id)
        return AnswerOutcome(Result.ACCEPTED, (f"note at entry {receipt.seq}",))
