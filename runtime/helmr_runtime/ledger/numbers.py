"""What both ledgers tell for `/metrics`."""

from __future__ import annotations

from abc import abstractmethod

from helmr_runtime.ledger.claim_keeper import ClaimKeeper
from helmr_runtime.ledger.fact_reads import FactReads
from helmr_runtime.ledger.latency import Latency
from helmr_runtime.ledger.row_access import Rows
from helmr_runtime.ledger.views import Json


class LedgerNumbers(FactReads, ClaimKeeper):
    """The numbers, over a ledger's rows and memory."""

    latency: Latency | None = None
    """Of its commits, where there is a disk."""

    @property
    @abstractmethod
    def rows(self) -> Rows:
        """What lists and objects are read from."""

    async def numbers(self) -> Json:
        """As `helmr_runtime.rpc.ledger_client.LedgerClient`."""
        return {
            **(self.latency.to_json() if self.latency is not None else {}),
            "waits": await self.rows.wait_totals(self.index.work.resolving()),
            "claims": self.claims_count(),
            "schedules": self.schedule_counts(),
        }
