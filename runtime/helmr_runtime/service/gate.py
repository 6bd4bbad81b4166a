"""The gate in the gateway: an agent's call becomes a session that asks a person, and the answer goes back to the agent.

- The gateway holds an agent's request until the call's run has ended, at most until its client's time is nearly up
  (S-105); what it waits for is its own tail of the feed, so that a waiting prompt costs no one anything.
- A client that names its calls gets the same decision for the same one, always. One that doesn't takes a decision
  once, within an hour: a record with an idempotency key says that it was taken (S-107).
- What rules and grants decide is a record of the agent's own session (S-109); what became of a call that a person
  decided, one of the call's (S-108).

Nothing here lets a call go on because something failed: `unasked` is what is answered then (S-106).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import (
    Conflict,
    HelmrError,
    IdempotencyConflict,
    NotAllowed,
    Overloaded,
    RunActive,
    SessionNotFound,
    SessionTerminal,
    TaskNotFound,
)
from helmr.gate import (
    AGENT_TASK,
    CALL_TASK,
    FLOOD,
    NO_RULES,
    RUN_TASK,
    GateAction,
    GatedCall,
    GateRule,
    GateRules,
    agent_tag,
    call_metadata,
    call_of,
    input_hash,
)
from helmr.gate.claude_code import (
    ASKS,
    CLIENT,
    MARGIN_S,
    GateDecision,
    GateVerdict,
    HookEvent,
    Mode,
    call_of_event,
    decision_of,
    reply,
    unasked,
    without_answer,
)
from helmr.gate.grants import GrantScope, asker_of
from helmr.models import (
    AfterQuery,
    CloseRequest,
    GatedCallInfo,
    GatedCallRequest,
    GatedOutcomeRequest,
    GateReceipt,
    GrantInfo,
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
from helmr_runtime.service.sessions import SessionOperations
from helmr_runtime.service.shared import Caller, LruCache, Shared

logger = logging.getLogger(__name__)

HELD_MAX = 256
"""Requests of agents held at once (S-106 beyond)."""

PER_MINUTE = 120
"""Questions a minute of one key; beyond that its agent is denied, and people see one line (S-110)."""

VALID_FOR = timedelta(hours=1)
"""How long a decision may be taken by a call that has no id (S-107)."""

TURNS_MAX = 1_000
"""Of one and the same call without an id, in one agent's session."""

AGENTS_MAX = 10_000
"""Agents and keys remembered."""

TURN_S = 60.0
"""Longest that an agent takes from one call of a turn to the next, once the first was deferred."""

PENDING = "This call waits for a person. Call it again with the same arguments to get the decision."
"""What a client that asks again sees until then."""

DECISIONS, OUTCOMES, RULED = "decisions", "outcomes", "ruled"
ELSEWHERE, WITHDRAWN, AGENT_ENDED = "decided_elsewhere", "withdrawn", "agent_ended"
"""Why a call is not asked about any more."""

TAKEN, OUTCOME, UNKNOWN = "taken", "outcome", "unknown"
"""Idempotency keys of records in `outcomes`: one of each for a call."""


class Gate:
    """Calls of agents: asked, decided, reported.

    Args:
        shared: See there.
        sessions: Where calls are kept.
        rules: What is decided without a person.
    """

    def __init__(
        self, shared: Shared, sessions: SessionOperations, rules: GateRules = NO_RULES
    ) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._now = shared.now
        self._sessions = sessions
        self._rules = rules
        self._deferred: LruCache[str, frozenset[str]] = LruCache(
            AGENTS_MAX, age_max_s=TURN_S, monotonic=_monotonic
        )
        """By agent, the call that it asks about again when it is resumed; until its turn is over."""
        self._asked: OrderedDict[str, tuple[datetime, int]] = OrderedDict()
        """By key, since when a minute runs, and how often it has asked in it."""
        self.held = 0

    # --- what clients post ------------------------------------------------------------------------

    async def hook(
        self,
        caller: Caller,
        event: Mapping[str, Any],
        mode: Mode,
        timeout_s: float,
        *,
        run: str | None = None,
        client: str = CLIENT,
    ) -> dict[str, Any]:
        """What a hook of Claude Code is to answer, or one of Codex, which posts and takes the same.

        Args:
            caller: Whose key it is.
            event: What the client gave its hook.
            mode: How the client runs.
            timeout_s: The hook's time, of which so much is used that it answers before.
            run: The session in which the client runs: its calls are asked about there, and deferred here.
            client: Which of the two it is; Codex defers nothing.

        Raises:
            BadRequest: It is not an event of a hook.
        """
        kind = event.get("hook_event_name")
        if kind not in ASKS:
            await self._report(caller, event, str(kind), mode, run, client)
            return {}
        call = call_of_event(event, client)
        try:
            held_s = max(timeout_s - MARGIN_S, 0.0)
            decision = await self._decide(caller, call, mode, held_s, run=run)
        except TaskNotFound:
            decision = unasked(mode, "its runtime has no gate; [gate] in helmr.toml turns it on")
        except NotAllowed:
            raise
        except HelmrError as error:
            logger.warning("%s: a call of %s was not asked about: %s", call.tag, call.tool, error)
            decision = unasked(mode, error.message)
        return reply(str(kind), decision)

    async def ask(self, caller: Caller, request: GatedCallRequest) -> GateReceipt:
        """Whether a call may be made, of a client that names no calls and asks again by itself.

        Raises:
            HelmrError: It was not asked about; the call is not to be made.
        """
        named = request.model_dump(exclude={"hold_s"})
        decision = await self._decide(caller, GatedCall(**named), None, request.hold_s)
        is_open = decision.verdict is GateVerdict.DEFER
        return GateReceipt(
            verdict="pending" if is_open else "allow" if decision.is_allowed else "deny",
            reason=decision.reason,
            input=dict(decision.input) if decision.input is not None else None,
            session_id=decision.session_id or None,
        )

    async def _decide(
        self,
        caller: Caller,
        call: GatedCall,
        mode: Mode | None,
        timeout_s: float,
        *,
        run: str | None = None,
    ) -> GateDecision:
        """The decision; `mode` is None for a client that asks again by itself."""
        rule = self._rules.first(call)
        if rule is not None and rule.action is not GateAction.ASK:
            return await self._by_rule(caller, call, rule)
        deferred = self._deferred.get(call.tag) or frozenset()
        if mode is Mode.HEADLESS and deferred - {call.call_id}:
            return without_answer(mode, can_defer=False)
        if run is not None and mode is Mode.HEADLESS:
            return await self._in_run(caller, call, run)
        if not self._may_ask(caller):
            return await self._flooded(caller)
        if self.held >= HELD_MAX:
            return unasked(mode, f"{self.held} calls wait already")
        ends_at = asyncio.get_running_loop().time() + timeout_s
        self.held += 1
        try:
            return await self._by_person(caller, call, rule, mode, ends_at)
        finally:
            self.held -= 1

    async def _in_run(self, caller: Caller, call: GatedCall, run: str) -> GateDecision:
        """What a person has said to a call that its run asks about; else it is deferred, and the run asks."""
        for session in await self._calls_of_run(run, call.tag):
            known = session.metadata
            if (known.get("call_id"), known.get("input_hash")) != (call.call_id, call.input_hash):
                continue
            asked = await self.run_of(session.id)
            if asked.status is RunStatus.SUCCEEDED:
                return await self._delivered(caller, call, session, asked, Mode.HEADLESS)
            if asked.status.is_final:
                raise Conflict(f"the question was {asked.status.value}, not answered")
            break
        else:
            granted = await self._by_grant(caller, call, run)
            if granted is not None:
                return granted
        self._deferred.put(call.tag, frozenset({call.call_id}))
        return without_answer(Mode.HEADLESS, can_defer=bool(call.call_id))

    async def _calls_of_run(self, run: str, tag: str) -> list[SessionInfo]:
        """The calls that a headless run has asked about."""
        if (await self._sessions.get(run)).task != RUN_TASK:
            raise SessionNotFound(f"{run} is no headless run", session_id=run)
        wanted = SessionsQuery(task=CALL_TASK, parent=run, tag=tag, limit=200)
        return (await self._sessions.list(wanted)).items

    async def _by_rule(self, caller: Caller, call: GatedCall, rule: GateRule) -> GateDecision:
        """What a rule says, once it is recorded."""
        said = {"action": rule.action.value, "rule": rule.name, "rules_hash": self._rules.hash}
        await self._ruled(caller, call, said)
        if rule.action is GateAction.ALLOW:
            return GateDecision(GateVerdict.ALLOW, f"The rule {rule.name!r} allows it.")
        return GateDecision(GateVerdict.DENY, rule.reason or f"The rule {rule.name!r} denies it.")

    async def _by_grant(
        self, caller: Caller, call: GatedCall, asker: str | None = None
    ) -> GateDecision | None:
        """What a standing grant says, once it is recorded; None if none covers the call (S-107)."""
        by = caller.principal
        asker = asker or asker_of(by.type, by.id)
        for found in await self._ledger.grants_of(call.client, call.agent):
            if not GrantScope.from_json(found).covers(call, asker):
                continue
            grant = GrantInfo.model_validate(found)
            who = grant.created_by.label
            said = {"action": GateAction.ALLOW.value, "grant": grant.id, "granted_by": who}
            await self._ruled(caller, call, said, about=grant.id)
            return GateDecision(GateVerdict.ALLOW, f"{who} has allowed such calls ({grant.id}).")
        return None

    async def _ruled(
        self, caller: Caller, call: GatedCall, said: Mapping[str, str], about: str = ""
    ) -> None:
        """Record in the agent's session what was decided without asking; of a call with an id once."""
        data = {
            "call_id": call.call_id,
            "tool": call.tool,
            "input": dict(call.input),
            "folder": call.folder,
            **said,
        }
        key = f"{call.external_id()}{about}" if call.call_id else None
        record = SendRequest(data=data, idempotency_key=key)
        session_id = await self._agent_session(caller, call)
        try:
            await self._sessions.send(_fresh(caller), session_id, RULED, record)
        except (Overloaded, SessionTerminal):  # it is full, or has ended: the next one goes on
            await self._sessions.close(_fresh(caller), session_id, CloseRequest())
            session_id = await self._agent_session(caller, call)
            await self._sessions.send(_fresh(caller), session_id, RULED, record)

    async def _agent_session(self, caller: Caller, call: GatedCall) -> str:
        agent = {"client": call.client, "agent": call.agent}
        request = StartRequest(
            task=AGENT_TASK,
            payload=agent,
            external_id=f"gate:agent:{call.tag}:{_key_of(caller.principal)}",
            tags=[call.tag],
            metadata=agent,
        )
        return (await self._sessions.start(_fresh(caller), request)).session.id

    async def _by_person(
        self,
        caller: Caller,
        call: GatedCall,
        rule: GateRule | None,
        mode: Mode | None,
        ends_at: float,
    ) -> GateDecision:
        """What a person says, or what is answered without one."""
        for turn in range(TURNS_MAX):
            session = await self._find(caller, call, turn)
            if session is None:
                granted = await self._by_grant(caller, call)
                if granted is not None:
                    return granted
                session = await self._start(caller, call, turn, rule)
            elif not call.call_id and await self._is_over(caller, session):
                continue
            run = await self._ended(session, ends_at)
            if run is None:
                return await self._unanswered(caller, call, session, mode)
            if call.call_id or await self._take(caller, session):
                return await self._delivered(caller, call, session, run, mode)
        raise Conflict(f"{call.tag}: this call was asked about {TURNS_MAX} times")

    async def _find(self, caller: Caller, call: GatedCall, turn: int) -> SessionInfo | None:
        """The session of this call, if it was asked before, by the same key.

        Raises:
            Conflict: Another key has asked.
        """
        wanted = SessionsQuery(external_id=call.external_id(turn), limit=1)
        found = (await self._sessions.list(wanted)).items
        if not found:
            return None
        if found[0].task != CALL_TASK or not await self._is_own(caller, found[0].id):
            raise Conflict("another key has asked about this call")
        return found[0]

    async def _start(
        self, caller: Caller, call: GatedCall, turn: int, rule: GateRule | None
    ) -> SessionInfo:
        metadata = call_metadata(call)
        if rule is not None:
            metadata |= {"rule": rule.name, "rules_hash": self._rules.hash}
        request = StartRequest(
            task=CALL_TASK,
            payload=call.to_json(),
            external_id=call.external_id(turn),
            tags=[call.tag],
            metadata=metadata,
        )
        return (await self._sessions.start(_fresh(caller), request)).session

    async def _ended(self, session: SessionInfo, ends_at: float) -> RunInfo | None:
        """The call's run once it has ended; None if the time is over before.

        Raises:
            Conflict: It ended without saying anything, or its code can't go on.
        """

        async def is_ended(run: RunInfo) -> bool:
            return run.status.is_final or run.status is RunStatus.BLOCKED

        assert session.run_id is not None, "a session has a run from its start"
        left_s = max(ends_at - asyncio.get_running_loop().time(), 0.0)
        run = await self._sessions.run_once(session.id, session.run_id, is_ended, left_s)
        if not await is_ended(run):
            return None
        if run.status is not RunStatus.SUCCEEDED:
            raise Conflict(f"the question was {run.status.value}, not answered", run_id=run.id)
        return run

    async def _unanswered(
        self, caller: Caller, call: GatedCall, session: SessionInfo, mode: Mode | None
    ) -> GateDecision:
        if mode is None:
            return GateDecision(GateVerdict.DEFER, PENDING, session_id=session.id)
        if mode is Mode.INTERACTIVE:
            return without_answer(mode)
        deferred = self._deferred.get(call.tag) or frozenset()
        can_defer = call.client == CLIENT and bool(call.call_id) and not deferred - {call.call_id}
        if can_defer:
            self._deferred.put(call.tag, frozenset({call.call_id}))
        else:
            await self._end(caller, session.id, ELSEWHERE)
        return without_answer(mode, can_defer=can_defer)

    async def _delivered(
        self, caller: Caller, call: GatedCall, session: SessionInfo, run: RunInfo, mode: Mode | None
    ) -> GateDecision:
        if mode is Mode.HEADLESS:
            self._deferred.drop(call.tag)
        decision = replace(decision_of(call, run.result), session_id=session.id)
        if not decision.is_allowed and session.status is SessionStatus.OPEN:
            await self._quietly(self._sessions.close(_fresh(caller), session.id, CloseRequest()))
        return decision

    # --- calls without an id ----------------------------------------------------------------------

    async def _is_over(self, caller: Caller, session: SessionInfo) -> bool:
        """Whether a call without an id that is asked again can't have this decision."""
        taken_by = await self._taken_by(session.id)
        if taken_by is not None or session.status is not SessionStatus.OPEN:
            return taken_by != caller.operation_id
        run = await self.run_of(session.id)
        if run.ended_at is None or self._now() - run.ended_at < VALID_FOR:
            return False
        await self._quietly(self._sessions.close(_fresh(caller), session.id, CloseRequest()))
        return True

    async def _take(self, caller: Caller, session: SessionInfo) -> bool:
        """Whether this request is the one that takes the decision. Repeated, it is the same request."""
        taking = SendRequest(
            data={TAKEN: caller.operation_id, "at": self._now().isoformat()}, idempotency_key=TAKEN
        )
        try:
            await self._sessions.send(_fresh(caller), session.id, OUTCOMES, taking)
        except (IdempotencyConflict, SessionTerminal):
            return await self._taken_by(session.id) == caller.operation_id
        return True

    async def _taken_by(self, session_id: str) -> str | None:
        """The operation id of the request that has taken the decision."""
        records = await self._sessions.inputs(session_id, OUTCOMES, AfterQuery(limit=10))
        data = (one.data for one in records.items if isinstance(one.data, dict))
        return next((str(one[TAKEN]) for one in data if TAKEN in one), None)

    async def has(self, session_id: str, what: str) -> bool:
        """Whether the outcomes of a call have such a record."""
        records = await self._sessions.inputs(session_id, OUTCOMES, AfterQuery(limit=10))
        return any(isinstance(one.data, dict) and what in one.data for one in records.items)

    # --- reports ----------------------------------------------------------------------------------

    async def _report(
        self,
        caller: Caller,
        event: Mapping[str, Any],
        kind: str,
        mode: Mode,
        run: str | None,
        client: str,
    ) -> None:
        """What a client says of calls that it has decided, or made (S-105, S-108)."""
        agent = event.get("session_id")
        if not isinstance(agent, str) or not agent:
            return
        tag = agent_tag(client, agent)
        made = {
            HookEvent.POST_TOOL_USE: "succeeded",
            HookEvent.POST_TOOL_USE_FAILURE: "failed",
        }
        if kind in made or kind == HookEvent.PERMISSION_DENIED:
            call = call_of_event(event, client)
            calls = await self._open_calls(caller, tag)
            if run is not None:
                calls += [
                    one
                    for one in await self._calls_of_run(run, tag)
                    if one.status is SessionStatus.OPEN
                ]
            for session in calls:
                if await self._is_about(session, call):
                    await self.close_call(caller, session, made.get(HookEvent(kind)))
                    return
        elif kind in (HookEvent.STOP, HookEvent.SESSION_END):
            await self._agent_rests(caller, tag, mode, has_ended=kind == HookEvent.SESSION_END)

    async def _open_calls(self, caller: Caller, tag: str) -> list[SessionInfo]:
        wanted = SessionsQuery(task=CALL_TASK, status=SessionStatus.OPEN, tag=tag, limit=200)
        found = (await self._sessions.list(wanted)).items
        return [one for one in found if await self._is_own(caller, one.id)]

    async def _is_about(self, session: SessionInfo, call: GatedCall) -> bool:
        """Whether a report is about the call of this session, perhaps with the input that a person gave it."""
        known = session.metadata
        if known.get("call_id"):
            return bool(known["call_id"] == call.call_id)
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

    async def payload(self, session_id: str) -> GatedCall | None:
        """The call as it was asked about."""
        entries = (await self._sessions.transcript(session_id, AfterQuery(limit=5))).items
        found = next((one.body.get("payload") for one in entries if "payload" in one.body), None)
        return call_of(found) if isinstance(found, dict) and FLOOD not in found else None

    async def close_call(self, caller: Caller, session: SessionInfo, outcome: str | None) -> None:
        """Record what became of a call; one that no one had decided here was decided at the client."""
        run = await self.run_of(session.id)
        if not run.status.is_final:
            await self._end(caller, session.id, ELSEWHERE)
            return
        if outcome is not None:
            said = {OUTCOME: outcome, "at": self._now().isoformat()}
            record = SendRequest(data=said, idempotency_key=OUTCOME)
            await self._quietly(self._sessions.send(_fresh(caller), session.id, OUTCOMES, record))
        await self._quietly(self._sessions.close(_fresh(caller), session.id, CloseRequest()))

    async def _agent_rests(self, caller: Caller, tag: str, mode: Mode, *, has_ended: bool) -> None:
        """The agent makes no call now: what it has asked about was decided at the client, but for what it deferred."""
        for session in await self._open_calls(caller, tag):
            run = await self.run_of(session.id)
            if not run.status.is_final:
                if mode is Mode.INTERACTIVE:
                    await self._end(caller, session.id, AGENT_ENDED if has_ended else ELSEWHERE)
            elif session.metadata.get("call_id") or await self.has(session.id, TAKEN):
                is_deferred = session.metadata.get("call_id") in (self._deferred.get(tag) or ())
                if has_ended and not is_deferred and not await self.has(session.id, OUTCOME):
                    await self._unknown(caller, session.id)
            else:
                await self._quietly(
                    self._sessions.close(_fresh(caller), session.id, CloseRequest())
                )
        if has_ended:
            self._deferred.drop(tag)
            wanted = SessionsQuery(task=AGENT_TASK, status=SessionStatus.OPEN, tag=tag, limit=10)
            for agent in (await self._sessions.list(wanted)).items:
                if await self._is_own(caller, agent.id):
                    await self._quietly(
                        self._sessions.close(_fresh(caller), agent.id, CloseRequest())
                    )

    async def _unknown(self, caller: Caller, session_id: str) -> None:
        """An approved call whose client ended before it said what became of it: it stays open until a person says."""
        said = {UNKNOWN: True, "at": self._now().isoformat()}
        record = SendRequest(data=said, idempotency_key=UNKNOWN)
        await self._quietly(self._sessions.send(_fresh(caller), session_id, OUTCOMES, record))

    async def _end(self, caller: Caller, session_id: str, reason: str) -> None:
        """Ask about the call no more."""
        fresh = _fresh(caller)
        command = CancelSession(
            principal=caller.principal,
            operation=fresh.operation("gate.end", session_id, reason),
            reason=reason,
        )
        await self._quietly(self._router.command(session_id, command))

    async def _quietly(self, doing: Awaitable[Any]) -> None:
        """What is only kept in order: a call that has ended by itself meanwhile is no mistake."""
        try:
            await doing
        except (SessionTerminal, IdempotencyConflict, RunActive, SessionNotFound) as error:
            logger.info("a gated call was closed already: %s", error)

    # --- an asker's own calls ---------------------------------------------------------------------

    async def get(self, session_id: str) -> GatedCallInfo:
        """A call of an agent, and how it was decided.

        Raises:
            SessionNotFound: No call with that id.
        """
        session = await self.call_session(session_id)
        run = await self.run_of(session_id)
        call = await self.payload(session_id)
        decided: GateDecision | None = None
        if run.status is RunStatus.SUCCEEDED and call is not None:
            decided = decision_of(call, run.result)
        records = (await self._sessions.inputs(session_id, OUTCOMES, AfterQuery(limit=10))).items
        said = [one.data[OUTCOME] for one in records if OUTCOME in one.data]
        return GatedCallInfo(
            session_id=session_id,
            client=session.metadata.get("client", ""),
            agent=session.metadata.get("agent", ""),
            call_id=session.metadata.get("call_id", ""),
            tool=session.metadata.get("tool", ""),
            status=_status(session),
            verdict=decided.verdict.value if decided is not None else None,
            reason=decided.reason if decided is not None else None,
            input=dict(decided.input) if decided is not None and decided.input else None,
            outcome=said[0] if said else None,
            decided_at=run.ended_at if decided is not None else None,
        )

    async def report(
        self, caller: Caller, session_id: str, request: GatedOutcomeRequest
    ) -> GatedCallInfo:
        """Record what became of a call; the first report counts.

        Raises:
            SessionNotFound: No call with that id.
        """
        session = await self.call_session(session_id)
        if session.status is SessionStatus.OPEN:
            await self.close_call(caller, session, request.outcome)
        return await self.get(session_id)

    async def withdraw(self, caller: Caller, session_id: str) -> GatedCallInfo:
        """Ask about this call no more; one that was decided stays as it is.

        Raises:
            SessionNotFound: No call with that id.
        """
        await self.call_session(session_id)
        run = await self.run_of(session_id)
        if not run.status.is_final:
            await self._end(caller, session_id, WITHDRAWN)
        return await self.get(session_id)

    async def maker(self, session_id: str) -> Principal:
        """Who has asked about a call.

        Raises:
            SessionNotFound: No call with that id.
        """
        await self.call_session(session_id)
        return await self._starter(session_id)

    async def call_session(self, session_id: str) -> SessionInfo:
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

    async def _starter(self, session_id: str) -> Principal:
        found = await self._ledger.transcript(session_id, limit=1)
        return Principal.from_json(found["items"][0]["principal"])

    async def _is_own(self, caller: Caller, session_id: str) -> bool:
        starter = await self._starter(session_id)
        return (starter.type, starter.id) == (caller.principal.type, caller.principal.id)

    # --- bounds -----------------------------------------------------------------------------------

    def _may_ask(self, caller: Caller) -> bool:
        """Count a question of this key."""
        key, now = _key_of(caller.principal), self._now()
        since, count = self._asked.pop(key, (now, 0))
        if now - since >= timedelta(minutes=1):
            since, count = now, 0
        self._asked[key] = (since, count + 1)
        if len(self._asked) > AGENTS_MAX:
            self._asked.popitem(last=False)
        return count < PER_MINUTE

    async def _flooded(self, caller: Caller) -> GateDecision:
        """Deny, and let people see one line about it a day."""
        name = caller.principal.name or _key_of(caller.principal)
        day = self._now().date().isoformat()
        request = StartRequest(
            task=CALL_TASK,
            payload={FLOOD: {"key": name, "per_minute": PER_MINUTE}},
            external_id=f"gate:flood:{_key_of(caller.principal)}:{day}",
            tags=["gate:flood"],
        )
        await self._sessions.start(_fresh(caller), request)
        reason = f"More than {PER_MINUTE} calls in a minute were asked about; call it again later."
        return GateDecision(GateVerdict.DENY, reason)


def _key_of(principal: Principal) -> str:
    return principal.id or principal.name or principal.type


def _fresh(caller: Caller) -> Caller:
    """The caller under an operation id of its own: one event may write several entries."""
    return Caller(caller.principal, role=caller.role, identity=caller.identity)


def _status(session: SessionInfo) -> str:
    """`asked` until it is decided; `withdrawn` if no one is to decide it any more."""
    if session.run_status is RunStatus.SUCCEEDED:
        return "decided"
    return "asked" if session.status is SessionStatus.OPEN else "withdrawn"


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
