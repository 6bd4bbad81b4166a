"""An agent's own session: what was decided about its calls, in the order in which they were made (S-109).

What rules and grants decide is a record of it, written before the agent is answered. A call that people are asked about
has a session of its own, which the agent's names: when it was asked, and what was said.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.gated_calls import GatedCalls
from helmr_runtime.service.lru_cache import LruCache
from helmr_runtime.service.sessions import SessionOperations

AGENTS_MAX = 10_000
"""Agents whose first folder is remembered; of others their sessions say it."""

logger = logging.getLogger(__name__)


class AgentSessions:
    """The sessions of agents.

    Args:
        sessions: Where they are kept.
        calls: Those that people are asked about.
    """

    def __init__(self, sessions: SessionOperations, calls: GatedCalls) -> None:
        self._sessions = sessions
        self._calls = calls
        self._began: LruCache[tuple[str, str], str] = LruCache(AGENTS_MAX)

    async def at_home(self, caller: Caller, call: GatedCall) -> GatedCall:
        """The call with the folder in which its agent's session began: that of the first call of it (S-109).

        A client says where the agent is at the moment, and an agent goes where it likes.
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
        """What this key's session of the agent, if it has one, was first told."""
        for agent in await self._own(caller, tag):
            first = await self._sessions.inputs(agent, RULED, AfterQuery(limit=1))
            for one in first.items:
                return str(one.data.get("start") or one.data.get("folder") or "")
        return None

    async def record(
        self, caller: Caller, call: GatedCall, said: Mapping[str, str], about: str = ""
    ) -> None:
        """Record what was decided without asking; of a call with an id once."""
        key = f"{call.external_id()}{about}" if call.call_id else None
        await self._record(caller, call, said, key)

    async def asked(self, caller: Caller, call: GatedCall, session_id: str) -> None:
        """Note that people are asked about a call."""
        said = {"action": GateAction.ASK.value, "session_id": session_id}
        await self._note(caller, call, said, f"asked:{session_id}")

    async def answered(self, caller: Caller, call: GatedCall, decision: GateDecision) -> None:
        """Note what people have said to a call."""
        action = GateAction.ALLOW if decision.is_allowed else GateAction.DENY
        said = {"action": action.value, "session_id": decision.session_id}
        await self._note(caller, call, said, f"answered:{decision.session_id}")

    async def end(self, caller: Caller, tag: str) -> None:
        """Close what this key has had recorded: the agent has ended."""
        self._began.drop((key_of(caller.principal), tag))
        for agent in await self._own(caller, tag):
            await self._calls.shut(caller, agent)

    async def _own(self, caller: Caller, tag: str) -> list[str]:
        wanted = SessionsQuery(task=AGENT_TASK, status=SessionStatus.OPEN, tag=tag, limit=10)
        found = (await self._sessions.list(wanted)).items
        return [one.id for one in found if await self._calls.is_own(caller, one.id)]

    async def _note(
        self, caller: Caller, call: GatedCall, said: Mapping[str, str], key: str
    ) -> None:
        """Record what stands in the call's session too: that it can't be written here changes no decision."""
        try:
            await self._record(caller, call, said, key)
        except HelmrError as error:
            logger.warning("%s: a call of %s was not noted: %s", call.tag, call.tool, error)

    async def _record(
        self, caller: Caller, call: GatedCall, said: Mapping[str, str], key: str | None
    ) -> None:
        data = {
            "call_id": call.call_id,
            "tool": call.tool,
            "input": dict(call.input),
            "folder": call.folder,
            **({"start": call.start} if call.start else {}),
            **said,
        }
        record = SendRequest(data=data, idempotency_key=key)
        session_id = await self._session(caller, call)
        try:
            await self._sessions.send(caller.fresh(), session_id, RULED, record)
        except (Overloaded, SessionTerminal):  # it is full, or has ended: the next one goes on
            await self._sessions.close(caller.fresh(), session_id, CloseRequest())
            session_id = await self._session(caller, call)
            await self._sessions.send(caller.fresh(), session_id, RULED, record)

    async def _session(self, caller: Caller, call: GatedCall) -> str:
        agent = {"client": call.client, "agent": call.agent}
        request = StartRequest(
            task=AGENT_TASK,
            payload=agent,
            external_id=f"gate:agent:{call.tag}:{key_of(caller.principal)}",
            tags=[call.tag],
            metadata=agent,
        )
        return (await self._sessions.start(caller.fresh(), request)).session.id


def key_of(principal: Principal) -> str:
    """What names an agent's key."""
    return principal.id or principal.name or principal.type
