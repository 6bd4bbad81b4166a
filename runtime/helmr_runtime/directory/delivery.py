"""Ends of tokens and children on their way to the waits on them, and of parents to children (S-40, S-91).

One command for each such item of the work list.
"""

from __future__ import annotations

from helmr_runtime.core.commands import CancelSession, Command, TokenEnded
from helmr_runtime.core.entries import RUNTIME, Principal, from_iso
from helmr_runtime.ports import Ledger, WorkItem


async def delivery(ledger: Ledger, item: WorkItem) -> Command | None:
    """The command that tells a wait how its token ended, or ends a child; None if there is nothing to tell."""
    assert item.token_id is not None
    end = item.end if item.end is not None else await ledger.token_end(item.token_id)
    if end is None:
        return None
    ended_by = Principal.from_json(end["ended_by"])
    if item.kind == "end":
        reason = end.get("reason", "parent_cancelled")
        return CancelSession(principal=ended_by, reason=reason, family=item.family)
    assert item.wait_id is not None
    return TokenEnded(
        principal=RUNTIME,
        trace=item.trace,
        family=item.family,
        wait_id=item.wait_id,
        token_id=item.token_id,
        status=end["status"],
        data=end.get("data"),
        ended_at=from_iso(end["ended_at"]),
        ended_by=ended_by,
        mode=end.get("mode"),
        batch_id=end.get("batch_id"),
    )
