"""What both ledgers count: for `/metrics`, and of a session."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress

from helmr.errors import DataError
from helmr_runtime.ledger.claim_keeper import ClaimKeeper
from helmr_runtime.ledger.fact_reads import FactReads
from helmr_runtime.ledger.heads import Head
from helmr_runtime.ledger.latency import Latency
from helmr_runtime.ledger.row_access import Rows
from helmr_runtime.ledger.views import Json
from helmr_runtime.ports import Loaded
from helmr_runtime.ports.restoring import restore


class LedgerNumbers(FactReads, ClaimKeeper):
    """The numbers, over a ledger's rows and memory."""

    latency: Latency | None = None
    """Of its commits, where there is a disk."""

    @property
    @abstractmethod
    def rows(self) -> Rows:
        """What lists and objects are read from."""

    @abstractmethod
    async def snapshot(self, session_id: str) -> Loaded:
        """The session as it is on disk now."""

    async def unconsumed(self, head: Head) -> int | None:
        """How many records of the session no wait has taken; None if it can't be read now.

        After a restart the session is read once for it.
        """
        if head.unconsumed is None:
            with suppress(DataError):
                state = restore(head.session_id, await self.snapshot(head.session_id))
                if head.last == (state.seq, state.last_hash):
                    head.unconsumed = state.unconsumed_count
                return state.unconsumed_count
        return head.unconsumed

    async def numbers(self) -> Json:
        """As `helmr_runtime.rpc.ledger_client.LedgerClient`."""
        return {
            **(self.latency.to_json() if self.latency is not None else {}),
            "waits": await self.rows.wait_totals(self.index.work.resolving()),
            "claims": self.claims_count(),
            "schedules": self.schedule_counts(),
        }
