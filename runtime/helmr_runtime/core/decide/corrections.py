"""Rewinding a run, and amending an answer: both are one commit (S-75…S-79)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from helmr.errors import SessionChanged
from helmr.models import SessionStatus
from helmr_runtime.core.commands import AmendWait, RewindRun, receipt
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
from helmr_runtime.core.decide.inputs import checked_size
from helmr_runtime.core.drafts import Decided, DecisionContext, carrier
from helmr_runtime.core.entries import Draft, EntryKind
from helmr_runtime.core.run import Run, mode_of
from helmr_runtime.core.state import SessionState


def rewind(state: SessionState, command: RewindRun, context: DecisionContext) -> Decided:
    """Take the newest run back to an op; its code goes on from there as its next attempt.

    Raises:
        RunNotRewindable: It is not the session's newest run.
        SessionTerminal: The session was closed or cancelled, and not by this run.
        OpNotFound: The run's journal has no such op.
        SessionChanged: It would do something else than what was shown.
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
        As `rewind`.
    """
    run = rewindable(state, command.run_id)
    plan = plan_amendment(state, run, command.wait_id, **_kept(command))
    _check_seen(state, run, plan, command)
    checked_size(command.data)
    opened = question_of_wait(run, command.wait_id)
    mode = mode_of(command.principal)
    answer = answer_for(opened, plan.to_op, state, command.record_id, command.data, mode)
    plan = replace(plan, held=(answer, *plan.held))
    amends = {"wait_id": command.wait_id}
    if plan.changed is not None and plan.changed.record_id is not None:
        amends["record_id"] = plan.changed.record_id
    amended = {**amends, "amended_by": command.record_id}
    drafts = _rewound(state, run, command, plan, command.reason, amended=amended)
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
) -> tuple[Draft, ...]:
    """What is open behind the op ends, then the run is taken back; the last entry carries the receipt."""
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
        body["amended"] = dict(amended)
    if state.status is SessionStatus.CLOSED:
        body["opens_session"] = True
        if state.external_id is not None:
            body["external_id"] = state.external_id
    return (*ends, carrier(EntryKind.RUN_REWOUND, body, command, run_id=run.id))
