"""Runs as one caller of MCP sees them: those that its key started, or all that its role may read.

An MCP task is a run, up to its first end (S-94). Responses that left their wait open are notes in the transcript, for
operators to see; their number is part of the key under which the wait is asked again.

The translation of waits into questions, and of responses into answers, is pure. A form holds only what a client can
show: an object of texts, numbers, booleans and choices, or one of these, wrapped as `value`. All other waits, and
secrets, are answered at the wait's own page. A restricted wait (S-112) is asked by its page too, and no response of a
client answers it: a client's word on its user proves no identity.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from helmr.errors import (
    BadId,
    BadRequest,
    NotFound,
    RunNotFound,
    SchemaMismatch,
    WaitResolved,
    WaitTimedOut,
)
from helmr.models import (
    AfterQuery,
    AnswerLinkRequest,
    AnswerRequest,
    EntryInfo,
    NoteRequest,
    RunInfo,
    RunStatus,
    SessionInfo,
    StartRequest,
    TaskInfo,
    WaitInfo,
)
from helmr.person.forms import MISSING, Field, Kind, form_of
from helmr.wire import ids
from helmr.wire.operations import GET_RUN
from helmr.wire.roles import Need, may
from helmr_runtime.service import Caller, Service

VALUE = "value"
"""The property that a form has for an answer that is not an object."""

MESSAGE_CHARACTERS_MAX = 8_000
"""Longest question of a wait; a longer one is cut and ends with `…`."""

_TYPES = {
    Kind.BOOL: "boolean",
    Kind.INTEGER: "integer",
    Kind.NUMBER: "number",
    Kind.TEXT: "string",
    Kind.LONG: "string",
    Kind.DATE: "string",
    Kind.DATETIME: "string",
    Kind.CHOICE: "string",
}
_FORMATS = ("email", "uri", "date", "date-time")
"""String formats that MCP forms allow."""


@dataclass(frozen=True, slots=True)
class Modes:
    """The ways of asking that a client declared."""

    form: bool = False
    url: bool = False


@dataclass(frozen=True, slots=True)
class FormAnswer:
    """A response that answers its wait."""

    data: Any


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A response that leaves its wait open. `why` is a clause about it; empty if the client only opens the page."""

    why: str


def key_of(wait: WaitInfo, responses: int) -> str:
    """The key under which a wait is asked; it changes with each response that did not answer."""
    return f"{wait.id}.{responses}"


def message_of(wait: WaitInfo) -> str:
    """The question as the person reads it."""
    title = wait.subject or f"{wait.task} waits for {wait.stream or 'an answer'}"
    text = f"{title}\n\n{wait.text}" if wait.text else title
    if len(text) > MESSAGE_CHARACTERS_MAX:
        text = text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
    return text


def form_schema(wait: WaitInfo) -> dict[str, Any] | None:
    """The form for a wait's answer; None if a client can't show it, must not see the data, or can't prove its user."""
    fields = _fields(wait) if not wait.is_restricted else None
    if fields is None:
        return None
    properties = {name: _property(field, given) for name, field, given in fields}
    needed = [name for name, field, _ in fields if not field.may_be_left_out]
    return {"type": "object", "properties": properties, "required": needed}


def answer_of(wait: WaitInfo, content: Mapping[str, Any]) -> Any:
    """The JSON value of a form's content. The service checks it against the schema."""
    content = dict(content)
    fields = _fields(wait)
    if fields is None:
        return content
    values = {}
    for name, field, _ in fields:
        if content.get(name) is not None:
            values[name] = _chosen(field, content.pop(name))
        elif field.required and field.nullable:
            content.pop(name, None)
            values[name] = None
        elif name in content and not field.nullable and not field.required:
            del content[name]  # null for an optional field
    # Properties beyond the form are kept: the schema decides if they may be there.
    values |= content
    return values if _is_object(wait) else values.get(VALUE)


def meaning_of(wait: WaitInfo, response: Mapping[str, Any]) -> FormAnswer | Unanswered:
    """The meaning of a client's response: `accept` answers, `decline` may, `cancel` does not."""
    content = response.get("content")
    match response.get("action"):
        case "accept" if isinstance(content, Mapping) and form_schema(wait) is not None:
            return FormAnswer(answer_of(wait, content))
        case "accept":
            return Unanswered("")
        case "decline" if wait.can_decline and not wait.is_restricted:
            return FormAnswer(wait.on_decline)
        case "decline":
            return Unanswered("was declined")
        case "cancel":
            return Unanswered("was snoozed")
        case _:
            return Unanswered("had a response that is none")


def _is_object(wait: WaitInfo) -> bool:
    return form_of(wait.json_schema).root.kind is Kind.GROUP


def _fields(wait: WaitInfo) -> list[tuple[str, Field, Any]] | None:
    """Each field with its name and initial value; None if a form can't hold them."""
    root = form_of(wait.json_schema).root
    if root.kind is not Kind.GROUP:
        return [(VALUE, root, wait.initial)] if _is_plain(root) else None
    if not all(_is_plain(child) for child in root.children):
        return None
    given = wait.initial if isinstance(wait.initial, Mapping) else {}
    return [(child.name, child, given.get(child.name)) for child in root.children]


def _is_plain(field: Field) -> bool:
    if field.kind not in _TYPES:
        return False
    return field.kind is not Kind.CHOICE or len(_labels(field)) == len(field.choices)


def _labels(field: Field) -> dict[str, Any]:
    """The values of a choice by their labels; a text is its own label."""
    return {
        choice.value if isinstance(choice.value, str) else choice.label: choice.value
        for choice in field.choices
    }


def _chosen(field: Field, value: Any) -> Any:
    if field.kind is Kind.CHOICE and isinstance(value, str):
        return _labels(field).get(value, value)
    return value


def _property(field: Field, given: Any) -> dict[str, Any]:
    """One property of the form, with the schema's title and bounds."""
    told: dict[str, Any] = {"type": _TYPES[field.kind], "title": field.label}
    if field.description or field.unit:
        told["description"] = " ".join(part for part in (field.description, field.unit) if part)
    if field.kind is Kind.CHOICE:
        told["enum"] = list(_labels(field))
    elif field.kind in (Kind.INTEGER, Kind.NUMBER):
        bounds = {"minimum": field.minimum, "maximum": field.maximum}
        told |= {name: bound for name, bound in bounds.items() if bound is not None}
    elif told["type"] == "string":
        lengths = {"minLength": field.length_min, "maxLength": field.length_max}
        told |= {name: bound for name, bound in lengths.items() if bound is not None}
        if field.format in _FORMATS:
            told["format"] = field.format
    start = given if given is not None else field.default
    # Clients may send a default unseen, so a decision has none.
    if not field.is_decision and start is not MISSING and start is not None:
        if field.kind is Kind.CHOICE:
            spelt = {_text_of(value): label for label, value in _labels(field).items()}
            start = spelt.get(_text_of(start))
        if start is not None:
            told["default"] = start
    return told


def _text_of(value: Any) -> str:
    return f"{type(value).__name__}:{value}"


ENTRIES_AT_ONCE = 100
NOTED_CHARACTERS_MAX = 500

_ENDS = {
    "run.succeeded": RunStatus.SUCCEEDED,
    "run.failed": RunStatus.FAILED,
    "run.cancelled": RunStatus.CANCELLED,
}
_DID_NOT_FIT = "had an answer that does not fit"


@dataclass(frozen=True, slots=True)
class View:
    """A run as MCP shows it, with the wait on people, if there is one."""

    run: RunInfo
    session: SessionInfo

    @property
    def wait(self) -> WaitInfo | None:
        """The wait that people can answer; None without one or once the run has ended."""
        wait = self.session.wait
        if self.run.status.is_final or wait is None or wait.run_id != self.run.id:
            return None
        return wait if wait.takes_answers else None


class McpRuns:
    """Runs of tasks, as one caller of MCP starts, sees and answers them.

    Args:
        service: The operations.
        own_caller: The caller, under the request's operation id, for the one operation that it requests.
        tasks: The tasks that are tools, by id.
    """

    def __init__(
        self,
        service: Service,
        own_caller: Caller,
        tasks: Mapping[str, TaskInfo],
    ) -> None:
        self.service = service
        self.own_caller = own_caller
        self.principal = own_caller.principal
        self.tasks = tasks

    def may(self, need: Need) -> bool:
        """True if the caller's role covers it."""
        role = self.own_caller.role
        return role is not None and may(role, need)

    def _caller(self) -> Caller:
        """The caller under a fresh operation id, for operations that follow from the request."""
        own = self.own_caller
        return Caller(self.principal, role=own.role, identity=own.identity)

    # --- start, see, cancel -----------------------------------------------------------------------

    async def start(self, task: TaskInfo, payload: Any) -> View:
        """Start a session of the task; it is on disk when this returns.

        Raises:
            SchemaMismatch: The payload does not fit.
        """
        request = StartRequest(task=task.id, payload=payload)
        receipt = await self.service.sessions.start(self.own_caller, request)
        return View(receipt.run, receipt.session)

    async def view(self, run_id: str, need: Need = GET_RUN.need) -> View:
        """The run, if this caller's key started it or its role covers `need`.

        Raises:
            RunNotFound: No such run for this caller.
        """
        unknown = RunNotFound(f"no task {run_id[:64]!r}")
        try:
            run = await self.service.runs.get(run_id)
        except (BadId, NotFound) as error:
            raise unknown from error
        session = await self.service.sessions.get(run.session_id)
        if run.task not in self.tasks:
            raise unknown
        if not self.may(need) and not await self._has_started(session):
            raise unknown
        return View(await self._to_first_end(run), session)

    async def settled(self, view: View, timeout_s: float, *, passing: str | None = None) -> View:
        """The run once it asks people, is blocked or has ended, at most `timeout_s` later.

        Args:
            view: The run.
            timeout_s: Seconds.
            passing: The id of a wait to pass over.
        """
        session_id, run_id = view.session.id, view.run.id

        async def is_settled(run: RunInfo) -> bool:
            if run.status is RunStatus.WAITING:
                wait = View(run, await self.service.sessions.get(session_id)).wait
                return wait is not None and wait.id != passing
            return run.status.is_final or run.status is RunStatus.BLOCKED

        run = await self.service.sessions.run_once(session_id, run_id, is_settled, timeout_s)
        return View(await self._to_first_end(run), await self.service.sessions.get(session_id))

    async def cancel(self, view: View) -> None:
        """Cancel the run, if it has not ended."""
        if not view.run.status.is_final:
            await self.service.runs.cancel(self.own_caller, view.run.id)

    # --- ask and hear -----------------------------------------------------------------------------

    async def question(self, view: View, modes: Modes) -> dict[str, dict[str, Any]]:
        """The run's question as input requests by key; empty without one, or if the client can't ask its user."""
        wait = view.wait
        if wait is None:
            return {}
        schema = form_schema(wait)
        if schema is None and not modes.url:
            return {}
        count, problem = await self._responses(view.session, wait)
        message = message_of(wait)
        if problem:
            message = f"The last answer does not fit: {problem}\n\n{message}"
        asked: dict[str, Any] = {"message": message}
        if schema is not None and modes.form:
            asked |= {"mode": "form", "requestedSchema": schema}
        elif modes.url and (url := await self._page(wait)) is not None:
            asked |= {"mode": "url", "url": url}
        else:
            return {}
        key = key_of(wait, count)
        return {key: {"method": "elicitation/create", "params": asked}}

    async def respond(self, view: View, responses: Mapping[str, Any]) -> bool:
        """Take a client's responses; those to earlier questions are ignored.

        Returns:
            False if a response leaves the wait to others.
        """
        wait = view.wait
        if wait is None or not responses:
            return True
        count, _ = await self._responses(view.session, wait)
        response = responses.get(key_of(wait, count))
        if response is None:
            return True
        meaning = meaning_of(wait, response if isinstance(response, Mapping) else {})
        if isinstance(meaning, Unanswered):
            if meaning.why:
                await self._note(wait, meaning.why)
            return False
        await self._answer(wait, meaning)
        return True

    async def _answer(self, wait: WaitInfo, answer: FormAnswer) -> None:
        try:
            request = AnswerRequest(data=answer.data)
            await self.service.waits.answer(self._caller(), wait.id, request)
        except SchemaMismatch as error:
            await self._note(wait, f"{_DID_NOT_FIT}: {error.message[:NOTED_CHARACTERS_MAX]}")
        except (WaitResolved, WaitTimedOut):
            pass  # someone else was first

    async def _page(self, wait: WaitInfo) -> str | None:
        """The URL of the wait's page, on behalf of this client, the same for a day; None if the wait takes no link."""
        principal = self.principal
        person = principal.person or f"{principal.name or principal.id} over MCP"
        seed = f"{principal.id}|{person}|{wait.id}".encode()
        named = uuid.UUID(bytes=hashlib.sha256(seed).digest()[:16], version=5)
        caller = replace(self._caller(), operation_id=ids.from_uuid(ids.OPERATION, named))
        try:
            link = await self.service.links.create(
                caller, wait.id, AnswerLinkRequest(person=person)
            )
        except (WaitResolved, WaitTimedOut, BadRequest):
            return None
        return link.url

    async def _note(self, wait: WaitInfo, why: str) -> None:
        request = NoteRequest(text=f"{_noted(wait)} {why}; it stays open.")
        await self.service.sessions.note(self._caller(), wait.session_id, request)

    async def _responses(self, session: SessionInfo, wait: WaitInfo) -> tuple[int, str]:
        """The number of responses that left the wait open, and the newest one's problem, if it was an answer."""
        count, problem = 0, ""
        async for entry in self._backward(session):
            if entry.kind == "wait.opened" and entry.body.get("wait_id") == wait.id:
                break
            text = str(entry.body.get("text", "")) if entry.kind == "note.added" else ""
            if text.startswith(_noted(wait)):
                count += 1
                _, _, told = text.partition(f"{_DID_NOT_FIT}: ")
                problem = problem or (told.removesuffix("; it stays open.") if count == 1 else "")
        return count, problem

    # --- reads ------------------------------------------------------------------------------------

    async def _backward(self, session: SessionInfo) -> AsyncIterator[EntryInfo]:
        """The session's entries, newest first."""
        before = session.last_seq
        while before > 0:
            after = max(0, before - ENTRIES_AT_ONCE)
            page = await self.service.sessions.transcript(
                session.id, AfterQuery(after=after, limit=before - after)
            )
            for entry in reversed(page.items):
                yield entry
            before = after

    async def _has_started(self, session: SessionInfo) -> bool:
        if self.principal.id is None or session.forked_from is not None:
            return False
        first = await self.service.sessions.transcript(session.id, AfterQuery(after=0, limit=1))
        by = first.items[0].principal
        return (by.type, by.id) == (self.principal.type, self.principal.id)

    async def _to_first_end(self, run: RunInfo) -> RunInfo:
        """The run as of its first end, if it has ended: a client's result does not change afterwards."""
        if run.attempt == 1:
            return run
        cursor: str | None = None
        while True:
            page = await self.service.sessions.transcript(
                run.session_id, AfterQuery(cursor=cursor, limit=200)
            )
            for entry in page.items:
                if entry.run_id == run.id and entry.kind in _ENDS:
                    return RunInfo.model_validate(
                        {
                            **run.model_dump(exclude={"result", "error"}),
                            "status": _ENDS[entry.kind],
                            "ended_at": entry.recorded_at,
                            "result": entry.body.get("result"),
                            "error": entry.body.get("error"),
                        }
                    )
            cursor = page.next_cursor
            if cursor is None:
                return run


def _noted(wait: WaitInfo) -> str:
    """The beginning of a note about a response to the wait."""
    return f"MCP: {wait.id}"
