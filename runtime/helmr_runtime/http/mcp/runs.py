"""What one caller of MCP reaches of the runtime: the runs that its key started, or all that its role may read.

An MCP task is a run, up to its first end (S-94). Responses that left their wait open are notes in the transcript, for
operators to see; their number is part of the key under which the wait is asked again.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from helmr import ids
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
from helmr.roles import Need, may
from helmr_runtime.http.mcp import questions
from helmr_runtime.http.mcp.questions import Answer, Modes, Unanswered
from helmr_runtime.service import Caller, Service

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
    """A run as MCP tells of it. `wait` is what it asks people, if it does."""

    run: RunInfo
    session: SessionInfo

    @property
    def wait(self) -> WaitInfo | None:
        """The wait that people answer, of a run that has not ended."""
        wait = self.session.wait
        if self.run.status.is_final or wait is None or wait.run_id != self.run.id:
            return None
        return wait if questions.is_asked(wait) else None


class Runs:
    """Runs of tasks, as one caller of MCP starts, sees and answers them.

    Args:
        service: The operations.
        own_caller: Who calls, under the operation id of the request, for the one thing that it asks to be done.
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
        """The caller under a fresh operation id, for what follows from the request."""
        return Caller(self.principal, role=self.own_caller.role)

    # --- start, see, cancel -----------------------------------------------------------------------

    async def start(self, task: TaskInfo, payload: Any) -> View:
        """Start a session of the task. It is on disk when this returns.

        Raises:
            SchemaMismatch: The payload does not fit.
        """
        request = StartRequest(task=task.id, payload=payload)
        receipt = await self.service.sessions.start(self.own_caller, request)
        return View(receipt.run, receipt.session)

    async def view(self, run_id: str, need: Need = Need.READ) -> View:
        """The run, if this caller's key started it or its role may do that with any.

        Raises:
            RunNotFound: No such run, for this caller.
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
        """The run once it asks somebody, is blocked or has ended, at most `timeout_s` later.

        Args:
            view: The run.
            timeout_s: Seconds.
            passing: A wait that does not count.
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
        """What the run asks, as input requests by their keys; none if it asks nothing, or the client can't be asked."""
        wait = view.wait
        if wait is None:
            return {}
        schema = questions.form_schema(wait)
        if schema is None and not modes.url:
            return {}
        count, problem = await self._responses(view.session, wait)
        message = questions.message_of(wait)
        if problem:
            message = f"The last answer does not fit: {problem}\n\n{message}"
        asked: dict[str, Any] = {"message": message}
        if schema is not None and modes.form:
            asked |= {"mode": "form", "requestedSchema": schema}
        elif modes.url and (url := await self._page(wait)) is not None:
            asked |= {"mode": "url", "url": url}
        else:
            return {}
        key = questions.key_of(wait, count)
        return {key: {"method": "elicitation/create", "params": asked}}

    async def respond(self, view: View, responses: Mapping[str, Any]) -> bool:
        """Take a client's responses. Those to anything else than what is asked now do nothing.

        Returns:
            False if there was one that leaves its wait to others.
        """
        wait = view.wait
        if wait is None or not responses:
            return True
        count, _ = await self._responses(view.session, wait)
        response = responses.get(questions.key_of(wait, count))
        if response is None:
            return True
        meaning = questions.meaning_of(wait, response if isinstance(response, Mapping) else {})
        if isinstance(meaning, Unanswered):
            if meaning.why:
                await self._note(wait, meaning.why)
            return False
        await self._answer(wait, meaning)
        return True

    async def _answer(self, wait: WaitInfo, answer: Answer) -> None:
        try:
            request = AnswerRequest(data=answer.data)
            await self.service.waits.answer(self._caller(), wait.id, request)
        except SchemaMismatch as error:
            await self._note(wait, f"{_DID_NOT_FIT}: {error.message[:NOTED_CHARACTERS_MAX]}")
        except (WaitResolved, WaitTimedOut):
            pass  # somebody else was first

    async def _page(self, wait: WaitInfo) -> str | None:
        """Where the wait is answered, on behalf of this client; the same page for a day."""
        principal = self.principal
        person = principal.on_behalf_of or f"{principal.name or principal.id} over MCP"
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
        """How many responses left the wait open, and what was wrong with the newest, if it was an answer."""
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
        """The run as it first ended, if it did: what a client was told is not taken back."""
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
    """How a note begins that tells of a response to the wait."""
    return f"MCP: {wait.id}"
