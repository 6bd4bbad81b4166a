"""An agent's own session records the decisions about its calls, in the order of the calls (S-109).

A decision by a rule or a grant is recorded before the agent gets it. A call that people decide has a session of its
own; the agent's session notes when it was asked and how it was answered. Records are lines, which the ledger writes
with the commit that they describe; if a host holds the agent's session, they are sent there instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from helmr.errors import HelmrError, Overloaded, SessionTerminal
from helmr.gate import AGENT_TASK, RULED, GateAction, GatedCall
from helmr.gate.claude_code import GateDecision
from helmr.models import (
    AfterQuery,
    CloseRequest,
    SendRequest,
    SessionsQuery,
    SessionStatus,
    StartRequest,
)
from helmr_runtime.core.entries import Principal
from helmr_runtime.features.gate.gated_calls import GatedCalls
from helmr_runtime.ports import SessionLine
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.lru_cache import LruCache
from helmr_runtime.service.sessions import SessionOperations

AGENTS_MAX = 10_000
"""Agents whose first folder is cached; for others it is read from their sessions."""

logger = logging.getLogger(__name__)


class AgentSessions:
    """The sessions of agents.

    Args:
        sessions: Reads and writes them.
        calls: The calls that people decide.
    """

    def __init__(self, sessions: SessionOperations, calls: GatedCalls) -> None:
        self._sessions = sessions
        self._calls = calls
        self._began: LruCache[tuple[str, str], str] = LruCache(AGENTS_MAX)

    async def at_home(self, caller: Caller, call: GatedCall) -> GatedCall:
        """The call with its agent's start folder: that of the session's first call (S-109).

        The client reports only the current folder, and an agent may change folders.
        """
        if not call.folder:
            return call
        key = (key_of(caller.principal), call.tag)
        began = self._began.get(key)
        if began is None:
            said = await self._first_folder(caller, call.tag)
            began = self._began.get(key) or said or call.folder  # another call may have been first
            self._began.put(key, began)
        return replace(call, start=began) if began != call.folder else call

    async def _first_folder(self, caller: Caller, tag: str) -> str | None:
        """The folder in the first record of this key's session of the agent; None without a record."""
        for agent in await self._own(caller, tag):
            first = await self._sessions.inputs(agent, RULED, AfterQuery(limit=1))
            for one in first.items:
                return str(one.data.get("start") or one.data.get("folder") or "")
        return None

    async def record(
        self, caller: Caller, call: GatedCall, said: Mapping[str, str], about: str = ""
    ) -> None:
        """Record a decision that no person made; once for a call with an id."""
        key = f"{call.external_id()}{about}" if call.call_id else None
        await self._record(caller, call, _noted(call, said, key))

    async def line_of_asking(self, caller: Caller, call: GatedCall) -> Callable[[str], SessionLine]:
        """Return a function from a call's session id to the line that notes here that people are asked about it."""
        line = await self._line(caller, call, SendRequest(data=None))

        def about(session_id: str) -> SessionLine:
            record = _asked(call, session_id)
            send = replace(
                line.send,
                data=record.data,
                idempotency_key=record.idempotency_key,
            )
            return replace(line, send=send)

        return about

    async def asked(self, caller: Caller, call: GatedCall, session_id: str) -> None:
        """Note that people are asked about a call, when the commit that asks could not carry the line."""
        await self._note(caller, call, _asked(call, session_id))

    async def answered(self, caller: Caller, call: GatedCall, decision: GateDecision) -> None:
        """Note the decision of people about a call."""
        await self._note(caller, call, _answered(call, decision))

    async def line_of_answer(
        self, caller: Caller, call: GatedCall, decision: GateDecision
    ) -> SessionLine:
        """The line that notes here the decision of people, for the commit that takes it."""
        return await self._line(caller, call, _answered(call, decision))

    async def answered_by(
        self, caller: Caller, call: GatedCall, decision: GateDecision, line: SessionLine
    ) -> None:
        """Note a decision of people by this line; the commit that follows in a moment carries it."""
        try:
            written = await self._sessions.write_line(line, rides=True)
        except HelmrError as error:
            logger.info("%s: a line is written again: %s", call.tag, error)
            written = False
        if not written:
            await self.answered(caller, call, decision)

    async def end(self, caller: Caller, tag: str) -> None:
        """Close this key's sessions of the agent: the agent has ended."""
        self._began.drop((key_of(caller.principal), tag))
        for agent in await self._own(caller, tag):
            await self._calls.shut(caller, agent)

    async def _own(self, caller: Caller, tag: str) -> list[str]:
        wanted = SessionsQuery(task=AGENT_TASK, status=SessionStatus.OPEN, tag=tag, limit=10)
        found = (await self._sessions.list(wanted)).items
        return [one.id for one in found if await self._calls.is_own(caller, one.id)]

    async def _note(self, caller: Caller, call: GatedCall, record: SendRequest) -> None:
        """Record what the call's session holds too; a failure here is logged and changes no decision."""
        try:
            await self._record(caller, call, record)
        except HelmrError as error:
            logger.warning("%s: a call of %s was not noted: %s", call.tag, call.tool, error)

    async def _record(self, caller: Caller, call: GatedCall, record: SendRequest) -> None:
        try:
            if not await self._sessions.write_line(await self._line(caller, call, record)):
                await self._send(caller, call, record)
        except (Overloaded, SessionTerminal):  # it is full, or has ended: the next one goes on
            session_id = await self._session(caller, call)
            await self._sessions.close(caller.fresh(), session_id, CloseRequest())
            await self._send(caller, call, record)

    async def _line(self, caller: Caller, call: GatedCall, record: SendRequest) -> SessionLine:
        return await self._sessions.line(caller.fresh(), _start_of(caller, call), RULED, record)

    async def _send(self, caller: Caller, call: GatedCall, record: SendRequest) -> None:
        """Send the record through the host that holds the agent's session."""
        session_id = await self._session(caller, call)
        await self._sessions.send(caller.fresh(), session_id, RULED, record)

    async def _session(self, caller: Caller, call: GatedCall) -> str:
        started = await self._sessions.start(caller.fresh(), _start_of(caller, call))
        return started.session.id


def _start_of(caller: Caller, call: GatedCall) -> StartRequest:
    agent = {"client": call.client, "agent": call.agent}
    return StartRequest(
        task=AGENT_TASK,
        payload=agent,
        external_id=f"gate:agent:{call.tag}:{key_of(caller.principal)}",
        tags=[call.tag],
        metadata=agent,
    )


def _asked(call: GatedCall, session_id: str) -> SendRequest:
    said = {"action": GateAction.ASK.value, "session_id": session_id}
    return _noted(call, said, f"asked:{session_id}")


def _answered(call: GatedCall, decision: GateDecision) -> SendRequest:
    action = GateAction.ALLOW if decision.is_allowed else GateAction.DENY
    said = {"action": action.value, "session_id": decision.session_id}
    return _noted(call, said, f"answered:{decision.session_id}")


def _noted(call: GatedCall, said: Mapping[str, str], key: str | None) -> SendRequest:
    """A record of a decision about a call; one with a key is written once."""
    data = {
        "call_id": call.call_id,
        "tool": call.tool,
        "input": dict(call.input),
        "folder": call.folder,
        **({"start": call.start} if call.start else {}),
        **said,
    }
    return SendRequest(data=data, idempotency_key=key)


def key_of(principal: Principal) -> str:
    """The id of an agent's key; its name or type if it has none."""
    return principal.id or principal.name or principal.type
