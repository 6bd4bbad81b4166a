"""Group commit: one loop that takes whatever is queued, checks it in memory and stores it as one transaction.

The book is touched on the event loop only; DuckDB's writer runs in one thread. Storing comes first, applying
after: a failed transaction leaves the book as it was. Within a round no two jobs touch the same session, external
id, key or operation; the later one waits for the next round.

Invariants: S-60 (answers follow the commit), S-62, S-65.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import duckdb

from helmr.errors import DataError, HelmrError, StoreUnavailable
from runtime.clock import Clock, Timer
from runtime.core.entries import Entry
from runtime.ports import Flush
from runtime.store.book import OPERATION_AGE, UNKNOWN_HOLDER, Book
from runtime.store.duck.appends import Appends, Checkpoint, Holding, append
from runtime.store.duck.database import ENGINE_ERROR, Database
from runtime.store.duck.files import Mark
from runtime.store.duck.projecting import Tables, project
from runtime.store.duck.restoring import Restored
from runtime.store.heads import Head, fold
from runtime.store.latency import Latency
from runtime.store.projection import Projection, session_numbers
from runtime.store.recent import Recent

JOBS_MAX = 512
ENTRIES_MAX = 5_000
TEXT_MAX = 32 * 1024 * 1024
"""Bounds of one transaction: jobs, entries, characters of bodies and checkpoints."""

QUEUE_MAX = 20_000
"""Jobs that may wait; beyond, callers are told that the store is unavailable (S-64)."""

PROJECT_AFTER_S = 0.25
"""How long a change may stay out of the tables."""

HOLDINGS_MAX = 1_000
"""Rows of `holdings` after which the projection replaces them by those that still hold."""

DUE_MAX = 2_000
"""Timeouts in one transaction: about 0.1 s, so that commits in between are not held up longer."""

RETRY_DUE_AFTER = timedelta(seconds=1)
"""How long timeouts wait after a failed commit."""

RECHECK_EVERY = timedelta(seconds=60)
"""Longest time between two looks at the deadlines."""

FORGET_EVERY = timedelta(hours=1)
"""How often operations past their day are deleted."""


@dataclass(slots=True)
class Write:
    """What a job wants stored: entries of one session, and what its flush says beside them."""

    session_id: str
    entries: tuple[Entry, ...]
    flush: Flush | None = None
    stored: Callable[[Write], None] | None = None
    failed: Callable[[HelmrError], None] | None = None

    @property
    def text_size(self) -> int:
        """Characters to be written."""
        checkpoint = self.flush.checkpoint if self.flush is not None else None
        return sum(len(e.body_json) for e in self.entries) + len(checkpoint or "")


class Job(Protocol):
    """Something queued for the writer."""

    keys: frozenset[Hashable]
    """What no two jobs of one round may share."""

    def prepare(self) -> Awaitable[Write | None]:
        """Check against the book; None if the job was answered without a write."""
        ...

    def fail(self, error: HelmrError) -> None:
        """Answer with an error; nothing was kept."""
        ...


@dataclass(slots=True)
class Round:
    """What one transaction is made of."""

    jobs: list[Job] = field(default_factory=list)
    claimed: set[Hashable] = field(default_factory=set)
    writes: list[Write] = field(default_factory=list)
    due: list[Head] = field(default_factory=list)
    entries: int = 0
    text: int = 0

    @property
    def is_full(self) -> bool:
        """Another job would make the transaction too large."""
        return len(self.writes) >= JOBS_MAX or self.entries >= ENTRIES_MAX or self.text >= TEXT_MAX

    def add(self, write: Write) -> None:
        """Take a write into the transaction."""
        self.writes.append(write)
        self.entries += len(write.entries)
        self.text += write.text_size


class GroupCommit:
    """The writer of one open database and the book it keeps.

    Args:
        database: Open; its writer's methods are called in this object's one thread.
        restored: The ledger's memory.
        clock: Tells the time.
        due_writes: Makes the entry that times out the wait of an unheld session.
        changed: Called after every change of the book, on the loop.
    """

    def __init__(
        self,
        database: Database,
        restored: Restored,
        clock: Clock,
        due_writes: Callable[[Head, datetime], Write],
        changed: Callable[[], None],
    ) -> None:
        self.database = database
        self.book: Book = restored.book
        self.projection: Projection = restored.projection
        self.recent: Recent = restored.recent
        self.projected_offset = restored.projected_offset
        self.latency = Latency()
        self.failing_since: datetime | None = None
        self.failure: str | None = None
        self._clock = clock
        self._due_write = due_writes
        self._changed = changed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger-writer")
        self._queue: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._round: Round | None = None
        self._round_over: asyncio.Future[None] | None = None
        self._due_asked = False
        self._due_not_before: datetime | None = None
        self._projections: list[asyncio.Future[None]] = []
        self.is_projecting = False
        self._tick: asyncio.TimerHandle | None = None
        self._unsaved: list[Holding] = []
        self._holdings_rows = HOLDINGS_MAX + 1
        self._forget_at = clock.now()
        self._broken: HelmrError | None = None
        self._closing = False
        self._alarm: Timer | None = None
        self._rings_at = clock.now()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="ledger-writer")
        self._task.add_done_callback(self._ended)
        self._arm()

    # --- for the ledger around it -----------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queue a job; it is answered when it is on disk, or told why not."""
        if self._broken is not None:
            job.fail(self._broken)
        elif self._closing or len(self._queue) >= QUEUE_MAX:
            job.fail(StoreUnavailable("the ledger takes no more commits now", retry_after_s=1))
        else:
            self._queue.append(job)
            self._wake.set()

    def is_claimed(self, key: Hashable) -> bool:
        """A round in flight touches the key."""
        return self._round is not None and key in self._round.claimed

    async def settled(self, key: Hashable) -> None:
        """Return when no round in flight touches the key."""
        while self._round is not None and key in self._round.claimed:
            assert self._round_over is not None
            await asyncio.shield(self._round_over)

    def held_changed(self, head: Head) -> None:
        """The session's epoch or holder changed in memory; the next transaction carries it to disk."""
        self._unsaved.append(Holding(head.session_id, head.epoch, head.held_by))
        self.projection.touched.add(head.session_id)
        self._tick_soon()
        self._arm()
        self._changed()

    async def run_in_writer(self, call: Callable[..., Any], *args: Any) -> Any:
        """Run a blocking call in the writer's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    async def project(self) -> None:
        """Return when the tables show everything that was acknowledged before the call.

        Raises:
            StoreUnavailable: They can't be written now.
        """
        if self._broken is not None:
            raise self._broken
        if not self.is_projecting and not self._is_dirty():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._projections.append(future)
        self._wake.set()
        await future

    def _is_dirty(self) -> bool:
        behind = self.projection.through > self.projected_offset
        return behind or bool(self.projection.touched) or bool(self._unsaved)

    async def close(self) -> None:
        """Store what is queued, bring the tables up to date and close the file."""
        self._closing = True
        if self._broken is None and self.failing_since is None:
            try:
                await self.project()
            except StoreUnavailable:
                # Nothing is lost: the next open folds what the tables lack.
                self.failure = "the tables could not be written at close"
        if self._round_over is not None:
            await asyncio.shield(self._round_over)
        for timer in (self._tick, self._alarm):
            if timer is not None:
                timer.cancel()
        self._task.cancel()
        await asyncio.wait([self._task])
        self._fail_all(StoreUnavailable("the ledger is closing"))
        await self.run_in_writer(self.database.close)
        self._thread.shutdown(wait=False)

    def _arm(self) -> None:
        """Ring when the next unheld session is due, and now and then, should the clock have jumped."""
        due_at = self.book.next_due_at()
        if due_at is None or self._closing:
            return
        now = self._clock.now()
        rings_at = min(max(due_at, self._due_not_before or due_at), now + RECHECK_EVERY)
        if self._alarm is not None:
            # One that rings sooner looks and arms again: cheaper than a new timer after every commit.
            if self._rings_at <= rings_at:
                return
            self._alarm.cancel()
        self._rings_at = rings_at
        self._alarm = self._clock.call_at(rings_at, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        self._due_asked = True
        self._wake.set()

    # --- the loop -------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue or self._due_asked or self._projections:
                await self._one_round()
                if self._projections:
                    await self._project()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        self._broken = (
            error if isinstance(error, HelmrError) else DataError(f"the ledger stopped: {error!r}")
        )
        self._fail_all(self._broken)

    def _fail_all(self, error: HelmrError) -> None:
        for job in self._round.jobs if self._round is not None else ():
            job.fail(error)
        while self._queue:
            self._queue.popleft().fail(error)
        for future in self._projections:
            if not future.done():
                future.set_exception(error)
                future.exception()
        self._projections.clear()
        if self._round_over is not None and not self._round_over.done():
            self._round_over.set_result(None)

    async def _one_round(self) -> None:
        current = self._round = Round()
        self._round_over = asyncio.get_running_loop().create_future()
        try:
            await self._gather(current)
            if current.writes:
                await self._store(current)
        finally:
            self._round_over.set_result(None)
        self._round = None
        self._arm()
        self._changed()

    async def _gather(self, current: Round) -> None:
        waiting: list[Job] = []
        blocked: set[Hashable] = set()
        for _ in range(min(len(self._queue), JOBS_MAX)):
            job = self._queue.popleft()
            # A job also waits behind one that waits: what was queued first is decided first.
            if current.is_full or job.keys & (current.claimed | blocked):
                blocked |= job.keys
                waiting.append(job)
                continue
            current.claimed |= job.keys
            current.jobs.append(job)
            await self._prepare(current, job)
        self._queue.extendleft(reversed(waiting))
        if self._due_asked:
            self._gather_due(current, blocked)

    async def _prepare(self, current: Round, job: Job) -> None:
        try:
            write = await job.prepare()
        except HelmrError as error:
            job.fail(error)
        except ENGINE_ERROR as error:
            refusal = StoreUnavailable(f"the ledger can't be read: {error}", retry_after_s=1)
            refusal.__cause__ = error
            job.fail(refusal)
        else:
            if write is not None:
                current.add(write)

    def _gather_due(self, current: Round, blocked: set[Hashable]) -> None:
        now = self._clock.now()
        self._due_asked = False
        if self._due_not_before is not None and now < self._due_not_before:
            return
        room = max(0, DUE_MAX - current.entries)
        busy = [key for key in current.claimed | blocked if isinstance(key, str)]
        current.due = self.book.take_due(now, room, busy)
        for head in current.due:
            current.claimed.add(head.session_id)
            current.add(self._due_write(head, now))

    # --- storing --------------------------------------------------------------------------------

    async def _store(self, current: Round) -> None:
        started = asyncio.get_running_loop().time()
        stamped = self._stamp(current.writes)
        try:
            await self._commit(stamped)
        except duckdb.IOException as error:
            self._fail(stamped, error)
        except ENGINE_ERROR as error:
            if len(stamped) == 1:
                self._fail(stamped, error)
            else:
                await self._store_singly(current.writes)
        except StoreUnavailable as error:
            self._fail(stamped, error)
        else:
            self._apply(stamped)
        self.latency.add(asyncio.get_running_loop().time() - started)
        now = self._clock.now()
        for head in current.due:
            self.book.reindex(head, now)

    async def _store_singly(self, writes: Iterable[Write]) -> None:
        """The engine refused the batch: find the one it can't take, store the others."""
        for write in writes:
            stamped = self._stamp([write])
            try:
                await self._commit(stamped)
            except (ENGINE_ERROR, StoreUnavailable) as error:
                self._fail(stamped, error)
            else:
                self._apply(stamped)

    def _stamp(self, writes: Iterable[Write]) -> list[Write]:
        """Give the entries their feed offsets, and make sure that they can be folded once stored."""
        offset = self.book.head_offset
        stamped: list[Write] = []
        for write in writes:
            placed = tuple(
                replace(entry, feed_offset=number)
                for number, entry in enumerate(write.entries, start=offset + 1)
            )
            try:
                self._rehearse(write.session_id, placed)
            except DataError as error:
                if write.failed is not None:
                    write.failed(error)
                continue
            offset += len(placed)
            stamped.append(replace(write, entries=placed))
        return stamped

    def _rehearse(self, session_id: str, entries: tuple[Entry, ...]) -> None:
        head = copy.copy(self.book.heads.get(session_id) or Head(session_id))
        for entry in entries:
            fold(head, entry)

    async def _commit(self, writes: list[Write]) -> None:
        if not writes:
            return
        appends = Appends(holdings=list(self._unsaved))
        saved = len(self._unsaved)
        for write in writes:
            appends.entries += write.entries
            self._append_flush(appends, write)
        await self.run_in_writer(self._write, appends)
        del self._unsaved[:saved]
        self._holdings_rows += len(appends.holdings)
        self.failing_since = self.failure = self._due_not_before = None

    def _append_flush(self, appends: Appends, write: Write) -> None:
        flush = write.flush
        if flush is None:
            return
        head = self.book.heads[write.session_id]
        if flush.checkpoint is not None:
            last = write.entries[-1] if write.entries else None
            offset = last.feed_offset if last is not None else head.last_offset
            assert offset is not None
            seq = last.seq if last is not None else head.next_seq - 1
            appends.checkpoints.append(Checkpoint(offset, flush.session_id, seq, flush.checkpoint))
        if flush.release:
            appends.holdings.append(Holding(flush.session_id, flush.epoch, None))
        elif flush.epoch > head.epoch:
            appends.holdings.append(Holding(flush.session_id, flush.epoch, UNKNOWN_HOLDER))

    def _write(self, appends: Appends) -> None:
        """In the writer's thread: one transaction, then the head mark."""
        if not self.database.is_open:
            self.database.heal()
        try:
            with self.database.transaction() as connection:
                append(connection, appends)
        except ENGINE_ERROR:
            # Also a commit whose automatic checkpoint failed raises, though it is on disk.
            if not self._is_stored(appends):
                raise
        if appends.entries:
            last = appends.entries[-1]
            assert last.feed_offset is not None
            self.database.mark.write(Mark(last.feed_offset, last.hash))

    def _is_stored(self, appends: Appends) -> bool:
        self.database.heal()
        if not appends.entries:
            return False
        last_offset = appends.entries[-1].feed_offset
        assert last_offset is not None
        return self.database.head_offset() >= last_offset

    def _fail(self, writes: list[Write], error: Exception) -> None:
        now = self._clock.now()
        self.failing_since = self.failing_since or now
        self.failure = str(error).splitlines()[0]
        self._due_not_before = now + RETRY_DUE_AFTER
        refusal = StoreUnavailable(f"the ledger can't commit: {self.failure}", retry_after_s=1)
        refusal.__cause__ = error
        for write in writes:
            if write.failed is not None:
                write.failed(refusal)

    def _apply(self, writes: list[Write]) -> None:
        now = self._clock.now()
        for write in writes:
            head = self.book.heads.get(write.session_id)
            for entry in write.entries:
                head = self.book.apply(entry, now)
                self.projection.fold(entry, head)
                self.recent.add(entry)
            assert head is not None
            self.book.settle(head, now, flush=write.flush)
            if head is not self.book.nil:
                self.projection.touched.add(head.session_id)
            if write.stored is not None:
                write.stored(write)
        self._tick_soon()

    # --- projecting -----------------------------------------------------------------------------

    def _tick_soon(self) -> None:
        if self._tick is None and not self._closing:
            loop = asyncio.get_running_loop()
            self._tick = loop.call_later(PROJECT_AFTER_S, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        self._projections.append(asyncio.get_running_loop().create_future())
        self._wake.set()

    async def _project(self) -> None:
        asked, self._projections = self._projections, []
        if not self._is_dirty():
            self._answer(asked)
            return
        written, self.projection = self.projection, Projection(through=self.projection.through)
        saved = len(self._unsaved)
        tables = self._tables(written)
        self.is_projecting = True
        try:
            await self.run_in_writer(self._write_tables, tables)
        except (ENGINE_ERROR, StoreUnavailable) as error:
            # Only adoptions change anything meanwhile, and they only touch.
            written.touched |= self.projection.touched
            self.projection = written
            self._fail([], error)
            refusal = StoreUnavailable(f"the tables can't be written: {self.failure}")
            for future in asked:
                if not future.done():
                    future.set_exception(refusal)
                    # Looked at here, because the tick's own future has no reader.
                    future.exception()
            self._tick_soon()
            return
        finally:
            self.is_projecting = False
        del self._unsaved[:saved]
        self._holdings_rows = (
            len(tables.held) if tables.held is not None else self._holdings_rows + saved
        )
        self.projected_offset = written.through
        self.failing_since = self.failure = None
        self.book.evict(lambda session_id: session_id in self.projection.touched)
        self._answer(asked)

    @staticmethod
    def _answer(asked: list[asyncio.Future[None]]) -> None:
        for future in asked:
            if not future.done():
                future.set_result(None)

    def _tables(self, written: Projection) -> Tables:
        now = self._clock.now()
        forget = now >= self._forget_at
        if forget:
            self._forget_at = now + FORGET_EVERY
        held = None
        if self._holdings_rows > HOLDINGS_MAX:
            held = [Holding(h.session_id, h.epoch, h.holder) for h in self.book.holdings()]
        return Tables(
            projection=written,
            sessions=[session_numbers(self.book.heads[s]) for s in sorted(written.touched)],
            meta={
                "projected_offset": written.through,
                "nil_offset": self.book.nil.last_offset,
                "catalog_offset": self.book.catalog_offset,
            },
            holdings=tuple(self._unsaved),
            held=held,
            forget_before=now - OPERATION_AGE if forget else None,
        )

    def _write_tables(self, tables: Tables) -> None:
        """In the writer's thread."""
        if not self.database.is_open:
            self.database.heal()
        try:
            with self.database.transaction() as connection:
                project(connection, tables)
        except ENGINE_ERROR:
            self.database.heal()
            through = tables.meta["projected_offset"]
            if self.projected_offset == through or self.database.projected_offset() != through:
                raise
        self.database.mark.sync()
