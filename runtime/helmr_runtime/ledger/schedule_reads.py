"""What both ledgers say of schedules: all of them are in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod

from helmr_runtime.ledger import pages
from helmr_runtime.ledger.index import LedgerIndex
from helmr_runtime.ledger.views import Json


class ScheduleReads(ABC):
    """The reads of schedules, over a ledger's index."""

    @property
    @abstractmethod
    def index(self) -> LedgerIndex:
        """Its memory.

        Raises:
            StoreUnavailable: It is gone.
        """

    async def get_schedule(self, name: str) -> Json:
        """`ScheduleInfo`."""
        return self.index.schedules.get(name)

    async def list_schedules(self, *, cursor: str | None = None, limit: int | None = None) -> Json:
        """A page of `ScheduleInfo`, by name."""
        return self.index.schedules.page(cursor, pages.limit_of(limit))

    def schedule_counts(self) -> Json:
        """How many there are: `{active, paused}`."""
        schedules = self.index.schedules.by_name.values()
        paused = sum(one.paused for one in schedules)
        return {"active": len(schedules) - paused, "paused": paused}
