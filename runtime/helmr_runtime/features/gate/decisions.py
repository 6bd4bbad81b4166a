"""The gate in the gateway: an agent's call becomes a session that asks a person, and the answer goes back to the agent.

- The gateway holds an agent's request until the call's run has ended, or the client's time is nearly up (S-105). It
  waits on its own tail of the feed, so a waiting prompt puts no load on ledger or hosts.
- A client that names its calls always gets the same decision for the same call. A client that does not takes a
  decision once, within an hour (S-107).
- Rules decide first, then an earlier question about this very call, then a standing grant; only then a person is asked.

A failure never lets a call go on: the reply is `unasked` then (S-106).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import Conflict, HelmrError, NotAllowed, TaskNotFound
from helmr.gate import (
    CALL_TASK,
    FLOOD,
    RESTRICTION,
    UNTIL,
    VALUES_MAX,
    GateAction,
    GatedCall,
    agent_tag,
    has_many_values,
    rules_copy,
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
from helmr.gate.grant_scope import GrantScope
from helmr.gate.grants import asker_of, covers
from helmr.matching import NO_RULES, DeclaredRule, DeclaredRules
from helmr.models import (
    GatedCallRequest,
    GateReceipt,
    GrantInfo,
    RunInfo,
    RunStatus,
    SessionInfo,
    SessionStatus,
    StartRequest,
)
from helmr_runtime.features.gate.agent_sessions import AgentSessions, key_of
from helmr_runtime.features.gate.facts import GrantsOf
from helmr_runtime.features.gate.gated_calls import (
    AGENT_ENDED,
    ELSEWHERE,
    OUTCOME,
    TAKEN,
    GatedCalls,
    was_left,
)
from helmr_runtime.ports.ledger import Json
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.lru_cache import LruCache
from helmr_runtime.service.sessions import SessionOperations
from helmr_runtime.service.shared import Shared

logger = logging.getLogger(__name__)

HELD_MAX = 256
"""Requests of agents held at once (S-106 beyond)."""

PER_MINUTE = 120
"""Questions a minute of one key; beyond that its agent is denied, and people see one line (S-110)."""

TURNS_MAX = 1_000
"""Questions about the same call without an id, in one agent's session."""

AGENTS_MAX = 10_000
"""Agents and keys remembered."""

TURN_S = 60.0
"""Longest that an agent takes from one call of a turn to the next, once the first was deferred."""

GRACE_S = 3.0
"""Longest that a question takes to end once its time is up: an answer just before counts."""
MANY_VALUES = (
    f"A call with more than {VALUES_MAX:,} values is not asked about: no one reads that. "
    "Put them into a file, or make several calls."
)

PENDING = "This call waits for a person. Call it again with the same arguments to get the decision."
"""The reason that a client that asks again sees until then."""


@dataclass(frozen=True, slots=True)
class AskedCall:
    """The question about a call, if there is one; else `turn` is the turn to ask in."""

    session: SessionInfo | None
    turn: int = 0


class Gate:
    """Calls of agents: asked, decided, reported.

    Args:
        shared: The ledger and the clock.
        sessions: Keeps calls as sessions.
        calls: The calls that people decide.
        rules: Decide calls without a person.
    """

    def __init__(
        self,
        shared: Shared,
        sessions: SessionOperations,
        calls: GatedCalls,
        rules: DeclaredRules = NO_RULES,
    ) -> None:
        self._ledger = shared.ledger
        self._now = shared.now
        self._sessions = sessions
        self._calls = calls
        self._agents = AgentSessions(sessions, calls)
        self._rules = rules
        self._deferred: LruCache[str, frozenset[str]] = LruCache(
            AGENTS_MAX, age_max_s=TURN_S, monotonic=_monotonic
        )
        """By agent, until its turn is over, the call that it asks about again when it is resumed."""
        self._asked: OrderedDict[str, tuple[datetime, int]] = OrderedDict()
        """By key, the start of the current minute and the number of questions in it."""
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
        """Return the reply to a Claude Code or Codex hook; both use one format.

        Args:
            caller: The holder of the hook's key.
            event: The event that the client gave its hook.
            mode: The client's mode, interactive or headless.
            timeout_s: The hook's timeout; the reply is sent before it ends.
            run: The session in which the client runs: that run asks about its calls, and they are deferred here.
            client: The name of the client; Codex defers nothing.

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

    async def rules_hook(
        self, caller: Caller, event: Mapping[str, Any], *, has: str | None, client: str = CLIENT
    ) -> dict[str, Any]:
        """Return the rules' reply to a call before the client decides it: `deny`, `ask`, or nothing (S-137).

        A denial is recorded first. If that fails, the error is raised, and the hook asks by its copy of the rules.

        Args:
            caller: The holder of the hook's key.
            event: The event that the client gave its hook.
            has: The hash of the hook's copy of the rules; if it is old, the current rules come with the reply.
            client: The name of the client.

        Raises:
            BadRequest: It is not an event of a hook.
            HelmrError: The denial could not be recorded.
        """
        said: dict[str, Any] = {}
        if event.get("hook_event_name") == HookEvent.PRE_TOOL_USE:
            call = call_of_event(event, client)
            if has_many_values(call.input):
                return reply(HookEvent.PRE_TOOL_USE, GateDecision(GateVerdict.DENY, MANY_VALUES))
            call = await self._agents.at_home(caller, call)
            rule = await asyncio.to_thread(rules_copy.names, self._rules, call)  # looks at files
            if rule is not None and rule.action is GateAction.ASK:
                said = reply(HookEvent.PRE_TOOL_USE, rules_copy.asks(rule))
            elif rule is not None:
                said = reply(HookEvent.PRE_TOOL_USE, await self._by_rule(caller, call, rule))
        if has == self._rules.hash:
            return said
        return said | {rules_copy.COPY: rules_copy.encode_rules(self._rules)}

    async def ask(self, caller: Caller, request: GatedCallRequest) -> GateReceipt:
        """Decide a call for a client that names no calls and asks again by itself.

        Raises:
            HelmrError: No one was asked; the client must not make the call.
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
        if has_many_values(call.input):
            return GateDecision(GateVerdict.DENY, MANY_VALUES)
        call = await self._agents.at_home(caller, call)
        rule = await asyncio.to_thread(self._rules.first, call)  # it looks at files
        if rule is not None and rule.action is not GateAction.ASK:
            return await self._by_rule(caller, call, rule)
        run = run if mode is Mode.HEADLESS else None
        if call.is_fixed and await self._calls.is_allowed_by_id(caller, call):
            return GateDecision(GateVerdict.ALLOW)
        asked = await self._asked_before(caller, call, run)
        restriction = rule.restriction if rule is not None else {}
        if asked.session is None and not restriction:
            granted = await self._by_grant(caller, call, run)
            if granted is not None:
                return granted
        deferred = self._deferred.get(call.tag) or frozenset()
        if mode is Mode.HEADLESS and deferred - {call.call_id}:
            return without_answer(mode, can_defer=False)
        if run is not None:
            return await self._in_run(caller, call, run, asked.session, restriction)
        if not self._may_ask(caller):
            return await self._flooded(caller)
        if self.held >= HELD_MAX:
            return unasked(mode, f"{self.held} calls wait already")
        ends_at = asyncio.get_running_loop().time() + timeout_s
        self.held += 1
        try:
            return await self._by_person(caller, call, rule, asked, mode, ends_at)
        finally:
            self.held -= 1

    async def _asked_before(
        self, caller: Caller, call: GatedCall, run: str | None, turn: int = 0
    ) -> AskedCall:
        """Find the question about this call that still decides it.

        Raises:
            Conflict: Another key asked, or the call was asked about too often.
        """
        if run is not None:
            return AskedCall(await self._calls.find_in_run(run, call))
        for number in range(turn, TURNS_MAX):
            session = await self._calls.find(caller, call, number)
            if session is None or not await self._calls.is_over(caller, call, session):
                return AskedCall(session, number)
        raise Conflict(f"{call.tag}: this call was asked about {TURNS_MAX} times")

    async def _by_rule(self, caller: Caller, call: GatedCall, rule: DeclaredRule) -> GateDecision:
        """Record and return a rule's decision."""
        said = {"action": rule.action.value, "rule": rule.name, "rules_hash": self._rules.hash}
        await self._agents.record(caller, call, said)
        if rule.action is GateAction.ALLOW:
            return GateDecision(GateVerdict.ALLOW, f"The rule {rule.name!r} allows it.")
        return GateDecision(GateVerdict.DENY, rule.reason or f"The rule {rule.name!r} denies it.")

    async def _by_grant(
        self, caller: Caller, call: GatedCall, run: str | None
    ) -> GateDecision | None:
        """Record and return the decision of a standing grant; None if none covers the call (S-107)."""
        by = caller.principal
        asker = run or asker_of(by.type, by.id)
        grants = await self._ledger.ask(GrantsOf(client=call.client, agent=call.agent))
        found = await asyncio.to_thread(self._covering, grants, call, asker) if grants else None
        if found is None:
            return None
        grant = GrantInfo.model_validate(found)
        who = grant.created_by.label
        said = {"action": GateAction.ALLOW.value, "grant": grant.id, "granted_by": who}
        await self._agents.record(caller, call, said, about=grant.id)
        return GateDecision(GateVerdict.ALLOW, f"{who} has allowed such calls ({grant.id}).")

    def _covering(self, grants: Sequence[Json], call: GatedCall, asker: str) -> Json | None:
        """The grant that covers the call; None also for files that no grant may allow. Looks at files."""
        if self._rules.kept_from(call) is not None:
            return None
        return next((one for one in grants if covers(GrantScope.from_json(one), call, asker)), None)

    async def _in_run(
        self,
        caller: Caller,
        call: GatedCall,
        run: str,
        session: SessionInfo | None,
        restriction: Mapping[str, Any],
    ) -> GateDecision:
        """Return a person's decision on a call that its run asks about; without one, defer it, and the run asks.

        Raises:
            Conflict: The question ended undecided, or was open to others than the rule allows.
        """
        if session is None and restriction:
            await self._calls.restrict_in_run(caller, run, call, restriction)
        if session is not None:
            if restriction and await self._calls.restriction(session.id) != restriction:
                raise Conflict(
                    "the rule says who answers this, and others could", session_id=session.id
                )
            asked = await self._calls.run_of(session.id)
            if asked.status is RunStatus.SUCCEEDED:
                decision = _said(call, session, asked)
                await self._agents.answered(caller, call, decision)
                return await self._delivered(caller, call, session, decision, Mode.HEADLESS)
            if asked.status.is_final:
                raise Conflict(f"the question was {asked.status.value}, not answered")
        self._deferred.put(call.tag, frozenset({call.call_id}))
        return without_answer(Mode.HEADLESS, can_defer=bool(call.call_id))

    async def _by_person(
        self,
        caller: Caller,
        call: GatedCall,
        rule: DeclaredRule | None,
        asked: AskedCall,
        mode: Mode | None,
        ends_at: float,
    ) -> GateDecision:
        """Ask a person and return their decision, or the reply without one once the time is up."""
        until = self._left_at(call, mode, ends_at)
        while True:
            if asked.session is None and until is not None and until <= self._now():
                assert mode is not None, "only such a client holds the line"
                return without_answer(mode, can_defer=False)
            session = asked.session or await self._start(caller, call, rule, asked.turn, until)
            run = await self._ended(session, ends_at + (GRACE_S if until is not None else 0.0))
            if run is not None and was_left(run) and asked.session is not None:
                asked = await self._asked_before(caller, call, None, asked.turn + 1)
                continue
            if run is None or was_left(run):
                return await self._unanswered(caller, call, session, mode)
            decision = _said(call, session, run)
            if await self._taken(caller, call, session, decision):
                return await self._delivered(caller, call, session, decision, mode)
            asked = await self._asked_before(caller, call, None, asked.turn + 1)
            is_restricted = rule is not None and rule.restriction
            if (
                asked.session is None and not is_restricted
            ):  # another has taken it, and perhaps allowed more
                granted = await self._by_grant(caller, call, None)
                if granted is not None:
                    return granted

    def _left_at(self, call: GatedCall, mode: Mode | None, ends_at: float) -> datetime | None:
        """The time at which a client that holds the line decides itself (S-138); None for one that asks again."""
        if mode is None or (mode is Mode.HEADLESS and _can_defer(call)):
            return None
        return self._now() + timedelta(seconds=ends_at - asyncio.get_running_loop().time())

    async def _start(
        self,
        caller: Caller,
        call: GatedCall,
        rule: DeclaredRule | None,
        turn: int,
        until: datetime | None,
    ) -> SessionInfo:
        named = {"rule": rule.name, "rules_hash": self._rules.hash} if rule is not None else {}
        more: dict[str, Any] = {}
        if rule is not None and rule.restriction:
            more[RESTRICTION] = dict(rule.restriction)
        if until is not None:
            more[UNTIL] = until.isoformat()
        line_of = await self._agents.line_of_asking(caller, call)
        session, lined = await self._calls.start(caller, call, turn, named, more, line_of)
        if not lined:
            await self._agents.asked(caller, call, session.id)
        return session

    async def _ended(self, session: SessionInfo, ends_at: float) -> RunInfo | None:
        """The call's run once it has ended; None if the time is up first.

        Raises:
            Conflict: The run ended undecided, or its code can't go on.
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
        if mode is Mode.INTERACTIVE or not _can_defer(call):
            return without_answer(mode, can_defer=False)
        deferred = self._deferred.get(call.tag) or frozenset()
        can_defer = not deferred - {call.call_id}
        if can_defer:
            self._deferred.put(call.tag, frozenset({call.call_id}))
        else:
            await self._calls.end(caller, session.id, ELSEWHERE)
        return without_answer(mode, can_defer=can_defer)

    async def _taken(
        self, caller: Caller, call: GatedCall, session: SessionInfo, decision: GateDecision
    ) -> bool:
        """Note a person's decision and take it, in one commit; True if this request is the one that takes it.

        A call that its client names keeps its decision for good: there is nothing to take.
        """
        if call.call_id:
            await self._agents.answered(caller, call, decision)
            return True
        line = await self._agents.line_of_answer(caller, call, decision)
        noting = self._agents.answered_by(caller, call, decision, line)
        _, taken = await asyncio.gather(noting, self._calls.take(caller, session))
        return taken

    async def _delivered(
        self,
        caller: Caller,
        call: GatedCall,
        session: SessionInfo,
        decision: GateDecision,
        mode: Mode | None,
    ) -> GateDecision:
        if mode is Mode.HEADLESS:
            self._deferred.drop(call.tag)
        if not decision.is_allowed and session.status is SessionStatus.OPEN:
            await self._calls.shut(caller, session.id)
        return decision

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
        """Record a client's report on calls that it decided or made (S-105, S-108)."""
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
            calls = await self._calls.open_ones(caller, tag)
            if run is not None:
                calls += [
                    one
                    for one in await self._calls.of_run(run, tag)
                    if one.status is SessionStatus.OPEN
                ]
            for session in calls:
                if await self._calls.is_about(session, call):
                    await self._calls.close(caller, session, made.get(HookEvent(kind)))
                    return
        elif kind in (HookEvent.STOP, HookEvent.SESSION_END):
            await self._agent_rests(caller, tag, mode, has_ended=kind == HookEvent.SESSION_END)

    async def _agent_rests(self, caller: Caller, tag: str, mode: Mode, *, has_ended: bool) -> None:
        """Close the agent's open calls as it stops or ends: the client decided them, except those that it deferred."""
        for session in await self._calls.open_ones(caller, tag):
            run = await self._calls.run_of(session.id)
            if not run.status.is_final:
                if mode is Mode.INTERACTIVE:
                    await self._calls.end(
                        caller, session.id, AGENT_ENDED if has_ended else ELSEWHERE
                    )
            elif not was_left(run) and (
                session.metadata.get("call_id") or await self._calls.has(session.id, TAKEN)
            ):
                is_deferred = session.metadata.get("call_id") in (self._deferred.get(tag) or ())
                if has_ended and not is_deferred and not await self._calls.has(session.id, OUTCOME):
                    await self._calls.note_unknown(caller, session.id)
            else:
                await self._calls.shut(caller, session.id)
        if has_ended:
            self._deferred.drop(tag)
            await self._agents.end(caller, tag)

    # --- bounds -----------------------------------------------------------------------------------

    def _may_ask(self, caller: Caller) -> bool:
        """Count a question of this key; True while it is within `PER_MINUTE`."""
        key, now = key_of(caller.principal), self._now()
        since, count = self._asked.pop(key, (now, 0))
        if now - since >= timedelta(minutes=1):
            since, count = now, 0
        self._asked[key] = (since, count + 1)
        if len(self._asked) > AGENTS_MAX:
            self._asked.popitem(last=False)
        return count < PER_MINUTE

    async def _flooded(self, caller: Caller) -> GateDecision:
        """Deny, and show people one line about it a day."""
        name = caller.principal.name or key_of(caller.principal)
        day = self._now().date().isoformat()
        request = StartRequest(
            task=CALL_TASK,
            payload={FLOOD: {"key": name, "per_minute": PER_MINUTE}},
            external_id=f"gate:flood:{key_of(caller.principal)}:{day}",
            tags=["gate:flood"],
        )
        await self._sessions.start(caller.fresh(), request)
        reason = f"More than {PER_MINUTE} calls in a minute were asked about; call it again later."
        return GateDecision(GateVerdict.DENY, reason)


def _said(call: GatedCall, session: SessionInfo, run: RunInfo) -> GateDecision:
    """A person's decision, with the session that asked."""
    return replace(decision_of(call, run.result), session_id=session.id)


def _can_defer(call: GatedCall) -> bool:
    """True if its client, when headless, can end with the call open and ask again when it is resumed."""
    return call.client == CLIENT and bool(call.call_id)


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
