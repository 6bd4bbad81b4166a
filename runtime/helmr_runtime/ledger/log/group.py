"""Group commit: one loop takes all queued jobs, checks them in memory and stores them as one record of the log.

Only the event loop touches the index. One thread writes the log and another the database, so commits continue while
the tables are written. A commit is stored first and applied after: a failed one leaves the index unchanged.
`GroupBuilder` decides which jobs share a group.

The head mark is synced a second after a commit, beside later commits. On disk it lacks at most the commits of that
second, so after a loss of power it still exposes the loss of anything earlier.

Invariants: S-52, S-60 (answers follow the commit), S-62, S-65.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from queue import SimpleQueue
from typing import Any

from helmr.errors import (
    DataError,
    HelmrError,
    LedgerSuperseded,
    OutcomeUnknown,
    StoreUnavailable,
)
from helmr_runtime import faults
from helmr_runtime.clock import Clock, Timer
from helmr_runtime.core.ledger_role import LedgerRole
from helmr_runtime.faults import Point, reach
from helmr_runtime.ledger.index.heads import Head, head_after
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.index.projection import FeedTail
from helmr_runtime.ledger.log.database import Database
from helmr_runtime.ledger.log.group_builder import (
    AuthoredEntries,
    CommitGroup,
    GroupBuilder,
    Job,
    Write,
)
from helmr_runtime.ledger.log.projector import Projector, Read, ReadUnwritten
from helmr_runtime.ledger.tables.appends import Appends, Checkpoint, LeaseRow
from helmr_runtime.ledger.tables.engine import STORE_ERRORS
from helmr_runtime.ledger.tables.reads import RecentCheckpoints
from helmr_runtime.ledger.tables.recovery import RestoredMemory
from helmr_runtime.ports import Flush

logger = logging.getLogger(__name__)

ThreadCall = tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]


class WriterThread:
    """Runs blocking calls one after the other, in the order in which they were asked for.

    An executor does the same for half as much processor time again: it makes two futures for each call, of which one
    tells the other, and a commit is such a call.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[ThreadCall | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()
        # A thread that the interpreter ends within the database's engine takes the process down with it.
        atexit.register(self._end_with_process)

    def run(self, call: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Queue a call; the future holds its result or error."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put((future, call, args))
        return future

    def end(self) -> asyncio.Future[None]:
        """End; done when everything asked for is."""
        atexit.unregister(self._end_with_process)
        ended: asyncio.Future[None] = self.run(lambda: None)
        self._jobs.put(None)
        return ended

    def _end_with_process(self) -> None:
        """Finish queued calls when the process ends without closing the ledger."""
        self._jobs.put(None)
        self._thread.join()

    def _main(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call, args = job
            result, error = None, None
            try:
                result = call(*args)
            except BaseException as raised:  # noqa: BLE001 - anyone who awaits the call gets it
                error = raised
            with suppress(RuntimeError):  # the loop is closed: no one awaits it any more
                self._loop.call_soon_threadsafe(_answer, future, result, error)
            del job, future, call, args, result, error


def _answer(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


SYNC_AFTER_S = 1.0


class MarkTimer:
    """One ledger's.

    Args:
        sync: Begins to bring the mark to disk, in another thread; raises nothing, now or later.
    """

    def __init__(self, sync: Callable[[], asyncio.Future[Any]]) -> None:
        self._sync = sync
        self._timer: asyncio.TimerHandle | None = None

    def committed(self) -> None:
        """Schedule a sync of the mark, within a second unless the disk is slower."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SYNC_AFTER_S, self._begin)

    def cancel(self) -> None:
        """Begin no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        self._sync().add_done_callback(self._ended)

    def _ended(self, synced: asyncio.Future[Any]) -> None:
        self._timer = None


RECHECK_EVERY = timedelta(seconds=60)
"""Longest time between two looks at the deadlines, whatever the clock says."""


class Alarm:
    """Rings once after it was armed.

    Args:
        clock: Tells when.
        ring: Called then.
    """

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self._recheck: Timer | None = None
        self._rings_at = clock.now()

    def arm(self, due_at: datetime) -> None:
        """Ring at that time by the wall clock, as it will be set then, or sooner."""
        if self._recheck is None:
            at = self._clock.now() + RECHECK_EVERY
            self._recheck = self._clock.call_at(at, self._on_time)
        if self._timer is not None:
            # One that rings sooner looks and arms again: cheaper than a new timer after every commit.
            if self._rings_at <= due_at:
                return
            self._timer.cancel()
        self._rings_at = due_at
        self._timer = self._clock.call_when(due_at, self._on_time)

    def cancel(self) -> None:
        """Don't ring."""
        for timer in (self._timer, self._recheck):
            if timer is not None:
                timer.cancel()
        self._timer = self._recheck = None

    def _on_time(self) -> None:
        self.cancel()
        self._ring()


QUEUE_MAX = 20_000
"""Jobs that may wait; beyond that, callers get `StoreUnavailable` (S-64)."""

RETRY_DUE_AFTER = timedelta(seconds=1)
"""Pause of timeouts after a failed commit."""


RIDE_S = 0.1
"""Longest that a job which rides waits for one that does not."""

AWAY_S = 10.0
"""A store that other machines reach may take that long for a commit before callers hear of it (S-102)."""

ENDS_AFTER_S = 1.0
"""Closing waits that long for such a store. What became of the commit in flight, the next opening reads."""

TIMES_KEPT = 1_000
"""Commits whose time is kept."""

COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Around the few milliseconds of a commit on a good disk."""

COMMIT_JOBS = (1, 2, 5, 10, 20, 50, 100, 200, 512)
"""Up to the most that one transaction takes."""


class Distribution:
    """A histogram of values by upper bound; counts only rise.

    Args:
        bounds: The upper bounds, rising; one more bucket has no bound.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one; a value on a bound belongs below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def to_json(self) -> dict[str, Any]:
        """`{bounds[], counts[], sum}`; `counts` has one more, and none holds those before it."""
        return {"bounds": list(self._bounds), "counts": list(self._counts), "sum": self._sum}


class Latency:
    """Times and sizes of commits."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=TIMES_KEPT)
        self.seconds = Distribution(COMMIT_SECONDS)
        self.jobs = Distribution(COMMIT_JOBS)

    def add(self, duration_s: float, jobs: int) -> None:
        """Note one commit and how many writes shared it."""
        self._times.append(duration_s)
        self.seconds.add(duration_s)
        self.jobs.add(jobs)

    def to_json(self) -> dict[str, Any]:
        """`{commit_seconds, commit_jobs}`, each as `Distribution.to_json`."""
        return {"commit_seconds": self.seconds.to_json(), "commit_jobs": self.jobs.to_json()}

    def percentiles(self) -> dict[str, float | None]:
        """Return the median and 99th percentile of the last commits, in ms."""
        return {"commit_p50_ms": self.percentile_ms(0.5), "commit_p99_ms": self.percentile_ms(0.99)}

    def percentile_ms(self, share: float) -> float | None:
        """The time that this share of the kept commits stayed under, None before the first."""
        if not self._times:
            return None
        ordered = sorted(self._times)
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 3)


class GroupCommit:
    """The writer of one open database and the index it keeps.

    Args:
        database: Open; its writer's methods are called in this object's threads.
        restored: The ledger's memory.
        clock: Tells the time.
        own: Makes what the ledger writes of its own.
        escalate: As `GroupBuilder`'s.
        changed: Called after every change of the index, on the loop.
        role: Of the ledger, which is open now.
    """

    def __init__(
        self,
        database: Database,
        restored: RestoredMemory,
        clock: Clock,
        own: AuthoredEntries,
        escalate: Callable[[Head], None],
        changed: Callable[[], None],
        role: LedgerRole,
    ) -> None:
        self.database = database
        self.index: LedgerIndex = restored.index
        self.recent: FeedTail = restored.recent
        self.checkpoints = RecentCheckpoints()
        self.projector = Projector(database, restored, clock, self.run_in_writer)
        self.latency = Latency()
        self.failing_since: datetime | None = None
        self.failure: str | None = None
        self._clock = clock
        self._builder = GroupBuilder(self.index, own, escalate)
        self._changed = changed
        self._thread = WriterThread("ledger-writer")
        self._log_thread = WriterThread("ledger-log")
        # Called before the threads are waited for: at an end no store is.
        atexit.register(database.end_waiting)
        self._mark_timer = MarkTimer(lambda: self._thread.run(database.sync_mark))
        self._queue: deque[Job] = deque()
        self._riding: list[Job] = []
        """Jobs that wait for the next one."""
        self._boarding: set[asyncio.Future[None]] = set()
        """Futures of jobs that are still being prepared to ride."""
        self._wake = asyncio.Event()
        self._current: CommitGroup | None = None
        self._current_over: asyncio.Future[None] | None = None
        self._due_asked = False
        self._due_not_before: datetime | None = None
        self.broken: HelmrError | None = None
        self.role = role
        role.opens(is_shared=database.is_shared)
        self._away: StoreUnavailable | None = None
        """A store that other machines reach has not answered for long; what is in flight may still be stored."""
        if restored.superseded_by > self.index.generation:
            role.ends(
                LedgerSuperseded(
                    f"this ledger was superseded by its generation {restored.superseded_by}",
                    hint="A follower of it was promoted by an earlier version: use the address of that runtime, and "
                    "stop this one. What only this one has can still be read.",
                    generation=restored.superseded_by,
                )
            )
        self._closing = False
        self._alarm = Alarm(clock, self._on_alarm)
        loop = asyncio.get_running_loop()
        self._tasks = (
            loop.create_task(self._run(), name="ledger-commits"),
            loop.create_task(self._project(), name="ledger-tables"),
        )
        for task in self._tasks:
            task.add_done_callback(self._ended)
        self._arm()

    # --- for the ledger around it -----------------------------------------------------------------

    def submit(self, job: Job, *, rides: bool = False) -> None:
        """Queue a job; it is answered when it is on disk, or with the reason why not.

        Args:
            job: What is to be stored.
            rides: Another one follows in a moment: this one goes into its commit, or after `RIDE_S` by itself.
        """
        if self.broken is not None:
            job.fail(self.broken)
        elif self.role.superseded is not None:
            job.fail(self.role.superseded)
        elif self._away is not None and not job.outlasts:
            job.fail(self._away)
        elif self._closing or len(self._queue) >= QUEUE_MAX:
            job.fail(StoreUnavailable("the ledger accepts no more commits now", retry_after_s=1))
        elif rides:
            self._riding.append(job)
            asyncio.get_running_loop().call_later(RIDE_S, self._board)
        else:
            self._board()
            self._queue.append(job)
            self._wake.set()

    @contextmanager
    def boarding(self) -> Iterator[None]:
        """Hold the next batch, for at most `RIDE_S`, while the block prepares a job to ride in it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._boarding.add(future)
        try:
            yield
        finally:
            self._boarding.discard(future)
            future.set_result(None)

    def _board(self) -> None:
        """Queue the jobs that ride along with the next commit."""
        if self._riding:
            self._queue.extend(self._riding)
            self._riding.clear()
            self._wake.set()

    def lead(self) -> None:
        """Become the primary: act on due deadlines from now on."""
        self.role.leads()
        self._arm()

    def end_by(self, superseded: LedgerSuperseded) -> None:
        """Another has opened the log: nothing is acknowledged (S-97). What is on its way may be stored (S-102)."""
        self.role.ends(superseded)
        self._board()
        unknown = OutcomeUnknown(f"{superseded.message}; this commit may have been stored before")
        for job in self._current.jobs if self._current is not None else ():
            job.fail(superseded if job.outlasts else unknown)
        while self._queue:
            self._queue.popleft().fail(superseded)

    def facts_now(self) -> datetime:
        """The time of a fact decided now, by the clock; its entry is not earlier than the one before it (S-50)."""
        return self._clock.now()

    def is_claimed(self, key: Hashable) -> bool:
        """A group in flight touches the key."""
        return self._current is not None and key in self._current.claimed

    async def settled(self, key: Hashable) -> None:
        """Return when no group in flight touches the key."""
        while self._current is not None and key in self._current.claimed:
            assert self._current_over is not None
            await asyncio.shield(self._current_over)

    def held_changed(self, head: Head) -> None:
        """The session's epoch or holder changed in memory; the next transaction carries it to disk."""
        self.projector.hold(head)
        self._arm()
        self._changed()

    async def run_in_writer(self, call: Callable[..., Any], *args: Any) -> Any:
        """Run a blocking call in the writer's thread."""
        return await self._thread.run(call, *args)

    async def project(self, read: Read | None = None) -> ReadUnwritten | None:
        """Return when the tables show everything that was acknowledged before the call.

        Args:
            read: What is to be read there. If the tables can't be written now it is done all the same, and
                returned; else None is, and the caller reads.

        Raises:
            StoreUnavailable: They can't be written now.
        """
        if self.broken is not None:
            raise self.broken
        if self.projector.is_behind:
            return await self.projector.ask(read)
        return None

    async def merge(self, read: Read | None = None, of: str | None = None) -> ReadUnwritten | None:
        """Return when readers see everything that was committed before the call, of that session or any.

        Args:
            read: As `project`'s.

        Raises:
            StoreUnavailable: No one can be shown it now.
        """
        if not self.database.is_behind(of):
            return None
        if self.broken is not None:
            raise self.broken
        try:
            await self.run_in_writer(self.database.merge)
        except STORE_ERRORS:
            return await self.project(read)
        return None

    async def close(self, goodbye: Callable[[], Awaitable[None]] | None = None) -> None:
        """Store what is queued, call `goodbye`, bring the tables up to date and close the file."""
        self._closing = True
        self._board()
        if goodbye is None:
            await self._write_tables()
        await self._drained()
        self._alarm.cancel()
        self._mark_timer.cancel()
        committing, projecting = self._tasks
        committing.cancel()
        await asyncio.wait([committing])
        await self._log_thread.end()
        if goodbye is not None:
            if self.role.superseded is None:
                await goodbye()
            await self._write_tables()
        projecting.cancel()
        await asyncio.wait([projecting])
        self._fail_all(StoreUnavailable("the ledger is closing"))
        atexit.unregister(self.database.end_waiting)
        await self.run_in_writer(self.database.close)
        await self._thread.end()

    async def _write_tables(self) -> None:
        if self.broken is None and self.failing_since is None:
            try:
                await self.project()
            except StoreUnavailable:
                logger.warning("the tables could not be written at close; the next open does it")

    async def _drained(self) -> None:
        """Return when nothing is queued or in flight; a store that is away is waited for no longer."""
        while self.broken is None and (self._current is not None or self._queue):
            over = self._current_over
            if over is None or over.done():  # the next group begins
                await asyncio.sleep(0)
                continue
            if self.database.is_shared:
                await asyncio.wait([over], timeout=ENDS_AFTER_S)
                self.database.end_waiting()
            await asyncio.shield(over)

    def _arm(self) -> None:
        due_at = self.index.next_due_at()
        if due_at is None or self._closing or not self.role.acts:
            return
        self._alarm.arm(max(due_at, self._due_not_before or due_at))

    def _on_alarm(self) -> None:
        self._due_asked = True
        self._wake.set()

    # --- the two loops --------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue or self._due_asked:
                if self._boarding:
                    await asyncio.wait(set(self._boarding), timeout=RIDE_S)
                    self._board()
                await self._one_batch()
                if self.projector.has_written:
                    self.projector.evict()

    async def _project(self) -> None:
        while True:
            await self.projector.asked()
            try:
                reach(Point.LEDGER_PROJECTING)
                await self.projector.run()
            except STORE_ERRORS as error:
                self._trouble(error)
            else:
                self._no_trouble()
            if self._current is None:
                self.projector.evict()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        self.broken = self.broken or (
            error if isinstance(error, HelmrError) else DataError(f"the ledger stopped: {error!r}")
        )
        for other in self._tasks:
            other.cancel()
        self._fail_all(self.broken)

    def _fail_all(self, error: HelmrError) -> None:
        self._board()
        for job in self._current.jobs if self._current is not None else ():
            job.fail(error)
        while self._queue:
            self._queue.popleft().fail(error)
        self.projector.stop(error)
        self._end_batch()

    def _end_batch(self) -> None:
        if self._current_over is not None and not self._current_over.done():
            self._current_over.set_result(None)

    async def _one_batch(self) -> None:
        current = self._current = CommitGroup()
        self._current_over = asyncio.get_running_loop().create_future()
        try:
            await self._gather(current)
            if current.writes:
                await self._store(current)
        finally:
            self._end_batch()
        self._current = None
        self._arm()
        self._changed()

    async def _gather(self, current: CommitGroup) -> None:
        blocked = await self._builder.jobs(current, self._queue)
        if not self._due_asked or not self.role.acts:
            self._due_asked = False
            return
        now = self._clock.now()
        self._due_asked = False
        if self._due_not_before is None or now >= self._due_not_before:
            self._builder.due(current, blocked, now)

    # --- storing --------------------------------------------------------------------------------

    async def _store(self, current: CommitGroup) -> None:
        started = asyncio.get_running_loop().time()
        stamped = self._stamp(current.writes)
        try:
            if faults.on_point is not None:
                reach(Point.LEDGER_BEFORE_WRITE)
            await self._commit(stamped)
        except STORE_ERRORS as error:
            self._fail(stamped, error)
        except LedgerSuperseded as error:
            logger.error("%s", error.message)
            for write in stamped:
                if write.failed is not None:
                    write.failed(error)
            self.end_by(error)
        else:
            self._apply(stamped)
            if faults.on_point is not None:
                reach(Point.LEDGER_WRITTEN)
        self.latency.add(asyncio.get_running_loop().time() - started, len(current.writes))
        now = self._clock.now()
        for head in current.due:
            self.index.reindex(head, now)

    def _stamp(self, writes: Iterable[Write]) -> list[Write]:
        """Give the entries their feed offsets, and make sure that they can be folded once stored."""
        offset = self.index.head_offset
        stamped: list[Write] = []
        heads: dict[str, Head] = {}
        for write in writes:
            placed = tuple(
                replace(entry, feed_offset=number)
                for number, entry in enumerate(write.entries, start=offset + 1)
            )
            head = heads.get(write.session_id) or self.index.heads.get(write.session_id)
            if placed and head is not None and placed[0].seq > head.next_seq:
                # A fact of the same group before it could not be stored.
                if write.failed is not None:
                    write.failed(
                        StoreUnavailable("an earlier commit was not stored", retry_after_s=1)
                    )
                continue
            try:
                heads[write.session_id] = head_after(head or Head(write.session_id), placed)
            except DataError as error:
                if write.failed is not None:
                    write.failed(error)
                continue
            offset += len(placed)
            stamped.append(replace(write, entries=placed))
        return stamped

    async def _commit(self, writes: list[Write]) -> None:
        if not writes:
            return
        appends = Appends(holdings=list(self.projector.unsaved))
        saved = len(appends.holdings)
        for write in writes:
            appends.entries += write.entries
            if write.removal is not None:
                appends.removals.append(write.removal)
            if write.flush is not None:
                append_flush(appends, write, write.flush, self.index.heads[write.session_id])
        if self.database.is_shared:
            await self._commit_far(appends)
        elif appends.removals:
            await self.run_in_writer(self.database.store, appends)
        else:
            if self.database.is_log_full:
                await self.run_in_writer(self.database.merge)
            await self._log_thread.run(self.database.commit, appends)
            self._mark_timer.committed()
        if appends.checkpoints:
            self.checkpoints.add(appends.checkpoints)
        if appends.holdings:
            self.projector.holdings_written(saved, len(appends.holdings))
        self._no_trouble()

    async def _commit_far(self, appends: Appends) -> None:
        """Commit in a store that may be away for long. Its record is stored once, and what it removes with it.

        After `AWAY_S` callers hear that its outcome is not known, and those behind that nothing of theirs is kept;
        flushes of hosts wait, for who has sent them asks again.
        """
        storing = self._log_thread.run(self.database.commit, appends)
        done, _ = await asyncio.wait([storing], timeout=AWAY_S)
        if not done:
            self._is_away()
            await asyncio.wait([storing])
            self._away = None
        storing.result()
        self._mark_timer.committed()
        if appends.removals:
            with suppress(*STORE_ERRORS):  # it stands in the log: the next transaction takes it
                await self.run_in_writer(self.database.merge)

    def _is_away(self) -> None:
        self._trouble(TimeoutError(f"the store of the log has not answered for {AWAY_S:.0f} s"))
        unknown = OutcomeUnknown(f"{self.database.path.parent}: not answered within {AWAY_S:.0f} s")
        self._away = StoreUnavailable("the store of the log does not answer", retry_after_s=1)
        for job in self._current.jobs if self._current is not None else ():
            if not job.outlasts:
                job.fail(unknown)
        for job in [self._queue.popleft() for _ in range(len(self._queue))]:
            if job.outlasts:
                self._queue.append(job)
            else:
                job.fail(self._away)

    def _fail(self, writes: list[Write], error: Exception) -> None:
        self._trouble(error)
        refusal: HelmrError
        if self.database.is_shared:  # it was closed before the store has said what became of it
            refusal = OutcomeUnknown(f"the ledger was closed: {self.failure}", retry_after_s=1)
        else:
            refusal = StoreUnavailable(f"the ledger can't commit: {self.failure}", retry_after_s=1)
        refusal.__cause__ = error
        for write in writes:
            if write.failed is not None:
                write.failed(refusal)

    def _trouble(self, error: Exception) -> None:
        now = self._clock.now()
        if self.failing_since is None:
            logger.error("the ledger can't write: %s", error)
        self.failing_since = self.failing_since or now
        self.failure = str(error).splitlines()[0]
        self._due_not_before = now + RETRY_DUE_AFTER

    def _no_trouble(self) -> None:
        if self.failing_since is not None:
            logger.info("the ledger writes again")
        self.failing_since = self.failure = self._due_not_before = None

    def _apply(self, writes: list[Write]) -> None:
        now = self._clock.now()
        for write in writes:
            self.index.take(write.entries, now, self.projector.projection, self.recent)
            head = self.index.heads[write.session_id]
            self.index.settle(head, now, flush=write.flush)
            if head is not self.index.system:
                self.projector.projection.touched.add(head.session_id)
            if write.removal is not None:
                self.recent.forget_through(write.removal.last_offset)
            if write.stored is not None:
                write.stored(write)
        self.projector.tick_soon()


def append_flush(appends: Appends, write: Write, flush: Flush, head: Head) -> None:
    """Append a flush's checkpoint, and the release of its session."""
    if flush.checkpoint is not None:
        last = write.entries[-1] if write.entries else None
        offset = last.feed_offset if last is not None else head.last_offset
        assert offset is not None
        seq = last.seq if last is not None else head.next_seq - 1
        appends.checkpoints.append(Checkpoint(offset, flush.session_id, seq, flush.checkpoint))
    if flush.release:
        appends.holdings.append(LeaseRow(flush.session_id, flush.epoch, None))
