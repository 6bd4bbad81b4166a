"""Filling the index at open: heads from the tables, then every entry that came after `projected_offset`.

Invariants: S-53 (loading and folding give what was there before), S-63.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from sys import intern
from types import MappingProxyType
from typing import Any, TypeVar

from helmr.errors import DataError
from helmr.models import RunStatus, SessionStatus
from helmr.wire import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.feature import Features
from helmr_runtime.ledger.index.heads import Head, HeadWait, checkpointed
from helmr_runtime.ledger.index.ledger_index import (
    FEATURE_MARK,
    MARKS,
    OPERATION_AGE,
    LedgerIndex,
    operations_max,
)
from helmr_runtime.ledger.index.projection import FeedTail, Projection
from helmr_runtime.ledger.tables import engine
from helmr_runtime.ledger.tables.engine import Connection, Reader
from helmr_runtime.ledger.tables.tokens import chain_keys, restore_facts

ENCRYPTS = "encrypts_payloads"
"""The row of `meta` that says whether new bodies are sealed; none means that they are not."""

FOLLOWS, WHOLE_FROM = "follows", "whole_from"
"""Rows of `meta` of a follower's copy, as 0.7 and earlier made them: it has no tables, and before that feed offset it
may hold parts of sessions that were pruned."""

SUPERSEDED = "superseded_by"
"""The row of `meta` with the generation of a promoted follower that this ledger has met, with a runtime of 0.7 or
earlier: it acknowledges nothing more."""

NAMES_FEATURES = "names_features"
"""The row of `meta` of a file that names the features whose entries it holds, with the edition of these names."""

FEATURES_EDITION = 2
"""Raised when kinds of the kernel become a feature's: a file with a lower number, or none, is looked through once."""

T = TypeVar("T")

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

_HEAD: Mapping[str, tuple[str, str]] = {
    "session_id": ("s.session::BLOB", "from_bytes(SESSION, {})"),
    "epoch": ("s.epoch", "{}"),
    "next_seq": ("s.next_seq", "{}"),
    "last_at": ("s.updated_us", "time_of({})"),
    "last_offset": ("s.last_offset", "{}"),
    "created_offset": ("s.created_offset", "{}"),
    "task": ("s.task", "intern({})"),
    "parent_session_id": (
        "s.parent::BLOB",
        "intern(from_bytes(SESSION, {0})) if {0} is not None else None",
    ),
    "status": ("s.status", "SESSION_STATUSES[{}]"),
    "run_id": ("s.run::BLOB", "from_bytes(RUN, {0}) if {0} is not None else None"),
    "run_status": ("r.status", "RUN_STATUSES[{0}] if {0} is not None else None"),
    "attempt": ("r.attempt", "{} or 0"),
    "retry_at": ("r.retry_us", "time_or_none({})"),
    "queued_at": ("r.queued_us", "time_or_none({})"),
    "ended_at": ("r.ended_us", "time_or_none({})"),
    "outcome_offset": ("r.outcome_offset", "{}"),
    "wait": ("w.wait::BLOB", "wait_of(row) if {} is not None else None"),
    "open_steps": ("s.open_steps", "NO_STEPS"),
    "checkpoint_offset": ("s.checkpoint_offset", "{}"),
    "tail": ("s.tail_count", "[]"),
    "has_keys": ("s.has_keys", "{}"),
    "key_id": ("c.key_id", "intern({0}) if {0} is not None else None"),
    "unconsumed": ("NULL", "None"),
}
"""What a head's fields are restored from, in SQL, and how, where `{}` is what SQL gave. The others begin as ever.

UUIDs come as their bytes: to make Python's takes ten times as long.
"""

_WAIT: Mapping[str, tuple[str, str]] = {
    "id": ("w.wait::BLOB", "from_bytes(WAIT, {})"),
    "kind": ("w.kind", "intern({})"),
    "op": ("w.op", "{}"),
    "token_id": ("w.token::BLOB", "from_bytes(TOKEN, {0}) if {0} is not None else None"),
    "deadline_at": ("nullif(w.deadline_us, t.expires_us)", "time_or_none({})"),
    "is_backoff": ("w.is_backoff", "{}"),
    "session_ids": (
        "nullif(w.session_ids, '[]')",
        "tuple(decode({0})) if {0} is not None else ()",
    ),
    "escalates_at": ("w.next_escalation_us", "time_or_none({})"),
    "default_at": ("w.default_us", "time_or_none({})"),
}
"""The same of its pending wait. A deadline that is the token's expiry is not the wait's own
(`helmr_runtime.core.run.own_deadline`)."""

_BESIDE = ("s.external_id", "s.start_key", "s.open_steps", "s.tail_count")
"""What else an admission needs: the last columns."""

_COLUMNS = [sql for part in (_HEAD, _WAIT) for sql, _ in part.values()] + list(_BESIDE)
_HEADS = f"""
SELECT {", ".join(_COLUMNS)}
FROM (SELECT * FROM session_rows s WHERE {{which}}) s
LEFT JOIN run_rows r ON r.run = s.run
LEFT JOIN wait_rows w ON w.wait = s.wait
LEFT JOIN token_rows t ON t.token = w.token
LEFT JOIN chains c ON c.session = s.session
ORDER BY coalesce(r.retry_us, r.queued_us)
"""  # noqa: S608 - names of our own
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
_SYSTEM_KINDS = """
SELECT kind, max(feed_offset) FROM entries WHERE session = $1 AND feed_offset <= $2 GROUP BY kind
"""
_HAS_ANY = "SELECT EXISTS (FROM entries) OR EXISTS (FROM holdings)"
"""Something was committed. If not, the queries below find nothing, and take a fifth of the time of an open."""
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
class RestoredMemory:
    """The ledger's memory, as restored when it opens."""

    index: LedgerIndex
    projection: Projection
    recent: FeedTail
    projected_offset: int
    openings: int
    system_offset: int
    encrypts: bool = False
    superseded_by: int = 0
    features: Mapping[str, int] = field(default_factory=dict)


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
def restore(reader: Reader, now: datetime, features: Features = ()) -> RestoredMemory:
    """Load the tables and fold the entries behind them.

    Raises:
        FeatureMissing: It holds entries of a feature that is not among these.
    """
    index = LedgerIndex(features)
    meta = dict(reader.execute("SELECT name, number FROM meta").fetchall())
    named = _features(reader, index, meta)
    for name in MARKS:
        setattr(index, name, meta.get(name, getattr(index, name)))
    index.head_offset = meta["projected_offset"]
    restored = RestoredMemory(
        index=index,
        projection=Projection(through=meta["projected_offset"]),
        recent=FeedTail(),
        projected_offset=meta["projected_offset"],
        openings=meta["openings"],
        system_offset=meta["system_offset"],
        encrypts=bool(meta.get(ENCRYPTS, 0)),
        superseded_by=meta.get(SUPERSEDED, 0),
        features=named,
    )
    if not restored.projected_offset and reader.execute(_HAS_ANY).fetchall() == [(False,)]:
        return restored
    _system_head(reader, index, meta["system_offset"])
    holdings = {
        engine.id_of(ids.SESSION, session): (int(epoch), holder or None)
        for session, epoch, holder in reader.execute(_HOLDINGS).fetchall()
    }
    _admit(reader, index, now, _OPEN, holdings=holdings)
    restore_facts(reader, index)
    for operation_id, offset, recorded_us in reader.execute(
        _OPERATIONS,
        [now - OPERATION_AGE, operations_max() + 1],  # one more, and not all are known
    ).fetchall():
        index.operations.remember(operation_id, offset, engine.time_of(recorded_us))
    index.operations.forget_old(now)
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


def _features(reader: Reader, index: LedgerIndex, meta: Mapping[str, int]) -> dict[str, int]:
    """Require and return the features with entries in the ledger (S-148), by its marks; by entries in an older one."""
    named = {
        name.removeprefix(FEATURE_MARK): at
        for name, at in meta.items()
        if name.startswith(FEATURE_MARK)
    }
    if meta.get(NAMES_FEATURES, 0) < FEATURES_EDITION:
        system = [engine.uuid_of(ids.SYSTEM_STREAM), meta["projected_offset"]]
        for kind, offset in reader.execute(_SYSTEM_KINDS, system).fetchall():
            owner = index.features.owner(EntryKind(kind))
            if owner is not None:
                named[owner] = max(offset, named.get(owner, 0))
    index.features.require(named)
    index.features.since.update(named)
    return {FEATURE_MARK + name: at for name, at in named.items()}


def read_head(reader: Reader, index: LedgerIndex, session_id: str, now: datetime) -> Head | None:
    """Admit one session that is not in memory: one that ended a while ago. None if there is none.

    Everything that is not projected yet is in memory, so the tables are up to date for it.
    """
    _admit(reader, index, now, _ONE, [engine.uuid_of(session_id)])
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
            head = _head_of(row)
            external_id, start_key, step_count, tail_count = row[-len(_BESIDE) :]
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
            index.admit(head, now, external_id=external_id, start_key=start_key)


def _by_position(
    kind: type[T], how: Mapping[str, tuple[str, str]], first: int
) -> Callable[[Any], T]:
    """Makes a value of a row, the columns of which begin at `first`.

    Its arguments go by position, in the order of the class's fields: by name they take a fifth of the time that a head
    takes. So the code is made of the table above, as that of a dataclass is of its fields.
    """
    made = {
        name: text.format(f"row[{first + at}]") for at, (name, (_, text)) in enumerate(how.items())
    }
    names, arguments = dict(_NAMES), list[str]()
    for one in fields(kind):  # type: ignore[arg-type] # a dataclass
        if one.name not in made:
            names[one.name] = one.default
        arguments.append(made.get(one.name, one.name))
    code = f"lambda row: kind({', '.join(arguments)})"
    return eval(code, {"kind": kind, **names})  # type: ignore[no-any-return] # noqa: S307 - of the table above


_NAMES: dict[str, Any] = {
    "SESSION": ids.SESSION,
    "RUN": ids.RUN,
    "WAIT": ids.WAIT,
    "TOKEN": ids.TOKEN,
    "SESSION_STATUSES": _SESSION_STATUSES,
    "RUN_STATUSES": _RUN_STATUSES,
    "NO_STEPS": _NO_STEPS,
    "from_bytes": ids.from_bytes,
    "time_of": engine.time_of,
    "time_or_none": engine.time_or_none,
    "intern": intern,
    "decode": jsontext.decode,
}
_NAMES["wait_of"] = _by_position(HeadWait, _WAIT, len(_HEAD))
_head_of = _by_position(Head, _HEAD, 0)
"""A head without its last hash and what its counts stand for."""


def _system_head(reader: Reader, index: LedgerIndex, system_offset: int) -> None:
    row = engine.first_row(
        reader.execute(
            "SELECT seq, hash, recorded_us FROM entry_rows WHERE feed_offset = $1", [system_offset]
        )
    )
    if row is not None:
        index.system.next_seq = row[0] + 1
        index.system.last_hash = bytes(row[1])
        index.system.last_at = engine.time_of(row[2])
        index.system.last_offset = system_offset
        index.system.key_id = chain_keys(reader, [engine.uuid_of(ids.SYSTEM_STREAM)]).get(
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


def _saved_since(reader: Reader, restored: RestoredMemory) -> None:
    for (session,) in reader.execute(_SAVED_SINCE).fetchall():
        session_id = engine.id_of(ids.SESSION, session)
        head = restored.index.heads.get(session_id)
        if head is not None:
            checkpointed(head)
            restored.projection.touched.add(session_id)


def _fold_rest(reader: Reader, restored: RestoredMemory, now: datetime) -> None:
    checkpoints = set(
        reader.execute(
            "SELECT session, feed_offset FROM checkpoints WHERE feed_offset > $1",
            [restored.projected_offset],
        ).fetchall()
    )
    for entry in _entries_after(reader, restored.projected_offset):
        fold_stored(reader, restored.index, entry, now)
        head = restored.index.heads[entry.session_id]
        if (engine.uuid_of(entry.session_id), entry.feed_offset) in checkpoints:
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
