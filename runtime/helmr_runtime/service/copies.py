"""The ledger as followers read it, and what leaves it (S-68, S-69)."""

from __future__ import annotations

from datetime import timedelta

from helmr.models import PruneReceipt, PruneRequest
from helmr_runtime.core import jsontext
from helmr_runtime.core.pruning import Prune
from helmr_runtime.ports.copies import CopyPosition
from helmr_runtime.rpc.ledger_client import LedgerClient
from helmr_runtime.service.caller import Caller


class Copies:
    """Pages for followers; pruning."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger

    async def page(self, position: CopyPosition, wait_s: float) -> bytes:
        """A `CopyPage` as JSON text; rows go through as the ledger made them.

        Raises:
            LedgerDiverged: The follower's entries are not this ledger's.
            StoreUnavailable: It can't be read now.
        """
        page = await self._ledger.copied_page(position)
        if wait_s and page.copied.through <= position.offset:
            await self._ledger.feed(position.offset, 1, wait_s)
            page = await self._ledger.copied_page(position)
        facts = {
            "through": page.copied.through,
            "head": page.head,
            "pruned_offset": page.copied.pruned_offset,
            "openings": page.openings,
            "encrypts": page.encrypts,
            "generation": page.generation,
        }
        text = jsontext.encode(facts).encode()
        return text[:-1] + b',"rows":[' + b",".join(page.copied.rows) + b"]}"

    async def prune(self, caller: Caller, request: PruneRequest) -> PruneReceipt:
        """Remove a page of old sessions.

        Raises:
            BadRequest: They must be older.
            StoreUnavailable: A backup is being read, or nothing can be written.
        """
        pruned = await self._ledger.prune(
            Prune(
                principal=caller.principal,
                age=timedelta(seconds=request.older_than_s),
                is_archived=request.archive,
                is_rehearsed=request.dry_run,
                reason=request.reason,
            )
        )
        return PruneReceipt(
            sessions=pruned.sessions,
            entries=pruned.entries,
            is_last=pruned.is_last,
            archive=pruned.archive,
        )
