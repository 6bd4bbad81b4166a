"""The ledger's decisions over a simulated disk, with the time that one takes and the ways in which it fails.

A commit is a record of the real log of commits; now and then what that holds is moved into the database, a list. Who
holds what is in memory until the next commit, so that a ledger that ends forgets adoptions, as a real one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from random import Random

from helmr.errors import DataError, StoreUnavailable
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import sessions_of
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.faults import Point, reach
from helmr_runtime.features import FEATURES
from helmr_runtime.ledger.index.heads import Head, head_after
from helmr_runtime.ledger.ledger import EPOCHS_PER_OPENING
from helmr_runtime.ledger.log.group import append_flush
from helmr_runtime.ledger.log.group_builder import Write
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ledger.tables.appends import Appends, LeaseRow
from helmr_runtime.ports import CommitReply, Committed, Declined, Flush, Loaded, Refused
from tests.programs.simulation.counts import Counts
from tests.programs.simulation.disk import SimulatedDisk
from tests.programs.simulation.invariants import Invariants

MOVED = 0.03
"""Before so many commits the database takes what the log holds."""


class SimulatedLedger(MemoryLedger):
    """A ledger whose commits take their time, watched by the invariants.

    Args:
        fails: The disk takes nothing now.
        disk: Where everything is.
    """

    def __init__(
        self,
        clock: Clock,
        disk: SimulatedDisk,
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
        self._disk = disk
        try:
            stored, self._log = disk.opened()
        except DataError as error:  # nothing that a kill or lost power leaves is damage
            invariants.fail("S-60", f"what was acknowledged can't be read: {error}")
        invariants.reopened(stored)
        super().__init__(clock, stored, features=FEATURES)
        self.epoch_floor = disk.database.openings * EPOCHS_PER_OPENING
        self._unsaved: list[LeaseRow] = []
        """Adoptions and releases that are in memory only."""
        self.before_commit = self._queued
        self.after_commit = self._written

    async def commit(self, flush: Flush) -> CommitReply:
        offset = self.index.head_offset
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
        if loaded.is_known:
            self._counts.reached("adopted as it was left")
        elif self._random.random() < 0.2:
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
        self._append(entries, flush)
        placed = super()._store(entries, flush)
        self._invariants.stored(placed, flush)
        reach(Point.LEDGER_WRITTEN)
        return placed

    def _append(self, entries: Sequence[Entry], flush: Flush | None) -> None:
        """Bring them to disk.

        Raises:
            StoreUnavailable: They are not there.
        """
        first = self.stored.entries.next_offset
        placed = [replace(one, feed_offset=first + number) for number, one in enumerate(entries)]
        session_id = flush.session_id if flush is not None else placed[0].session_id
        head = self.index.heads.get(session_id) or Head(session_id)
        head_after(head, placed)
        appends = Appends(entries=placed, holdings=self._unsaved)
        if flush is not None:
            append_flush(appends, Write(session_id, tuple(placed), flush), flush, head)
        if placed and placed[0].kind is EntryKind.SESSIONS_PRUNED:
            self._disk.remove(self._log, appends, sessions_of(placed[0].body))
            self._unsaved = []
            return
        if self._log.is_full or self._random.random() < MOVED:
            reach(Point.LEDGER_PROJECTING)
            self._disk.merge(self._log)
        try:
            self._log.append(appends)
        except OSError as error:
            raise StoreUnavailable(f"the ledger can't commit: {error}", retry_after_s=1) from error
        self._unsaved = []

    def _held(self, head: Head) -> None:
        super()._held(head)
        self._unsaved.append(LeaseRow(head.session_id, head.epoch, head.held_by))
        self._invariants.held(head.session_id, head.epoch, head.held_by)

    def _remove(self, gone: Collection[str]) -> None:
        super()._remove(gone)
        index = self.index
        left = [one for one in gone if one in index.heads or one in self.rows._rows.new_sessions]
        left += [token.id for token in index.tokens if token.session_id in gone]
        left += [k for k, one in index.keys.public_tokens.items() if one.session_id in gone]
        self._invariants.pruning.removed(gone, left)

    def _on_alarm(self) -> None:
        reach(Point.LEDGER_TIMING_OUT)
        self._disk.may_fail = False
        try:
            super()._on_alarm()
        finally:
            self._disk.may_fail = True
