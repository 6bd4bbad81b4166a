"""The ledger over one DuckDB file: `helmr_runtime.ports.Ledger` without long polls, plus reads on cursors of their own.

Owns the open database, the group commit and the readers' threads. One event loop; not for use from another.

Invariants: S-2, S-14, S-50, S-52…S-54, S-60…S-63, S-65.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from helmr.errors import ChainBroken, DataError, LedgerSuperseded, StoreUnavailable
from helmr.models import QUERY_ROWS_DEFAULT, QUERY_ROWS_MAX, QUERY_TIMEOUT_S
from helmr_runtime.clock import Clock
from helmr_runtime.core.attachments import stored_ids
from helmr_runtime.core.commands import FeatureFact, OpenLedger, Prune, Pruned
from helmr_runtime.core.entries import RUNTIME, Entry, Principal, Watermark, iso
from helmr_runtime.core.fork import ForkSession, fork_files
from helmr_runtime.core.ledger_role import LedgerRole
from helmr_runtime.core.session_file import BackupHeader
from helmr_runtime.core.tokens import LedgerCommand
from helmr_runtime.ledger.attachments import AttachmentStore
from helmr_runtime.ledger.copied_ledger import LedgerCopies
from helmr_runtime.ledger.index.authored import Chain, check_fork_size
from helmr_runtime.ledger.index.commands import token_of
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.index.lines import LineWriter, PlannedLine
from helmr_runtime.ledger.index.tokens import TokenHead
from helmr_runtime.ledger.index.views import iso_or_none
from helmr_runtime.ledger.log.database import Database
from helmr_runtime.ledger.log.files import room
from helmr_runtime.ledger.log.folder import Folder
from helmr_runtime.ledger.log.group import GroupCommit, WriterThread
from helmr_runtime.ledger.log.group_builder import AuthoredEntries
from helmr_runtime.ledger.log.jobs import (
    CatalogJob,
    Escalations,
    FlushJob,
    ForkJob,
    LeasesJob,
    LedgerCommandJob,
    LineJob,
    StartJob,
    StartKeys,
)
from helmr_runtime.ledger.log.lease import LeaseKeeper
from helmr_runtime.ledger.log.object_log import ObjectLog
from helmr_runtime.ledger.pruning import Pruner
from helmr_runtime.ledger.query import QueryRunner
from helmr_runtime.ledger.readable import ReadableLedger
from helmr_runtime.ledger.snapshot_maker import SnapshotMaker
from helmr_runtime.ledger.standby import StandbyMemory
from helmr_runtime.ledger.tables import reads
from helmr_runtime.ledger.tables.duck_rows import DuckRows
from helmr_runtime.ledger.tables.engine import ENGINE_ERROR, Reader
from helmr_runtime.ledger.tables.public_views import reads_late
from helmr_runtime.ledger.tables.reads import checkpoint_of
from helmr_runtime.ledger.tables.recovery import RestoredMemory, read_head
from helmr_runtime.ledger.tables.tokens import read_by_callback, read_token
from helmr_runtime.ports import (
    CommitReply,
    Flush,
    KnownKey,
    Loaded,
    SessionLine,
    Started,
    StartSession,
)
from helmr_runtime.ports.ledger import CopiedRows, ReadFreshness

P = ParamSpec("P")
T = TypeVar("T")

FILE_THREADS = 2
"""Threads that store and read pieces of sessions' files."""

READERS = 2
"""Threads that read, each with its own cursor."""

EPOCHS_PER_OPENING = 1_000_000
"""Epochs of one opening of the file. An adoption is in memory before it is on disk; numbering each opening's
epochs from a fresh million keeps an adoption that a crash forgot from sharing its epoch with a later one (S-62)."""


LINE_TRIES_MAX = 3
"""Number of times a line is planned again because its session changed; then a host writes it."""


class DuckLedger(ReadableLedger):
    """An open ledger. Make it with `helmr_runtime.ledger.open.open_ledger`."""

    def __init__(
        self,
        database: Database,
        restored: RestoredMemory,
        clock: Clock,
        chain: Chain,
        role: LedgerRole,
    ) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._chain = chain
        self.encrypts = chain.encrypts
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="ledger-reader")
        self._queries = QueryRunner(database)
        cache = database.cache
        objects = cache.log.objects if cache is not None else Folder(database.path.parent)
        self.attachments = AttachmentStore(objects, chain.bodies)
        self._file_threads = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="ledger-files")
        self._lines = LineWriter(
            lambda: self.index, chain, self.entry, self.snapshot, self.known_key
        )
        self._start_keys = StartKeys(self._in_reader, restored.index)
        self._is_closed = False
        self.snapshots: SnapshotMaker | None = None
        self._log_facts: dict[str, str | None] = {}
        self._copying: asyncio.Task[None] | None = None
        self._lease: LeaseKeeper | None = None
        self._lease_thread: WriterThread | None = None
        self._leasing: asyncio.Task[LedgerSuperseded] | None = None
        own = AuthoredEntries(chain)
        self._escalations = Escalations(self.snapshot, lambda: self._group, own, clock)
        self._group = GroupCommit(
            database, restored, clock, own, self._escalations.add, self._changed, role
        )
        self.pruner = Pruner(self.read, self._group, clock, database.path.parent)
        self._copies = LedgerCopies(
            database,
            self._group,
            restored.openings,
            encrypts=chain.encrypts,
            reading=self._reading,
            in_reader=self._in_reader,
            on_copy=self.pruner.copy_was_read,
        )
        self.latency = self._group.latency
        self._rows = DuckRows(
            lambda: self._group.projector.unwritten,
            self._group.recent,
            self.read,
            self.read_tables,
        )

    @property
    def is_broken(self) -> bool:
        """The writer has stopped for good; only opening again helps."""
        return self._group.broken is not None

    @property
    def index(self) -> LedgerIndex:
        return self._group.index

    def now(self) -> datetime:
        """The ledger's time."""
        return self._clock.now()

    @property
    def rows(self) -> DuckRows:
        return self._rows

    @property
    def openings(self) -> int:
        """Number of times the ledger was opened; the generation, if its log is shared."""
        return self._copies.openings

    def standby(self) -> StandbyMemory:
        """Takes in what another runtime commits, before `take_log`."""
        return StandbyMemory(self._group, self._clock)

    async def take_log(self, writer: str) -> None:
        """Open the log that other machines reach: nothing was acknowledged or adopted here before (S-98).

        Args:
            writer: As the log's records name this opening.

        Raises:
            LedgerSuperseded: Another has opened it meanwhile.
            StoreUnavailable: The store does not answer.
        """
        opening = OpenLedger(principal=RUNTIME, writer=writer, above=self.openings)
        generation = (await self.fact(opening))["generation"]
        self._group.lead()
        self._copies.openings = generation
        await self._group.run_in_writer(self._database.set_number, "openings", generation)
        cache = self._database.cache
        assert cache is not None
        await self._group.run_in_writer(cache.remember_writer, writer)
        self._begin_lease(cache.log, generation)
        root = await asyncio.to_thread(cache.log.require_root)
        said = await asyncio.to_thread(cache.log.objects.durability)
        self._log_facts = {"log_store": cache.log.objects.name, "log_durability": said}
        self.snapshots = SnapshotMaker(self._group, cache, root)
        self._copying = asyncio.create_task(self.snapshots.run(), name="ledger-snapshots")

    def _begin_lease(self, log: ObjectLog, generation: int) -> None:
        self._lease_thread = thread = WriterThread("ledger-lease")
        self._lease = LeaseKeeper(
            log, generation, lambda: self._database.log_number, thread.run, self._clock.now
        )
        self._leasing = asyncio.create_task(self._lease.keep(), name="ledger-lease")
        self._leasing.add_done_callback(self._lost_lease)

    def _lost_lease(self, leasing: asyncio.Task[LedgerSuperseded]) -> None:
        if not leasing.cancelled() and self._group.role.superseded is None:
            self._group.end_by(leasing.result())

    # --- what hosts and the service ask ---------------------------------------------------------

    async def commit(self, flush: Flush) -> CommitReply:
        """Store one flush; on disk when it returns (S-60)."""
        _check_shape(flush)
        job = FlushJob(flush, self.index, self)
        self._group.submit(job)
        return await job.future

    async def start(self, start: StartSession, line: SessionLine | None = None) -> Started:
        looked = await self._start_keys.of(start)
        planned = await self._lines.plan(line) if line is not None else None
        keys = self._start_keys
        job = StartJob(start, self.index, self, self._clock, self._chain, keys, looked)
        beside = self._line_job(planned) if planned is not None else None
        if beside is not None:
            job.bring(beside)
        self._group.submit(job)
        started = await job.future
        return replace(started, lined=beside is not None and beside.is_written)

    async def write_line(
        self, line: SessionLine, *, rides: bool = False
    ) -> Mapping[str, Any] | None:
        for _ in range(LINE_TRIES_MAX):
            with self._group.boarding() if rides else nullcontext():
                planned = await self._lines.plan(line)
                if planned is None:
                    return None
                job = self._line_job(planned)
                self._group.submit(job, rides=rides)
            reply = await job.future
            if reply is not None:
                return reply
        return None

    def _line_job(self, planned: PlannedLine) -> LineJob:
        return LineJob(planned, self._lines, self.index, self, self._clock.now)

    async def fork_session(self, fork: ForkSession) -> dict[str, Any]:
        head = await self._quiet_head(fork.origin_id)
        check_fork_size(head)
        since, count = head.created_offset, head.next_seq - 1
        origin = await self.read(reads.session_entries, head.session_id, since, 0, count)
        files = fork_files(origin, fork.to_op)
        await self._with_files(self.attachments.copy, fork.origin_id, fork.session_id, files)
        job = ForkJob(fork, origin, self.index, self, self._clock, self._chain)
        self._group.submit(job)
        return dict(await job.future)

    async def load(
        self,
        session_id: str,
        holder: str,
        *,
        operation_id: str | None = None,
        key: tuple[str, str] | None = None,
        term: str | None = None,
        known: tuple[int, bytes] | None = None,
    ) -> Loaded:
        """Adopt the session: raise its epoch, mark it held, return what its actor needs.

        A commit of the session that is on its way to disk is waited for; one that is only queued
        will be refused for its epoch.
        """
        if self._group.role.superseded is not None:
            raise self._group.role.superseded
        head = await self._quiet_head(session_id)
        floor = self.openings * EPOCHS_PER_OPENING
        epoch = self.index.hold(head, holder, floor, self._clock.now(), term=term)
        self._group.held_changed(head)
        try:
            return await self._loaded(head, epoch, operation_id, key, known)
        except BaseException:
            # No one learned this epoch, so no one could abandon it.
            if self.index.abandon(head, epoch, self._clock.now()):
                self._group.held_changed(head)
            raise

    async def snapshot(self, session_id: str) -> Loaded:
        """Read the session as it is on disk, under its current epoch; marks nothing."""
        head = await self._quiet_head(session_id)
        return await self._loaded(head, head.epoch)

    async def abandon(self, session_id: str, epoch: int) -> None:
        """The holder of that epoch died: the session is unheld, under a newer epoch, durably.

        Without effect if the session has been adopted again since.
        """
        head = await self._quiet_head(session_id)
        if not self.index.abandon(head, epoch, self._clock.now()):
            return
        self._group.held_changed(head)
        job = LeasesJob(head)
        self._group.submit(job)
        await job.future

    async def abandon_all(self, holder: str) -> None:
        """`abandon` for all that a dead holder holds; it can load nothing more."""
        self.index.end_holder(holder)
        held = [one for one in self.index.holdings() if one.holder == holder]
        await asyncio.gather(*(self.abandon(one.session_id, one.epoch) for one in held))

    async def known_key(self, session_id: str, stream: str, key_hash: str) -> KnownKey | None:
        """Return the use of an idempotency key (S-26). `core.decide.inputs.key_hash` makes its hash."""
        head = await self._require_head(session_id)
        if not head.has_keys:
            return None
        row = self._group.projector.unwritten.send_key(session_id, stream, key_hash)
        if row is not None:
            return KnownKey(data_hash=row.data_hash, entry=await self.entry(row.record_offset))
        found = await self.read(reads.send_key, session_id, stream, key_hash)
        if found is None:
            return None
        return KnownKey(data_hash=found[0], entry=await self.entry(found[1]))

    async def records(self, session_id: str, watermark: Watermark) -> Sequence[Mapping[str, Any]]:
        """The bodies of the records that a read of a stream's history saw, in order."""
        head = await self._require_head(session_id)
        found = await self.read(
            reads.stream_entries,
            session_id,
            watermark.kind,
            watermark.stream,
            since_offset=head.created_offset,
            after=watermark.from_seq - 1,
            through=watermark.through_seq,
        )
        return watermark.picked(found)

    async def write_catalog(self, catalog: Mapping[str, Any], principal: Principal) -> bool:
        """Write the catalog as a fact of the system stream, if its code hash is new."""
        for warm in self.index.features.warming():
            await asyncio.to_thread(warm, catalog)
        job = CatalogJob(catalog, principal, self.index, self, self._group.facts_now)
        self._group.submit(job)
        return await job.future

    # --- files ----------------------------------------------------------------------------------

    async def put_attachment_piece(
        self, session_id: str, attachment_id: str, number: int, data: bytes
    ) -> None:
        await self._with_files(self.attachments.put, session_id, attachment_id, number, data)

    async def attachment_piece(self, session_id: str, attachment_id: str, number: int) -> bytes:
        return await self._with_files(self.attachments.get, session_id, attachment_id, number)

    async def files_of(self, session_id: str) -> Collection[str]:
        """Return the ids of the files that a session's entries store; none if there is no such session."""
        head = await self.head(session_id)
        if head is None:
            return ()
        since, count = head.created_offset, head.next_seq - 1
        return stored_ids(await self.read(reads.session_entries, session_id, since, 0, count))

    async def _with_files(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._file_threads, partial(call, *args, **kwargs))

    # --- tokens and keys ------------------------------------------------------------------------

    async def fact(self, fact: LedgerCommand) -> Mapping[str, Any]:
        """Write a fact of the system stream; on disk when it returns."""
        if isinstance(fact, FeatureFact):
            for warm in self.index.features.warming(fact.feature):
                await asyncio.to_thread(warm, fact)
        self.index.work.set_off(token_of(fact), fact.trace)
        job = LedgerCommandJob(fact, self.index, self, self._group.facts_now)
        self._group.submit(job)
        return await job.future

    async def token(self, token_id: str) -> TokenHead | None:
        token = self.index.tokens.get(token_id)
        if token is None:
            found = await self.read(read_token, token_id)
            token = self.index.tokens.admit(found) if found is not None else None
        return token

    async def token_by_callback(self, callback_hash: str) -> TokenHead | None:
        token = self.index.tokens.by_callback(callback_hash)
        if token is None:
            found = await self.read(read_by_callback, callback_hash)
            token = self.index.tokens.admit(found) if found is not None else None
        return token

    def recent(self, feed_offset: int) -> Entry | None:
        return self._group.recent.get(feed_offset)

    async def entries_after(self, offset: int, limit: int) -> Sequence[Entry]:
        if offset >= self.index.head_offset:
            return []
        recent = self._group.recent.after(offset, limit)
        if recent is not None:
            return recent
        return await self.read(reads.entries_after, offset, limit)

    # --- reads ----------------------------------------------------------------------------------

    async def read(
        self, query: Callable[Concatenate[Reader, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a short query on a reader's cursor, which sees everything that was committed.

        Raises:
            StoreUnavailable: The engine can't answer now.
        """
        return await self._reading(lambda reader: query(reader, *args, **kwargs))

    async def _reading(self, run: Callable[[Reader], T], of: str | None = None) -> T:
        shown = await self._group.merge(run, of)
        return await self._in_reader(run) if shown is None else shown.value

    async def _in_reader(self, run: Callable[[Reader], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._readers, self._database.reading, run)
        except ENGINE_ERROR as error:
            raise StoreUnavailable(f"the ledger can't be read: {error}") from error

    async def read_tables(
        self, query: Callable[Concatenate[Reader, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a query over the tables once they hold everything acknowledged."""

        def run(reader: Reader) -> T:
            return query(reader, *args, **kwargs)

        shown = await self._group.project(run)
        return await self._in_reader(run) if shown is None else shown.value

    async def query(
        self, sql: str, *, limit: int = QUERY_ROWS_DEFAULT, timeout_s: float = QUERY_TIMEOUT_S
    ) -> bytes:
        """Run SQL of an operator over the public views (`helmr_runtime.ledger.query`), after everything
        acknowledged stands in the tables that it reads; the result as an Arrow IPC stream (`helmr.wire.query`)."""
        await (self._group.project() if reads_late(sql) else self._group.merge())
        rows_max, timeout_s = max(1, min(limit, QUERY_ROWS_MAX)), min(timeout_s, QUERY_TIMEOUT_S)
        return await self._queries.run(sql, rows_max=rows_max, timeout_s=timeout_s)

    async def verify_chain(self, session_id: str) -> int:
        """Check a session's hash chain to its last entry; returns their number.

        Raises:
            ChainBroken: Fact `seq` is the first bad one.
        """
        head = await self._quiet_head(session_id)
        expected, since = head.next_seq - 1, head.created_offset
        count = await self.read(reads.verify_chain, session_id, since, self._chain.of(head))
        if count < expected:
            raise ChainBroken(
                f"{session_id}: entry {count + 1} is missing", session_id=session_id, seq=count + 1
            )
        return count

    async def stats(self) -> dict[str, Any]:
        """Return offsets, sizes, commit latency, counts and any failure; also since when the store is away, if that
        is longer than a standby waits."""
        engine_bytes = await self._queries.engine_bytes()
        sizes = await asyncio.to_thread(room, self._database.path)
        since = (await self.freshness()).stale_as_of
        is_away = since is not None and self._group.role.superseded is None
        away = {"store_away_since": since} if is_away else {}
        return {**_stats(self._group, engine_bytes, sizes), **self._log_facts, **away}

    async def close(self) -> None:
        """Store queued commits, write the tables, close the file and release its lock. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._copying is not None:
            self._copying.cancel()
            await asyncio.wait([self._copying])
        if self._leasing is not None:
            self._leasing.cancel()
            await asyncio.wait([self._leasing])
        await self._escalations.close()
        await self._queries.close()
        await self._group.close(self._lease.say_goodbye if self._lease is not None else None)
        if self._lease_thread is not None:
            await self._lease_thread.end()
        self._readers.shutdown(wait=False)
        self._file_threads.shutdown(wait=False)
        self._changed()

    # --- all of it ------------------------------------------------------------------------------

    async def freshness(self) -> ReadFreshness:
        lease = self._lease
        if lease is None:
            return ReadFreshness()
        for_s = lease.fresh_s
        if for_s <= 0.0 or self._group.role.superseded is not None:
            return ReadFreshness(stale_as_of=iso(lease.renewed_at), for_s=0.0)
        return ReadFreshness(for_s=for_s)

    async def backup_header(self, version: str) -> BackupHeader:
        return self._copies.backup_header(version)

    async def copied_rows(self, after: int, through: int) -> CopiedRows:
        return await self._copies.copied_rows(after, through)

    async def prune(self, prune: Prune) -> Pruned:
        pruned = await self.pruner.prune(prune)
        await self._with_files(self.attachments.remove, pruned.gone)
        return pruned

    # --- lookups of jobs ------------------------------------------------------------------------

    async def head(self, session_id: str) -> Head | None:
        head = self.index.heads.get(session_id)
        if head is None:
            head = await self._group.run_in_writer(self._read_head, session_id)
        return head

    async def entry(self, feed_offset: int) -> Entry:
        recent = self.recent(feed_offset)
        if recent is not None:
            return recent
        found = await self.read(reads.entries_at, [feed_offset])
        if feed_offset not in found:
            raise DataError(f"entry {feed_offset} of the feed is not there")
        return found[feed_offset]

    async def hash_at(self, head: Head, seq: int) -> tuple[int, bytes] | None:
        """Feed offset and hash of a session's entry."""
        return await self.read(reads.hash_at, head.session_id, seq, head.created_offset)

    async def seq_at(self, session_id: str, feed_offset: int) -> int:
        """Seq of a session's last entry up to that feed offset, 0 if there is none."""
        head = await self._require_head(session_id)
        return await self.read(reads.seq_at, session_id, head.created_offset, feed_offset)

    async def operation(self, operation_id: str) -> int | None:
        if self.index.operations.is_complete:
            return None
        return await self.read(reads.operation_offset, operation_id)

    # --- inside ---------------------------------------------------------------------------------

    def _read_head(self, session_id: str) -> Head | None:
        return read_head(self._database.writers_reader, self.index, session_id, self._clock.now())

    async def _quiet_head(self, session_id: str) -> Head:
        """Return the session's head once no write of it is in flight."""
        while True:
            head = await self._require_head(session_id)
            if not self._group.is_claimed(session_id):
                return head
            await self._group.settled(session_id)

    async def _loaded(
        self,
        head: Head,
        epoch: int,
        operation_id: str | None = None,
        key: tuple[str, str] | None = None,
        known: tuple[int, bytes] | None = None,
    ) -> Loaded:
        session_id, is_known = head.session_id, known == head.last
        offsets = tuple(head.tail) if not is_known else ()
        tail, missing = self._group.recent.split(offsets)
        bodies = self._chain.bodies
        checkpoint = None
        earlier: dict[int, str] = {}
        named: dict[int, Entry] = {}
        if not (missing or is_known):
            checkpoint = self._group.checkpoints.whole(head, bodies)
        if missing or (head.checkpoint_offset and checkpoint is None and not is_known):
            find = partial(checkpoint_of, head=head, missing=missing, bodies=bodies)
            checkpoint, earlier, named = await self._reading(find, session_id)
        tail |= {offset: named[offset] for offset in missing}
        return Loaded(
            epoch=epoch,
            checkpoint=checkpoint,
            checkpoint_offset=head.checkpoint_offset or None,
            pieces=earlier,
            entries=tuple(tail[offset] for offset in offsets),
            referenced=named,
            chain_key=self._chain.of(head),
            keys=ring.session_keys(session_id) if (ring := self._chain.ring) is not None else None,
            known_operation=(
                await self.known_operation(operation_id) if operation_id is not None else None
            ),
            known_key=await self.known_key(session_id, *key) if key is not None else None,
            has_older_keys=head.has_keys,
            claims=head.claims,
            disabled=self.index.people.disabled,
            is_known=is_known,
        )


def _stats(group: GroupCommit, engine_bytes: int, sizes: Mapping[str, int]) -> dict[str, Any]:
    index, stopped = group.index, group.broken or group.role.superseded
    return {
        "feed_offset": index.head_offset,
        "projected_offset": group.projector.projected_offset,
        **sizes,
        "engine_bytes": engine_bytes,
        "log_bytes": group.database.log_bytes,
        **group.latency.percentiles(),
        "failing_since": group.failing_since.isoformat() if group.failing_since else None,
        "failure": stopped.message if stopped is not None else group.failure,
        "counts": index.counts(),
        "waiting_held_since": iso_or_none(index.waiting_held_since()),
    }


def _check_shape(flush: Flush) -> None:
    """Assert that the entries are numbered as a correct actor sends them."""
    for number, entry in enumerate(flush.entries, start=flush.first_seq):
        assert entry.session_id == flush.session_id
        assert entry.seq == number
