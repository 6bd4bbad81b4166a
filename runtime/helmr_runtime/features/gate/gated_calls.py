"""Each call of an agent is a session, found again by the call's name and closed when the call is over (S-103).

- A decision about a call without an id is taken once, within an hour: a record with an idempotency key names the
  request that took it (S-107).
- The outcome of a call that a person decided is a record of its session (S-108).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from helmr.errors import (
    Conflict,
    IdempotencyConflict,
    RunActive,
    SessionNotFound,
    SessionTerminal,
)
from helmr.gate import (
    CALL_TASK,
    FLOOD,
    RESTRICTED,
    RESTRICTION,
    RUN_TASK,
    GatedCall,
    call_metadata,
    call_of,
    input_hash,
)
from helmr.gate.claude_code import GateDecision, GateVerdict, decision_of
from helmr.models import (
    AfterQuery,
    CloseRequest,
    GatedCallInfo,
    GatedOutcomeRequest,
    ListQuery,
    RunInfo,
    RunStatus,
    SendRequest,
    SessionInfo,
    SessionsQuery,
    SessionStatus,
    StartRequest,
)
from helmr_runtime.core.commands import CancelSession
from helmr_runtime.core.entries import Principal
from helmr_runtime.ports import SessionLine
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.sessions import SessionOperations
from helmr_runtime.service.shared import Shared

logger = logging.getLogger(__name__)

VALID_FOR = timedelta(hours=1)
"""A call without an id may take its decision for this long (S-107)."""

OUTCOMES = "outcomes"
"""The stream that holds the outcome of a call."""

ELSEWHERE, WITHDRAWN, AGENT_ENDED = "decided_elsewhere", "withdrawn", "agent_ended"
"""Reasons for which a question about a call ends."""

LEFT = "left"
"""Status of a call that was left to its client."""

TAKEN, OUTCOME, UNKNOWN = "taken", "outcome", "unknown"
"""Idempotency keys of records in `outcomes`: one of each for a call."""


class GatedCalls:
    """The sessions of calls, decided or not.

    Args:
        shared: The ledger, the router and the clock.
        sessions: Reads and writes them.
    """

    def __init__(self, shared: Shared, sessions: SessionOperations) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._now = shared.now
        self._sessions = sessions

    # --- one call ---------------------------------------------------------------------------------

    async def session(self, session_id: str) -> SessionInfo:
        """The session of a call.

        Raises:
            SessionNotFound: No call with that id.
        """
        session = await self._sessions.get(session_id)
        if session.task != CALL_TASK:
            raise SessionNotFound(f"{session_id} is no call of an agent", session_id=session_id)
        return session

    async def run_of(self, session_id: str) -> RunInfo:
        """The run that asks about a call."""
        return (await self._sessions.runs(session_id, ListQuery(limit=1))).items[0]

    async def payload(self, session_id: str) -> GatedCall | None:
        """The call as it was asked about."""
        found = await self._payload(session_id)
        return call_of(found) if found and FLOOD not in found else None

    async def restriction(self, session_id: str) -> dict[str, Any]:
        """The people who may answer it, as the rule that asked says; empty if anyone may."""
        found: dict[str, Any] = (await self._payload(session_id)).get(RESTRICTION) or {}
        return found

    async def _payload(self, session_id: str) -> dict[str, Any]:
        entries = (await self._sessions.transcript(session_id, AfterQuery(limit=5))).items
        found = next((one.body.get("payload") for one in entries if "payload" in one.body), None)
        return found if isinstance(found, dict) else {}

    async def maker(self, session_id: str) -> Principal:
        """Return the principal that asked about a call.

        Raises:
            SessionNotFound: No call with that id.
        """
        await self.session(session_id)
        return await self._starter(session_id)

    async def _starter(self, session_id: str) -> Principal:
        found = await self._ledger.transcript(session_id, limit=1)
        return Principal.from_json(found["items"][0]["principal"])

    async def is_own(self, caller: Caller, session_id: str) -> bool:
        """True if the caller's own key started the session."""
        starter = await self._starter(session_id)
        return (starter.type, starter.id) == (caller.principal.type, caller.principal.id)

    async def get(self, session_id: str) -> GatedCallInfo:
        """A call of an agent, with its decision and outcome.

        Raises:
            SessionNotFound: No call with that id.
        """
        session = await self.session(session_id)
        run = await self.run_of(session_id)
        call = await self.payload(session_id)
        decided: GateDecision | None = None
        if run.status is RunStatus.SUCCEEDED and call is not None and not was_left(run):
            decided = decision_of(call, run.result)
        records = (await self._sessions.inputs(session_id, OUTCOMES, AfterQuery(limit=10))).items
        said = [one.data[OUTCOME] for one in records if OUTCOME in one.data]
        return GatedCallInfo(
            session_id=session_id,
            client=session.metadata.get("client", ""),
            agent=session.metadata.get("agent", ""),
            call_id=session.metadata.get("call_id", ""),
            tool=session.metadata.get("tool", ""),
            status=_status(session, run),
            asked=dict(call.input) if call is not None else None,
            verdict=decided.verdict.value if decided is not None else None,
            reason=decided.reason if decided is not None else None,
            input=dict(decided.input) if decided is not None and decided.input else None,
            outcome=said[0] if said else None,
            decided_at=run.ended_at if decided is not None else None,
        )

    async def report(
        self, caller: Caller, session_id: str, request: GatedOutcomeRequest
    ) -> GatedCallInfo:
        """Record the outcome of a call; the first report counts.

        Raises:
            SessionNotFound: No call with that id.
        """
        session = await self.session(session_id)
        if session.status is SessionStatus.OPEN:
            await self.close(caller, session, request.outcome)
        return await self.get(session_id)

    async def withdraw(self, caller: Caller, session_id: str) -> GatedCallInfo:
        """Withdraw the question about a call; a decided call stays as it is.

        Raises:
            SessionNotFound: No call with that id.
        """
        await self.session(session_id)
        run = await self.run_of(session_id)
        if not run.status.is_final:
            await self.end(caller, session_id, WITHDRAWN)
        return await self.get(session_id)

    # --- asked, and found again -------------------------------------------------------------------

    async def find(self, caller: Caller, call: GatedCall, turn: int) -> SessionInfo | None:
        """The session of this call, if the same key asked about it before.

        Raises:
            Conflict: Another key asked.
        """
        wanted = SessionsQuery(external_id=call.external_id(turn), limit=1)
        found = (await self._sessions.list(wanted)).items
        if not found:
            return None
        if found[0].task != CALL_TASK or not await self.is_own(caller, found[0].id):
            raise Conflict("another key has asked about this call")
        return found[0]

    async def start(
        self,
        caller: Caller,
        call: GatedCall,
        turn: int,
        named: dict[str, str],
        more: Mapping[str, Any],
        line_of: Callable[[str], SessionLine],
    ) -> tuple[SessionInfo, bool]:
        """Ask about a call, and note that in the agent's session by a line; also returns True if the line was written.

        `named` goes into the session's metadata, `more` into its payload (the people who answer, the deadline).
        """
        request = StartRequest(
            task=CALL_TASK,
            payload=call.to_json() | dict(more),
            external_id=call.external_id(turn),
            tags=[call.tag],
            metadata=call_metadata(call) | named,
        )
        started, lined = await self._sessions.start_with_line(caller.fresh(), request, line_of)
        return started.session, lined

    async def find_in_run(self, run: str, call: GatedCall) -> SessionInfo | None:
        """The session of this call, if its headless run asked about it."""
        asked = (call.call_id, call.input_hash)
        for session in await self.of_run(run, call.tag):
            known = session.metadata
            if (known.get("call_id"), known.get("input_hash")) == asked:
                return session
        return None

    async def restrict_in_run(
        self, caller: Caller, run: str, call: GatedCall, restriction: Mapping[str, Any]
    ) -> None:
        """Send a headless run the people who may answer the call that it will ask about."""
        data = {"call_id": call.call_id, RESTRICTION: dict(restriction)}
        record = SendRequest(data=data, idempotency_key=call.external_id())
        await self._sessions.send(caller.fresh(), run, RESTRICTED, record)

    async def of_run(self, run: str, tag: str) -> list[SessionInfo]:
        """The calls that a headless run asked about."""
        if (await self._sessions.get(run)).task != RUN_TASK:
            raise SessionNotFound(f"{run} is no headless run", session_id=run)
        wanted = SessionsQuery(task=CALL_TASK, parent=run, tag=tag, limit=200)
        return (await self._sessions.list(wanted)).items

    async def open_ones(self, caller: Caller, tag: str) -> list[SessionInfo]:
        """The open calls of an agent that this key asked about."""
        wanted = SessionsQuery(task=CALL_TASK, status=SessionStatus.OPEN, tag=tag, limit=200)
        found = (await self._sessions.list(wanted)).items
        return [one for one in found if await self.is_own(caller, one.id)]

    async def is_about(self, session: SessionInfo, call: GatedCall) -> bool:
        """True if a report is about the call of this session, perhaps with the input that a person edited."""
        known = session.metadata
        if known.get("call_id"):
            return bool(known["call_id"] == call.call_id)
        return await self._has_input(session, call)

    async def is_allowed_by_id(self, caller: Caller, call: GatedCall) -> bool:
        """True if a person allowed this very call by its id before the client's prompt, which names no call, asks."""
        for session in await self.open_ones(caller, call.tag):
            if session.metadata.get("call_id") and await self._has_input(session, call):
                found = await self.get(session.id)
                age = self._now() - found.decided_at if found.decided_at is not None else VALID_FOR
                if found.verdict == GateVerdict.ALLOW and age < VALID_FOR:
                    return True
        return False

    async def _has_input(self, session: SessionInfo, call: GatedCall) -> bool:
        known = session.metadata
        if known.get("tool") != call.tool:
            return False
        if known.get("input_hash") == call.input_hash:
            return True
        run = await self.run_of(session.id)
        if run.status is not RunStatus.SUCCEEDED:
            return False
        payload = await self.payload(session.id)
        given = decision_of(payload, run.result).input if payload is not None else None
        return given is not None and input_hash(call.tool, given) == call.input_hash

    # --- decisions that are taken once ------------------------------------------------------------

    async def is_over(self, caller: Caller, call: GatedCall, session: SessionInfo) -> bool:
        """True if a repeated call can't use this decision: it is taken, too old, or was left to the client."""
        if was_left(await self.run_of(session.id)):
            await self.shut(caller, session.id)
            return True
        if call.call_id:
            return False
        taken_by = await self._taken_by(session.id)
        if taken_by is not None or session.status is not SessionStatus.OPEN:
            return taken_by != caller.operation_id
        run = await self.run_of(session.id)
        if run.ended_at is None or self._now() - run.ended_at < VALID_FOR:
            return False
        await self.shut(caller, session.id)
        return True

    async def take(self, caller: Caller, session: SessionInfo) -> bool:
        """Take the decision; True if this request is the one that has it, also when it is repeated."""
        taking = SendRequest(
            data={TAKEN: caller.operation_id, "at": self._now().isoformat()}, idempotency_key=TAKEN
        )
        try:
            await self._sessions.send(caller.fresh(), session.id, OUTCOMES, taking)
        except (IdempotencyConflict, SessionTerminal):
            return await self._taken_by(session.id) == caller.operation_id
        return True

    async def _taken_by(self, session_id: str) -> str | None:
        """The operation id of the request that took the decision."""
        records = await self._sessions.inputs(session_id, OUTCOMES, AfterQuery(limit=10))
        data = (one.data for one in records.items if isinstance(one.data, dict))
        return next((str(one[TAKEN]) for one in data if TAKEN in one), None)

    # --- outcomes and the end ---------------------------------------------------------------------

    async def has(self, session_id: str, what: str) -> bool:
        """True if the outcomes of a call have such a record."""
        records = await self._sessions.inputs(session_id, OUTCOMES, AfterQuery(limit=10))
        return any(isinstance(one.data, dict) and what in one.data for one in records.items)

    async def close(self, caller: Caller, session: SessionInfo, outcome: str | None) -> None:
        """Record the outcome of a call and close it; an undecided one ends as decided at the client."""
        run = await self.run_of(session.id)
        if not run.status.is_final:
            await self.end(caller, session.id, ELSEWHERE)
            return
        if outcome is not None:
            await self._record(caller, session.id, OUTCOME, outcome)
        await self.shut(caller, session.id)

    async def note_unknown(self, caller: Caller, session_id: str) -> None:
        """Note that the client ended without reporting an approved call; it stays open until a person reports on it."""
        await self._record(caller, session_id, UNKNOWN, True)

    async def _record(self, caller: Caller, session_id: str, what: str, said: Any) -> None:
        data = {what: said, "at": self._now().isoformat()}
        record = SendRequest(data=data, idempotency_key=what)
        await _quietly(self._sessions.send(caller.fresh(), session_id, OUTCOMES, record))

    async def end(self, caller: Caller, session_id: str, reason: str) -> None:
        """End the question about a call."""
        command = CancelSession(
            principal=caller.principal,
            operation=caller.fresh().operation("gate.end", session_id, reason),
            reason=reason,
        )
        await _quietly(self._router.command(session_id, command))

    async def shut(self, caller: Caller, session_id: str) -> None:
        """Close the session of a call, or of an agent."""
        await _quietly(self._sessions.close(caller.fresh(), session_id, CloseRequest()))


async def _quietly(doing: Awaitable[Any]) -> None:
    """Await cleanup of a call, and log that the call ended by itself meanwhile: that is no error."""
    try:
        await doing
    except (SessionTerminal, IdempotencyConflict, RunActive, SessionNotFound) as error:
        logger.info("a gated call was closed already: %s", error)


def was_left(run: RunInfo) -> bool:
    """True if no one answered before the client's time was up: the client decided itself (S-138)."""
    return run.status is RunStatus.SUCCEEDED and run.result is None


def _status(session: SessionInfo, run: RunInfo) -> str:
    """`asked` until it is decided; `left` if the client decided; `withdrawn` if the question ended."""
    if was_left(run):
        return LEFT
    if session.run_status is RunStatus.SUCCEEDED:
        return "decided"
    return "asked" if session.status is SessionStatus.OPEN else "withdrawn"
