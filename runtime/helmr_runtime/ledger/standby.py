"""A standby follows the primary's log into its own database and memory until it takes over.

It folds each record as an opening would and writes the tables too, so a takeover needs no fold. It appends nothing,
acts on no deadline and refuses every call.

Invariants: S-98.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from helmr.errors import Standby, StoreUnavailable
from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import Entry
from helmr_runtime.core.ledger_role import LedgerRole
from helmr_runtime.core.shared_log import RENEW_S, LeaseSeen
from helmr_runtime.ledger.index.heads import Head, checkpointed
from helmr_runtime.ledger.log.group import GroupCommit
from helmr_runtime.ledger.log.object_log import ObjectLog
from helmr_runtime.ledger.log.objects import ObjectChanged
from helmr_runtime.ledger.tables.appends import Appends
from helmr_runtime.ledger.tables.engine import STORE_ERRORS
from helmr_runtime.ledger.tables.recovery import read_head

logger = logging.getLogger(__name__)

Records = Sequence[tuple[int, Appends]]
Run = Callable[..., Awaitable[Any]]
"""Runs a blocking call in a thread that waits for nothing else."""

PART = 200
"""Records that go into the database at once; between two of them the loop does other things."""


class StandbyMemory:
    """Applies another runtime's commits to a standby ledger's memory.

    Args:
        group: Its writer, which appends nothing meanwhile.
        clock: Tells the time.
    """

    def __init__(self, group: GroupCommit, clock: Clock) -> None:
        self._group = group
        self._clock = clock

    @property
    def number(self) -> int:
        """Number of the last record applied."""
        return self._group.database.log_number

    async def read(self) -> Records:
        """Read the records committed after that one.

        Raises:
            LedgerBehind: They are no longer in the log, or the log ends before that one.
            LedgerDamaged, LogNewer, StoreUnavailable: It can't be read.
        """
        found: Records = await self._group.run_in_writer(self._group.database.read_on)
        return found

    async def fold(self, records: Records) -> None:
        """Apply records to the database, the index and the tables.

        Raises:
            StoreUnavailable: The database can't be written; memory may lack some of them, and is to be restored.
        """
        for some in _parts(records):
            try:
                if any(appends.removals for _, appends in some):
                    await (
                        self._group.project()
                    )  # rows of what is removed are written before, as at the primary
                entries = await self._group.run_in_writer(self._group.database.take_in, some)
                for _, appends in some:
                    await self._fold(appends, entries)
            except STORE_ERRORS as error:
                said = str(error).splitlines()[0]
                raise StoreUnavailable(f"the database can't follow the log: {said}") from error
            await asyncio.sleep(0)

    async def _fold(self, appends: Appends, entries: Mapping[int, Entry]) -> None:
        """One record: its entries, then what it says beside them, as `GroupCommit` does with its own."""
        group, index, now = self._group, self._group.index, self._clock.now()
        changed: dict[str, Head] = {}
        for stored in appends.entries:
            assert stored.feed_offset is not None
            if stored.session_id not in index.heads and stored.seq > 1:
                reader = group.database.writers_reader
                await group.run_in_writer(read_head, reader, index, stored.session_id, now)
            entry = entries[stored.feed_offset]
            index.take((entry,), now, group.projector.projection, group.recent)
            changed[entry.session_id] = index.heads[entry.session_id]
        for checkpoint in appends.checkpoints:
            head = index.heads.get(checkpoint.session_id)
            if head is not None and head.last_offset == checkpoint.feed_offset:
                checkpointed(head)
                changed[head.session_id] = head
        group.checkpoints.add(appends.checkpoints)
        for row in appends.holdings:
            head = index.heads.get(row.session_id)
            if head is not None:
                head.epoch, head.held_by = max(head.epoch, row.epoch), row.holder
                changed[head.session_id] = head
        for removal in appends.removals:
            group.recent.forget_through(removal.last_offset)
        for head in changed.values():
            index.reindex(head, now)
            if head is not index.system:
                group.projector.projection.touched.add(head.session_id)
        group.projector.tick_soon()


def _parts(records: Records) -> Iterator[Records]:
    """Split records into parts; a removal of sessions is a part of its own, after the entries that it removes."""
    some: list[tuple[int, Appends]] = []
    for one in records:
        if some and (one[1].removals or some[-1][1].removals or len(some) >= PART):
            yield some
            some = []
        some.append(one)
    if some:
        yield some


class LeaseWatch:
    """Waits until a runtime may open the log.

    Args:
        log: The log, which it opens then.
        own_writer: Of the last opening by the same data directory.
        run: Where it speaks to the store.
        is_ordered: An operator has said that it is to take over.
        role: Of the ledger: hears whether another runtime is at work.
    """

    def __init__(
        self,
        log: ObjectLog,
        own_writer: str | None,
        run: Run,
        *,
        is_ordered: bool = False,
        role: LedgerRole | None = None,
    ) -> None:
        self._role = role or LedgerRole()
        self._log = log
        self._own_writer = own_writer
        self._run = run
        self._seen: LeaseSeen | None = None
        self._tag: str | None = None
        """Of the lease, as it was seen last."""
        self._is_ordered = is_ordered
        self._wake = asyncio.Event()
        self._called_until_s = -math.inf
        self._applied = 0

    @property
    def is_waiting(self) -> bool:
        """Another runtime is at work."""
        return self._role.is_waiting

    @property
    def store(self) -> str:
        """Name of the log's store in messages."""
        return self._log.objects.name

    def take_over(self) -> None:
        """Wait no longer: an operator says so."""
        self._is_ordered = True
        self._wake.set()

    def called(self) -> None:
        """Look at once, and often for a while: a client has come here, which one does when the other runtime goes."""
        if not self._is_called:
            self._wake.set()
        self._called_until_s = asyncio.get_running_loop().time() + RENEW_S

    @property
    def _is_called(self) -> bool:
        return asyncio.get_running_loop().time() < self._called_until_s

    async def look(self) -> bool:
        """Look at the lease: whether the log may be opened now.

        Raises:
            StoreUnavailable: The store does not answer. A lease that can't be looked at has not lapsed.
            LogNewer, LedgerDamaged: It can't be read.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await self._run(self._log.lease)
        except StoreUnavailable:
            self._seen = self._seen and self._seen.unseen(loop.time())
            raise
        lease, self._tag = found if found is not None else (None, None)
        now_s = loop.time()
        seen = self._seen or LeaseSeen(lease, now_s, self._own_writer)
        self._seen = seen.seen(lease, now_s)
        self._role.waits(not (self._is_ordered or self._seen.may_try(now_s)))
        return not self.is_waiting

    async def until_due(self, memory: StandbyMemory) -> None:
        """Return when the log may be opened, and everything that stood there has been taken in.

        Raises:
            HelmrError: The log can't be followed from where the memory is, or the memory is to be restored.
            StoreUnavailable: The store went away before another runtime was waited for.
        """
        self._applied = memory.number
        while True:
            was_waiting, may_try = self.is_waiting, False
            records: Records = ()
            try:
                may_try = await self.look()
                await self._claim()
                if may_try or self._newest > memory.number:
                    records = await memory.read()
            except StoreUnavailable as error:
                if may_try and not was_waiting:
                    raise
                if may_try:
                    # What was counted of the lease stays: where only a connection died, the next look opens the log.
                    self._role.waits(True)
                    may_try = False
                logger.warning("the log can't be followed: %s", error.message)
            await memory.fold(records)
            self._applied = memory.number
            if may_try and self._is_free(records):
                return
            self._role.waits(True)
            await self._pause()

    async def _claim(self) -> None:
        """Claim the primary's lease if ordered to take over, so that it ends at its next renewal.

        A primary that commits without pause always wins the race for the next record. If the claim can't be written
        now, or the primary has just renewed, the next look tries again.
        """
        seen = self._seen
        if not self._is_ordered or seen is None or seen.lease is None or self._is_free(()):
            return
        with suppress(ObjectChanged, StoreUnavailable):
            await self._run(self._log.write_lease, seen.lease.claimed(self._log.writer), self._tag)

    def _is_free(self, records: Records) -> bool:
        """True if this runtime may try to write the next record: the primary is gone, or its lease holds our claim
        and it has stored no record since the last look."""
        seen = self._seen
        if seen is None or seen.lease is None or seen.may_try(asyncio.get_running_loop().time()):
            return True
        return seen.lease.writer == self._log.writer and not records

    def refusal(self) -> Standby:
        """Build the error that callers of a standby get."""
        behind = max(0, self._newest - self._applied)
        said = f"{behind} commits behind it" if behind else "level with it"
        return Standby(
            f"another runtime is at work on the log in {self.store}; this one stands by, {said}",
            hint="Use the address of the other runtime.",
            retry_after_s=1.0,
            commit=self._applied,
            behind=behind,
        )

    @property
    def _newest(self) -> int:
        lease = self._seen.lease if self._seen is not None else None
        return lease.newest if lease is not None else 0

    async def _pause(self) -> None:
        now_s = asyncio.get_running_loop().time()
        seen, pause_s = self._seen, RENEW_S
        if seen is not None:
            pause_s = seen.next_look_s(now_s, is_called=self._is_called or self._is_ordered)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        self._wake.clear()
