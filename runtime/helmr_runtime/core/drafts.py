"""Inputs and results of a decision, and the entries that several places write.

These entries create a session and its first run (S-2), and end waits by time or with a token (S-14, S-40).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from helmr.errors import HelmrError
from helmr_runtime.core.children import Parent, is_child
from helmr_runtime.core.claims import WaitClaims
from helmr_runtime.core.commands import OperationKey, TokenEnded, operation_json
from helmr_runtime.core.entries import (
    RUNTIME,
    Draft,
    EntryKind,
    Principal,
    iso,
    task_principal,
)


def start_drafts(
    *,
    task: str,
    run_id: str,
    payload: Any,
    external_id: str | None,
    tags: tuple[str, ...],
    metadata: Mapping[str, Any],
    idempotency_key_hash: str | None,
    request_hash: str,
    operation: OperationKey | None,
    principal: Principal,
    parent: Parent | None = None,
    starters: tuple[str, ...] = (),
    cause: Mapping[str, Any] | None = None,
) -> tuple[Draft, Draft]:
    """`session.created`, which carries the receipt, and the first `run.created`."""
    created: dict[str, Any] = {
        "task": task,
        "tags": list(tags),
        "metadata": dict(metadata),
        "run_id": run_id,
        "request_hash": request_hash,
    }
    if external_id is not None:
        created["external_id"] = external_id
    if idempotency_key_hash is not None:
        created["idempotency_key_hash"] = idempotency_key_hash
    if cause is not None:
        created |= cause
    if operation is not None:
        created["operation"] = operation_json(operation)
    if parent is not None:
        created["parent"] = parent.to_json()
    if starters:
        created["starters"] = list(starters)
    return (
        Draft(EntryKind.SESSION_CREATED, created, principal=principal),
        Draft(
            EntryKind.RUN_CREATED,
            {"task": task, "payload": payload, "started_by": {"type": "start"}, "attempt": 1},
            run_id=run_id,
            principal=principal,
        ),
    )


def done_drafts(run_id: str, code_hash: str) -> tuple[Draft, Draft]:
    """The start and the end of a first run that has nothing to do."""
    started = {"attempt": 1, "code_hash": code_hash}
    return (
        Draft(EntryKind.RUN_STARTED, started, run_id=run_id),
        Draft(
            EntryKind.RUN_SUCCEEDED,
            {"result": None},
            run_id=run_id,
            principal=task_principal(run_id),
        ),
    )


def due_draft(*, wait_id: str, kind: str, run_id: str, op: int, next_status: str) -> Draft:
    """The entry of a wait whose deadline has passed: a timer has fired, any other wait has timed out.

    Args:
        wait_id: The pending wait.
        kind: input, token, session or timer.
        run_id: The run that waits.
        op: The op of the wait.
        next_status: `running` if an actor holds the run hot, else `queued`.
    """
    outcome = EntryKind.WAIT_FULFILLED if kind == "timer" else EntryKind.WAIT_TIMED_OUT
    body = {"wait_id": wait_id, "next": next_status}
    return Draft(outcome, body, run_id=run_id, op=op, principal=RUNTIME)


def token_end_draft(
    *,
    wait_id: str,
    run_id: str,
    op: int,
    deadline_at: datetime | None,
    ended: TokenEnded,
    next_status: str,
) -> Draft:
    """Return the entry with which a token's or child session's end resolves a wait on it (S-40, S-91).

    An end at or after the wait's deadline times the wait out, even if it arrives first (S-14).
    """
    if deadline_at is not None and ended.ended_at >= deadline_at:
        return due_draft(
            wait_id=wait_id, kind="token", run_id=run_id, op=op, next_status=next_status
        )
    if is_child(ended.token_id):
        return _child_end_draft(wait_id, run_id, op, ended, next_status)
    body: dict[str, Any] = {"wait_id": wait_id, "token_id": ended.token_id, "next": next_status}
    if ended.status == "completed":
        kind = EntryKind.WAIT_FULFILLED
        body["data"] = ended.data
        body |= ended.details.recorded()
        body["completed_at"] = iso(ended.ended_at)
    elif ended.status == "expired":
        kind = EntryKind.WAIT_TIMED_OUT
    else:
        kind = EntryKind.WAIT_CANCELLED
        body["reason"] = "token_cancelled" if ended.status == "cancelled" else "token_not_found"
    return Draft(kind, body, run_id=run_id, op=op, principal=ended.ended_by)


def _child_end_draft(
    wait_id: str, run_id: str, op: int, ended: TokenEnded, next_status: str
) -> Draft:
    """Any end of a child fulfils its parent's wait; a child that does not exist cancels it."""
    body: dict[str, Any] = {"wait_id": wait_id, "next": next_status}
    if ended.status == "unknown":
        body |= {"reason": "session_not_found"}
        return Draft(EntryKind.WAIT_CANCELLED, body, run_id=run_id, op=op, principal=ended.ended_by)
    outcome = ended.data if ended.data is not None else {"status": "cancelled"}
    body["data"] = {"session_id": ended.token_id, **outcome}
    body["completed_at"] = iso(ended.ended_at)
    return Draft(EntryKind.WAIT_FULFILLED, body, run_id=run_id, op=op, principal=ended.ended_by)


@dataclass(frozen=True, slots=True)
class TaskPolicy:
    """The parts of a task's declaration that decisions use (S-1, S-5, S-7, S-20)."""

    inputs: frozenset[str] = frozenset()
    on_idle_input: str = "keep"
    after_run: str = "keep"
    retries: int = 0
    backoff_s: float = 1.0


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """The circumstances of a decision.

    `now` is the latest of the actor's clock, the command's time and the last entry's time. `is_hot`: the
    process that decides also runs the code.
    """

    now: datetime
    policy: TaskPolicy
    is_hot: bool
    fits: Callable[[Any, Any], bool] = lambda schema, data: True
    """Tells whether data (second) fits a wait's own JSON Schema (first); set by code that has a validator (S-71)."""

    claims: WaitClaims | None = None
    """Claims of the pending wait (S-81)."""

    disabled: frozenset[str] = frozenset()
    """People whose votes do not count (S-113)."""

    ended: frozenset[str] = frozenset()
    """Delegations that were ended before their time (S-142)."""

    @property
    def entries_ahead(self) -> int:
        """The number of claim entries written before those of this decision."""
        return len(self.claims.pending(self.now)) if self.claims is not None else 0


@dataclass(frozen=True, slots=True)
class Decided:
    """The entries to write, in order, and what to tell the caller once they are on disk."""

    drafts: tuple[Draft, ...] = ()
    reply: Mapping[str, Any] = field(default_factory=dict)
    error: HelmrError | None = None
