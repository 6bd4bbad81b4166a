"""The ledger's decisions over a disk that is a list, with the time that a disk takes and the ways in which it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from helmr.errors import StoreUnavailable
from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import Entry
from helmr_runtime.faults import Point, reach
from helmr_runtime.ledger.heads import Head
from helmr_runtime.ledger.memory import MemoryLedger, Stored
from helmr_runtime.ports import CommitReply, Committed, Declined, Flush, Loaded, Refused
from tests.simulation.counts import Counts
from tests.simulation.invariants import Invariants


class SimulatedLedger(MemoryLedger):
    """A ledger whose commits take their time, watched by the invariants.

    Args:
        fails: The disk takes nothing now.
    """

    def __init__(
        self,
        clock: Clock,
        stored: Stored,
        *,
        invariants: Invariants,
        counts: Counts,
        random: Random,
        fails: Callable[[], bool],
    ) -> None:
        self._invariants = invariants
        self._counts = counts
        self._random = random
        self._fails = fails
        super().__init__(clock, stored)
        self.before_commit = self._queued
        self.after_commit = self._written

    async def commit(self, flush: Flush) -> CommitReply:
        offset = len(self.stored.entries)
        reply = await super().commit(flush)
        match reply:
            case Refused():
                self._counts.reached("flush refused")
            case Declined():
                self._counts.reached(f"flush declined:{type(reply.precondition).__name__}")
            case Committed() if flush.entries and reply.first_feed_offset <= offset:
                self._counts.reached("flush stored before")
        return reply

    async def load(self, session_id: str, *args: object, **kwargs: object) -> Loaded:
        loaded = await super().load(session_id, *args, **kwargs)  # type: ignore[arg-type]
        if self._random.random() < 0.2:
            self._invariants.loaded(session_id, loaded)
        return loaded

    async def abandon_all(self, holder: str) -> None:
        await super().abandon_all(holder)
        self._invariants.given_up(holder)

    async def _queued(self, flush: Flush) -> None:
        await asyncio.sleep(self._random.random() * 0.004)
        if self._fails():
            self._counts.reached("disk failed")
            raise StoreUnavailable("the disk is full", retry_after_s=1)

    async def _written(self, flush: Flush) -> None:
        if self._random.random() < 0.1:
            await asyncio.sleep(self._random.random() * 0.01)

    def _store(self, entries: Sequence[Entry], flush: Flush | None = None) -> list[Entry]:
        reach(Point.LEDGER_BEFORE_WRITE)
        placed = super()._store(entries, flush)
        self._invariants.stored(placed, flush)
        reach(Point.LEDGER_WRITTEN)
        return placed

    def _held(self, head: Head) -> None:
        super()._held(head)
        self._invariants.held(head.session_id, head.epoch, head.held_by)

    def _on_alarm(self) -> None:
        reach(Point.LEDGER_TIMING_OUT)
        super()._on_alarm()
