"""Ledger files that no runtime has open: one read and left as it is, one written from rows that stand elsewhere.

Every method blocks. A file is read under its own lock, so that no ledger opens it meanwhile, with DuckDB's read-only
mode, which replays a write-ahead log in memory and writes neither.

Invariants: S-66, S-67.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import duckdb

from helmr.errors import DataError, LedgerDamaged, StoreUnavailable, UsageError
from helmr_runtime.core.backup_file import BackupHeader
from helmr_runtime.core.entries import GENESIS
from helmr_runtime.ledger.bodies import Bodies
from helmr_runtime.ledger.duck import rows
from helmr_runtime.ledger.duck.appends import (
    CHECKPOINT_COLUMNS,
    CHECKPOINTS,
    ENTRY_COLUMNS,
    Appends,
    Table,
    checkpoint_rows,
    entry_rows,
)
from helmr_runtime.ledger.duck.batch_statement import BatchStatement
from helmr_runtime.ledger.duck.commit_log import LOG_ID, LOG_NUMBER, read_to_damage
from helmr_runtime.ledger.duck.copying import copied_rows
from helmr_runtime.ledger.duck.database import Connection, Reader, in_the_clear
from helmr_runtime.ledger.duck.engine_log import FOLLOWED, EngineLog
from helmr_runtime.ledger.duck.files import (
    LOCK_SUFFIX,
    LOG_SUFFIX,
    MARK_SUFFIX,
    HeadMark,
    HeadPosition,
    check_is_database,
    held,
    sync_directory,
)
from helmr_runtime.ledger.duck.known_keys import check_ring, remember
from helmr_runtime.ledger.duck.recovery import CHUNK, ENCRYPTS
from helmr_runtime.ledger.duck.refold import Refold
from helmr_runtime.ledger.duck.schema import MIGRATIONS, migrate, too_new, use_newer, written_by
from helmr_runtime.ledger.duck.table_writer import project
from helmr_runtime.ports.copies import CopiedRows
from helmr_runtime.security.keys import KeyRing

TABLES_EVERY = 100_000
"""Entries folded between two writes of the tables: rows are written once where a session's entries stand together, and
those that wait for it take some 200 MB at most."""

_CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "1GB",
    "python_enable_replacements": "false",
    "threads": "2",
}
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
_INSERT_ENTRIES = BatchStatement(
    "INSERT INTO entries SELECT * REPLACE (make_timestamptz(recorded_us) AS recorded_us) FROM ({rows})",
    ENTRY_COLUMNS.replace("recorded_at TIMESTAMPTZ", "recorded_us BIGINT"),
)

KNOWN_GAPS = "known_gaps"
"""The row of `meta` that says how many entries lack for good."""

LOGGED_ROWID = 2**60
"""Of the first row that only a log has: it stands behind all that the file has."""

_NO_ROOM = ("No space left on device", "Disk quota exceeded")
"""What the engine says of a full disk; it has no class for that."""

CheckpointRow = tuple[int, UUID, int, str]
"""Feed offset, session, seq, stored text."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What entries are opened with and chains are checked by.

    Args:
        ring: The master keys, if there are any.
    """

    ring: KeyRing | None

    @property
    def bodies(self) -> Bodies:
        """Opens sealed bodies."""
        return Bodies(self.ring)

    def open_body(self) -> rows.OpenBody:
        """Opens the bodies of entries."""
        bodies = self.bodies

        def open_body(stored: str, session_id: str, seq: int, kind: str) -> str:
            return bodies.open(stored, session_id=session_id, seq=seq, kind=kind)

        return open_body

    def chain_key(self, session_id: str, key_id: str | None) -> bytes | None:
        """The key of a session's chain; None for a chain that began without one."""
        if key_id is None:
            return None
        if self.ring is None:
            raise UsageError(
                f"the chain of {session_id} was made with master key {key_id!r}, and there are no keys here",
                hint="Give --keys FILE, or set HELMR_MASTER_KEYS.",
            )
        return self.ring.chain_key(session_id, key_id)


class StoredLedger:
    """A ledger's file, attached read-only as `stored` to a scratch database of the same schema."""

    def __init__(self, path: Path, connection: Connection, log_damage: DataError | None) -> None:
        self.path = path
        self.connection = connection
        self.log_damage = log_damage
        """What is wrong with the log of commits, or the engine's: all that it has from there on lacks here."""
        meta = connection.execute("SELECT name, number FROM stored.meta").fetchall()
        self.meta: dict[str, int] = dict(meta)
        found = rows.first_row(connection.execute("SELECT max(feed_offset) FROM stored.entries"))
        self.head_offset = int(found[0]) if found is not None and found[0] is not None else 0
        self.file = connection.cursor()
        """Names without a database mean the file's, on this one."""
        self.file.execute("USE stored")

    @property
    def schema(self) -> int:
        """That of its tables."""
        return self.meta["schema"]

    @property
    def projected_offset(self) -> int:
        """Feed offset of the last entry that the tables show."""
        return self.meta["projected_offset"]

    @property
    def encrypts(self) -> bool:
        """Whether bodies of new entries are sealed."""
        return bool(self.meta.get(ENCRYPTS, 0))

    @property
    def known_gaps(self) -> int:
        """How many entries lack that no `sessions.pruned` names: an operator had that one dropped."""
        return self.meta.get(KNOWN_GAPS, 0)

    def require_keys(self, keys: Keys) -> None:
        """Return unless these master keys are another ledger's; raises MasterKeyMissing."""
        if keys.ring is not None:
            check_ring(self.file, keys.ring, self.path)

    def header(self, version: str) -> BackupHeader:
        """What a backup of it begins with."""
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

    def entries(self, *, after: int = 0, through: int | None = None) -> Iterator[list[rows.Row]]:
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
        """How many entries there are."""
        return int(self._all("SELECT count(*) FROM stored.entries")[0][0])

    def read_mark(self) -> HeadPosition:
        """The head mark beside the file."""
        return HeadMark(self.path.with_name(self.path.name + MARK_SUFFIX)).read()

    def hash_at(self, feed_offset: int) -> bytes | None:
        """The hash of the entry at a feed offset."""
        found = rows.first_row(
            self.connection.execute(
                "SELECT hash FROM stored.entries WHERE feed_offset = $1", [feed_offset]
            )
        )
        return bytes(found[0]) if found is not None else None

    def _all(self, query: str, *bounds: int) -> list[Any]:
        return self.connection.execute(query, list(bounds)).fetchall()


@contextmanager
def stored_ledger(
    path: Path, *, to_damage: bool = False, takes_older: bool = False
) -> Iterator[StoredLedger]:
    """A ledger's file, which is read and not written.

    Args:
        path: The file.
        to_damage: Of a damaged log take what stands before the damage.
        takes_older: Also one that no Helmr of this schema has opened: its tables are not read, its entries are.

    Raises:
        RuntimeHeld: A runtime has it open.
        UsageError: There is none, or an older Helmr wrote it and none has opened it since.
        LedgerDamaged: The engine can't read it, here or later, or one of its logs is damaged.
        LedgerBehind: Its log of commits is not its own, or of a later state of it.
        DataError: It is no database.
    """
    if not path.is_file():
        raise UsageError(f"{path.parent} holds no ledger", hint="Name its --data-dir.")
    check_is_database(path)
    with held(path.with_name(path.name + LOCK_SUFFIX)):
        connection = duckdb.connect(":memory:", config={**_CONFIG})
        try:
            connection.execute("SET GLOBAL TimeZone = 'UTC'")
            migrate(connection)
            with translated(path), attached(connection, path) as log_damage:
                if log_damage is not None and not to_damage:
                    raise log_damage
                ledger = StoredLedger(path, connection, log_damage)
                _check_schema(ledger, takes_older=takes_older)
                yield ledger
        finally:
            connection.close()


@contextmanager
def attached(connection: Connection, path: Path) -> Iterator[DataError | None]:
    """Have the file as `stored`, with what only its log of commits has; what is wrong with either log.

    A torn tail of the engine's log is passed over, as a ledger that opens cuts it off.
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
        if any(sign in str(error) for sign in _NO_ROOM):
            raise StoreUnavailable(f"there is no room for {path}") from error
        raise LedgerDamaged(
            f"{path} can't be read: {str(error).splitlines()[0]}",
            hint="Keep it as it is. `helmr repair` mends what a loss of power does to a block, if every entry proves "
            "whole; if only checkpoints can't be read, `helmr repair --without-checkpoints` does. Else go back to a "
            "backup, or to a copy of the data directory that was made while the runtime was stopped.",
        ) from error


def _check_schema(ledger: StoredLedger, *, takes_older: bool) -> None:
    schema = ledger.meta.get("schema")
    if schema is None:
        raise LedgerDamaged(f"{ledger.path} does not say which schema it has")
    if schema < len(MIGRATIONS) and not takes_older:
        raise UsageError(
            f"{ledger.path} has schema {schema}, this Helmr reads {len(MIGRATIONS)}",
            hint="Start this runtime once on it: that brings the ledger to the new schema.",
        )
    if schema > len(MIGRATIONS):
        writer = written_by(ledger.file)
        raise UsageError(f"{ledger.path} {too_new(schema, writer)}", hint=use_newer(writer))


class NewLedger:
    """A ledger's file that is being written from rows: entries are checked and folded as they come.

    Made by `new_ledger`, which closes it; it is whole after `finish`.
    """

    def __init__(self, path: Path, connection: Connection, keys: Keys, now: datetime) -> None:
        self.path = path
        self.refold = Refold(keys.open_body(), keys.chain_key, now)
        self._ring = keys.ring
        self._fingerprints: Mapping[str, str] = {}
        self.checkpoints = 0
        self._connection = connection
        self._untabled = 0

    def add(self, entries: Sequence[rows.Row], checkpoints: Sequence[CheckpointRow]) -> None:
        """Take entries, and the checkpoints that cover them; raises as `Refold.add`, or that the keys are another's."""
        named = {(session, offset) for offset, session, _, _ in checkpoints}
        insert_rows(self._connection, entries, checkpoints)
        if not self.refold.entries and self._ring is not None:
            self._fingerprints = check_ring(self._connection, self._ring, self.path)
        self.refold.add(entries, named)
        self.checkpoints += len(checkpoints)
        self._untabled += len(entries)
        if self._untabled >= TABLES_EVERY:
            self._write_tables()

    def finish(
        self,
        header: BackupHeader,
        *,
        known: Mapping[str, str] = MappingProxyType({}),
        forgives_gaps: bool = False,
    ) -> None:
        """Write the tables and bring all of it to disk; afterwards the head mark names the last entry.

        Args:
            header: What entries do not say.
            known: Fingerprints of master keys that the ledger has known before.
            forgives_gaps: That entries lack which nobody has pruned is no damage, now and later.
        """
        self._write_tables()
        meta = {"openings": header.openings, ENCRYPTS: int(header.encrypts)}
        if forgives_gaps:
            index = self.refold.index
            meta[KNOWN_GAPS] = index.head_offset - self.refold.entries - index.pruned_entries
        for name, number in meta.items():
            self._connection.execute(
                "INSERT INTO meta VALUES ($1, $2) ON CONFLICT DO UPDATE SET number = excluded.number",
                [name, number],
            )
        remember(self._connection, {**known, **self._fingerprints})
        self._connection.execute("CHECKPOINT")
        self._connection.close()
        last = self.refold.index.head_offset
        mark = HeadMark(self.path.with_name(self.path.name + MARK_SUFFIX))
        mark.write(HeadPosition(last, self._last_hash if last else GENESIS))
        mark.close()
        sync_directory(self.path.parent)

    @property
    def _last_hash(self) -> bytes:
        last = self.refold.index.head_offset
        return next(h.last_hash for h in self.refold.index.heads.values() if h.last_offset == last)

    def _write_tables(self) -> None:
        self._untabled = 0
        self._connection.begin()
        project(self._connection, self.refold.tables())
        self._connection.commit()


@contextmanager
def new_ledger(path: Path, keys: Keys, now: datetime) -> Iterator[NewLedger]:
    """A ledger's file to be written; there is none yet."""
    with connected(path) as connection:
        path.chmod(0o600)
        migrate(connection)
        yield NewLedger(path, connection, keys, now)


@contextmanager
def connected(path: Path) -> Iterator[Connection]:
    """A file of the engine, to be written."""
    connection = duckdb.connect(str(path), config={**_CONFIG, "enable_external_access": "false"})
    try:
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def insert_rows(
    connection: Connection, entries: Sequence[rows.Row], checkpoints: Sequence[CheckpointRow]
) -> None:
    """Append entries and checkpoints, in the open transaction if there is one."""
    _INSERT_ENTRIES.execute(connection, entries)
    CHECKPOINTS.execute(connection, checkpoints)


def entry_row_of(values: Sequence[Any]) -> rows.Row:
    """A row of `entry_rows` from a backup's line, without its first value.

    Raises:
        ValueError, TypeError, AttributeError: It is not of that shape.
    """
    offset, session, seq, recorded_us, kind, run, op, principal, body, digest = values
    return (
        int(offset),
        UUID(session),
        int(seq),
        int(recorded_us),
        kind,
        UUID(run) if run is not None else None,
        op,
        principal,
        body,
        bytes.fromhex(digest),
    )


def checkpoint_row_of(values: Sequence[Any]) -> CheckpointRow:
    """A checkpoint from a backup's line, without its first value; raises as `entry_row_of`."""
    offset, session, seq, body = values
    return int(offset), UUID(session), int(seq), str(body)
