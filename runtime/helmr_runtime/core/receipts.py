"""Receipts (S-61): the entry that carries a command's operation tells what is answered, at first and when repeated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from helmr.errors import DataError, OperationConflict
from helmr_runtime.core.commands import Operation
from helmr_runtime.core.entries import Draft, Entry, EntryKind, Principal, iso


@dataclass(frozen=True, slots=True)
class FirstReceipt:
    """An operation that was accepted: who asked, what for, and the receipt they got."""

    operation: Operation
    principal: Principal
    receipt: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> FirstReceipt | None:
        """What the entry says of an operation; None if it carries none."""
        operation = entry.body.get("operation")
        if operation is None:
            return None
        return cls(
            Operation(id=operation["id"], request_hash=operation["request_hash"]),
            entry.principal,
            receipt_of(entry),
        )

    def again(self, operation: Operation, principal: Principal) -> dict[str, Any]:
        """The receipt, for the caller who asks the same again.

        Operation ids are no secrets, they stand in transcripts: another key or public token that uses one learns
        nothing of what it was used for.

        Raises:
            OperationConflict: The id was used with another request or by another caller.
        """
        is_callers = (principal.type, principal.id) == (self.principal.type, self.principal.id)
        if not is_callers or operation.request_hash != self.operation.request_hash:
            raise OperationConflict(
                f"operation {operation.id} was used with another request",
                hint="Use a new Operation-Id for a new request.",
                operation_id=operation.id,
            )
        return dict(self.receipt)


def receipt_of(entry: Entry) -> dict[str, Any]:
    """The receipt of the command whose operation this entry carries.

    Raises:
        DataError: The kind carries no receipt.
    """
    return receipt(entry, entry.session_id, seq=entry.seq, at=entry.recorded_at)


def receipt(
    carrier: Draft | Entry, session_id: str, *, seq: int = 0, at: datetime | None = None
) -> dict[str, Any]:
    """The receipt that an entry carries, also before it has its place.

    Args:
        carrier: The entry, or what it is made of.
        session_id: Its session.
        seq: Its seq; only a note's receipt says it.
        at: Its time; only a completion's receipt says it.

    Raises:
        DataError: The kind carries no receipt.
    """
    body, run_id = carrier.body, carrier.run_id
    match carrier.kind:
        case EntryKind.INPUT_ACCEPTED:
            return {
                "record_id": body["record_id"],
                "stream": body["stream"],
                "seq": body["stream_seq"],
                "outcome": body["outcome"],
                "duplicate": False,
                "wait_id": body.get("wait_id"),
                "run_id": body.get("run_id"),
            }
        case EntryKind.SESSION_CREATED:
            return {"session_id": session_id, "run_id": body["run_id"], "created": True}
        case EntryKind.SESSION_FORKED:
            return {"session_id": session_id, "run_id": run_id, "created": True}
        case EntryKind.RUN_CREATED:
            return {"session_id": session_id, "run_id": run_id}
        case EntryKind.RUN_CANCELLED:
            return {"run_id": run_id, "status": "cancelled"}
        case EntryKind.RUN_RETRIED | EntryKind.RUN_REWOUND:
            return {"run_id": run_id, "attempt": body["attempt"]}
        case EntryKind.SESSION_CANCELLED:
            return {"session_id": session_id, "status": "cancelled"}
        case EntryKind.SESSION_CLOSED:
            return {"session_id": session_id, "status": "closed"}
        case EntryKind.WAIT_ASSIGNED:
            return {"wait_id": body["wait_id"], "assignee": body.get("assignee")}
        case EntryKind.NOTE_ADDED:
            return {"note_id": body["note_id"], "session_id": session_id, "seq": seq}
        case EntryKind.TOKEN_CREATED:
            return {"token_id": body["token_id"], "key_id": body["key_id"]}
        case EntryKind.TOKEN_COMPLETED:
            assert at is not None
            return {
                "token_id": body["token_id"],
                "outcome": "completed",
                "completed_at": iso(at),
            }
        case EntryKind.TOKEN_CANCELLED:
            return {"token_id": body["token_id"], "status": "cancelled"}
        case EntryKind.PUBLIC_TOKEN_CREATED:
            return {"public_token_id": body["public_token_id"], "key_id": body.get("key_id")}
        case EntryKind.PUBLIC_TOKEN_REVOKED:
            return {"public_token_id": body["public_token_id"], "status": "revoked"}
        case EntryKind.API_KEY_CREATED:
            return {"key_id": body["key_id"]}
        case (
            EntryKind.SCHEDULE_WRITTEN
            | EntryKind.SCHEDULE_PAUSED
            | EntryKind.SCHEDULE_RESUMED
            | EntryKind.SCHEDULE_DELETED
        ):
            return {"name": body["name"]}
        case EntryKind.API_KEY_REVOKED:
            return {"key_id": body["key_id"], "status": "revoked"}
        case _:
            raise DataError(f"{session_id}: entry {seq} ({carrier.kind}) carries no receipt")
