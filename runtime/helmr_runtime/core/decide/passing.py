"""What time has done to the pending wait: steps of its escalation, then its end (S-14, S-82).

Whatever is decided of a wait at or after such a time is decided behind it, whether or not the timer has come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from helmr import ids
from helmr.errors import HelmrError, WaitResolved, WaitTimedOut
from helmr.models import AnswerMode, SendOutcome
from helmr_runtime.core.drafts import DecisionContext, due_draft
from helmr_runtime.core.entries import RUNTIME, Draft, EntryKind, iso
from helmr_runtime.core.run import WAIT_OUTCOMES
from helmr_runtime.core.state import SessionState
from helmr_runtime.core.waits import Escalation, Wait


def passed(state: SessionState, context: DecisionContext) -> tuple[Draft, ...]:
    """The entries of what has come by now, in order; a wait that it ends is ended by the last of them."""
    wait, run = state.wait, state.run
    if wait is None or run is None:
        return ()
    following = context.status_after_wait(run)
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
    """The refusal of an answer to a wait that time has ended, as `passed` says; None if it has not."""
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
    # Of the wait's own id: what is decided twice, by a host and by the one after it, is the same record.
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
