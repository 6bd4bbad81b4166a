"""Starting, ending, retrying, cancelling and closing; rewinding a run and amending an answer (S-1…S-8, S-75…S-79)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from helmr.errors import RunActive, RunNotFound, RunNotRetryable, SessionChanged
from helmr.models import RunStatus, SessionStatus
from helmr_runtime.core.answerers import Answerers
from helmr_runtime.core.commands import (
    AddNote,
    AmendWait,
    CancelRun,
    CancelSession,
    CloseSession,
    RetryRun,
    RewindRun,
    StartRun,
    carrier,
    receipt,
)
from helmr_runtime.core.corrections import (
    Rewind,
    accepted_for,
    answer_for,
    checked_reason,
    plan_amendment,
    plan_rewind,
    preview_of,
    question_of_wait,
    rewindable,
)
from helmr_runtime.core.decide.inputs import checked_size, next_run_draft, require_open
from helmr_runtime.core.drafts import Decided, DecisionContext
from helmr_runtime.core.entries import RUNTIME, Draft, EntryKind, Principal, iso, task_principal
from helmr_runtime.core.run import Run, mode_of
from helmr_runtime.core.state import InputRecord, SessionState

BACKOFF_MAX_S = 3600.0
"""A retry waits an hour at most: a day of outage then costs two dozen attempts, not a lost night."""

CRASHES_MAX = 3
"""Crashes of its actor without an outcome in between after which a run is blocked (S-3)."""


def start_run(state: SessionState, command: StartRun, context: DecisionContext) -> Decided:
    """Start the next run of an open, idle session (S-2)."""
    require_open(state)
    if state.active_run is not None:
        raise RunActive(
            f"{state.id} has an active run, {state.active_run.id} ({state.active_run.status.value})",
            hint="Wait for its end, or cancel it.",
            run_id=state.active_run.id,
        )
    newest = state.run
    payload = command.payload if command.payload_given or newest is None else newest.payload
    body = {
        "task": state.task,
        "payload": payload,
        "started_by": {"type": "operator"},
        "attempt": 1,
    }
    draft = carrier(EntryKind.RUN_CREATED, body, command, run_id=command.run_id)
    return Decided((draft,), receipt(draft, state.id))


def cancel_run(state: SessionState, command: CancelRun, context: DecisionContext) -> Decided:
    """Cancel the active run; an ended run stays as it ended (S-6)."""
    run = state.run
    if run is None or run.id != command.run_id:
        raise RunNotFound(f"{command.run_id} is not the newest run of {state.id}")
    if not run.is_active:
        return Decided(reply={"run_id": run.id, "status": run.status.value})
    _require_attempt(run, command.attempt)
    end = carrier(EntryKind.RUN_CANCELLED, {"reason": "cancelled"}, command, run_id=run.id)
    return Decided(
        end_run(state, run, end, context, next_run_id=command.next_run_id), receipt(end, state.id)
    )


def cancel_session(
    state: SessionState, command: CancelSession, context: DecisionContext
) -> Decided:
    """Cancel the session with its open run, wait and tokens, in one commit (S-6)."""
    if state.status is not SessionStatus.OPEN:
        return Decided(reply={"session_id": state.id, "status": state.status.value})
    drafts: list[Draft] = []
    run = state.active_run
    if run is not None:
        drafts += close_ops(run, command.principal)
        drafts.append(
            Draft(
                EntryKind.RUN_CANCELLED,
                {"reason": (command.reason or "session cancelled").replace("_", " ")},
                run_id=run.id,
                principal=command.principal,
            )
        )
    why = {"reason": command.reason} if command.reason is not None else {}
    end = carrier(EntryKind.SESSION_CANCELLED, why, command)
    return Decided((*drafts, end), receipt(end, state.id))


def close_session(state: SessionState, command: CloseSession, context: DecisionContext) -> Decided:
    """Close the session; with `end_input` also while its run waits on input (S-6)."""
    if state.status is not SessionStatus.OPEN:
        return Decided(reply={"session_id": state.id, "status": state.status.value})
    if command.run_id is not None:
        _require_newest(state, command.run_id, command.attempt)
    run = state.active_run
    drafts: list[Draft] = []
    if run is not None:
        wait = run.wait
        if not command.end_input or wait is None or wait.kind != "input":
            hint = (
                "Cancel the run first, or wait for its end."
                if command.end_input
                else "Close with end_input while it waits on input, cancel the run, or wait for its end."
            )
            raise RunActive(
                f"{state.id} has an active run, {run.id} ({run.status.value})",
                hint=hint,
                run_id=run.id,
            )
        drafts.append(
            Draft(
                EntryKind.WAIT_CANCELLED,
                {
                    "wait_id": wait.id,
                    "reason": "input_ended",
                    "next": run.status_after_wait(is_hot=context.is_hot),
                },
                run_id=run.id,
                op=wait.op,
                principal=command.principal,
            )
        )
    end = carrier(EntryKind.SESSION_CLOSED, {"end_input": command.end_input}, command)
    return Decided((*drafts, end), receipt(end, state.id))


def retry_run(state: SessionState, command: RetryRun, context: DecisionContext) -> Decided:
    """Start the next attempt of the newest run, failed or blocked (S-5)."""
    run = state.run
    if run is None or run.id != command.run_id:
        raise RunNotRetryable(
            f"{command.run_id} is not the newest run of {state.id}",
            hint="Only a session's newest run can be retried.",
        )
    require_open(state)
    if run.status not in (RunStatus.FAILED, RunStatus.BLOCKED):
        raise RunNotRetryable(
            f"{run.id} is {run.status.value}; only failed or blocked runs are retried"
        )
    _require_attempt(run, command.attempt)
    body: dict[str, Any] = {"attempt": run.attempt + 1}
    if run.status is RunStatus.FAILED and run.failed_op is not None:
        body["failed_op"] = run.failed_op
    draft = carrier(EntryKind.RUN_RETRIED, body, command, run_id=run.id)
    return Decided((draft,), receipt(draft, state.id))


def _require_newest(state: SessionState, run_id: str, attempt: int | None) -> None:
    """Return if the session's newest run is the one that was seen, at that attempt.

    Raises:
        SessionChanged: It has begun another since.
    """
    run = state.run
    if run is None or run.id != run_id:
        raise SessionChanged(f"{run_id} is not the newest run of {state.id} any more")
    _require_attempt(run, attempt)


def _require_attempt(run: Run, attempt: int | None) -> None:
    """Return if the run's newest attempt is the one that was seen, or if no attempt was named.

    Raises:
        SessionChanged: It has begun another since.
    """
    if attempt is not None and run.attempt != attempt:
        raise SessionChanged(
            f"{run.id} is at attempt {run.attempt}, and was seen at attempt {attempt}",
            run_id=run.id,
            attempt=run.attempt,
        )


def add_note(state: SessionState, command: AddNote, context: DecisionContext) -> Decided:
    """Write a person's note; allowed in every state of a session."""
    body = {"note_id": command.note_id, "text": command.text}
    draft = carrier(EntryKind.NOTE_ADDED, body, command)
    return Decided((draft,), receipt(draft, state.id, seq=state.seq + context.entries_ahead + 1))


# --- effects of a run's own code ----------------------------------------------------------------


def run_executes(run: Run, code_hash: str) -> Draft:
    """A host begins or goes on with an attempt."""
    kind = EntryKind.RUN_RESUMED if run.is_started else EntryKind.RUN_STARTED
    return Draft(kind, {"attempt": run.attempt, "code_hash": code_hash}, run_id=run.id)


def run_succeeded(
    state: SessionState, run: Run, result: Any, context: DecisionContext, *, next_run_id: str
) -> tuple[Draft, ...]:
    """The task returned."""
    end = Draft(
        EntryKind.RUN_SUCCEEDED, {"result": result}, run_id=run.id, principal=task_principal(run.id)
    )
    return end_run(state, run, end, context, next_run_id=next_run_id)


def run_raised(
    state: SessionState,
    run: Run,
    error: Mapping[str, Any],
    failed_op: int | None,
    context: DecisionContext,
    *,
    next_run_id: str,
    may_retry: bool = True,
) -> tuple[Draft, ...]:
    """The task raised: the policy's next attempt, else the run has failed (S-5)."""
    body: dict[str, Any] = {"error": dict(error)}
    if failed_op is not None:
        body["failed_op"] = failed_op
    principal = task_principal(run.id)
    failed_before = run.attempt - run.first_attempt
    if may_retry and failed_before < context.policy.retries:
        backoff_s = min(BACKOFF_MAX_S, context.policy.backoff_s * 2**failed_before)
        body["next_attempt"] = run.attempt + 1
        body["retry_at"] = iso(context.now + timedelta(seconds=backoff_s))
        failed = Draft(EntryKind.RUN_ATTEMPT_FAILED, body, run_id=run.id, principal=principal)
        return (*close_ops(run), failed)
    end = Draft(EntryKind.RUN_FAILED, body, run_id=run.id, principal=principal)
    return end_run(state, run, end, context, next_run_id=next_run_id)


def run_continued(run: Run, payload: Any, next_run_id: str) -> tuple[Draft, ...]:
    """`continue_as`: this run succeeds with null, the next is queued, in one commit (S-8)."""
    principal = task_principal(run.id)
    return (
        *close_ops(run),
        _with_unused(
            run,
            Draft(
                EntryKind.RUN_SUCCEEDED,
                {"result": None, "continued_by": next_run_id},
                run_id=run.id,
                principal=principal,
            ),
        ),
        Draft(
            EntryKind.RUN_CREATED,
            {
                "task": run.task,
                "payload": payload,
                "started_by": {"type": "run", "id": run.id},
                "attempt": 1,
            },
            run_id=next_run_id,
            principal=principal,
        ),
    )


def run_blocked(
    run: Run,
    code: str,
    message: str,
    *,
    op: int | None = None,
    recorded: str | None = None,
    met: str | None = None,
) -> Draft:
    """The run can't go on until a person acts (S-3)."""
    body: dict[str, Any] = {"code": code, "message": message}
    facts = {"op": op, "recorded": recorded, "met": met}
    body.update((key, value) for key, value in facts.items() if value is not None)
    return Draft(EntryKind.RUN_BLOCKED, body, run_id=run.id)


def actor_died(
    state: SessionState, cause: str, op: int | None, *, executing: bool
) -> tuple[Draft, ...]:
    """An actor died with this session; the third crash while executing, with no outcome between, blocks the run."""
    run = state.active_run
    if run is None or run.status is RunStatus.BLOCKED:
        return ()
    count = run.crashes + int(executing)
    body: dict[str, Any] = {"count": count, "attributed": executing, "cause": cause}
    if op is not None:
        body["op"] = op
    died = Draft(EntryKind.RUN_ACTOR_DIED, body, run_id=run.id)
    if count < CRASHES_MAX:
        return (died,)
    where = f" at op {op}" if op is not None else ""
    message = (
        f"the actor running {run.id} died {count} times{where} without an outcome between: {cause}"
    )
    return (died, run_blocked(run, "actor_died", message, op=op))


def end_run(
    state: SessionState, run: Run, end: Draft, context: DecisionContext, *, next_run_id: str
) -> tuple[Draft, ...]:
    """End a run: close its open ops, then do what the task declares for afterwards (S-1, S-7, S-10)."""
    following: tuple[Draft, ...] = ()
    if state.status is SessionStatus.OPEN:
        if context.policy.after_run == "close":
            following = (Draft(EntryKind.SESSION_CLOSED, {"end_input": False, "by_run": run.id}),)
        elif context.policy.on_idle_input == "run":
            record = _record_without_run(state)
            if record is not None:
                following = (next_run_draft(state, next_run_id, record.id, record.sent_by),)
    by = end.principal if end.kind is EntryKind.RUN_CANCELLED else RUNTIME
    return (*close_ops(run, by), _with_unused(run, end), *following)


def _with_unused(run: Run, end: Draft) -> Draft:
    """Add to the end the answers that rewinds kept and no wait took (S-78)."""
    if not run.held:
        return end
    unused = [one.to_json() for one in run.held]
    return replace(end, body={**end.body, "kept_unused": unused})


def close_ops(run: Run, by: Principal = RUNTIME) -> tuple[Draft, ...]:
    """Cancel the pending wait and abandon the running steps of a run that ends or fails.

    Args:
        run: The run.
        by: The principal that cancelled it; the runtime if the run ended by itself.
    """
    drafts: list[Draft] = []
    if run.wait is not None:
        drafts.append(
            Draft(
                EntryKind.WAIT_CANCELLED,
                {"wait_id": run.wait.id, "reason": "run_end"},
                run_id=run.id,
                op=run.wait.op,
                principal=by,
            )
        )
    drafts += [
        Draft(EntryKind.STEP_ABANDONED, {"reason": "run_end"}, run_id=run.id, op=op)
        for op in sorted(run.open_steps)
    ]
    return tuple(drafts)


def _record_without_run(state: SessionState) -> InputRecord | None:
    """Return the oldest record that no wait has taken and that has started no run (S-7)."""
    waiting = [
        record
        for records in state.unconsumed.values()
        for record in records
        if not record.has_started_run
    ]
    return min(waiting, key=lambda r: r.entry_seq, default=None)


def rewind(state: SessionState, command: RewindRun, context: DecisionContext) -> Decided:
    """Take the newest run back to an op; its code goes on from there as its next attempt.

    Raises:
        RunNotRewindable: It is not the session's newest run.
        SessionTerminal: The session was closed or cancelled, and not by this run.
        OpNotFound: The run's journal has no such op.
        SessionChanged: The rewind would now differ from its preview.
    """
    run = rewindable(state, command.run_id)
    plan = plan_rewind(state, run, command.to_op, **_kept(command))
    _check_seen(state, run, plan, command)
    drafts = _rewound(state, run, command, plan, command.reason)
    return Decided(drafts, receipt(drafts[-1], state.id))


def amend(state: SessionState, command: AmendWait, context: DecisionContext) -> Decided:
    """Give a resolved wait of the newest run another answer.

    Raises:
        WaitNotAmendable: It has no answer or timeout to amend.
        NotAnAnswerer: It is answered by others (S-112).
        NotAmendable: Several people gave the answer, or it is signed.
        As `rewind`.
    """
    run = rewindable(state, command.run_id)
    plan = plan_amendment(state, run, command.wait_id, **_kept(command))
    _check_seen(state, run, plan, command)
    checked_size(command.data)
    opened = question_of_wait(run, command.wait_id)
    rule = Answerers.of(opened)
    told = rule.admit(
        command.wait_id,
        command.identity,
        command.principal,
        context.now,
        override_reason=command.override_reason,
        may_override=command.may_override,
    )
    if "override_reason" not in told:
        rule.require_one(command.wait_id)
    mode = mode_of(command.principal)
    answer = answer_for(opened, plan.to_op, state, command.record_id, command.data, mode)
    plan = replace(plan, held=(answer, *plan.held))
    amends = {"wait_id": command.wait_id}
    if plan.changed is not None and plan.changed.record_id is not None:
        amends["record_id"] = plan.changed.record_id
    amended = {**amends, "amended_by": command.record_id}
    drafts = _rewound(state, run, command, plan, command.reason, amended=amended, told=told)
    reply = receipt(drafts[-1], state.id)
    if answer.stream is not None:
        accepted = accepted_for(opened, answer, command.data, amends, command.principal)
        drafts = (*drafts, accepted)
    return Decided(drafts, reply)


def _kept(command: RewindRun | AmendWait) -> dict[str, bool]:
    return {"keep_answers": command.keep_answers, "keep_children": command.keep_children}


def _check_seen(
    state: SessionState, run: Run, plan: Rewind, command: RewindRun | AmendWait
) -> None:
    if plan.hash != command.seen:
        preview = preview_of(state, run, plan, **_kept(command))
        raise SessionChanged(
            "the run has gone on since you looked at this rewind, which would now do something else",
            hint="Look again, then decide.",
            preview=preview.model_dump(mode="json"),
        )


def _rewound(
    state: SessionState,
    run: Run,
    command: RewindRun | AmendWait,
    plan: Rewind,
    reason: str,
    *,
    amended: Mapping[str, Any] | None = None,
    told: Mapping[str, Any] | None = None,
) -> tuple[Draft, ...]:
    """Close the wait and steps open behind the op, then take the run back; the last entry carries the receipt."""
    reason = checked_reason(reason)
    gone = set(plan.set_aside)
    ends: list[Draft] = []
    if run.wait is not None:
        ended = {"wait_id": run.wait.id, "reason": "rewound", "because": reason}
        ends.append(
            Draft(
                EntryKind.WAIT_CANCELLED,
                ended,
                run_id=run.id,
                op=run.wait.op,
                principal=command.principal,
            )
        )
    ends += [
        Draft(EntryKind.STEP_ABANDONED, {"reason": "rewound"}, run_id=run.id, op=op)
        for op in sorted(run.open_steps & gone)
    ]
    body: dict[str, Any] = {
        "to_op": plan.to_op,
        "reason": reason,
        "set_aside": list(plan.set_aside),
        "attempt": run.attempt + 1,
        "held": [one.to_json() for one in plan.held],
        "tokens": list(plan.tokens),
        "public_tokens": list(plan.public_tokens),
        "children": list(plan.children),
    }
    if command.keep_children:
        body["keep_children"] = True
    if amended is not None:
        body |= {"amended": dict(amended), **(told or {})}
    if state.status is SessionStatus.CLOSED:
        body["opens_session"] = True
        if state.external_id is not None:
            body["external_id"] = state.external_id
    return (*ends, carrier(EntryKind.RUN_REWOUND, body, command, run_id=run.id))
