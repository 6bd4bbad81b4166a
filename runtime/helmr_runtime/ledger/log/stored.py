"""Ledger files that no runtime has open: read, and left as they are.

Every method blocks. A file is read under its own lock, so that no ledger opens it meanwhile, with DuckDB's read-only
mode, which replays a write-ahead log in memory and writes neither.

Invariants: S-66, S-67.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from helmr.errors import DataError, LedgerDamaged, UsageError
from helmr_runtime.core.session_file import BackupHeader
from helmr_runtime.ledger.log.commit_log import LOG_ID, LOG_NUMBER
from helmr_runtime.ledger.log.file_store import read_to_damage
from helmr_runtime.ledger.log.files import (
    LOCK_SUFFIX,
    LOG_SUFFIX,
    MARK_SUFFIX,
    HeadMark,
    HeadPosition,
    check_is_database,
    held,
)
from helmr_runtime.ledger.log.merging import FOLLOWED, EngineLog
from helmr_runtime.ledger.log.rebuild import (
    ENGINE,
    KNOWN_GAPS,
    CheckpointRow,
    LedgerKeys,
    Page,
    Unsaid,
)
from helmr_runtime.ledger.log.snapshots import require_none
from helmr_runtime.ledger.tables import engine
from helmr_runtime.ledger.tables.appends import (
    CHECKPOINT_COLUMNS,
    ENTRY_COLUMNS,
    Appends,
    Table,
    checkpoint_rows,
    entry_rows,
)
from helmr_runtime.ledger.tables.engine import Connection, Reader, in_the_clear
from helmr_runtime.ledger.tables.reads import copied_rows
from helmr_runtime.ledger.tables.recovery import CHUNK, ENCRYPTS
from helmr_runtime.ledger.tables.schema import (
    SCHEMA,
    check_ring,
    known_keys,
    make,
    too_new,
    use_newer,
    written_by,
)
from helmr_runtime.ports.ledger import CopiedRows

_ENTRIES = """
SELECT feed_offset, session, seq, epoch_us(recorded_at), kind, run, op, principal, body, hash
FROM stored.entries WHERE feed_offset > $1 AND feed_offset <= $2 ORDER BY feed_offset
"""
_NEXT = "SELECT min(feed_offset) FROM stored.entries WHERE feed_offset > $1 AND feed_offset <= $2"
_CHECKPOINTS = """
SELECT DISTINCT session, feed_offset FROM stored.checkpoints WHERE feed_offset > $1 AND feed_offset <= $2
"""
_CHECKPOINT_ROWS = """
SELECT feed_offset, session, seq, body FROM stored.checkpoints WHERE feed_offset > $1 AND feed_offset <= $2
ORDER BY feed_offset, rowid
"""

LOGGED_ROWID = 2**60
"""Of the first row that only a log has: it stands behind all that the file has."""


class StoredLedger:
    """A ledger's file, attached read-only as `stored` to a scratch database of the same schema."""

    def __init__(self, path: Path, connection: Connection, log_damage: DataError | None) -> None:
        self.path = path
        self.connection = connection
        self.log_damage = log_damage
        """What is wrong with the log of commits, or the engine's: all that it has from there on lacks here."""
        meta = connection.execute("SELECT name, number FROM stored.meta").fetchall()
        self.meta: dict[str, int] = dict(meta)
        found = engine.first_row(connection.execute("SELECT max(feed_offset) FROM stored.entries"))
        self.head_offset = int(found[0]) if found is not None and found[0] is not None else 0
        self.file = connection.cursor()
        """Names without a database mean the file's, on this one."""
        self.file.execute("USE stored")

    @property
    def schema(self) -> int:
        """Schema number of its tables."""
        return self.meta["schema"]

    @property
    def projected_offset(self) -> int:
        """Feed offset of the last entry that the tables show."""
        return self.meta["projected_offset"]

    @property
    def encrypts(self) -> bool:
        """True if bodies of new entries are sealed."""
        return bool(self.meta.get(ENCRYPTS, 0))

    @property
    def known_gaps(self) -> int:
        """Number of entries missing because an operator dropped their `sessions.pruned`."""
        return self.meta.get(KNOWN_GAPS, 0)

    def require_keys(self, keys: LedgerKeys) -> None:
        """Return unless these master keys are another ledger's; raises MasterKeyMissing."""
        if keys.ring is not None:
            check_ring(self.file, keys.ring, self.path)

    def header(self, version: str) -> BackupHeader:
        """Build the header of its backup."""
        return BackupHeader(
            helmr=version,
            schema=self.meta["schema"],
            through=self.head_offset,
            openings=self.meta["openings"],
            encrypts=self.encrypts,
        )

    def copied_rows(self, after: int, through: int) -> CopiedRows:
        """A page of a backup."""
        return copied_rows(Reader(self.file, in_the_clear), after, through)

    def has_table(self, name: str) -> bool:
        """It has that table."""
        query = "SELECT 1 FROM duckdb_tables() WHERE database_name = 'stored' AND table_name = $1"
        return bool(self.connection.execute(query, [name]).fetchall())

    @property
    def known(self) -> Unsaid:
        """Facts that its entries don't hold."""
        return Unsaid(self.meta, known_keys(self.file))

    def pages(self) -> Iterator[Page]:
        """All of its entries, each page with the checkpoints that cover them."""
        for chunk in self.entries():
            yield chunk, self.checkpoints(chunk[0][0] - 1, chunk[-1][0])

    def entries(self, *, after: int = 0, through: int | None = None) -> Iterator[list[engine.Row]]:
        """The rows of the entries behind a feed offset, up to another, in order, some at a time."""
        end = self.head_offset if through is None else through
        while after < end:
            (first,) = self._all(_NEXT, after, end)[0]
            if first is None:
                return
            bound = min(end, int(first) - 1 + CHUNK)
            yield self._all(_ENTRIES, after, bound)
            after = bound

    def checkpointed(self, after: int, through: int) -> set[tuple[UUID, int]]:
        """Session and feed offset of the checkpoints in a range of the feed."""
        return {(session, offset) for session, offset in self._all(_CHECKPOINTS, after, through)}

    def checkpoints(self, after: int, through: int) -> list[CheckpointRow]:
        """The checkpoints in a range of the feed, in the order in which they were stored."""
        return self._all(_CHECKPOINT_ROWS, after, through)

    def count(self) -> int:
        """Count the entries."""
        return int(self._all("SELECT count(*) FROM stored.entries")[0][0])

    def read_mark(self) -> HeadPosition:
        """The head mark beside the file."""
        return HeadMark(self.path.with_name(self.path.name + MARK_SUFFIX)).read()

    def hash_at(self, feed_offset: int) -> bytes | None:
        """The hash of the entry at a feed offset."""
        found = engine.first_row(
            self.connection.execute(
                "SELECT hash FROM stored.entries WHERE feed_offset = $1", [feed_offset]
            )
        )
        return bytes(found[0]) if found is not None else None

    def _all(self, query: str, *bounds: int) -> list[Any]:
        return self.connection.execute(query, list(bounds)).fetchall()


@contextmanager
def stored_ledger(path: Path, *, to_damage: bool = False) -> Iterator[StoredLedger]:
    """A ledger's file, which is read and not written. Of an earlier schema's the entries are read, the tables are not.

    Args:
        path: The file.
        to_damage: Of a damaged log take what stands before the damage.

    Raises:
        RuntimeHeld: A runtime has it open.
        UsageError: There is none, a newer Helmr wrote it, or it is a cache of a log in a store.
        LedgerDamaged: The engine can't read it, here or later, or one of its logs is damaged.
        LedgerBehind: Its log of commits is not its own, or of a later state of it.
        DataError: It is not a database.
    """
    if not path.is_file():
        raise UsageError(f"{path.parent} holds no ledger", hint="Name its --data-dir.")
    require_none(path)
    check_is_database(path)
    with (
        held(path.with_name(path.name + LOCK_SUFFIX)),
        read_only(path, to_damage=to_damage) as ledger,
    ):
        yield ledger


@contextmanager
def read_only(path: Path, *, to_damage: bool = False) -> Iterator[StoredLedger]:
    """Open a stored ledger whose file this process already holds."""
    connection = duckdb.connect(":memory:", config={**ENGINE})
    try:
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        make(connection)
        with translated(path), attached(connection, path) as log_damage:
            if log_damage is not None and not to_damage:
                raise log_damage
            ledger = StoredLedger(path, connection, log_damage)
            _check_schema(ledger)
            yield ledger
    finally:
        connection.close()


@contextmanager
def attached(connection: Connection, path: Path) -> Iterator[DataError | None]:
    """Attach the file as `stored` with the commits that only its log has; yields the damage of either log, if any.

    A torn tail of the engine's log is skipped; a ledger that opens cuts it off.
    """
    engine_log = EngineLog(path)
    engine_log.put_back()
    with ExitStack() as stack:
        try:
            _attach(connection, path, "stored")
        except duckdb.Error as error:
            place = engine_log.bad_place(error)
            if place is None:
                raise
            stack.enter_context(engine_log.without_tail(place))
            _attach(connection, path, "stored")
            damage = _add_log(connection, path)
            if not engine_log.is_torn(place, error):
                damage = engine_log.damaged(place, FOLLOWED)
            elif damage is not None:
                damage = engine_log.damaged(place, damage.message)
        else:
            damage = _add_log(connection, path)
        yield damage


def _attach(connection: Connection, path: Path, name: str) -> None:
    quoted = str(path).replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS {name} (READ_ONLY)")


def _add_log(connection: Connection, path: Path) -> DataError | None:
    meta = dict(connection.execute("SELECT name, number FROM stored.meta").fetchall())
    log = path.with_name(path.name + LOG_SUFFIX)
    appends, damage = read_to_damage(log, meta.get(LOG_ID, 0), meta.get(LOG_NUMBER, 0))
    if not appends.is_empty:
        connection.execute("DETACH stored")
        _attach(connection, path, "file")
        connection.execute("ATTACH ':memory:' AS stored")
        _lay_over(connection, appends)
    return damage


def _lay_over(connection: Connection, appends: Appends) -> None:
    """Make views in `stored` of the tables in `file` and of rows behind theirs."""
    logged = {
        "entries": (ENTRY_COLUMNS, entry_rows(appends.entries)),
        "checkpoints": (CHECKPOINT_COLUMNS, checkpoint_rows(appends.checkpoints)),
    }
    for name, (columns, added) in logged.items():
        connection.execute(f"CREATE TABLE stored.logged_{name} AS FROM file.{name} LIMIT 0")
        Table(f"stored.logged_{name}", columns).execute(connection, added)
        connection.execute(
            f"CREATE VIEW stored.{name} AS SELECT rowid AS rowid, * FROM file.{name} "  # noqa: S608 - names of our own
            f"UNION ALL SELECT {LOGGED_ROWID} + rowid, * FROM stored.logged_{name}"
        )
    tables = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'file'"
    for (name,) in connection.execute(tables).fetchall():
        if name not in logged:
            connection.execute(f"CREATE VIEW stored.{name} AS FROM file.{name}")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """The engine's errors about a ledger's file as this system's own.

    Raises:
        StoreUnavailable: There is no room.
        LedgerDamaged: Anything else.
    """
    try:
        yield
    except duckdb.Error as error:
        if (full := engine.no_room(path, error)) is not None:
            raise full from error
        raise LedgerDamaged(
            f"{path} can't be read: {str(error).splitlines()[0]}",
            hint="Keep it as it is. `helmr repair` mends what a loss of power does to a block, if every entry proves "
            "whole; if only checkpoints can't be read, `helmr repair --without-checkpoints` does. Else go back to a "
            "backup, or to a copy of the data directory that was made while the runtime was stopped.",
        ) from error


def _check_schema(ledger: StoredLedger) -> None:
    schema = ledger.meta.get("schema")
    if schema is None:
        raise LedgerDamaged(f"{ledger.path} does not say which schema it has")
    if schema > SCHEMA:
        writer = written_by(ledger.file)
        raise UsageError(f"{ledger.path} {too_new(schema, writer)}", hint=use_newer(writer))
