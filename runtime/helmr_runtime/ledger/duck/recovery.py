"""Filling the index at open: heads from the tables, then every entry that came after `projected_offset`.

Invariants: S-53 (loading and folding give what was there before), S-63.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from helmr import ids
from helmr.errors import DataError
from helmr.models import RunStatus, SessionStatus
from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.duck import rows
from helmr_runtime.ledger.duck.database import Reader
from helmr_runtime.ledger.duck.tokens import chain_keys, restore_facts
from helmr_runtime.ledger.feed_tail import FeedTail
from helmr_runtime.ledger.heads import Head, PendingWait, checkpointed
from helmr_runtime.ledger.index import OPERATION_AGE, LedgerIndex
from helmr_runtime.ledger.projection import Projection

ENCRYPTS = "encrypts_payloads"
"""The row of `meta` that says whether new bodies are sealed; none means that they are not."""

CHUNK = 10_000
"""Entries folded at a time."""

_OPEN_HEADS = """
SELECT h.*, t.expires_us FROM head_rows h LEFT JOIN token_rows t ON t.token = h.token
WHERE h.status = 'open' OR h.activity <> 'idle' OR h.session IN (SELECT session FROM holdings)
ORDER BY coalesce(h.retry_us, h.queued_us)
"""
_ONE_HEAD = """
SELECT h.*, t.expires_us FROM head_rows h LEFT JOIN token_rows t ON t.token = h.token
WHERE h.session = $1
"""
_TAILS = """
SELECT s.session, list(e.feed_offset ORDER BY e.feed_offset)
FROM sessions s JOIN entries e ON e.session = s.session
WHERE s.session IN (SELECT unnest($1::UUID[])) AND e.feed_offset > s.checkpoint_offset
    AND e.feed_offset <= s.last_offset
GROUP BY s.session
"""
_OPEN_STEPS = """
SELECT s.session, e.op, arg_max(e.kind, e.feed_offset)
FROM sessions s JOIN entries e ON e.session = s.session AND e.run = s.run
WHERE s.session IN (SELECT unnest($1::UUID[])) AND e.feed_offset <= s.last_offset
    AND e.kind IN ('step.started', 'step.succeeded', 'step.failed', 'step.abandoned')
GROUP BY s.session, e.op
"""
_OPERATIONS = """
SELECT id, feed_offset, epoch_us(recorded_at) FROM operations WHERE recorded_at >= $1
ORDER BY feed_offset
"""
_HOLDINGS = """
SELECT session, arg_max(epoch, rowid), arg_max(coalesce(holder, ''), rowid) FROM holdings
GROUP BY session
"""
_SAVED_SINCE = """
SELECT DISTINCT s.session
FROM sessions s JOIN checkpoints c ON c.session = s.session AND c.feed_offset = s.last_offset
WHERE s.checkpoint_offset < s.last_offset
"""
"""Sessions whose last entry the tables know, and a checkpoint that covers it not: they parked after that."""
_ENTRIES_AFTER = """
SELECT * FROM entry_rows WHERE feed_offset > $1 AND feed_offset <= $2 ORDER BY feed_offset
"""


@dataclass(slots=True)
class Restored:
    """What open gives the ledger: its memory, as it was."""

    index: LedgerIndex
    projection: Projection
    recent: FeedTail
    projected_offset: int
    openings: int
    nil_offset: int
    encrypts: bool = False
    marks: dict[str, int] = field(default_factory=dict)


def restore(reader: Reader, now: datetime) -> Restored:
    """Load the tables and fold the entries behind them."""
    index = LedgerIndex()
    meta = dict(reader.execute("SELECT name, number FROM meta").fetchall())
    index.catalog_offset = meta["catalog_offset"]
    index.head_offset = meta["projected_offset"]
    _nil_head(reader, index, meta["nil_offset"])
    holdings = {
        rows.id_of(ids.SESSION, session): (int(epoch), holder or None)
        for session, epoch, holder in reader.execute(_HOLDINGS).fetchall()
    }
    found = reader.execute(_OPEN_HEADS).fetchall()
    _admit(reader, index, found, now, holdings)
    restore_facts(reader, index)
    for operation_id, offset, recorded_us in reader.execute(
        _OPERATIONS, [now - OPERATION_AGE]
    ).fetchall():
        index.remember_operation(operation_id, offset, rows.time_of(recorded_us), now)
    restored = Restored(
        index=index,
        projection=Projection(through=meta["projected_offset"]),
        recent=FeedTail(),
        projected_offset=meta["projected_offset"],
        openings=meta["openings"],
        nil_offset=meta["nil_offset"],
        encrypts=bool(meta.get(ENCRYPTS, 0)),
    )
    _saved_since(reader, restored)
    _fold_rest(reader, restored, now)
    _deliver(index, now)
    for session_id, (epoch, holder) in holdings.items():
        head = index.heads.get(session_id)
        if head is not None:
            head.epoch = max(head.epoch, epoch)
            head.held_by = holder
            restored.projection.touched.add(session_id)
            index.reindex(head, now)
    return restored


def read_head(reader: Reader, index: LedgerIndex, session_id: str, now: datetime) -> Head | None:
    """Admit one session that is not in memory: one that ended a while ago. None if there is none.

    Everything that is not projected yet is in memory, so the tables are up to date for it.
    """
    found = reader.execute(_ONE_HEAD, [rows.uuid_of(session_id)]).fetchall()
    _admit(reader, index, found, now, {})
    return index.heads.get(session_id)


def _admit(
    reader: Reader,
    index: LedgerIndex,
    found: list[Any],
    now: datetime,
    holdings: dict[str, tuple[int, str | None]],
) -> None:
    tails = _lists(reader, _TAILS, [row[0] for row in found if row[24] > 1])
    steps: dict[str, set[int]] = {}
    for session_id, op, kind in _lists(reader, _OPEN_STEPS, [r[0] for r in found if r[22]]):
        if kind == "step.started":
            steps.setdefault(session_id, set()).add(op)
    offsets = dict(tails)
    key_ids = chain_keys(reader, [row[0] for row in found])
    for row in found:
        head = _head_of(row)
        head.key_id = key_ids.get(head.session_id)
        if row[24] == 1:
            head.tail = [head.last_offset]
        elif row[24] > 1:
            head.tail = offsets[head.session_id]
        head.open_steps = frozenset(steps.get(head.session_id, ()))
        if len(head.open_steps) != row[22] or len(head.tail) != row[24]:
            raise DataError(f"{head.session_id}: the tables and the entries disagree")
        epoch, holder = holdings.get(head.session_id, (0, None))
        head.epoch = max(head.epoch, epoch)
        head.held_by = holder
        index.admit(head, now, external_id=row[26], start_key=row[27])


def _lists(reader: Reader, query: str, sessions: list[Any]) -> Iterator[tuple[Any, ...]]:
    if not sessions:
        return
    for session, *rest in reader.execute(query, [sessions]).fetchall():
        yield rows.id_of(ids.SESSION, session), *rest


def _head_of(row: Any) -> Head:
    run = rows.id_or_none(ids.RUN, row[9])
    head = Head(
        session_id=rows.id_of(ids.SESSION, row[0]),
        epoch=row[1],
        next_seq=row[2],
        last_hash=bytes(row[3]),
        last_at=rows.time_of(row[4]),
        last_offset=row[5],
        created_offset=row[6],
        task=row[7],
        status=SessionStatus(row[8]),
        run_id=run,
        run_status=RunStatus(row[10]) if run is not None else None,
        attempt=row[11] or 0,
        retry_at=rows.time_or_none(row[12]),
        queued_at=rows.time_or_none(row[13]),
        ended_at=rows.time_or_none(row[14]),
        outcome_offset=row[15],
        checkpoint_offset=row[23],
        has_keys=row[25],
    )
    if row[16] is not None:
        head.wait = PendingWait(
            id=rows.id_of(ids.WAIT, row[16]),
            kind=row[17],
            op=row[18],
            token_id=rows.id_or_none(ids.TOKEN, row[19]),
            # A deadline that is the token's expiry is not the wait's own (`helmr_runtime.core.run.own_deadline`).
            deadline_at=rows.time_or_none(row[20]) if row[20] != row[29] else None,
            is_backoff=row[21],
        )
    return head


def _nil_head(reader: Reader, index: LedgerIndex, nil_offset: int) -> None:
    row = reader.execute(
        "SELECT seq, hash, recorded_us FROM entry_rows WHERE feed_offset = $1", [nil_offset]
    ).fetchone()
    if row is not None:
        index.nil.next_seq = row[0] + 1
        index.nil.last_hash = bytes(row[1])
        index.nil.last_at = rows.time_of(row[2])
        index.nil.last_offset = nil_offset
        index.nil.key_id = chain_keys(reader, [rows.uuid_of(ids.NIL_SESSION)]).get(ids.NIL_SESSION)


def _deliver(index: LedgerIndex, now: datetime) -> None:
    """The ends of tokens that waits on them have not heard of (S-63)."""
    for token in index.tokens:
        if not token.is_pending:
            for wait_id, session_id in tuple(token.waits.items()):
                index.deliver(session_id, wait_id, now)


def _saved_since(reader: Reader, restored: Restored) -> None:
    for (session,) in reader.execute(_SAVED_SINCE).fetchall():
        session_id = rows.id_of(ids.SESSION, session)
        head = restored.index.heads.get(session_id)
        if head is not None:
            checkpointed(head)
            restored.projection.touched.add(session_id)


def _fold_rest(reader: Reader, restored: Restored, now: datetime) -> None:
    checkpoints = set(
        reader.execute(
            "SELECT session, feed_offset FROM checkpoints WHERE feed_offset > $1",
            [restored.projected_offset],
        ).fetchall()
    )
    for entry in _entries_after(reader, restored.projected_offset):
        fold_stored(reader, restored.index, entry, now)
        head = restored.index.heads[entry.session_id]
        if (rows.uuid_of(entry.session_id), entry.feed_offset) in checkpoints:
            checkpointed(head)
        restored.projection.fold(entry, head)
        restored.recent.add(entry)
        restored.index.reindex(head, now)


def fold_stored(reader: Reader, index: LedgerIndex, entry: Entry, now: datetime) -> None:
    """Fold an entry read from the file, whose session may have left memory."""
    if entry.session_id not in index.heads and entry.seq > 1:
        read_head(reader, index, entry.session_id, now)
    index.apply(entry, now)


def _entries_after(reader: Reader, offset: int) -> Iterator[Entry]:
    while True:
        chunk = reader.entries(_ENTRIES_AFTER, [offset, offset + CHUNK])
        if not chunk:
            return
        yield from chunk
        offset += CHUNK
