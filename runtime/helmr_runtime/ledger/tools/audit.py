"""Checks a stored ledger against its entries: chains, tables, checkpoints, head mark (S-67). Read-only.

The check folds the entries again into a scratch database beside the file, up to where the file's tables are written,
and the engine compares table with table. Facts that no entry holds are not compared: a session's holder and epoch.
Checkpoints are compared state by state with the core's fold of the same entries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from helmr.errors import DataError, LedgerDamaged
from helmr.wire import ids
from helmr_runtime.core import checkpoint as checkpoints
from helmr_runtime.core.checkpoint import difference
from helmr_runtime.core.entries import Entry
from helmr_runtime.core.state import SessionState
from helmr_runtime.ledger.index.authored import Bodies
from helmr_runtime.ledger.index.ledger_index import FEATURE_MARK, OPERATION_AGE
from helmr_runtime.ledger.log.rebuild import CheckpointRow, Covered, LedgerKeys, Refold, fold
from helmr_runtime.ledger.log.stored import StoredLedger
from helmr_runtime.ledger.tables import engine
from helmr_runtime.ledger.tables.recovery import uncollected
from helmr_runtime.ledger.tables.schema import SCHEMA
from helmr_runtime.ledger.tables.table import column_of, table_of

TABLES: Mapping[str, str] = {
    "sessions": "session",
    "runs": "run",
    "waits": "wait",
    "tokens": "token",
    "public_tokens": "public_token",
    "api_keys": "api_key",
    "chains": "session",
    "send_keys": "session",
    "people": "person",
}
"""The kernel's tables that entries alone decide, and the column that a bad row is named by."""

_NOT_IN_ENTRIES = frozenset({"epoch", "checkpoint_offset", "tail_count"})
"""Of `sessions`; the last two depend on which checkpoints were there when the row was written."""

_PREFIXES = {
    "session": ids.SESSION,
    "run": ids.RUN,
    "wait": ids.WAIT,
    "token": ids.TOKEN,
    "public_token": ids.PUBLIC_TOKEN,
    "api_key": ids.API_KEY,
}
_META_UNSAID = {"pruned_offset": 0, "pruned_entries": 0, "generation": 1}
"""What a ledger means that was last written by a Helmr that did not know these."""

_TAILS = """
SELECT s.session FROM stored.sessions s
LEFT JOIN stored.checkpoints c ON c.session = s.session AND c.feed_offset = s.checkpoint_offset
WHERE (s.checkpoint_offset <> 0 AND c.session IS NULL) OR s.tail_count <> s.next_seq - 1 - coalesce(c.seq, 0)
LIMIT 1
"""
_OPERATIONS = """
SELECT id FROM (SELECT * FROM stored.operations WHERE recorded_at >= $1 EXCEPT ALL SELECT * FROM operations)
UNION ALL
SELECT id FROM (SELECT * FROM operations WHERE recorded_at >= $1 EXCEPT ALL SELECT * FROM stored.operations)
LIMIT 1
"""
_BATCH = """
SELECT feed_offset, session, seq, epoch_us(recorded_at), kind, run, op, principal, body, hash
FROM stored.entries WHERE session IN (SELECT unnest($1::UUID[])) AND feed_offset <= $2 ORDER BY session, seq
"""
_BATCH_CHECKPOINTS = """
SELECT feed_offset, session, seq, body FROM stored.checkpoints
WHERE session IN (SELECT unnest($1::UUID[])) AND feed_offset <= $2 ORDER BY session, seq, rowid
"""
BATCH_ENTRIES = 20_000
"""Entries of sessions whose checkpoints are compared together, unless one session has more."""


@dataclass(slots=True)
class Audit:
    """Counts of a check that found no damage.

    Attributes:
        through: Feed offset of the last entry.
        projected: Feed offset of the last entry that the tables show; a ledger that opens writes the rest.
        schema: Number of the tables' schema.
        tables: True if the tables were compared; those of an older schema are not.
    """

    entries: int = 0
    sessions: int = 0
    checkpoints: int = 0
    through: int = 0
    projected: int = 0
    schema: int = SCHEMA
    tables: bool = True


@uncollected()
def audit(ledger: StoredLedger, keys: LedgerKeys, now: datetime) -> Audit:
    """Check all of it; of a ledger with an older schema all but its tables.

    Raises:
        LedgerDamaged: Names the first bad place: of the entries by feed offset, then of tables, checkpoints, mark.
        PayloadDamaged, MasterKeyMissing: A body can't be opened, or the keys are another ledger's.
    """
    ledger.require_keys(keys)
    found = Audit(
        through=ledger.head_offset, projected=ledger.projected_offset, schema=ledger.schema
    )
    found.tables = found.schema == SCHEMA
    refold = fold(ledger.connection, keys, now, _pages(ledger, 0, found.projected))
    if found.tables:
        _compare_tables(ledger, refold, now)
    for entries, covered in _pages(ledger, found.projected, found.through):
        refold.add(entries, covered)
    found.entries, found.sessions = refold.entries, refold.sessions
    _check_gaps(ledger, found, refold.index.pruned_entries)
    for (offset, session, seq, _), what in bad_checkpoints(ledger, keys, found.through):
        found.checkpoints += 1
        if what is None:
            continue
        session_id = engine.id_of(ids.SESSION, session)
        raise LedgerDamaged(
            f"{session_id}, checkpoint at feed offset {offset}: {what}",
            session_id=session_id,
            seq=seq,
            feed_offset=offset,
            table="checkpoints",
        )
    if found.tables:
        _first_bad(ledger, "sessions", ids.SESSION, _TAILS)
    _check_mark(ledger)
    return found


def _pages(
    ledger: StoredLedger, after: int, through: int
) -> Iterator[tuple[list[engine.Row], Covered]]:
    for chunk in ledger.entries(after=after, through=through):
        yield chunk, ledger.checkpointed(chunk[0][0] - 1, chunk[-1][0])


def _check_gaps(ledger: StoredLedger, found: Audit, pruned: int) -> None:
    """Whole sessions can be gone without a trace in other chains; what is gone must have been pruned."""
    gone = found.through - found.entries
    if gone != pruned + ledger.known_gaps:
        raise LedgerDamaged(f"the feed lacks {gone} entries, and {pruned} were pruned")


# --- tables ---------------------------------------------------------------------------------------


def _compare_tables(ledger: StoredLedger, refold: Refold, now: datetime) -> None:
    # The entry there may be gone: pruned, before the tables were written again.
    if ledger.projected_offset > ledger.head_offset:
        raise LedgerDamaged(
            f"the tables show feed offset {ledger.projected_offset}, and there is no such entry",
            table="meta",
        )
    folded = ledger.connection.execute("SELECT name, number FROM main.meta").fetchall()
    for name, number in folded:
        if (
            name not in ("openings", "projected_offset")
            and ledger.meta.get(name, _unsaid(name, number)) != number
        ):
            raise LedgerDamaged(f"table meta, row {name}: not what the entries say", table="meta")
    for table, key in TABLES.items():
        _compare(ledger, table, key, _PREFIXES.get(key))
    for part, _ in refold.index.features:
        if part.table is not None and ledger.has_table(part.table.name):
            named = table_of(part.table).fields[0]
            _compare(ledger, part.table.name, column_of(named), named.column.id_of)
    _first_bad(ledger, "operations", None, _OPERATIONS, now - OPERATION_AGE)


def _unsaid(name: str, number: int) -> int | None:
    """Return the number that a missing row of `meta` stands for: an earlier Helmr did not name features."""
    return number if name.startswith(FEATURE_MARK) else _META_UNSAID.get(name)


def _compare(ledger: StoredLedger, table: str, key: str, prefix: str | None) -> None:
    described = ledger.connection.execute(f"DESCRIBE main.{table}").fetchall()
    columns = ", ".join(
        f"{name}::VARCHAR AS {name}" if kind.startswith("ENUM") else name
        for name, kind, *_ in described
        if table != "sessions" or name not in _NOT_IN_ENTRIES
    )
    kept, folded = (f"SELECT {columns} FROM {db}.{table}" for db in ("stored", "main"))  # noqa: S608 - names of our own
    for one, other in ((kept, folded), (folded, kept)):
        query = f"SELECT {key} FROM ({one} EXCEPT ALL {other}) ORDER BY 1 LIMIT 1"  # noqa: S608 - the same
        _first_bad(ledger, table, prefix, query)


def _first_bad(
    ledger: StoredLedger, table: str, prefix: str | None, query: str, *bounds: Any
) -> None:
    found = engine.first_row(ledger.connection.execute(query, list(bounds)))
    if found is None:
        return
    value = engine.id_of(prefix, found[0]) if prefix is not None else str(found[0])
    raise LedgerDamaged(
        f"table {table}, row {value}: not what the entries say", table=table, row=value
    )


# --- checkpoints ----------------------------------------------------------------------------------


def bad_checkpoints(
    ledger: StoredLedger, keys: LedgerKeys, through: int
) -> Iterator[tuple[CheckpointRow, str | None]]:
    """Every checkpoint up to a feed offset, and what of it is not what the entries say, if anything is.

    The entries up to there are good.
    """
    bodies, open_body = keys.bodies, keys.open_body()
    for batch in _batches(ledger, through):
        stored = ledger.connection.execute(_BATCH, [batch, through]).fetchall()
        entries: dict[UUID, list[Entry]] = defaultdict(list)
        for row in stored:
            entries[row[1]].append(engine.entry_of(row, open_body))
        texts: dict[UUID, list[CheckpointRow]] = defaultdict(list)
        for row in ledger.connection.execute(_BATCH_CHECKPOINTS, [batch, through]).fetchall():
            texts[row[1]].append(row)
        for session, of_session in texts.items():
            yield from _checked(session, of_session, entries[session], bodies)


def _batches(ledger: StoredLedger, through: int) -> Iterator[list[UUID]]:
    """The sessions that have checkpoints, in batches of a few entries."""
    counted = ledger.connection.execute(
        "SELECT session, max(seq) FROM stored.checkpoints WHERE feed_offset <= $1 GROUP BY session ORDER BY session",
        [through],
    ).fetchall()
    batch: list[UUID] = []
    size = 0
    for session, count in counted:
        if batch and size + count > BATCH_ENTRIES:
            yield batch
            batch, size = [], 0
        batch.append(session)
        size += count
    if batch:
        yield batch


def _checked(
    session: UUID, stored: Sequence[CheckpointRow], entries: Sequence[Entry], bodies: Bodies
) -> Iterator[tuple[CheckpointRow, str | None]]:
    session_id = engine.id_of(ids.SESSION, session)
    by_offset = {entry.feed_offset: entry for entry in entries if entry.feed_offset is not None}
    state, folded = SessionState(session_id), iter(entries)
    texts: dict[int, str] = {}
    for row in stored:
        offset, _, seq, body = row
        while state.seq < seq and (entry := next(folded, None)) is not None:
            state.apply(entry)
        covered = by_offset.get(offset)
        if covered is None or covered.seq != seq or state.seq != seq:
            yield row, f"it says seq {seq}, and that entry is not there"
            continue
        try:
            text = bodies.open_checkpoint(body, session_id=session_id, seq=seq)
            kept = checkpoints.restore(session_id, text, by_offset, texts)
        except DataError as error:
            yield row, f"it can't be read: {error}"
            continue
        wrong = difference(state, kept)
        if wrong is None:
            texts[offset] = text
        yield row, f"its {wrong} is not what the entries say" if wrong is not None else None


# --- head mark ------------------------------------------------------------------------------------


def _check_mark(ledger: StoredLedger) -> None:
    mark = ledger.read_mark()
    if mark.feed_offset and ledger.hash_at(mark.feed_offset) != mark.hash:
        raise LedgerDamaged(
            f"the head mark names entry {mark.feed_offset}, and the ledger has no such entry",
            feed_offset=mark.feed_offset,
        )
