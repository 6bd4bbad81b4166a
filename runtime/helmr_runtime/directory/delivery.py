"""The ends of tokens on their way to the waits on them: one command per delivery of the work list (S-40)."""

from __future__ import annotations

from helmr_runtime.core.commands import Command, TokenEnded
from helmr_runtime.core.entries import RUNTIME, Principal, from_iso
from helmr_runtime.ports import Ledger, WorkItem


async def delivery(ledger: Ledger, item: WorkItem) -> Command | None:
    """The command that tells a wait how its token ended; None if there is nothing to tell."""
    assert item.token_id is not None
    assert item.wait_id is not None
    end = item.end if item.end is not None else await ledger.token_end(item.token_id)
    if end is None:
        return None
    return TokenEnded(
        principal=RUNTIME,
        wait_id=item.wait_id,
        token_id=item.token_id,
        status=end["status"],
        data=end.get("data"),
        ended_at=from_iso(end["ended_at"]),
        ended_by=Principal.from_json(end["ended_by"]),
        mode=end.get("mode"),
    )
