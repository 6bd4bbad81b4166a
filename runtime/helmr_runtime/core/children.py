"""A child session is awaited as a token is: the end of its first run resolves the waits on it (S-91).

Pure. The child stands in the ledger's index of tokens under its own session id, so that end and wait meet there in
either order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from helmr import ids
from helmr_runtime.core.entries import Entry, EntryKind

CHILD_ENDS = {
    EntryKind.RUN_SUCCEEDED: "succeeded",
    EntryKind.RUN_FAILED: "failed",
    EntryKind.RUN_CANCELLED: "cancelled",
}
"""What ends a run for good, and the status that its parent's run sees. A blocked run has not ended."""


CHILD_STEP = "sessions.start "
"""How the step that starts a child is called, and behind it the child's task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """Whose child a session is.

    Attributes:
        session_id: The parent.
        run_id: Its run that made the child.
        op: The op that did.
        attempt: The run's attempt then.
        leaves: The child goes on when the run is cancelled.
    """

    session_id: str
    run_id: str
    op: int
    attempt: int
    leaves: bool = False

    def to_json(self) -> dict[str, Any]:
        """As it stands in `session.created`."""
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
    """What a wait is on is a session, and no token."""
    return awaited_id.startswith(f"{ids.SESSION}_")


def outcome_of(entry: Entry) -> dict[str, Any]:
    """What a wait on a child returns, from the entry that ended it: `{session_id, status, result? error?}`.

    That is the end of its first run, or what its parent did: then the child is as good as cancelled.
    """
    found: dict[str, Any] = {"status": CHILD_ENDS.get(entry.kind, "cancelled")}
    if entry.kind is EntryKind.RUN_SUCCEEDED:
        found["result"] = entry.body.get("result")
    elif entry.kind is EntryKind.RUN_FAILED:
        found["error"] = dict(entry.body["error"])
    return found
