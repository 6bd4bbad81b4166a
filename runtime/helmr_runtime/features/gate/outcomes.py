"""Approved calls without a known outcome are listed until a person reports it (S-108)."""

from __future__ import annotations

from datetime import timedelta

from helmr.errors import Conflict
from helmr.gate import CALL_TASK
from helmr.gate.claude_code import GateVerdict
from helmr.models import (
    GatedCallInfo,
    ListQuery,
    Page,
    RunStatus,
    SaidOutcomeRequest,
    SessionsQuery,
    SessionStatus,
)
from helmr_runtime.features.gate.gated_calls import TAKEN, UNKNOWN, VALID_FOR, GatedCalls
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.sessions import SessionOperations
from helmr_runtime.service.shared import Shared

SILENT_FOR = timedelta(days=1)
"""A client that names its calls may use an approval late; without a report for this long, the outcome is unknown."""


class GatedOutcomes:
    """Outcomes of calls that their clients did not report.

    Args:
        shared: The clock.
        sessions: Keeps calls as sessions.
        calls: Reads and closes each of them.
    """

    def __init__(self, shared: Shared, sessions: SessionOperations, calls: GatedCalls) -> None:
        self._now = shared.now
        self._sessions = sessions
        self._calls = calls

    async def unknown(self, query: ListQuery) -> Page[GatedCallInfo]:
        """Approved calls that may have been made but have no report, newest first."""
        wanted = SessionsQuery(
            task=CALL_TASK,
            status=SessionStatus.OPEN,
            run_status=RunStatus.SUCCEEDED,
            limit=query.limit,
            cursor=query.cursor,
        )
        page = await self._sessions.list(wanted)
        found = [await self._calls.get(one.id) for one in page.items]
        items = [one for one in found if await self._is_unknown(one)]
        return Page[GatedCallInfo](items=items, next_cursor=page.next_cursor)

    async def _is_unknown(self, call: GatedCallInfo) -> bool:
        if call.verdict != GateVerdict.ALLOW or call.outcome is not None:
            return False
        if call.decided_at is None or await self._calls.has(call.session_id, UNKNOWN):
            return True
        age = self._now() - call.decided_at
        if call.call_id:
            return age >= SILENT_FOR
        return age >= VALID_FOR and await self._calls.has(call.session_id, TAKEN)

    async def say(
        self, caller: Caller, session_id: str, request: SaidOutcomeRequest
    ) -> GatedCallInfo:
        """Record the outcome of a call as a person reports it, and close the call.

        Raises:
            SessionNotFound: No call with that id.
            Conflict: The call was not approved.
        """
        call = await self._calls.get(session_id)
        if call.verdict != GateVerdict.ALLOW:
            raise Conflict("no one has approved this call", session_id=session_id)
        session = await self._calls.session(session_id)
        if session.status is SessionStatus.OPEN:
            await self._calls.close(caller, session, request.outcome)
        return await self._calls.get(session_id)
