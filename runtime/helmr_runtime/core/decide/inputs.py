"""Sends, answers and their receipts; what time has done to the pending wait; a session's public tokens.

A wait's escalation steps and its end come by time (S-14, S-82): a later decision about the wait counts them as done,
even if the timer has not fired yet. Public tokens are made, revoked and spent here, one after another (S-44, S-45).

Invariants: S-14, S-18, S-20…S-28, S-44, S-45, S-82.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from helmr.errors import (
    BadRequest,
    HelmrError,
    IdempotencyConflict,
    IdleInputRejected,
    KeyNotFound,
    Overloaded,
    SessionTerminal,
    StreamNotFound,
    TooLarge,
    WaitResolved,
    WaitTimedOut,
)
from helmr.models import (
    RECORD_BYTES_MAX,
    UNCONSUMED_BYTES_MAX,
    UNCONSUMED_RECORDS_MAX,
    AnswerMode,
    SendOutcome,
    SessionStatus,
)
from helmr.wire import ids
from helmr.wire.people import person_key
from helmr.wire.roles import ScopeType
from helmr_runtime.core import jsontext
from helmr_runtime.core.answerers import ANYONE, names_of
from helmr_runtime.core.claims import claim_ended, overridden_by
from helmr_runtime.core.commands import (
    NO_DETAILS,
    AnswerDetails,
    AnswerWait,
    AssignWait,
    CreatePublicToken,
    RevokePublicToken,
    Send,
    SessionCommand,
    WithdrawVote,
    carrier,
    receipt,
)
from helmr_runtime.core.decide import votes
from helmr_runtime.core.delegations import ActingPerson, AskedWait, Deputy
from helmr_runtime.core.drafts import Decided, DecisionContext, due_draft
from helmr_runtime.core.entries import RUNTIME, Draft, EntryKind, Principal, iso, voters_of
from helmr_runtime.core.public_tokens import (
    ScopedToken,
    check_answer,
    check_live,
    check_send,
    spend,
)
from helmr_runtime.core.run import ASKS_PEOPLE, WAIT_OUTCOMES, Escalation, Run, Wait, mode_of
from helmr_runtime.core.state import SessionState, normal_correlation_id, takes


def passed(state: SessionState, context: DecisionContext) -> tuple[Draft, ...]:
    """Return the entries that are due by now, in order; if they end the wait, the last one does."""
    run = state.run
    wait = run.wait if run is not None else None
    if wait is None or run is None or (wait.deadline_at is None and wait.escalation is None):
        return ()
    following = run.status_after_wait(is_hot=context.is_hot)
    drafts: list[Draft] = []
    assignee = wait.assignee
    for number, escalation in (
        wait.escalation.due(context.now) if wait.escalation is not None else ()
    ):
        step = escalation.steps[number]
        match step["do"]:
            case "default":
                return (*drafts, *_default(state, wait, step["value"], following))
            case "assign":
                drafts.append(_assigned(wait, number, assignee, escalation, context.now))
                assignee = step["to"]
            case _:
                body = {"wait_id": wait.id, "escalation_step": number, **escalation.times()}
                drafts.append(_of(wait, EntryKind.WAIT_REMINDED, body))
    if wait.is_over(context.now):
        drafts.append(
            due_draft(
                wait_id=wait.id,
                kind=wait.kind,
                run_id=run.id,
                op=wait.op,
                next_status=following,
            )
        )
    return tuple(drafts)


def is_ended(drafts: Sequence[Draft]) -> bool:
    """The wait has ended with these."""
    return bool(drafts) and drafts[-1].kind in WAIT_OUTCOMES


def too_late(
    wait: Wait, drafts: Sequence[Draft], now: datetime, session_id: str
) -> HelmrError | None:
    """Return the error for an answer to a wait that `passed` has ended; None if it has not."""
    if not is_ended(drafts):
        return None
    hint = "Send the data as input if the session should have it anyway."
    if drafts[-1].kind is EntryKind.WAIT_TIMED_OUT:
        assert wait.deadline_at is not None
        return WaitTimedOut(
            f"{wait.id} timed out at {iso(wait.deadline_at)}; the answer was not stored",
            hint=hint,
            session_id=session_id,
        )
    return WaitResolved(
        f"{wait.id} was answered by its escalation's default at {iso(wait.default_at or now)}; nothing was stored",
        hint=hint,
        session_id=session_id,
    )


def _assigned(
    wait: Wait, number: int, from_assignee: str | None, escalation: Escalation, now: datetime
) -> Draft:
    body: dict[str, Any] = {"wait_id": wait.id, "assignee": escalation.steps[number]["to"]}
    if from_assignee is not None:
        body["from_assignee"] = from_assignee
    body |= {"escalation_step": number, "counted_at": iso(now), **escalation.times()}
    return _of(wait, EntryKind.WAIT_ASSIGNED, body)


def _default(state: SessionState, wait: Wait, value: Any, following: str) -> tuple[Draft, ...]:
    """The default answers this wait, as any answer would: with a record, or a token's wait with its data.

    The token stays as it is. Others may wait on it too, and anyone who holds its secret may still complete it.
    """
    mode = AnswerMode.DEFAULT.value
    answered: dict[str, Any] = {"wait_id": wait.id}
    if wait.stream is None:
        answered |= {"token_id": wait.token_id, "data": value, "mode": mode, "next": following}
        return (_of(wait, EntryKind.WAIT_FULFILLED, answered),)
    # Derived from the wait's id, so that two hosts that decide this one after the other make the same record.
    record_id = ids.RECORD + wait.id[len(ids.WAIT) :]
    seq = state.input_seqs.get(wait.stream, 0) + 1
    record: dict[str, Any] = {
        "record_id": record_id,
        "stream": wait.stream,
        "stream_seq": seq,
        "data": value,
        "outcome": SendOutcome.FULFILLED.value,
        "mode": mode,
        "wait_id": wait.id,
        "run_id": wait.run_id,
    }
    if wait.correlation_id is not None:
        record["correlation_id"] = wait.correlation_id
    answered |= {
        "record_id": record_id,
        "record_seq": seq,
        "stream": wait.stream,
        "answer": True,
        "mode": mode,
        "next": following,
    }
    accepted = Draft(EntryKind.INPUT_ACCEPTED, record, principal=RUNTIME)
    return (accepted, _of(wait, EntryKind.WAIT_FULFILLED, answered))


def _of(wait: Wait, kind: EntryKind, body: dict[str, Any]) -> Draft:
    return Draft(kind, body, run_id=wait.run_id, op=wait.op, principal=RUNTIME)


PUBLIC_TOKENS_MAX = 1_000
"""Live public tokens of one session; each of its checkpoints holds them all."""


def create(state: SessionState, command: CreatePublicToken, context: DecisionContext) -> Decided:
    """Make a public token for one of the session's streams, or an answer link for its wait.

    Raises:
        Overloaded: The session has `PUBLIC_TOKENS_MAX` live ones.
        WaitResolved: The link's wait is no longer pending.
    """
    scope = command.token["scope"]
    if scope["type"] == ScopeType.WAIT_ANSWER.value:
        _require_pending(state, scope["wait_id"])
    live = sum(_is_live(known, context) for known in state.public_tokens.values())
    if live >= PUBLIC_TOKENS_MAX:
        raise Overloaded(
            f"{state.id} has {live} public tokens", hint="Revoke some that are not needed."
        )
    draft = carrier(EntryKind.PUBLIC_TOKEN_CREATED, dict(command.token), command)
    return Decided((draft,), receipt(draft, state.id))


def revoke(state: SessionState, command: RevokePublicToken, context: DecisionContext) -> Decided:
    """Revoke one; revoking again changes nothing.

    Raises:
        KeyNotFound: The session has none with that id.
    """
    known = state.public_tokens.get(command.public_token_id)
    if known is None and command.is_link:
        # It died with its wait.
        return Decided(reply={"public_token_id": command.public_token_id, "status": "revoked"})
    if known is None:
        raise KeyNotFound(f"{state.id} has no public token {command.public_token_id}")
    body = {"public_token_id": command.public_token_id}
    draft = carrier(EntryKind.PUBLIC_TOKEN_REVOKED, body, command)
    return Decided(() if "revoked_at" in known else (draft,), receipt(draft, state.id))


def answering_link(state: SessionState, command: AnswerWait, context: DecisionContext) -> None:
    """Return if the answer came with a key, or through a link that lives and is for this wait (S-74).

    Raises:
        Unauthenticated: The link is unknown, revoked or expired by now (S-46).
        ScopeDenied: It is for another wait.
    """
    if command.link_id is None:
        return
    known = state.public_tokens.get(command.link_id)
    link = check_live(ScopedToken.from_json(known) if known is not None else None, context.now)
    check_answer(link, command.wait_id)


def _require_pending(state: SessionState, wait_id: str) -> None:
    wait = state.wait
    if wait is None or wait.id != wait_id:
        raise WaitResolved(f"{wait_id} is no longer pending", session_id=state.id)
    if wait.kind not in ASKS_PEOPLE:
        raise BadRequest(f"{wait.id} waits for a {wait.kind}, which no one answers")


def sending_token(
    state: SessionState, command: Send, context: DecisionContext
) -> ScopedToken | None:
    """The public token that a send came with, None if it came with a key.

    Raises:
        Unauthenticated: It is unknown, revoked or expired by now (S-46).
    """
    if command.public_token_id is None:
        return None
    known = state.public_tokens.get(command.public_token_id)
    return check_live(ScopedToken.from_json(known) if known is not None else None, context.now)


def spend_draft(token: ScopedToken, principal: Principal, context: DecisionContext) -> Draft:
    """Return the entry of one use, for the commit that accepts the request.

    Raises:
        TokenExhausted: None is left.
    """
    body = {"public_token_id": token.id, "uses": spend(token, context.now).uses}
    return Draft(EntryKind.PUBLIC_TOKEN_SPENT, body, principal=principal)


def _is_live(known: dict[str, Any], context: DecisionContext) -> bool:
    return "revoked_at" not in known and known["expires_at"] > iso(context.now)


def key_hash(key: str) -> str:
    """Return the hash under which an idempotency key is stored."""
    return hashlib.sha256(key.encode("utf-8")).hexdigest()


def send(state: SessionState, command: Send, context: DecisionContext) -> Decided:
    """Accept a record; fulfil the pending wait if it takes it (S-23…S-25)."""
    correlation_id = normal_correlation_id(command.correlation_id)
    hashed = data_hash = None
    if command.idempotency_key is not None:
        hashed = key_hash(command.idempotency_key)
        data_hash = jsontext.same_data_hash(jsontext.by_value(command.data))
        if (command.stream, hashed) in state.send_keys:
            return Decided(reply=repeated(state.send_keys[command.stream, hashed], command.data))
    public_token = sending_token(state, command, context)
    if public_token is not None:
        correlation_id = normal_correlation_id(
            check_send(public_token, state.id, command.stream, command.correlation_id)
        )
    require_open(state)
    require_stream(state, command.stream, context)
    size = checked_size(command.data)
    if state.active_run is None and context.policy.on_idle_input == "reject":
        raise IdleInputRejected(
            f"{state.id} has no active run, and {state.task} rejects input while none is active",
            hint="Start the next run first.",
        )
    before = _passed(state, context)
    has_ended = is_ended(before)
    wait = None if has_ended else state.wait
    taker = _taker(state, wait, command.stream, correlation_id, command.data, context)
    if taker is None:
        _require_room(state, size)
    accepted = _Accepted(
        record_id=command.record_id,
        stream=command.stream,
        data=command.data,
        correlation_id=correlation_id,
        key_hash=hashed,
        data_hash=data_hash,
    )
    outcome = (
        SendOutcome.FULFILLED
        if taker is not None
        else _unfulfilled(
            state,
            accepted,
            wait,
            context,
            ended_now=before[-1].kind if has_ended else None,
        )
    )
    ahead = sum(
        draft.kind is EntryKind.INPUT_ACCEPTED and draft.body["stream"] == command.stream
        for draft in before
    )
    drafts, reply = _accept(state, command, accepted, context, taker, outcome, ahead=ahead)
    following = _run_for_idle_input(state, command, context)
    spent = () if public_token is None else (spend_draft(public_token, command.principal, context),)
    return Decided((*before, *drafts, *spent, *following), reply)


def _admitted(
    state: SessionState, wait: Wait, command: AnswerWait, context: DecisionContext
) -> tuple[dict[str, Any], str | None]:
    """Return the keys that name the answerer in the entry, none if anyone may answer; and whose deputy they are."""
    who, reason = wait.restriction, command.details.override_reason
    deputy = _deputy(state, wait, command, context)
    if deputy is not None:
        assert command.identity is not None
        named = (*who.answerers, *who.not_by)
        told: dict[str, Any] = {
            "person": command.identity.recorded(named, context.now),
            "delegation": deputy.recorded(named, context.now),
        }
    elif who is ANYONE and reason is None and command.signature is None:
        return {}, None
    else:
        told = who.admit(
            wait.id,
            command.identity,
            command.principal,
            context.now,
            override_reason=reason,
            may_override=command.may_override,
        )
    signed = who.with_signature(wait.id, told, command.signature)
    return signed, deputy.delegation.delegator if deputy is not None else None


def _deputy(
    state: SessionState, wait: Wait, command: AnswerWait, context: DecisionContext
) -> Deputy | None:
    """Return the delegation by which the command's person answers; None: as themselves."""
    said, reason = command.deputy_for, command.details.override_reason
    if said is not None and reason is not None:
        raise BadRequest(
            "an admin who overrides is no one's deputy", hint="Give a reason, or say for whom."
        )
    if said is None and (not command.deputies or reason is not None):
        return None
    if command.identity is None:
        raise wait.restriction.refusal(wait.id, None)
    answering = ActingPerson(
        who=wait.restriction,
        wait=AskedWait.of(state.task, _run_of(state).opening_of(wait)),
        identity=command.identity,
        principal=command.principal,
        deputies=command.deputies,
        now=context.now,
        disabled=context.disabled,
        ended=context.ended,
    )
    return answering.chosen(said)


def answer(state: SessionState, command: AnswerWait, context: DecisionContext) -> Decided:
    """Answer exactly the pending input wait (S-18)."""
    wait = state.run.wait if state.run is not None else None
    if wait is None or wait.id != command.wait_id:
        raise WaitResolved(f"{command.wait_id} is no longer pending", session_id=state.id)
    answering_link(state, command, context)
    if wait.kind != "input" or wait.stream is None:
        raise BadRequest(f"{wait.id} waits for a {wait.kind}, which data can't answer")
    before = passed(state, context)
    late = too_late(wait, before, context.now, state.id)
    if late is not None:
        return Decided(before, error=late)
    require_open(state)
    checked_size(command.data)
    told, deputy_for = _admitted(state, wait, command, context)
    overridden = _override(wait, command, context)
    own = votes.claim_given_back(wait, command, context)
    if deputy_for is not None:
        by = replace(command.principal, on_behalf_of=deputy_for)
        command = replace(command, principal=by)
    if "person" in told and votes.is_vote(wait, command.data):
        tally = votes.tally(wait, voters_of(told), command.data, context.disabled)
        if tally["have"] < tally["need"]:
            voted = votes.voted(wait, command, {**told, **tally})
            return Decided((*before, *overridden, *own, voted), receipt(voted, state.id))
        told |= {"voters": tally["voters"], "have": tally["have"]}
    accepted = _Accepted(
        record_id=command.record_id,
        stream=wait.stream,
        data=command.data,
        correlation_id=wait.correlation_id,
    )
    drafts, reply = _accept(
        state,
        command,
        accepted,
        context,
        wait,
        SendOutcome.FULFILLED,
        is_answer=True,
        details=command.details,
        told=told,
    )
    return Decided((*before, *overridden, *drafts), reply)


def withdraw(state: SessionState, command: WithdrawVote, context: DecisionContext) -> Decided:
    """Take a person's vote on the pending wait back; without one nothing changes (S-113)."""
    wait = state.wait
    if wait is None or wait.id != command.wait_id:
        raise WaitResolved(f"{command.wait_id} is no longer pending", session_id=state.id)
    before = passed(state, context)
    late = too_late(wait, before, context.now, state.id)
    if late is not None:
        return Decided(before, error=late)
    draft = votes.withdrawn(wait, command)
    has_voted = person_key(command.person) in wait.votes
    drafts = (*before, draft) if has_voted else before
    return Decided(drafts, receipt(draft, state.id))


def assign(state: SessionState, command: AssignWait, context: DecisionContext) -> Decided:
    """Assign the pending wait to someone; assigning it to its assignee changes nothing (S-72)."""
    wait = state.wait
    if wait is None or wait.id != command.wait_id:
        raise WaitResolved(f"{command.wait_id} is no longer pending", session_id=state.id)
    if wait.kind not in ("input", "token"):
        raise BadRequest(f"{wait.id} waits for a {wait.kind}, which can't be assigned to anyone")
    before, was, escalation = passed(state, context), wait.assignee, wait.escalation
    late = too_late(wait, before, context.now, state.id)
    if late is not None:
        raise late
    require_open(state)
    for number, escalated in escalation.due(context.now) if escalation is not None else ():
        was, escalation = escalated.steps[number].get("to", was), escalated
    body: dict[str, Any] = {"wait_id": wait.id}
    named = {"assignee": command.assignee, "from_assignee": was}
    body.update((key, name) for key, name in named.items() if name is not None)
    if escalation is not None:
        times = escalation.assigned(command.assignee, context.now).times()
        body |= {"counted_at": iso(context.now), **times}
    draft = replace(carrier(EntryKind.WAIT_ASSIGNED, body, command, run_id=wait.run_id), op=wait.op)
    is_new = command.assignee != was
    return Decided((*before, draft) if is_new else before, receipt(draft, state.id))


def _override(wait: Wait, command: AnswerWait, context: DecisionContext) -> tuple[Draft, ...]:
    """The entry of the claim that this answer overrides; links look at none (S-81).

    Raises:
        WaitClaimed: Someone else has claimed the wait.
    """
    claims = context.claims
    if claims is None or command.link_id is not None:
        return ()
    claim = claims.live(wait.id, context.now)
    by, override = command.principal, command.override_claim
    overridden = overridden_by(wait.id, claim, by, override=override)
    if overridden is None:
        return ()
    return (claim_ended(claims.wait, overridden, "overridden", by, context.now),)


def repeated(known: tuple[str, dict[str, Any]], data: Any) -> dict[str, Any]:
    """The receipt of a send whose idempotency key was used before (S-26)."""
    first_hash, first = known
    # Entries of earlier releases hold the hash of the data as sent.
    if first_hash not in map(jsontext.same_data_hash, (jsontext.by_value(data), data)):
        raise IdempotencyConflict(
            f"the idempotency key was used with other data (record {first['record_id']})",
            hint="Use a new key for new data.",
        )
    return {**first, "duplicate": True}


def require_open(state: SessionState) -> None:
    """S-27."""
    if state.status is not SessionStatus.OPEN:
        raise SessionTerminal(f"{state.id} is {state.status.value}")


def require_stream(state: SessionState, stream: str, context: DecisionContext) -> None:
    """S-20."""
    if stream not in context.policy.inputs:
        known = sorted(context.policy.inputs)
        there = f"it has {', '.join(known)}" if known else "it has none"
        raise StreamNotFound(
            f"{state.task} has no input stream {stream[:128]!r}; {there}", streams=known
        )


NOTHING_TOLD: Mapping[str, Any] = {}


class _Accepted:
    """The parts of an `input.accepted` body that the caller gave."""

    def __init__(
        self,
        *,
        record_id: str,
        stream: str,
        data: Any,
        correlation_id: str | None,
        key_hash: str | None = None,
        data_hash: str | None = None,
    ) -> None:
        self.record_id = record_id
        self.stream = stream
        self.data = data
        self.correlation_id = correlation_id
        self.key_hash = key_hash
        self.data_hash = data_hash


def _accept(
    state: SessionState,
    command: SessionCommand,
    accepted: _Accepted,
    context: DecisionContext,
    taker: Wait | None,
    outcome: SendOutcome,
    *,
    is_answer: bool = False,
    details: AnswerDetails = NO_DETAILS,
    told: Mapping[str, Any] = NOTHING_TOLD,
    ahead: int = 0,
) -> tuple[tuple[Draft, ...], dict[str, Any]]:
    """Return the record's entry, and the end of the wait that takes it, if one does.

    `told` is what the wait's end says of who answered (S-112).
    `ahead` records of the stream are accepted in the same decision, before it.
    """
    run = state.run if taker is not None else None  # active: a wait of it is pending
    seq = state.input_seqs.get(accepted.stream, 0) + ahead + 1
    mode = mode_of(command.principal)
    body: dict[str, Any] = {
        "record_id": accepted.record_id,
        "stream": accepted.stream,
        "stream_seq": seq,
        "data": accepted.data,
        "outcome": outcome.value,
        "mode": mode,
    }
    optional = {
        "correlation_id": accepted.correlation_id,
        "key_hash": accepted.key_hash,
        "data_hash": accepted.data_hash,
        "wait_id": taker.id if taker is not None else None,
        "run_id": run.id if run is not None else None,
    }
    body.update((key, value) for key, value in optional.items() if value is not None)
    carried = carrier(EntryKind.INPUT_ACCEPTED, body, command)
    drafts = [carried]
    if taker is not None and run is not None:
        drafts.append(
            Draft(
                EntryKind.WAIT_FULFILLED,
                {
                    "wait_id": taker.id,
                    "record_id": accepted.record_id,
                    "record_seq": seq,
                    "stream": accepted.stream,
                    **({"answer": True} if is_answer else {}),
                    **replace(details, mode=mode).recorded(),
                    **told,
                    "next": run.status_after_wait(is_hot=context.is_hot),
                },
                run_id=run.id,
                op=taker.op,
                principal=command.principal,
            )
        )
    return tuple(drafts), receipt(carried, state.id)


def _taker(
    state: SessionState,
    wait: Wait | None,
    stream: str,
    correlation_id: str | None,
    data: Any,
    context: DecisionContext,
) -> Wait | None:
    """The wait, if it takes this record: by stream, correlation id and its own schema (S-23, S-71)."""
    if wait is None or not takes(wait, stream, correlation_id):
        return None
    if wait.has_schema and not context.fits(_run_of(state).wait_schema, data):
        return None
    return wait


def _unfulfilled(
    state: SessionState,
    accepted: _Accepted,
    wait: Wait | None,
    context: DecisionContext,
    *,
    ended_now: EntryKind | None,
) -> SendOutcome:
    if not _starts_run(state, context) and _was_late(state, accepted, context, ended_now):
        return SendOutcome.LATE
    if wait is not None and wait.kind == "input" and wait.stream == accepted.stream:
        return SendOutcome.UNMATCHED
    return SendOutcome.BUFFERED


def _was_late(
    state: SessionState, accepted: _Accepted, context: DecisionContext, ended_now: EntryKind | None
) -> bool:
    """True if the newest run's last wait that would have taken the record has timed out (S-25).

    `ended_now`: how the open one has just ended.
    """
    run, stream, correlation_id = _run_of(state), accepted.stream, accepted.correlation_id
    ended = state.wait if ended_now is not None else None
    if _taker(state, ended, stream, correlation_id, accepted.data, context) is not None:
        return ended_now is EntryKind.WAIT_TIMED_OUT
    candidates = [
        run.closed_waits[key]
        for key in {(stream, correlation_id), (stream, None)}
        if key in run.closed_waits
    ]
    return bool(candidates) and max(candidates)[1]


def _passed(state: SessionState, context: DecisionContext) -> tuple[Draft, ...]:
    """Return the entries that time makes due first: a record at or after a deadline finds the wait timed out (S-14)."""
    wait = state.wait
    return passed(state, context) if wait is not None and not wait.awaits else ()


def _run_of(state: SessionState) -> Run:
    assert state.run is not None
    return state.run


def _run_for_idle_input(
    state: SessionState, command: Send, context: DecisionContext
) -> tuple[Draft, ...]:
    """S-7: input without an active run starts one, if the task says so."""
    if not _starts_run(state, context):
        return ()
    starters = names_of(command.principal)
    return (next_run_draft(state, command.next_run_id, command.record_id, starters),)


def _starts_run(state: SessionState, context: DecisionContext) -> bool:
    return state.active_run is None and context.policy.on_idle_input == "run"


def next_run_draft(
    state: SessionState, run_id: str, record_id: str, sent_by: Sequence[str]
) -> Draft:
    """The run that an input record starts, with the newest run's payload (S-7)."""
    newest = _run_of(state)
    body: dict[str, Any] = {
        "task": newest.task,
        "payload": newest.payload,
        "started_by": {"type": "record", "id": record_id},
        "attempt": 1,
    }
    if sent_by:
        body["starters"] = list(sent_by)
    return Draft(EntryKind.RUN_CREATED, body, run_id=run_id)


def checked_size(data: Any) -> int:
    """The bytes of a record's data, within its limit (S-28)."""
    size = len(jsontext.encode(data).encode("utf-8"))
    if size > RECORD_BYTES_MAX:
        raise TooLarge(
            f"the record has {size} bytes, the limit is {RECORD_BYTES_MAX}",
            hint="Store the data elsewhere and send a reference.",
        )
    return size


def _require_room(state: SessionState, size: int) -> None:
    """Check S-28 for a record that no wait takes at once; answers need no room."""
    if (
        state.unconsumed_count >= UNCONSUMED_RECORDS_MAX
        or state.unconsumed_bytes + size > UNCONSUMED_BYTES_MAX
    ):
        raise Overloaded(
            f"{state.id} holds {state.unconsumed_count} unconsumed records "
            f"({state.unconsumed_bytes} bytes); the limits are {UNCONSUMED_RECORDS_MAX} records and "
            f"{UNCONSUMED_BYTES_MAX} bytes",
            hint="Wait until the task has taken some.",
            retry_after_s=5,
        )
