"""Filling the index at open: heads from the tables, then every entry that came after `projected_offset`.

Invariants: S-53 (loading and folding give what was there before), S-63.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern
from types import MappingProxyType
from typing import Any

from helmr import ids
from helmr.errors import DataError
from helmr.models import RunStatus, SessionStatus
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import GENESIS, Entry
from helmr_runtime.ledger.duck import rows
from helmr_runtime.ledger.duck.database import Connection, Reader
from helmr_runtime.ledger.duck.tokens import chain_keys, restore_facts
from helmr_runtime.ledger.feed_tail import FeedTail
from helmr_runtime.ledger.heads import Head, PendingWait, checkpointed
from helmr_runtime.ledger.index import MARKS, LedgerIndex
from helmr_runtime.ledger.known_operations import OPERATION_AGE, operations_max
from helmr_runtime.ledger.projection import Projection

ENCRYPTS = "encrypts_payloads"
"""The row of `meta` that says whether new bodies are sealed; none means that they are not."""

SUPERSEDED = "superseded_by"
"""The row of `meta` with the generation of a promoted follower that this ledger has met."""

CHUNK = 10_000
"""Entries folded at a time."""

_OPEN = """
s.session IN (
    SELECT session FROM sessions WHERE status = 'open' OR activity <> 'idle' UNION SELECT session FROM holdings
)
"""
_ONE = "s.session = $1"

_SESSION_STATUSES = {one.value: one for one in SessionStatus}
_RUN_STATUSES = {one.value: one for one in RunStatus}
_NO_STEPS = frozenset[int]()
"""One for all heads: the empty ones that are made are all different, and as large as a head."""

_HEADS = """
SELECT s.session::BLOB, s.open_steps, s.tail_count, s.external_id, s.start_key,
    s.epoch, s.next_seq, s.updated_us, s.last_offset, s.created_offset, s.task, s.status,
    s.run::BLOB, r.status, r.attempt, r.retry_us, r.queued_us, r.ended_us, r.outcome_offset,
    w.wait::BLOB, w.kind, w.op, w.token::BLOB, nullif(w.deadline_us, t.expires_us), w.is_backoff,
    nullif(w.session_ids, '[]'), w.next_escalation_us, w.default_us, s.checkpoint_offset, s.has_keys, c.key_id
FROM (SELECT * FROM session_rows s WHERE {which}) s
LEFT JOIN run_rows r ON r.run = s.run
LEFT JOIN wait_rows w ON w.wait = s.wait
LEFT JOIN token_rows t ON t.token = w.token
LEFT JOIN chains c ON c.session = s.session
ORDER BY coalesce(r.retry_us, r.queued_us)
"""
"""From the epoch on in the order of a head's fields. UUIDs as their bytes: to make Python's takes ten times as long.

A deadline that is the token's expiry is not the wait's own (`helmr_runtime.core.run.own_deadline`).
"""
_HASHES = """
SELECT feed_offset, hash FROM entries
SEMI JOIN (SELECT last_offset FROM sessions s WHERE {which}) ON feed_offset = last_offset
"""
"""Not joined to the heads: the engine would then carry each session that ever was through the join with all entries."""
_BEHIND = "SELECT max(s.tail_count) > 1, max(s.open_steps) > 0 FROM sessions s WHERE {which}"
"""Whether any has what the next two look for."""
_TAILS = """
SELECT s.session::BLOB, list(e.feed_offset ORDER BY e.feed_offset)
FROM sessions s JOIN entries e ON e.session = s.session
WHERE {which} AND s.tail_count > 1 AND e.feed_offset > s.checkpoint_offset
    AND e.feed_offset <= s.last_offset
GROUP BY s.session
"""
_OPEN_STEPS = """
SELECT s.session::BLOB, e.op, arg_max(e.kind, e.feed_offset)
FROM sessions s JOIN entries e ON e.session = s.session AND e.run = s.run
WHERE {which} AND s.open_steps > 0 AND e.feed_offset <= s.last_offset
    AND e.kind IN ('step.started', 'step.succeeded', 'step.failed', 'step.abandoned')
GROUP BY s.session, e.op
"""
_OPERATIONS = """
FROM (
    SELECT id, feed_offset, epoch_us(recorded_at) FROM operations WHERE recorded_at >= $1
    ORDER BY feed_offset DESC LIMIT $2
) ORDER BY feed_offset
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
    system_offset: int
    encrypts: bool = False
    superseded_by: int = 0
    marks: dict[str, int] = field(default_factory=dict)


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: all that is made here stays, and to look at it again and again takes two
    fifths of the time that 100,000 sessions need."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@uncollected()
def restore(reader: Reader, now: datetime) -> Restored:
    """Load the tables and fold the entries behind them."""
    index = LedgerIndex()
    meta = dict(reader.execute("SELECT name, number FROM meta").fetchall())
    for name in MARKS:
        setattr(index, name, meta.get(name, getattr(index, name)))
    index.head_offset = meta["projected_offset"]
    _system_head(reader, index, meta["system_offset"])
    holdings = {
        rows.id_of(ids.SESSION, session): (int(epoch), holder or None)
        for session, epoch, holder in reader.execute(_HOLDINGS).fetchall()
    }
    _admit(reader, index, now, _OPEN, holdings=holdings)
    restore_facts(reader, index)
    for operation_id, offset, recorded_us in reader.execute(
        _OPERATIONS,
        [now - OPERATION_AGE, operations_max() + 1],  # one more, and not all are known
    ).fetchall():
        index.operations.remember(operation_id, offset, rows.time_of(recorded_us))
    index.operations.forget_old(now)
    restored = Restored(
        index=index,
        projection=Projection(through=meta["projected_offset"]),
        recent=FeedTail(),
        projected_offset=meta["projected_offset"],
        openings=meta["openings"],
        system_offset=meta["system_offset"],
        encrypts=bool(meta.get(ENCRYPTS, 0)),
        superseded_by=meta.get(SUPERSEDED, 0),
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
    _admit(reader, index, now, _ONE, [rows.uuid_of(session_id)])
    return index.heads.get(session_id)


def _admit(
    reader: Reader,
    index: LedgerIndex,
    now: datetime,
    which: str,
    parameters: Sequence[Any] = (),
    holdings: Mapping[str, tuple[int, str | None]] = MappingProxyType({}),
) -> None:
    """Admit the heads of the sessions for which that holds; of their rows only a part is in memory at a time."""

    def found(query: str) -> Connection:
        return reader.execute(query.format(which=which), parameters)

    hashes = dict(found(_HASHES).fetchall())
    has_tails, has_steps = found(_BEHIND).fetchall()[0]
    tails = dict(found(_TAILS).fetchall()) if has_tails else {}
    open_steps: dict[bytes, set[int]] = {}
    for session, op, kind in found(_OPEN_STEPS).fetchall() if has_steps else ():
        if kind == "step.started":
            open_steps.setdefault(session, set()).add(op)
    heads = found(_HEADS)
    while chunk := heads.fetchmany(CHUNK):
        for row in chunk:
            head, step_count, tail_count = _head_of(row), row[1], row[2]
            head.last_hash = hashes.get(head.last_offset, b"")
            if step_count:
                head.open_steps = frozenset(open_steps.get(row[0], ()))
            if tail_count:
                head.tail = [head.last_offset] if tail_count == 1 else tails.get(row[0], [])
            counts = len(head.open_steps), len(head.tail)
            if counts != (step_count, tail_count) or not head.last_hash:
                raise DataError(f"{head.session_id}: the tables and the entries disagree")
            if head.session_id in holdings:
                epoch, head.held_by = holdings[head.session_id]
                head.epoch = max(head.epoch, epoch)
            index.admit(head, now, external_id=row[3], start_key=row[4])


def _head_of(row: Any) -> Head:
    """A head without its last hash and what its counts stand for.

    Arguments by position: by name they take a fifth of the time that a head takes.
    """
    return Head(
        ids.from_bytes(ids.SESSION, row[0]),
        row[5],
        row[6],
        GENESIS,
        rows.time_of(row[7]),
        row[8],
        row[9],
        None,
        intern(row[10]),
        _SESSION_STATUSES[row[11]],
        ids.from_bytes(ids.RUN, row[12]) if row[12] is not None else None,
        _RUN_STATUSES[row[13]] if row[12] is not None else None,
        row[14] or 0,
        rows.time_or_none(row[15]),
        rows.time_or_none(row[16]),
        rows.time_or_none(row[17]),
        row[18],
        _wait_of(row) if row[19] is not None else None,
        _NO_STEPS,
        row[28],
        [],
        row[29],
        key_id=intern(row[30]) if row[30] is not None else None,
        unconsumed=None,
    )


def _wait_of(row: Any) -> PendingWait:
    return PendingWait(
        ids.from_bytes(ids.WAIT, row[19]),
        intern(row[20]),
        row[21],
        ids.from_bytes(ids.TOKEN, row[22]) if row[22] is not None else None,
        rows.time_or_none(row[23]),
        row[24],
        tuple(jsontext.decode(row[25])) if row[25] is not None else (),
        rows.time_or_none(row[26]),
        rows.time_or_none(row[27]),
    )


def _system_head(reader: Reader, index: LedgerIndex, system_offset: int) -> None:
    row = rows.first_row(
        reader.execute(
            "SELECT seq, hash, recorded_us FROM entry_rows WHERE feed_offset = $1", [system_offset]
        )
    )
    if row is not None:
        index.system.next_seq = row[0] + 1
        index.system.last_hash = bytes(row[1])
        index.system.last_at = rows.time_of(row[2])
        index.system.last_offset = system_offset
        index.system.key_id = chain_keys(reader, [rows.uuid_of(ids.SYSTEM_STREAM)]).get(
            ids.SYSTEM_STREAM
        )


def _deliver(index: LedgerIndex, now: datetime) -> None:
    """The ends that waits and children have not heard of (S-63)."""
    for token in index.tokens:
        if token.is_orphan:
            index.end_child(token.id, now)
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
