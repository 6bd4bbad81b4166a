"""What may be asked of a session, as frozen values that cross actor boundaries.

Each carries its principal and its operation; ids it may need are given by the caller, so that deciding stays
a function of its arguments. Data has been checked for JSON strictness at the edge; its schema is checked by
whoever holds the task's types, before deciding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from helmr_runtime.core.entries import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The name of one mutating call (S-61). `request_hash` is over route and body."""

    id: str
    request_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Base of all commands."""

    principal: Principal
    operation: Operation | None = None
    sent_at: datetime | None = None
    """The time the command carries, if any; `now` is at least that."""
    trace: str | None = None
    """What set it off, as a W3C traceparent; decides nothing and is stored nowhere."""
    family: str | None = None
    """Of what the directory sends: the session that this one descends from; decides nothing and is stored nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Command):
    """Append a record to an input stream (S-20…S-28). Receipt: `SendReceipt` as JSON."""

    record_id: str
    stream: str
    data: Any
    correlation_id: str | None = None
    idempotency_key: str | None = None
    next_run_id: str
    public_token_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Command):
    """Answer exactly this input wait (S-18). Receipt: as `Send`."""

    wait_id: str
    record_id: str
    data: Any
    link_id: str | None = None
    """The answer link that it came through (S-74)."""
    override_claim: bool = False
    """Whoever else is at the wait is passed over (S-81)."""
    batch_id: str | None = None
    """Names the many answers that were given as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignWait(Command):
    """Say whom the pending wait concerns from now on (S-72). Receipt: `{wait_id, assignee}`."""

    wait_id: str
    assignee: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline(Command):
    """The clock says this wait may be due (S-14). Receipt: `{status, due_at?}`."""

    wait_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEnded(Command):
    """A delivery: the token or the child session of this wait ended (S-40, S-91).

    `status`: completed, expired, cancelled; of a child that has ended by itself, however, completed.
    """

    wait_id: str
    token_id: str
    status: str
    data: Any = None
    ended_at: datetime
    ended_by: Principal
    mode: str | None = None
    """How its completion came (S-73)."""
    batch_id: str | None = None
    """The batch that its completion was one of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRun(Command):
    """Start the next run of an open, idle session (S-2). `payload_given` False: as the newest run."""

    run_id: str
    payload: Any = None
    payload_given: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRun(Command):
    """Cancel the active run (S-6). Idempotent."""

    run_id: str
    next_run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRun(Command):
    """Start the next attempt of the newest run (S-5)."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindRun(Command):
    """Take the newest run back to an op (S-75). Receipt: `{run_id, attempt}`.

    `seen` is the hash of the preview that was looked at (S-76); `keep_answers` False asks everything
    again, `keep_children` True lets the children go on that set-aside ops have started.
    """

    run_id: str
    to_op: int
    reason: str
    seen: str
    keep_answers: bool = True
    keep_children: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AmendWait(Command):
    """Give a resolved wait another answer (S-79). Receipt: as `RewindRun`."""

    run_id: str
    wait_id: str
    record_id: str
    data: Any
    reason: str
    seen: str
    keep_answers: bool = True
    keep_children: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelSession(Command):
    """Cancel the session and all that is open in it (S-6). Idempotent.

    `reason`: why its parent does, `parent_cancelled` or `rewound`; None if somebody asks.
    """

    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSession(Command):
    """Close the session (S-6). Idempotent."""

    end_input: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AddNote(Command):
    """Write a person's note into the transcript."""

    note_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePublicToken(Command):
    """Make a public token for a stream or a wait of the session (S-44, S-74). Receipt: `{public_token_id, key_id}`.

    `token` is `PublicToken.to_json()` with its times as they shall be.
    """

    token: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokePublicToken(Command):
    """Revoke one of the session's public tokens. Idempotent. Receipt: `{public_token_id, status}`."""

    public_token_id: str
    is_link: bool = False
    """It is an answer link: one that died with its wait is revoked already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Command):
    """Do nothing but have the session adopted; the directory's way to resume a queued run."""
