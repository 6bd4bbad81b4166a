"""The ledger as followers read it, and what leaves it (S-68, S-69)."""

from __future__ import annotations

from collections.abc import Sequence

from helmr.models import CopyQuery, PruneReceipt, PruneRequest
from helmr_runtime.clock import Clock
from helmr_runtime.core import jsontext
from helmr_runtime.core.pruning import Prune
from helmr_runtime.ports.copies import CopyPosition
from helmr_runtime.rpc.ledger_client import LedgerClient
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.followers import Followers


class Copies:
    """Pages for followers; pruning."""

    def __init__(self, ledger: LedgerClient, clock: Clock) -> None:
        self._ledger = ledger
        self.followers = Followers(clock)

    async def page(self, query: CopyQuery) -> bytes:
        """A `CopyPage` as JSON text; rows go through as the ledger made them.

        Raises:
            LedgerDiverged: The follower's entries are not this ledger's.
            StoreUnavailable: It can't be read now.
        """
        position = CopyPosition(query.after, query.hash, query.system_offset, query.system_hash)
        page = await self._ledger.copied_page(position)
        if query.follower is not None:
            self.followers.seen(query.follower, position.offset, page.head)
        if query.wait_s and page.copied.through <= position.offset:
            await self._ledger.feed(position.offset, 1, query.wait_s)
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

    async def stamp(self) -> str | None:
        """What this ledger's answers say of its generation; None before its first promotion."""
        return await self._ledger.stamp()

    async def meet(self, stamps: Sequence[str]) -> None:
        """A client has met ledgers with these stamps; see `LedgerClient.meet`."""
        await self._ledger.meet(stamps)

    async def prune(self, caller: Caller, request: PruneRequest) -> PruneReceipt:
        """Remove a page of old sessions.

        Raises:
            BadRequest: They must be older.
            StoreUnavailable: A backup is being read, or nothing can be written.
        """
        pruned = await self._ledger.prune(
            Prune(
                principal=caller.principal,
                age_s=request.older_than_s,
                is_archived=request.archive,
                is_dry_run=request.dry_run,
                reason=request.reason,
            )
        )
        return PruneReceipt(
            sessions=pruned.sessions,
            entries=pruned.entries,
            is_last=pruned.is_last,
            archive=pruned.archive,
        )
