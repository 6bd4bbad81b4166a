"""The open database with its log of commits: one writer connection and cursors for readers, opened and closed here.

Every method blocks; the writer's are called in one thread (the ledger's writer), `reading` in any.

Invariants: S-52 (the head mark is checked before anything is written), S-65.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import duckdb

from helmr.errors import DataError, LedgerBehind, LedgerDamaged, LogNewer, StoreUnavailable
from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.log import merging, snapshots
from helmr_runtime.ledger.log.commit_log import CommitLog
from helmr_runtime.ledger.log.file_store import file_log
from helmr_runtime.ledger.log.files import (
    LOCK_SUFFIX,
    LOG_SUFFIX,
    MARK_SUFFIX,
    FileLock,
    HeadMark,
    HeadPosition,
    check_is_database,
    exists,
    position_of,
    sync_what_is_left,
)
from helmr_runtime.ledger.log.merging import EngineLog, Merging, check_mark, entry_hash
from helmr_runtime.ledger.log.object_log import ObjectLog
from helmr_runtime.ledger.log.snapshots import Cache
from helmr_runtime.ledger.tables.appends import Appends, append
from helmr_runtime.ledger.tables.engine import (
    ENGINE_ERROR,
    Connection,
    OpenBody,
    Reader,
    first_row,
    in_the_clear,
)
from helmr_runtime.ledger.tables.reads import entries_at
from helmr_runtime.ledger.tables.schema import SCHEMA, make, schema_of, sign

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0
"""How long closing waits for an interrupted query or read to leave the engine."""
INTERRUPT_EVERY_S = 0.05


class Cursors:
    """The cursors of reading threads, and which are at work: the engine closes nothing that is busy."""

    def __init__(self) -> None:
        self._mine = threading.local()
        self._cursors: set[Connection] = set()
        self._changed = threading.Condition()
        self.busy_count = 0
        self._is_closing = False

    @contextmanager
    def cursor(self, make: Callable[[], Connection]) -> Iterator[Connection]:
        """This thread's cursor, made if it has none that is open."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closing)
            self.busy_count += 1
        try:
            cursor: Connection | None = getattr(self._mine, "cursor", None)
            if cursor is None or cursor not in self._cursors:
                cursor = self._mine.cursor = make()
                self._cursors.add(cursor)
            yield cursor
        finally:
            with self._changed:
                self.busy_count -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """End what reads, and close every cursor. One that can't be interrupted in time is left to its thread."""
        with self._changed:
            self._is_closing = True
            gives_up_at_s = time.monotonic() + CLOSE_TIMEOUT_S
            has_left = not self.busy_count
            while not has_left and time.monotonic() < gives_up_at_s:
                # Again and again: what is interrupted before it has begun in the engine is not.
                for cursor in tuple(self._cursors):
                    cursor.interrupt()
                has_left = self._changed.wait_for(lambda: not self.busy_count, INTERRUPT_EVERY_S)
            cursors, self._cursors = self._cursors, set()
            if has_left:
                for cursor in cursors:
                    cursor.close()
            else:
                logger.warning("a read that can't be interrupted still holds the ledger's file")
            self._is_closing = False
            self._changed.notify_all()


T = TypeVar("T")

_UNITS = {"MB": 10**6, "GB": 10**9}

SPILL_MAX = "1GB"
"""Most that the engine may write beside the file when memory is short; a query can't fill the disk."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits on what the database takes of the machine."""

    memory_limit: str = "1GB"
    wal_size: str = "16MB"
    """The engine checkpoints its own log into the file at this size."""
    threads: int = 1
    """The engine's own workers would run a query at full priority, whatever that of the thread that asked."""

    @property
    def query_memory_bytes(self) -> int:
        """Memory limit of a query: half of the total, so the writer and short reads always find room."""
        number, unit = self.memory_limit[:-2], self.memory_limit[-2:]
        return int(float(number) * _UNITS[unit]) // 2


class Database:
    """One ledger file, held by this process.

    Args:
        path: The file.
        settings: What the engine may use.
        open_body: Opens the stored bodies of what is read.
        shared: The log, if other machines reach it: the file is a cache of it.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        open_body: OpenBody = in_the_clear,
        shared: ObjectLog | None = None,
    ) -> None:
        self.path = path
        self._settings = settings
        self._open_body = open_body
        self._lock = FileLock(path.with_name(path.name + LOCK_SUFFIX))
        self.mark = HeadMark(path.with_name(path.name + MARK_SUFFIX))
        self.cache = Cache(path, shared) if shared is not None else None
        if shared is None:
            self._log = file_log(path.with_name(path.name + LOG_SUFFIX))
        else:
            self._log = CommitLog(shared, shared.objects.name)
        self._merging = Merging(self._log, self._settle)
        self._engine_log = EngineLog(path)
        self._connection: Connection | None = None
        self._readers = Cursors()
        self._query_connection: Connection | None = None
        self._query_lock = threading.Lock()
        self._left_open: Connection | None = None
        """What could not be closed because of a query that does not leave."""

    @property
    def writer(self) -> Connection:
        """The writer's connection.

        Raises:
            StoreUnavailable: The file could not be reopened after the engine failed.
        """
        if self._connection is None:
            raise StoreUnavailable("the ledger's file is not open")
        return self._connection

    @property
    def writers_reader(self) -> Reader:
        """Reads on the writer's connection, in the writer's thread; raises as `writer` does."""
        return Reader(self.writer, self._open_body)

    def open(
        self,
        check: Callable[[Connection], None] = lambda _: None,
        carry_over: Callable[[], None] | None = None,
    ) -> None:
        """Lock, connect, check the head mark, and have `check` look at the file as it is.

        Args:
            check: Raises if it is not to be opened.
            carry_over: Makes a file of an earlier schema, which is closed meanwhile, one of today's.

        Raises:
            RuntimeHeld: Another runtime holds the file.
            DataError: The file is not a database, or a newer Helmr's, or an earlier one's and nothing carries it over.
            LedgerBehind: The file holds less than the head mark says, or its log belongs to another.
            LedgerDamaged: The log of commits is damaged, or the engine's own.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            mark = self.mark.read()
            if self.cache is None:
                self._open_own(mark)
            else:
                self._open_cache(self.cache)
            if self._log.has_unmerged:
                self.merge()
            check_mark(self.path, self.writer, mark, may_lack=self.cache is not None)
            mark = max(mark, self._merging.head, key=lambda found: found.feed_offset)
            self._merging.head = mark
            check(self.writer)
            self._bring_to_schema(carry_over)
            sign(self.writer)
            self._merging.own_log(self.writer)
            # The mark exists from now on: writing it in place needs no room on a full disk.
            self.mark.write(mark)
            self.mark.sync()
            if self.cache is None:
                merging.end(self.path)
        except BaseException:
            self.close()
            raise

    def _open_own(self, mark: HeadPosition) -> None:
        snapshots.require_none(self.path)
        merging.begin(self.path, mark)
        check_is_database(self.path)
        self._connect()
        self._merging.open_log(self.writer)

    def _open_cache(self, cache: Cache) -> None:
        """Open the file, or else one that is made from the newest snapshot; what followed is read from the log."""
        cache.claim()
        if exists(self.path):
            try:
                check_is_database(self.path)
                self._connect_cache()
            except (ENGINE_ERROR, DataError) as error:
                if isinstance(error, DataError) and not _is_stale(error):
                    raise
                said = str(error).splitlines()[0]
                logger.warning(
                    "%s is made again from %s: %s", self.path, cache.log.objects.name, said
                )
                self._disconnect()
            else:
                return
        cache.fetch()
        self._connect_cache()

    def _connect_cache(self) -> None:
        self._connect()
        if schema_of(self.writer) == 0:
            make(self.writer)
        # Before anything is taken from the log: the file says from then on how far it has it.
        self._merging.own_log(self.writer)
        self._merging.open_log(self.writer)

    def _bring_to_schema(self, carry_over: Callable[[], None] | None) -> None:
        """Make today's tables, or have the file carried over to them; everything committed stands in it."""
        schema = schema_of(self.writer)
        if schema == 0:
            make(self.writer)
        elif schema < SCHEMA:
            if carry_over is None:
                raise DataError(f"{self.path} has schema {schema}, and this opens {SCHEMA}")
            self.writer.execute("CHECKPOINT")
            self._disconnect()
            if self.cache is None:
                self._log.close()
            carry_over()
            self._connect()
            self._merging.open_log(self.writer)

    def require_open(self) -> None:
        """Connect again if an earlier `heal` could not."""
        if self._connection is None:
            self.heal()

    # --- commits ----------------------------------------------------------------------------------
    # `commit` may be called in a thread of its own, while the writer's does anything but `open` and `close`.

    def is_behind(self, session_id: str | None = None) -> bool:
        """Readers don't see everything that was committed, of that session or any; to be asked from any thread."""
        return self._log.has_unmerged if session_id is None else self._log.lacks(session_id)

    @property
    def is_shared(self) -> bool:
        """Other machines reach the log: what it takes may be long away."""
        return self.cache is not None

    def end_waiting(self) -> None:
        """End a commit that waits for a store that is away: nothing is committed any more."""
        if self.cache is not None:
            self.cache.log.end()

    def numbers(self) -> dict[str, int]:
        """Return the numbers in `meta`. Call in the writer's thread."""
        return dict(self.writer.execute("SELECT name, number FROM meta").fetchall())

    @property
    def log_number(self) -> int:
        """Number of the last record; callable from any thread."""
        return self._log.number

    @property
    def is_log_full(self) -> bool:
        """Nothing more can be committed before `merge`; to be asked from any thread."""
        return self._log.is_full

    @property
    def merged_offset(self) -> int:
        """Feed offset of the last entry that readers see for sure; to be asked from any thread."""
        return self._merging.head.feed_offset

    @property
    def log_bytes(self) -> int:
        """Size of the commits that the database may lack; callable from any thread."""
        return self._log.unmerged_bytes

    def read_on(self) -> list[tuple[int, Appends]]:
        """Read the records that another runtime committed after our last one. Call in the writer's thread.

        Raises:
            LedgerBehind: They are no longer in the log; its facts hold `trimmed`.
            LedgerDamaged, LogNewer, StoreUnavailable: It can't be read.
        """
        return self._log.read_on()

    def take_in(self, records: Sequence[tuple[int, Appends]]) -> dict[int, Entry]:
        """Take such records into the database; their entries by feed offset, opened. In the writer's thread."""
        self._log.take_in(records)
        self.merge()
        offsets = [
            entry.feed_offset
            for _, appends in records
            for entry in appends.entries
            if entry.feed_offset is not None
        ]
        return entries_at(self.writers_reader, offsets)

    def commit(self, appends: Appends) -> None:
        """Bring it to disk, in the log; readers see it after the next transaction or `merge`.

        Raises:
            OSError: It is not on disk.
        """
        self._log.append(appends)
        if appends.entries:
            self._write_mark(appends.entries[-1])

    def store(self, appends: Appends) -> None:
        """Bring it to disk, in the database, while nothing else commits.

        That is for what removes sessions: no log can say that of what it holds.

        Raises:
            duckdb.Error, OSError, StoreUnavailable: It is not on disk.
        """
        head = position_of(appends.entries[-1])  # the entry that says what was removed
        self.require_open()
        try:
            with self.transaction() as connection:
                append(connection, appends)
        except ENGINE_ERROR:
            # As in `merge`.
            self.heal()
            if entry_hash(self.writer, head.feed_offset) != head.hash:
                raise
        self._merging.head = head
        self._write_mark(appends.entries[-1])

    def merge(self) -> None:
        """Make everything committed before the call visible to readers.

        Raises:
            duckdb.Error, StoreUnavailable: The merge failed; nothing is lost.
        """
        if not self._log.has_unmerged:
            return
        number = self._log.number
        self.require_open()
        try:
            with self.transaction():
                pass
        except ENGINE_ERROR:
            # Also a commit whose automatic checkpoint failed raises, though it is on disk.
            self.heal()
            if self._merging.number < number:
                raise

    def _write_mark(self, last: Entry) -> None:
        """Name the last durable entry. A mark that stays behind only notices less."""
        try:
            self.mark.note_last(last)
        except OSError as error:
            logger.warning("the head mark can't be written: %s", error)

    def _settle(self) -> None:
        """Bring to disk what shows, or makes up for, the loss of records that are written over from now on."""
        self._engine_log.sync_name()
        self.sync_mark()

    def sync_mark(self) -> None:
        """Bring the head mark to disk; to be called from any thread."""
        try:
            self.mark.sync()
        except OSError as error:
            logger.warning("the head mark can't be synced: %s", error)

    def heal(self) -> None:
        """Connect again if the engine became unusable; the lock is kept.

        Raises:
            LedgerBehind: What was acknowledged is not there any more.
        """
        if self._connection is None or not self._answers():
            self._disconnect()
            self._connect()
        self._merging.look(self.writer)
        check_mark(self.path, self.writer, self._merging.head, may_lack=self.cache is not None)

    def _answers(self) -> bool:
        try:
            first_row(self.writer.execute("SELECT 1"))
        except ENGINE_ERROR:
            return False
        return True

    def copy_aside(self) -> int:
        """Copy the file beside it, for a snapshot; the number of the last record that the copy has.

        In the writer's thread. Commits go on meanwhile; reads of what they store wait.

        Raises:
            duckdb.Error, StoreUnavailable, OSError: There is no copy.
        """
        assert self.cache is not None
        self.require_open()
        with self.transaction():
            pass
        number = self._merging.number
        self.writer.execute("CHECKPOINT")
        snapshots.copy_file(self.path, self.cache.aside)
        return number

    def projected_offset(self) -> int:
        """Feed offset of the last entry that the tables show."""
        row = first_row(
            self.writer.execute("SELECT number FROM meta WHERE name = 'projected_offset'")
        )
        return int(row[0]) if row is not None else 0

    def set_number(self, name: str, number: int) -> None:
        """Store a number in `meta`. Call in the writer's thread."""
        self.require_open()
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO meta VALUES ($1, $2) ON CONFLICT DO UPDATE SET number = excluded.number",
                [name, number],
            )

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction of the writer, which begins with all that was committed; on disk when the block has ended.

        An error in the block rolls back. An error of the engine says nothing about whether it is on disk: `heal`
        follows, which finds out.
        """
        connection = self.writer
        connection.begin()
        try:
            self._merging.move(connection)
            yield connection
        except BaseException:
            _rollback(connection)
            raise
        try:
            connection.commit()
        except ENGINE_ERROR:
            _rollback(connection)
            raise
        self._engine_log.committed()
        self._merging.moved()

    @contextmanager
    def taken_back(self) -> Iterator[Connection]:
        """Open a transaction that is always rolled back."""
        connection = self.writer
        connection.begin()
        try:
            self._merging.move(connection)
            yield connection
        finally:
            _rollback(connection)

    def reading(self, read: Callable[[Reader], T]) -> T:
        """Run a short read on this thread's own cursor."""
        with self._readers.cursor(lambda: self.writer.cursor()) as cursor:
            return read(Reader(cursor, self._open_body))

    def querying(self, query: Callable[[Connection], T]) -> T:
        """Run a query of someone's own, for as long as it takes, on the connection that is kept for them.

        One at a time. Its sorts and hash tables are limited apart from all others; `interrupt_query` ends it.

        Raises:
            StoreUnavailable: The file is not open.
        """
        with self._query_lock:
            if self._query_connection is None:
                raise StoreUnavailable("the ledger's file is not open")
            try:
                return query(self._query_connection)
            finally:
                if self._left_open is not None:
                    self._left_open.close()

    @property
    def reading_count(self) -> int:
        """Number of threads that read now."""
        return self._readers.busy_count

    def interrupt_query(self) -> None:
        """End the query that runs, if one does, where the engine next looks; callable from any thread."""
        connection = self._query_connection
        if connection is not None:
            connection.interrupt()

    @property
    def query_memory_bytes(self) -> int:
        """Memory limit of a query."""
        return self._settings.query_memory_bytes

    def close(self) -> None:
        """Close and let go of the lock. The database checkpoints itself."""
        try:
            self._disconnect()
            self._log.close()
            self.mark.close()
        finally:
            self._lock.release()

    def _connect(self) -> None:
        """Connect; the engine's log may have to be cut before."""
        if self.cache is not None:
            sync_what_is_left(self.path)
            self._connect_as_it_is()
            return
        self._engine_log.put_back()
        sync_what_is_left(self.path)
        try:
            self._connect_as_it_is()
        except ENGINE_ERROR as error:
            if not self._engine_log.mend(error, self.mark.read()):
                raise
            self._connect_as_it_is()

    def _connect_as_it_is(self) -> None:
        connection = duckdb.connect(
            str(self.path),
            config={
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "memory_limit": self._settings.memory_limit,
                "wal_autocheckpoint": self._settings.wal_size,
                "max_temp_directory_size": SPILL_MAX,
                "python_enable_replacements": "false",
                "threads": str(self._settings.threads),
            },
        )
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        queries = connection.cursor()
        # Before the settings are locked: this one is the connection's own.
        queries.execute(f"SET operator_memory_limit = '{self._settings.query_memory_bytes}B'")
        connection.execute("SET lock_configuration = true")
        self._query_connection = queries
        self._connection = connection

    def _disconnect(self) -> None:
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        # One cursor that is left keeps the instance, and anyone who connects again gets the same one: after a fatal
        # error one that refuses everything.
        self._readers.close()
        self._left_open = connection
        if self._end_queries():
            with suppress(ENGINE_ERROR):  # a read that could not be ended; its caller has the error
                connection.close()
            self._left_open = None

    def _end_queries(self) -> bool:
        """Close the queries' connection, which holds the instance open as readers' cursors do; False if one is busy.

        The engine closes nothing that is busy: anyone who runs the query does it then.
        """
        self.interrupt_query()
        queries, self._query_connection = self._query_connection, None
        if not self._query_lock.acquire(timeout=CLOSE_TIMEOUT_S):
            logger.warning(
                "a query that can't be interrupted still runs; its file closes when it ends"
            )
            return False
        try:
            if queries is not None:
                queries.close()
        finally:
            self._query_lock.release()
        return True


def _is_stale(error: DataError) -> bool:
    """The file is no database, or the log was trimmed past its end: the store has what it lacks."""
    return (
        not isinstance(error, LedgerBehind | LedgerDamaged | LogNewer) or "trimmed" in error.facts
    )


def _rollback(connection: Connection) -> None:
    try:
        connection.rollback()
    except ENGINE_ERROR:
        # The engine has rolled back, or is beyond it: then the ledger reopens the file.
        return
