"""What both ledgers say of facts of the nil session: schedules, all of which are in memory, and notice targets."""

from __future__ import annotations

from abc import ABC, abstractmethod

from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger import pages
from helmr_runtime.ledger.index import LedgerIndex
from helmr_runtime.ledger.views import Json


class FactReads(ABC):
    """Reads of facts, over a ledger's index."""

    @property
    @abstractmethod
    def index(self) -> LedgerIndex:
        """Its memory.

        Raises:
            StoreUnavailable: It is gone.
        """

    @abstractmethod
    async def entry(self, feed_offset: int) -> Entry:
        """The entry at that offset."""

    async def notices(self) -> Json:
        """The positions of notice targets, by name."""
        offset = self.index.notices_offset
        return dict((await self.entry(offset)).body["positions"]) if offset else {}

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
