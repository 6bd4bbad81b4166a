"""Deciding: (state, command, now) → the entries it makes and the receipt. The one way in for commands.

Nothing here waits, reads a clock or changes the state. A decision that is refused raises the `HelmrError` that
the caller gets; one that is refused *and* leaves entries (an answer after its deadline times the wait out)
returns the error in `Decided.error`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from helmr_runtime.core.commands import (
    AddNote,
    AmendWait,
    AnswerWait,
    AssignWait,
    CancelRun,
    CancelSession,
    CloseSession,
    CreatePublicToken,
    Deadline,
    Resume,
    RetryRun,
    RevokePublicToken,
    RewindRun,
    Send,
    SessionCommand,
    StartRun,
    TokenEnded,
    WithdrawVote,
)
from helmr_runtime.core.decide import inputs, lifecycle, ops
from helmr_runtime.core.decide.inputs import is_ended, passed
from helmr_runtime.core.drafts import Decided, DecisionContext, TaskPolicy
from helmr_runtime.core.entries import EntryKind, iso
from helmr_runtime.core.state import SessionState

__all__ = ["Decided", "DecisionContext", "TaskPolicy", "decide"]


def decide(state: SessionState, command: SessionCommand, context: DecisionContext) -> Decided:
    """Decide a command in this state of the session.

    A repeated operation gets its first receipt before any state check (S-61).

    Raises:
        HelmrError: The command is refused and leaves nothing.
    """
    operation = command.operation
    if operation is not None and operation.id in state.operations:
        first = state.operations[operation.id]
        return Decided(reply=first.again(operation, command.principal))
    return _BY_KIND[type(command)](state, command, context)


def _deadline(state: SessionState, command: Deadline, context: DecisionContext) -> Decided:
    """S-14, S-82: names its wait; on another it does nothing."""
    wait = state.wait
    if wait is None or wait.id != command.wait_id or wait.due_at is None:
        return Decided(reply={"status": "resolved"})
    drafts = passed(state, context)
    if is_ended(drafts):
        is_default = wait.kind != "timer" and drafts[-1].kind is EntryKind.WAIT_FULFILLED
        return Decided(drafts, {"status": "resolved" if is_default else "timed_out"})
    return Decided(drafts, {"status": "pending", "due_at": iso(wait.due_at)})


def _token_ended(state: SessionState, command: TokenEnded, context: DecisionContext) -> Decided:
    return Decided(ops.token_ended(state, command, context), {"status": "delivered"})


def _touch(state: SessionState, command: Resume, context: DecisionContext) -> Decided:
    return Decided()


_BY_KIND: Mapping[type[SessionCommand], Callable[[SessionState, Any, DecisionContext], Decided]] = {
    Send: inputs.send,
    AnswerWait: inputs.answer,
    AssignWait: inputs.assign,
    WithdrawVote: inputs.withdraw,
    Deadline: _deadline,
    TokenEnded: _token_ended,
    StartRun: lifecycle.start_run,
    CancelRun: lifecycle.cancel_run,
    CancelSession: lifecycle.cancel_session,
    CloseSession: lifecycle.close_session,
    RetryRun: lifecycle.retry_run,
    RewindRun: lifecycle.rewind,
    AmendWait: lifecycle.amend,
    AddNote: lifecycle.add_note,
    CreatePublicToken: inputs.create,
    RevokePublicToken: inputs.revoke,
    Resume: _touch,
}
