"""Verified entries become a ledger: every entry is checked and folded in feed order, by the code that folds new ones.

A ledger of an earlier edition that is carried over, a restored backup and a repaired file are this fold over rows from
somewhere, and so is what `helmr verify` compares a file with. Entries are the truth, and all that
follows from them is made of them. What stands in none (`UNSAID`) is given beside them. All heads stay in memory, some
1 KB for each session.

Invariants: S-50 (dense seqs), S-52 (chains), S-53 (tables are the fold of the entries), S-67.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from helmr.errors import DataError, FeatureMissing, LedgerDamaged, UsageError
from helmr.wire import ids
from helmr_runtime.core.entries import GENESIS, Entry
from helmr_runtime.feature import Features
from helmr_runtime.ledger.index.authored import Bodies
from helmr_runtime.ledger.index.heads import checkpointed
from helmr_runtime.ledger.index.ledger_index import OPERATION_AGE, LedgerIndex
from helmr_runtime.ledger.index.projection import Projection, session_changes
from helmr_runtime.ledger.log.files import (
    MARK_SUFFIX,
    HeadMark,
    HeadPosition,
    sync_directory,
    sync_what_is_left,
)
from helmr_runtime.ledger.tables import engine
from helmr_runtime.ledger.tables.appends import CHECKPOINTS, ENTRY_COLUMNS
from helmr_runtime.ledger.tables.engine import BatchStatement, Connection
from helmr_runtime.ledger.tables.reads import linked
from helmr_runtime.ledger.tables.recovery import ENCRYPTS, SUPERSEDED, uncollected
from helmr_runtime.ledger.tables.schema import (
    check_ring,
    make,
    make_of_features,
    remember,
    sign,
)
from helmr_runtime.ledger.tables.table_writer import Tables, project
from helmr_runtime.ledger.tables.tokens import Touched
from helmr_runtime.security.keys import KeyRing

TABLES_EVERY = 100_000
"""Entries folded between two writes of the tables: rows are written once where a session's entries stand together, and
those that wait for it take some 200 MB at most."""

KNOWN_GAPS = "known_gaps"
"""The row of `meta` that says how many entries lack for good."""

UNSAID = ("openings", ENCRYPTS, SUPERSEDED, KNOWN_GAPS)
"""The rows of `meta` that no entry says. Epochs and holders are not among them: nothing is held in a new file, and each
of its openings gives epochs above those of all before (S-62)."""

ENGINE: Mapping[str, str] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "1GB",
    "python_enable_replacements": "false",
    "threads": "2",
}
"""What the engine may use for a file that no runtime has open."""

_INSERT_ENTRIES = BatchStatement(
    "INSERT INTO entries SELECT * REPLACE (make_timestamptz(recorded_us) AS recorded_us) FROM ({rows})",
    ENTRY_COLUMNS.replace("recorded_at TIMESTAMPTZ", "recorded_us BIGINT"),
)
_SET = "INSERT INTO meta VALUES ($1, $2) ON CONFLICT DO UPDATE SET number = excluded.number"

CheckpointRow = tuple[int, UUID, int, str]
"""Feed offset, session, seq, stored text."""

Page = tuple[Sequence[engine.Row], Sequence[CheckpointRow]]
"""Rows of `entry_rows` in feed order, and the checkpoints that cover them."""

Covered = Collection[tuple[UUID, int]]
"""Session and feed offset of entries that a checkpoint covers."""

ChainKeyOf = Callable[[str, str | None], bytes | None]
"""The key of a session's chain, by the session's id and the id of the master key that the chain began with."""


@dataclass(frozen=True, slots=True)
class LedgerKeys:
    """Keys and features that open entries, fold them and check their chains.

    Args:
        ring: The master keys, if there are any.
        features: Those that have a part in the ledger.
    """

    ring: KeyRing | None
    features: Features = ()

    @property
    def bodies(self) -> Bodies:
        """Opens sealed bodies."""
        return Bodies(self.ring)

    def open_body(self) -> engine.OpenBody:
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


@dataclass(frozen=True, slots=True)
class Unsaid:
    """Facts of a ledger that its entries don't hold.

    Args:
        numbers: The rows of `meta` that are named in `UNSAID`.
        keys: Fingerprints of the master keys that have opened it, by their ids.
    """

    numbers: Mapping[str, int]
    keys: Mapping[str, str] = field(default_factory=dict)


# --- the fold -------------------------------------------------------------------------------------


class Refold:
    """Folds rows of `entry_rows`, and gives out the rows of the tables that follow from them.

    Args:
        keys: Opens stored bodies, and gives the keys of hash chains.
        now: Operations older than a day before it are not remembered (S-61).
    """

    def __init__(self, keys: LedgerKeys, now: datetime) -> None:
        self.index = LedgerIndex(keys.features)
        self.entries = 0
        self._projection = Projection()
        self._open_body = keys.open_body()
        self._chain_key: ChainKeyOf = keys.chain_key
        self._keys: dict[str, bytes | None] = {}
        self._now = now

    @property
    def sessions(self) -> int:
        """Sessions met, the system stream not counted."""
        return len(self.index.heads) - 1

    @property
    def last(self) -> HeadPosition:
        """The last entry."""
        offset = self.index.head_offset
        heads = self.index.heads.values() if offset else ()
        return next(
            (HeadPosition(offset, h.last_hash) for h in heads if h.last_offset == offset),
            HeadPosition(offset, GENESIS),
        )

    @property
    def gaps(self) -> int:
        """Number of missing entries that no `sessions.pruned` accounts for."""
        return self.index.head_offset - self.entries - self.index.pruned_entries

    def add(self, found: Sequence[engine.Row], checkpoints: Covered = ()) -> list[Entry]:
        """Fold these rows, which follow those before in the feed.

        Args:
            found: Rows of `entry_rows`, by feed offset.
            checkpoints: Session and feed offset of each checkpoint that covers one of them.

        Raises:
            LedgerDamaged: Names the first entry that is not what was written, or that is missing.
            PayloadDamaged, MasterKeyMissing: A body can't be opened.
            FeatureMissing: One is of a feature that is not here.
        """
        return [self._one(row, (row[1], row[0]) in checkpoints) for row in found]

    def tables(self) -> Tables:
        """The rows of everything that was folded since this was last asked."""
        written, index = self._projection, self.index
        self._projection = Projection(through=written.through)
        oldest_at = self._now - OPERATION_AGE
        written.operations = [one for one in written.operations if one.recorded_at >= oldest_at]
        touched = Touched(index)
        return Tables(
            projection=written,
            sessions={one: session_changes(index.heads[one]) for one in sorted(written.touched)},
            meta={
                "projected_offset": written.through,
                "system_offset": index.system.last_offset,
                **index.marks(),
            },
            facts=touched.rows(written.token_tags, written.chains),
        )

    def _one(self, row: engine.Row, is_checkpointed: bool) -> Entry:
        offset, session, seq = row[0], row[1], row[2]
        session_id = engine.id_of(ids.SESSION, session)
        head = self.index.heads.get(session_id)
        expected = head.next_seq if head is not None else 1
        if offset <= self.index.head_offset:
            raise _damaged(row, f"feed offset {offset} comes twice or out of order")
        if seq > expected:
            raise _damaged(row, f"entry {expected} is missing")
        if seq < expected:
            raise _damaged(row, f"entry {seq} comes twice")
        try:
            entry = engine.entry_of(row, self._open_body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(row, f"entry {seq} is not what was written") from error
        if head is None or seq == 1:
            self._keys[session_id] = self._chain_key(session_id, entry.body.get("chain_key_id"))
        previous = head.last_hash if head is not None else GENESIS
        if linked(session_id, row, previous, self._keys[session_id]) != entry.hash:
            raise _damaged(row, f"entry {seq} is not what was written")
        try:
            head = self.index.apply(entry, self._now)
            self._projection.fold(entry, head)
        except FeatureMissing:
            raise
        except (DataError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise _damaged(row, f"entry {seq} can't follow those before it: {error}") from error
        if is_checkpointed:
            checkpointed(head)
        self.entries += 1
        return entry


def _damaged(row: Any, what: str) -> LedgerDamaged:
    session_id = engine.id_of(ids.SESSION, row[1])
    return LedgerDamaged(
        f"{session_id}, feed offset {row[0]}: {what}",
        session_id=session_id,
        seq=row[2],
        feed_offset=row[0],
    )


@uncollected()
def fold(
    connection: Connection,
    keys: LedgerKeys,
    now: datetime,
    pages: Iterable[tuple[Sequence[engine.Row], Covered]],
) -> Refold:
    """Check entries and write the tables that follow from them, which are empty so far.

    Args:
        connection: Has today's tables.
        keys: Of the ledger.
        now: The time.
        pages: The entries, and which of them checkpoints cover; what gives them may have stored them just before.

    Raises:
        LedgerDamaged, PayloadDamaged, MasterKeyMissing, UsageError: As `Refold.add`.
    """
    refold = Refold(keys, now)
    make_of_features(connection, refold.index.features)
    untabled = 0
    for entries, covered in pages:
        refold.add(entries, covered)
        untabled += len(entries)
        if untabled >= TABLES_EVERY:
            _write_tables(connection, refold)
            untabled = 0
    _write_tables(connection, refold)
    return refold


def _write_tables(connection: Connection, refold: Refold) -> None:
    connection.begin()
    project(connection, refold.tables())
    connection.commit()


# --- the file -------------------------------------------------------------------------------------


def rebuild(
    path: Path,
    pages: Iterable[Page],
    keys: LedgerKeys,
    now: datetime,
    known: Unsaid,
    *,
    forgives_gaps: bool = False,
) -> Refold:
    """Make a ledger's file of entries and their checkpoints; on disk with its head mark when this returns.

    Args:
        path: The file; there is none yet.
        pages: All of the ledger.
        keys: Its master keys.
        now: The time.
        known: What entries do not say.
        forgives_gaps: That entries lack which no one has pruned is not damage, now and later.

    Raises:
        LedgerDamaged, PayloadDamaged, MasterKeyMissing, UsageError: As `Refold.add`, or the keys are another ledger's.
        StoreUnavailable: There is no room, as the engine's error if no `translated` is around it.
    """
    fingerprints = dict(known.keys)

    def stored(connection: Connection) -> Iterator[tuple[Sequence[engine.Row], Covered]]:
        is_first = True
        for entries, checkpoints in pages:
            insert_rows(connection, entries, checkpoints)
            if is_first and keys.ring is not None:
                fingerprints.update(check_ring(connection, keys.ring, path))
            is_first = False
            yield entries, {(session, offset) for offset, session, *_ in checkpoints}

    with made(path) as connection:
        refold = fold(connection, keys, now, stored(connection))
        numbers = {name: number for name, number in known.numbers.items() if name in UNSAID}
        if forgives_gaps:
            numbers[KNOWN_GAPS] = refold.gaps
        set_numbers(connection, numbers)
        remember(connection, fingerprints)
    write_mark(path, refold.last)
    return refold


@contextmanager
def made(path: Path) -> Iterator[Connection]:
    """A file with today's tables, which are empty; what was written to it is on disk at the end."""
    with connected(path) as connection:
        path.chmod(0o600)
        make(connection)
        sign(connection)
        yield connection
        connection.execute("CHECKPOINT")


@contextmanager
def connected(path: Path) -> Iterator[Connection]:
    """A file of the engine, to be written."""
    sync_what_is_left(path)
    connection = duckdb.connect(str(path), config={**ENGINE, "enable_external_access": "false"})
    try:
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def set_numbers(connection: Connection, numbers: Mapping[str, int]) -> None:
    """Store numbers in `meta`, within the open transaction if there is one."""
    for name, number in numbers.items():
        connection.execute(_SET, [name, number])


def write_mark(path: Path, last: HeadPosition) -> None:
    """Name a file's last entry in the head mark beside it; both are on disk afterwards."""
    mark = HeadMark(path.with_name(path.name + MARK_SUFFIX))
    mark.write(last)
    mark.close()
    sync_directory(path.parent)


def insert_rows(
    connection: Connection, entries: Sequence[engine.Row], checkpoints: Sequence[CheckpointRow]
) -> None:
    """Append entries and checkpoints, in the open transaction if there is one."""
    _INSERT_ENTRIES.execute(connection, entries)
    CHECKPOINTS.execute(connection, checkpoints)


# --- rows of a backup ------------------------------------------------------------------------------


def entry_row_of(values: Sequence[Any]) -> engine.Row:
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
