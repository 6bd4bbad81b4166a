"""Turns the requests of task code into entries: steps, waits, outputs, reads (S-10…S-17, S-30…S-33)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from helmr_runtime.core.commands import TokenEnded
from helmr_runtime.core.decide.inputs import is_ended, passed
from helmr_runtime.core.drafts import DecisionContext, due_draft, token_end_draft
from helmr_runtime.core.entries import Draft, EntryKind, iso, task_principal
from helmr_runtime.core.public_tokens import ScopedToken
from helmr_runtime.core.requests import (
    HistoryRequest,
    OpRequest,
    OutputRequest,
    PatchRequest,
    PeekRequest,
    PublicTokenOp,
    StepRequest,
    TokenOp,
    WaitRequest,
)
from helmr_runtime.core.run import Run, opening, record_parts, step_key
from helmr_runtime.core.state import SessionState, first_match
from helmr_runtime.core.tokens import TokenQuestion

STEP_BACKOFF_MAX_S = 3600.0
"""Longest pause between a step's tries, as for a run's."""


def key_of(state: SessionState, run: Run, op: int, step: str) -> str:
    """The key of a step of this run under this op."""
    rewinds = run.rewinds_of(op, step)
    return step_key(state.id, run.id, op, rewinds=rewinds, name=step)


def _asked(ask: OpRequest) -> dict[str, Any]:
    """Return an opening's hash of its question, and the ops in which other code asked otherwise (S-126)."""
    found: dict[str, Any] = {"asked": ask.asked} if ask.asked is not None else {}
    return {**found, "drift": list(ask.drift)} if ask.drift else found


def open_step(state: SessionState, run: Run, op: int, ask: StepRequest) -> Draft:
    """Return the start of a step; the step runs once this is on disk."""
    key = key_of(state, run, op, ask.step)
    body = {"name": ask.step, "step_key": key, "attempt": run.attempt, **_asked(ask)}
    return Draft(
        EntryKind.STEP_STARTED, body, run_id=run.id, op=op, principal=task_principal(run.id)
    )


def step_succeeded(run: Run, op: int, value: Any) -> Draft:
    """A step's value, recorded once."""
    body = {"value": value}
    return Draft(
        EntryKind.STEP_SUCCEEDED, body, run_id=run.id, op=op, principal=task_principal(run.id)
    )


def step_raised(
    run: Run,
    op: int,
    ask: StepRequest,
    error: Mapping[str, Any],
    context: DecisionContext,
    *,
    may_retry: bool,
) -> Draft:
    """Return the entry of a failed try: the next try's time, or the step's failure (S-33)."""
    tries = tries_of(run, op) + 1
    principal = task_principal(run.id)
    if may_retry and tries <= ask.retries:
        backoff_s = min(STEP_BACKOFF_MAX_S, ask.backoff_s * 2 ** (tries - 1))
        body: dict[str, Any] = {
            "try": tries,
            "error": dict(error),
            "retry_at": iso(context.now + timedelta(seconds=backoff_s)),
        }
        return Draft(EntryKind.STEP_TRY_FAILED, body, run_id=run.id, op=op, principal=principal)
    body = {"error": dict(error), "tries": tries}
    return Draft(EntryKind.STEP_FAILED, body, run_id=run.id, op=op, principal=principal)


def limit_closed(
    run: Run,
    op: int,
    limit: str,
    error: Mapping[str, Any],
    context: DecisionContext,
    *,
    for_s: float,
) -> Draft:
    """Return the entry of a try that reported its limit closed: it runs again later, and does not count as a try."""
    body = {
        "try": tries_of(run, op),
        "error": dict(error),
        "retry_at": iso(context.now + timedelta(seconds=for_s)),
        "closed_limit": limit,
    }
    principal = task_principal(run.id)
    return Draft(EntryKind.STEP_TRY_FAILED, body, run_id=run.id, op=op, principal=principal)


def tries_of(run: Run, op: int) -> int:
    """Return the number of this step's failed tries; survives parking and crashes."""
    return run.tries.get(op, (0, ""))[0]


def open_backoff(run: Run, op: int, wait_id: str, retry_at: datetime) -> Draft:
    """Open a timer for a step's long backoff with nothing else open, so that the run can park (S-16)."""
    body = {
        "wait_id": wait_id,
        "kind": "timer",
        "deadline_at": iso(retry_at),
        "backoff": True,
    }
    return Draft(EntryKind.WAIT_OPENED, body, run_id=run.id, op=op)


def op_given_up(run: Run, op: int) -> tuple[Draft, ...]:
    """The code cancelled an op it awaited (asyncio timeout, TaskGroup): S-10.

    A wait may have been fulfilled meanwhile. The code never saw its record, which is given back (S-24). An answer is
    not given back: it was for exactly that wait (S-18).
    """
    principal = task_principal(run.id)
    wait = run.wait
    if wait is not None and wait.op == op and wait.has_own_op:
        body = {"wait_id": wait.id, "reason": "task", "next": "running"}
        return (Draft(EntryKind.WAIT_CANCELLED, body, run_id=run.id, op=op, principal=principal),)
    if op in run.given_up:
        return ()
    taken = _record_taken_by(run, op)
    if taken is not None:
        body = {**taken, "reason": "task"}
        return (Draft(EntryKind.INPUT_RETURNED, body, run_id=run.id, op=op, principal=principal),)
    abandoned = Draft(
        EntryKind.STEP_ABANDONED, {"reason": "task"}, run_id=run.id, op=op, principal=principal
    )
    backoff = _supersede_backoff(run) if wait is not None and wait.op == op else ()
    return (*backoff, abandoned)


def _record_taken_by(run: Run, op: int) -> dict[str, Any] | None:
    """Return the keys that name the record that this op's wait took from its stream."""
    for entry in reversed(run.journal):
        if entry.op == op and entry.kind is EntryKind.WAIT_FULFILLED:
            body = entry.body
            if "record_seq" not in body or body.get("answer") or "kept_from" in body:
                return None
            return {name: body[name] for name in ("record_id", "record_seq", "stream", "wait_id")}
    return None


def open_wait(
    state: SessionState,
    run: Run,
    op: int,
    ask: WaitRequest,
    context: DecisionContext,
    *,
    token_ended: TokenEnded | None = None,
    question: TokenQuestion | None = None,
) -> tuple[Draft, ...]:
    """Open a wait and look for what already satisfies it, in one decision (S-12, S-13).

    Args:
        state: The session.
        run: Its active run, without a pending wait of its own.
        op: The op's number.
        ask: What the code asked.
        context: The circumstances.
        token_ended: The end of the awaited token, or of the first awaited child to end, if there is one.
        question: The awaited token's question; fills in what the code left out.
    """
    deadline = _deadline(ask, context.now)
    ends_with_token = question is not None and (deadline is None or question.expires_at <= deadline)
    shown_at = question.expires_at if question is not None and ends_with_token else deadline
    body: dict[str, Any] = {"wait_id": ask.wait_id, "kind": ask.wait_kind}
    optional = {
        "stream": ask.stream,
        "correlation_id": ask.correlation_id,
        "token_id": ask.token_id,
        "session_ids": list(ask.session_ids) or None,
        "timeout_s": ask.timeout_s,
        "deadline_at": iso(shown_at) if shown_at is not None else None,
        "deadline_of": "token" if ends_with_token else None,
    }
    body.update((key, value) for key, value in optional.items() if value is not None)
    body.update(record_parts(state.task, state.tags, ask, question, state.all_starters))
    body.update(_asked(ask))
    body.update(opening(body, context.now))
    principal = task_principal(run.id)
    opened = Draft(EntryKind.WAIT_OPENED, body, run_id=run.id, op=op, principal=principal)
    resolved = _kept(run, op, ask, body.get("question_hash"))
    if resolved is None:
        resolved = _resolved_at_once(state, run, op, ask, deadline, context, token_ended)
    superseded = _supersede_backoff(run)
    return (*superseded, opened, *((resolved,) if resolved is not None else ()))


def _deadline(ask: WaitRequest, now: datetime) -> datetime | None:
    if ask.until is not None:
        return ask.until
    return now + timedelta(seconds=ask.timeout_s) if ask.timeout_s is not None else None


def _kept(run: Run, op: int, ask: WaitRequest, question_hash: str | None) -> Draft | None:
    """Return the first answer that a rewind kept for a wait with this question (S-78)."""
    found = next(
        (
            one
            for one in run.held
            if one.question_hash == question_hash or (one.op == op and one.stream == ask.stream)
        ),
        None,
    )
    if found is None:
        return None
    body: dict[str, Any] = {"wait_id": ask.wait_id, "kept_from": found.wait_id}
    if found.stream is None:
        body |= {"token_id": ask.token_id, "data": found.data}
    else:
        record = {"record_id": found.record_id, "record_seq": found.record_seq}
        body |= {**record, "stream": found.stream}
    if found.mode is not None:
        body["mode"] = found.mode
    return Draft(EntryKind.WAIT_FULFILLED, {**body, "next": "running"}, run_id=run.id, op=op)


def _resolved_at_once(
    state: SessionState,
    run: Run,
    op: int,
    ask: WaitRequest,
    deadline: datetime | None,
    context: DecisionContext,
    token_ended: TokenEnded | None,
) -> Draft | None:
    if ask.wait_kind == "input" and ask.stream is not None:
        schema = ask.details.schema
        record = (
            first_match(
                state,
                ask.stream,
                ask.correlation_id,
                lambda data: schema is None or context.fits(schema, data),
            )
            if not ask.details.restriction
            else None
        )
        if record is not None:
            body: dict[str, Any] = {
                "wait_id": ask.wait_id,
                "record_id": record.id,
                "record_seq": record.seq,
                "stream": record.stream,
                **({"mode": record.mode} if record.mode is not None else {}),
                "next": "running",
            }
            return Draft(EntryKind.WAIT_FULFILLED, body, run_id=run.id, op=op)
        if state.input_ended:
            body = {"wait_id": ask.wait_id, "reason": "input_ended", "next": "running"}
            return Draft(EntryKind.WAIT_CANCELLED, body, run_id=run.id, op=op)
    if ask.wait_kind == "timer" and deadline is not None and deadline <= context.now:
        return due_draft(
            wait_id=ask.wait_id, kind="timer", run_id=run.id, op=op, next_status="running"
        )
    if token_ended is not None:
        return token_end_draft(
            wait_id=ask.wait_id,
            run_id=run.id,
            op=op,
            deadline_at=None,
            ended=token_ended,
            next_status="running",
        )
    return None


def _supersede_backoff(run: Run) -> tuple[Draft, ...]:
    wait = run.wait
    if wait is None or not wait.is_backoff:
        return ()
    body = {"wait_id": wait.id, "reason": "superseded", "next": "running"}
    return (Draft(EntryKind.WAIT_CANCELLED, body, run_id=run.id, op=wait.op),)


def token_ended(
    state: SessionState, command: TokenEnded, context: DecisionContext
) -> tuple[Draft, ...]:
    """A delivery: resolve the wait it names, if it is still pending; else nothing (S-41)."""
    run, wait = state.run, state.wait
    if run is None or wait is None or wait.id != command.wait_id:
        return ()
    before = passed(state, replace(context, now=command.ended_at))
    if is_ended(before):
        return before
    draft = token_end_draft(
        wait_id=wait.id,
        run_id=run.id,
        op=wait.op,
        deadline_at=wait.deadline_at,
        ended=command,
        next_status=run.status_after_wait(is_hot=context.is_hot),
    )
    return (*before, draft)


def create_token(run: Run, op: int, ask: TokenOp, context: DecisionContext) -> Draft:
    """A token, whose secrets every replay derives again (S-40)."""
    body = {**ask.new.to_body(context.now), **_asked(ask)}
    principal = task_principal(run.id)
    return Draft(EntryKind.TOKEN_CREATED, body, run_id=run.id, op=op, principal=principal)


def create_public_token(run: Run, op: int, ask: PublicTokenOp, context: DecisionContext) -> Draft:
    """A public token for a stream of this session, or for a token (S-44)."""
    token = ScopedToken(
        id=ask.public_token_id,
        scope=ask.scope,
        secret_hash=ask.secret_hash,
        created_at=context.now,
        expires_at=context.now + timedelta(seconds=ask.expires_in_s),
        max_uses=ask.max_uses,
        allowed_origins=ask.allowed_origins,
        key_id=ask.key_id,
    )
    principal = task_principal(run.id)
    body = {**token.to_json(), **_asked(ask)}
    return Draft(EntryKind.PUBLIC_TOKEN_CREATED, body, run_id=run.id, op=op, principal=principal)


def append_output(state: SessionState, run: Run, op: int, ask: OutputRequest) -> Draft:
    """A record on an output stream."""
    body = {
        "record_id": ask.record_id,
        "stream": ask.stream,
        "stream_seq": state.output_seqs.get(ask.stream, 0) + 1,
        "data": ask.data,
        **_asked(ask),
    }
    return Draft(
        EntryKind.OUTPUT_APPENDED, body, run_id=run.id, op=op, principal=task_principal(run.id)
    )


def read_clock(run: Run, op: int, now: datetime) -> Draft:
    """The time that the code saw."""
    return Draft(
        EntryKind.CLOCK_READ,
        {"now": iso(now)},
        run_id=run.id,
        op=op,
        principal=task_principal(run.id),
    )


def mark_patch(run: Run, op: int, ask: PatchRequest) -> Draft:
    """The code took a patch's new way at this place, and does so at each replay (S-88)."""
    return Draft(
        EntryKind.PATCH_MARKED,
        {"name": ask.patch},
        run_id=run.id,
        op=op,
        principal=task_principal(run.id),
    )


def read_peek(state: SessionState, run: Run, op: int, ask: PeekRequest) -> Draft:
    """Record the seqs of the unconsumed records that the code saw."""
    seqs = [record.seq for record in state.unconsumed.get(ask.stream, ())]
    body = {"stream": ask.stream, "record_seqs": seqs}
    return Draft(EntryKind.PEEK_READ, body, run_id=run.id, op=op, principal=task_principal(run.id))


def read_history(state: SessionState, run: Run, op: int, ask: HistoryRequest) -> Draft:
    """Record how far the code saw the stream's history: a watermark instead of the records (S-128)."""
    is_output = ask.direction == "output"
    through = (state.output_seqs if is_output else state.input_seqs).get(ask.stream, 0)
    gone = state.outputs_set_aside.get(ask.stream, ()) if is_output else ()
    first = _first_of_last(ask.last, through, gone) if ask.last is not None else 1
    first = max(ask.from_seq, first)
    body = {
        "stream": ask.stream,
        "direction": ask.direction,
        "from_seq": first,
        "through_seq": through,
        **_asked(ask),
    }
    without = [seq for seq in gone if seq >= first]
    if without:
        body["without"] = without
    return Draft(
        EntryKind.HISTORY_READ, body, run_id=run.id, op=op, principal=task_principal(run.id)
    )


def _first_of_last(count: int, through: int, gone: Collection[int]) -> int:
    """The seq of the first of so many records that were not set aside."""
    seq = through + 1
    while count > 0 and seq > 1:
        seq -= 1
        count -= seq not in gone
    return seq
