"""A child session is awaited as a token is: the end of its first run resolves the waits on it (S-91).

Pure. The child stands in the ledger's index of tokens under its own session id, so that end and wait meet there in
either order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helmr.wire import ids
from helmr_runtime.core.entries import Entry, EntryKind

CHILD_ENDS = {
    EntryKind.RUN_SUCCEEDED: "succeeded",
    EntryKind.RUN_FAILED: "failed",
    EntryKind.RUN_CANCELLED: "cancelled",
}
"""Entries that end a run for good, with the status that its parent's run sees. A blocked run has not ended."""


CHILD_STEP = "sessions.start "
"""Prefix of the name of a step that starts a child; the child's task follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The parent of a child session.

    Attributes:
        session_id: The parent.
        run_id: The parent's run that made the child.
        attempt: The attempt of that run.
        leaves: The child goes on when the run is cancelled.
    """

    session_id: str
    run_id: str
    op: int
    attempt: int
    leaves: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the parent as `session.created` records it."""
        return {
            "session_id": self.session_id,
            "run_id": self.run_id,
            "op": self.op,
            "attempt": self.attempt,
            "on_parent_cancel": "leave" if self.leaves else "cancel",
        }

    @classmethod
    def from_json(cls, parts: Mapping[str, Any]) -> Parent:
        """The parent that `to_json` wrote."""
        return cls(
            session_id=parts["session_id"],
            run_id=parts["run_id"],
            op=parts["op"],
            attempt=parts["attempt"],
            leaves=parts["on_parent_cancel"] == "leave",
        )


def is_child(awaited_id: str) -> bool:
    """True if the awaited id is a session's, not a token's."""
    return awaited_id.startswith(f"{ids.SESSION}_")


def outcome_of(entry: Entry) -> dict[str, Any]:
    """Return the value of a wait on a child, from the entry that ended it: `{session_id, status, result? error?}`.

    That entry is the end of the child's first run, or an act of its parent, which counts as a cancellation.
    """
    found: dict[str, Any] = {"status": CHILD_ENDS.get(entry.kind, "cancelled")}
    if entry.kind is EntryKind.RUN_SUCCEEDED:
        found["result"] = entry.body.get("result")
    elif entry.kind is EntryKind.RUN_FAILED:
        found["error"] = dict(entry.body["error"])
    return found
