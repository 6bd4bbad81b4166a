"""Rewinding a run, and amending an answer: both are one commit (S-75…S-79)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from helmr.errors import BadRequest, SessionChanged
from helmr.models import REASON_MAX, SessionStatus
from helmr_runtime.core.commands import AmendWait, Command, RewindRun
from helmr_runtime.core.corrections import (
    Rewind,
    plan_amendment,
    plan_rewind,
    question_of_wait,
    rewindable,
)
from helmr_runtime.core.decide.decision import Context, Decision
from helmr_runtime.core.decide.inputs import checked_size
from helmr_runtime.core.drafts import carrier
from helmr_runtime.core.entries import Draft, EntryKind
from helmr_runtime.core.receipts import receipt
from helmr_runtime.core.run import HeldAnswer, Run
from helmr_runtime.core.state import SessionState
from helmr_runtime.core.wait_record import mode_of


def rewind(state: SessionState, command: RewindRun, context: Context) -> Decision:
    """Take the newest run back to an op; its code goes on from there as its next attempt.

    Raises:
        RunNotRewindable: It is not the session's newest run.
        SessionTerminal: The session was closed or cancelled, and not by this run.
        OpNotFound: The run's journal has no such op.
        SessionChanged: It would do something else than what was shown.
    """
    run = rewindable(state, command.run_id)
    plan = plan_rewind(state, run, command.to_op, keep_answers=command.keep_answers)
    _check_seen(plan, command.seen)
    drafts = _rewound(state, run, command, plan, command.reason)
    return Decision(drafts, receipt(drafts[-1], state.id))


def amend(state: SessionState, command: AmendWait, context: Context) -> Decision:
    """Give a resolved wait of the newest run another answer.

    Raises:
        WaitNotAmendable: It has no answer or timeout to amend.
        As `rewind`.
    """
    run = rewindable(state, command.run_id)
    plan = plan_amendment(state, run, command.wait_id, keep_answers=command.keep_answers)
    _check_seen(plan, command.seen)
    checked_size(command.data)
    opened = question_of_wait(run, command.wait_id)
    stream = opened.get("stream")
    mode = mode_of(command.principal)
    answer = HeldAnswer(
        question_hash=opened.get("question_hash", ""),
        wait_id=command.wait_id,
        stream=stream,
        record_id=command.record_id if stream is not None else None,
        record_seq=state.input_seqs.get(stream, 0) + 1 if stream is not None else None,
        data=None if stream is not None else command.data,
        mode=mode,
    )
    plan = replace(plan, held=(answer, *plan.held))
    old = plan.changed
    amended = {"wait_id": command.wait_id}
    if old is not None and old.record_id is not None:
        amended["record_id"] = old.record_id
    drafts = _rewound(
        state,
        run,
        command,
        plan,
        command.reason,
        amended={**amended, "amended_by": command.record_id},
    )
    if stream is not None:
        record: dict[str, Any] = {
            "record_id": command.record_id,
            "stream": stream,
            "stream_seq": answer.record_seq,
            "data": command.data,
            "outcome": "fulfilled",
            "mode": mode,
            "amends": amended,
        }
        if "correlation_id" in opened:
            record["correlation_id"] = opened["correlation_id"]
        accepted = Draft(EntryKind.INPUT_ACCEPTED, record, principal=command.principal)
        return Decision((*drafts, accepted), receipt(drafts[-1], state.id))
    return Decision(drafts, receipt(drafts[-1], state.id))


def _check_seen(plan: Rewind, seen: str) -> None:
    if plan.hash != seen:
        raise SessionChanged(
            "the run went on since this rewind was looked at; it would now do something else",
            hint="Look again, then decide.",
            preview=plan.to_json(),
            preview_hash=plan.hash,
        )


def _rewound(
    state: SessionState,
    run: Run,
    command: Command,
    plan: Rewind,
    reason: str,
    *,
    amended: Mapping[str, Any] | None = None,
) -> tuple[Draft, ...]:
    """What is open behind the op ends, then the run is taken back; the last entry carries the receipt."""
    if not 1 <= len(reason.strip()) <= REASON_MAX:
        raise BadRequest(f"a reason has 1 to {REASON_MAX} characters")
    gone = set(plan.set_aside)
    ends: list[Draft] = []
    if run.wait is not None:
        ended = {"wait_id": run.wait.id, "reason": "rewound"}
        ends.append(Draft(EntryKind.WAIT_CANCELLED, ended, run_id=run.id, op=run.wait.op))
    ends += [
        Draft(EntryKind.STEP_ABANDONED, {"reason": "rewound"}, run_id=run.id, op=op)
        for op in sorted(run.open_steps & gone)
    ]
    body: dict[str, Any] = {
        "to_op": plan.to_op,
        "reason": reason.strip(),
        "set_aside": list(plan.set_aside),
        "attempt": run.attempt + 1,
        "held": [one.to_json() for one in plan.held],
        "tokens": list(plan.tokens),
        "public_tokens": list(plan.public_tokens),
    }
    if amended is not None:
        body["amended"] = dict(amended)
    if state.status is SessionStatus.CLOSED:
        body["opens_session"] = True
    return (*ends, carrier(EntryKind.RUN_REWOUND, body, command, run_id=run.id))
