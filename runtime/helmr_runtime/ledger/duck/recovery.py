"""Filling the index at open: heads from the tables, then every entry that came after `projected_offset`.

Invariants: S-53 (loading and folding give what was there before), S-63.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern
from typing import Any
from uuid import UUID

from helmr import ids
from helmr.errors import DataError
from helmr.models import RunStatus, SessionStatus
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.duck import rows
from helmr_runtime.ledger.duck.database import Reader
from helmr_runtime.ledger.duck.tokens import chain_keys, restore_facts
from helmr_runtime.ledger.feed_tail import FeedTail
from helmr_runtime.ledger.heads import Head, PendingWait, checkpointed
from helmr_runtime.ledger.index import MARKS, LedgerIndex
from helmr_runtime.ledger.known_operations import OPERATION_AGE
from helmr_runtime.ledger.projection import Projection

ENCRYPTS = "encrypts_payloads"
"""The row of `meta` that says whether new bodies are sealed; none means that they are not."""

SUPERSEDED = "superseded_by"
"""The row of `meta` with the generation of a promoted follower that this ledger has met."""

CHUNK = 10_000
"""Entries folded at a time."""

_HEADS = """
SELECT s.session, s.epoch, s.next_seq, s.updated_us, s.last_offset, s.created_offset, s.task, s.status, s.run,
    r.status, r.attempt, r.retry_us, r.queued_us, r.ended_us, r.outcome_offset, w.wait, w.kind, w.op, w.token,
    w.deadline_us, w.is_backoff, s.open_steps, s.checkpoint_offset, s.tail_count, s.has_keys, s.external_id,
    s.start_key, t.expires_us, c.key_id, w.session_ids,
    w.next_rung_us, w.default_us
FROM (SELECT * FROM session_rows WHERE session IN ({sessions})) s
LEFT JOIN run_rows r ON r.run = s.run
LEFT JOIN wait_rows w ON w.wait = s.wait
LEFT JOIN token_rows t ON t.token = w.token
LEFT JOIN chains c ON c.session = s.session
ORDER BY coalesce(r.retry_us, r.queued_us)
"""
_OPEN_HEADS = _HEADS.format(
    sessions="SELECT session FROM sessions WHERE status = 'open' OR activity <> 'idle' "
    "UNION SELECT session FROM holdings"
)
_ONE_HEAD = _HEADS.format(sessions="$1")
_HASHES = """
SELECT feed_offset, hash FROM entries SEMI JOIN (SELECT unnest($1::BIGINT[]) AS wanted) ON feed_offset = wanted
"""
"""Not joined to the heads: the engine would then carry each session that ever was through the join with all entries."""
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
    follows: bool = False
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
    _nil_head(reader, index, meta["nil_offset"])
    holdings = {
        rows.id_of(ids.SESSION, session): (int(epoch), holder or None)
        for session, epoch, holder in reader.execute(_HOLDINGS).fetchall()
    }
    _admit(reader, index, _found(reader, _OPEN_HEADS), now, holdings)
    restore_facts(reader, index)
    for operation_id, offset, recorded_us in reader.execute(
        _OPERATIONS, [now - OPERATION_AGE]
    ).fetchall():
        index.operations.remember(operation_id, offset, rows.time_of(recorded_us), now)
    restored = Restored(
        index=index,
        projection=Projection(through=meta["projected_offset"]),
        recent=FeedTail(),
        projected_offset=meta["projected_offset"],
        openings=meta["openings"],
        nil_offset=meta["nil_offset"],
        encrypts=bool(meta.get(ENCRYPTS, 0)),
        follows=bool(meta.get("follows", 0)),
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
    _admit(reader, index, _found(reader, _ONE_HEAD, [rows.uuid_of(session_id)]), now, {})
    return index.heads.get(session_id)


@dataclass(frozen=True, slots=True)
class _Found:
    """A head without its last hash and what its counts stand for, and what the tables say beside it."""

    session: UUID
    head: Head
    open_steps: int
    tail: int
    external_id: str | None
    start_key: str | None


def _found(reader: Reader, query: str, parameters: Sequence[Any] = ()) -> list[_Found]:
    """The heads that a query finds; of its rows only a part is in memory at a time."""
    result = reader.execute(query, parameters)
    found: list[_Found] = []
    while chunk := result.fetchmany(CHUNK):
        found += [
            _Found(row[0], _head_of(row), row[21], row[23], row[25], row[26]) for row in chunk
        ]
    return found


def _admit(
    reader: Reader,
    index: LedgerIndex,
    found: list[_Found],
    now: datetime,
    holdings: dict[str, tuple[int, str | None]],
) -> None:
    tails = dict(_lists(reader, _TAILS, [one.session for one in found if one.tail > 1]))
    steps: dict[str, set[int]] = {}
    with_steps = [one.session for one in found if one.open_steps]
    for session_id, op, kind in _lists(reader, _OPEN_STEPS, with_steps):
        if kind == "step.started":
            steps.setdefault(session_id, set()).add(op)
    hashes = _hashes(reader, [one.head.last_offset for one in found])
    for one in found:
        head = one.head
        head.last_hash = hashes.get(head.last_offset, b"")
        if one.tail == 1:
            head.tail = [head.last_offset]
        elif one.tail > 1:
            head.tail = tails[head.session_id]
        head.open_steps = frozenset(steps.get(head.session_id, ()))
        counts = len(head.open_steps), len(head.tail)
        if counts != (one.open_steps, one.tail) or not head.last_hash:
            raise DataError(f"{head.session_id}: the tables and the entries disagree")
        epoch, holder = holdings.get(head.session_id, (0, None))
        head.epoch = max(head.epoch, epoch)
        head.held_by = holder
        index.admit(head, now, external_id=one.external_id, start_key=one.start_key)


def _lists(reader: Reader, query: str, sessions: list[Any]) -> Iterator[tuple[Any, ...]]:
    if not sessions:
        return
    for session, *rest in reader.execute(query, [sessions]).fetchall():
        yield rows.id_of(ids.SESSION, session), *rest


def _hashes(reader: Reader, offsets: list[int]) -> dict[int, bytes]:
    """The hashes of the entries at these feed offsets."""
    if not offsets:
        return {}
    return {at: bytes(found) for at, found in reader.execute(_HASHES, [offsets]).fetchall()}


def _head_of(row: Any) -> Head:
    run = rows.id_or_none(ids.RUN, row[8])
    head = Head(
        session_id=rows.id_of(ids.SESSION, row[0]),
        epoch=row[1],
        next_seq=row[2],
        last_at=rows.time_of(row[3]),
        last_offset=row[4],
        created_offset=row[5],
        task=intern(row[6]),
        status=SessionStatus(row[7]),
        run_id=run,
        run_status=RunStatus(row[9]) if run is not None else None,
        attempt=row[10] or 0,
        retry_at=rows.time_or_none(row[11]),
        queued_at=rows.time_or_none(row[12]),
        ended_at=rows.time_or_none(row[13]),
        outcome_offset=row[14],
        checkpoint_offset=row[22],
        has_keys=row[24],
        key_id=intern(row[28]) if row[28] is not None else None,
    )
    if row[15] is not None:
        head.wait = PendingWait(
            id=rows.id_of(ids.WAIT, row[15]),
            kind=intern(row[16]),
            op=row[17],
            token_id=rows.id_or_none(ids.TOKEN, row[18]),
            # A deadline that is the token's expiry is not the wait's own (`helmr_runtime.core.run.own_deadline`).
            deadline_at=rows.time_or_none(row[19]) if row[19] != row[27] else None,
            is_backoff=row[20],
            session_ids=tuple(jsontext.decode(row[29])),
            rung_at=rows.time_or_none(row[30]),
            default_at=rows.time_or_none(row[31]),
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
