"""Reads of entries and checkpoints by offset, session or stream, for adoptions, followers, backups and the service.

Each function runs on a reader's cursor and returns entries or plain values. `entries` holds everything acknowledged, so
no function needs a projection. The length of the log hardly changes the cost of a read by feed offset; a read by
session scans one column of it.

A backup reads pages of rows as JSON text from a running ledger (S-66), each in three short reads by feed offset. The
engine writes the text without the GIL, so a commit waits no longer than for a cursor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from helmr.errors import ChainBroken, DataError, MasterKeyMissing, PayloadDamaged
from helmr.wire import ids
from helmr_runtime.core.checkpoint import is_whole, pieces, refs
from helmr_runtime.core.entries import GENESIS, Entry, EntryKind, entry_json, link
from helmr_runtime.ledger.index import views
from helmr_runtime.ledger.index.authored import Bodies
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.tables.appends import Checkpoint
from helmr_runtime.ledger.tables.engine import Reader, first_row, id_of, time_of, uuid_of
from helmr_runtime.ports.ledger import CopiedRows

FEED_WIDTH_MAX = 20_000
"""Feed offsets that one read of the feed looks through at most; where most was pruned few of them have entries."""

CHAIN_CHUNK = 10_000
"""Entries of a session checked at a time."""


def entries_at(reader: Reader, offsets: Iterable[int]) -> dict[int, Entry]:
    """The entries at these feed offsets."""
    wanted = list(offsets)
    if not wanted:
        return {}
    found = reader.entries(
        "SELECT * FROM entry_rows WHERE feed_offset IN (SELECT unnest($1::BIGINT[]))", [wanted]
    )
    return {entry.feed_offset: entry for entry in found if entry.feed_offset is not None}


def listed_entries(
    reader: Reader, offsets: Iterable[int]
) -> tuple[dict[int, Entry], dict[int, str]]:
    """The entries at these feed offsets, and why some have an empty body: see `Reader.readable_entries`."""
    wanted = list(offsets)
    if not wanted:
        return {}, {}
    found, problems = reader.readable_entries(
        "SELECT * FROM entry_rows WHERE feed_offset IN (SELECT unnest($1::BIGINT[]))", [wanted]
    )
    return {entry.feed_offset: entry for entry in found if entry.feed_offset is not None}, problems


def bodies_at(
    reader: Reader, offsets: Iterable[int], *, strict: bool
) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """Read only the bodies of entries, in little more than half the time of `listed_entries`.

    An entry that can't be opened has an empty body, and a problem under its feed offset; `strict` raises instead.
    """
    wanted = list(offsets)
    bodies: dict[int, dict[str, Any]] = {}
    problems: dict[int, str] = {}
    if not wanted:
        return bodies, problems
    rows = reader.execute(
        "SELECT feed_offset, session, seq, kind, body FROM entries "
        "WHERE feed_offset IN (SELECT unnest($1::BIGINT[]))",
        [wanted],
    ).fetchall()
    for row in rows:
        try:
            bodies[row[0]] = reader.body_of(row)
        except (PayloadDamaged, MasterKeyMissing) as error:
            if strict:
                raise
            bodies[row[0]], problems[row[0]] = {}, error.message
    return bodies, problems


def problem_of(problems: dict[int, str], *offsets: int | None) -> str | None:
    """The first problem at one of these feed offsets."""
    return next((problems[o] for o in offsets if o is not None and o in problems), None)


def entries_after(reader: Reader, offset: int, limit: int) -> list[Entry]:
    """The feed behind an offset, as many as there are up to `limit`.

    Pruned sessions have left gaps in it. The bounds of each read keep it cheap wherever it is: a scan that sorted
    everything behind the offset would not be.
    """
    found: list[Entry] = []
    width = limit
    while len(found) < limit:
        found += reader.entries(
            "SELECT * FROM entry_rows WHERE feed_offset > $1 AND feed_offset <= $2 ORDER BY feed_offset",
            [offset, offset + width],
        )
        offset += width
        if len(found) >= limit:
            break
        row = first_row(
            reader.execute("SELECT min(feed_offset) FROM entries WHERE feed_offset > $1", [offset])
        )
        if row is None or row[0] is None:
            break
        offset = int(row[0]) - 1
        width = min(2 * width, FEED_WIDTH_MAX)
    return found[:limit]


def checkpoint_at(reader: Reader, session_id: str, offset: int) -> tuple[int, str] | None:
    """Seq and stored text of a session's newest checkpoint at that feed offset."""
    row = first_row(
        reader.execute(
            "SELECT seq, body FROM checkpoints WHERE feed_offset = $1 AND session = $2 "
            "ORDER BY rowid DESC LIMIT 1",
            [offset, uuid_of(session_id)],
        )
    )
    return (int(row[0]), str(row[1])) if row is not None else None


def hash_at(
    reader: Reader, session_id: str, seq: int, since_offset: int
) -> tuple[int, bytes] | None:
    """Feed offset and hash of a session's entry."""
    row = first_row(
        reader.execute(
            "SELECT feed_offset, hash FROM entries WHERE session = $1 AND seq = $2 AND feed_offset >= $3",
            [uuid_of(session_id), seq, since_offset],
        )
    )
    return (int(row[0]), bytes(row[1])) if row is not None else None


def seq_at(reader: Reader, session_id: str, since_offset: int, offset: int) -> int:
    """Seq of a session's last entry up to a feed offset, 0 if there is none; its first is at `since_offset`."""
    found = first_row(
        reader.execute(
            "SELECT max(seq) FROM entries WHERE session = $1 AND feed_offset BETWEEN $2 AND $3",
            [uuid_of(session_id), since_offset, offset],
        )
    )
    return int(found[0]) if found is not None and found[0] is not None else 0


def session_entries(
    reader: Reader, session_id: str, since_offset: int, after: int, limit: int
) -> list[Entry]:
    """A session's entries behind a seq, in order."""
    return reader.entries(
        "SELECT * FROM entry_rows WHERE session = $1 AND feed_offset >= $2 AND seq > $3 "
        "ORDER BY seq LIMIT $4",
        [uuid_of(session_id), since_offset, after, limit],
    )


def stream_entries(
    reader: Reader,
    session_id: str,
    kind: EntryKind,
    stream: str,
    *,
    since_offset: int,
    after: int,
    through: int | None = None,
    limit: int | None = None,
) -> list[Entry]:
    """The entries of a stream's records behind a stream seq, in order."""
    return reader.entries(
        "SELECT * FROM (SELECT *, CAST(json_extract(body, '$.stream_seq') AS INTEGER) AS stream_seq "
        "FROM entry_rows WHERE session = $1 AND feed_offset >= $2 AND kind = $3 "
        "AND json_extract_string(body, '$.stream') = $4) "
        "WHERE stream_seq > $5 AND ($6::INTEGER IS NULL OR stream_seq <= $6) "
        "ORDER BY stream_seq LIMIT $7",
        [uuid_of(session_id), since_offset, kind.value, stream, after, through, limit],
    )


def consumers(
    reader: Reader, session_id: str, since_offset: int, record_ids: Sequence[str]
) -> dict[str, str]:
    """Return the wait that took each record of a session."""
    if not record_ids:
        return {}
    found = reader.execute(
        "SELECT json_extract_string(body, '$.record_id'), json_extract_string(body, '$.wait_id'), kind "
        "FROM entries WHERE session = $1 AND feed_offset >= $2 "
        "AND kind IN ('wait.fulfilled', 'input.returned') "
        "AND json_extract_string(body, '$.record_id') IN (SELECT unnest($3::VARCHAR[])) ORDER BY seq",
        [uuid_of(session_id), since_offset, list(record_ids)],
    ).fetchall()
    last = {record_id: (wait_id, kind) for record_id, wait_id, kind in found}
    return {
        record_id: wait_id
        for record_id, (wait_id, kind) in last.items()
        if kind == EntryKind.WAIT_FULFILLED
    }


def send_key(reader: Reader, session_id: str, stream: str, key_hash: str) -> tuple[str, int] | None:
    """Data hash and record offset of an idempotency key (S-26)."""
    row = first_row(
        reader.execute(
            "SELECT data_hash, record_offset FROM send_keys "
            "WHERE session = $1 AND stream = $2 AND key_hash = $3",
            [uuid_of(session_id), stream, key_hash],
        )
    )
    return (str(row[0]), int(row[1])) if row is not None else None


def start_keys(reader: Reader, keys: Sequence[str]) -> dict[str, int]:
    """`created_offset` of the sessions started with these idempotency keys."""
    found = reader.execute(
        "SELECT start_key, created_offset FROM sessions "
        "WHERE start_key IN (SELECT unnest($1::VARCHAR[]))",
        [list(keys)],
    ).fetchall()
    return dict(found)


def operation_offset(reader: Reader, operation_id: str) -> int | None:
    """Return the feed offset of an operation's receipt, even if memory no longer holds it."""
    row = first_row(
        reader.execute(
            "SELECT feed_offset FROM operations WHERE id = $1 ORDER BY feed_offset LIMIT 1",
            [operation_id],
        )
    )
    return int(row[0]) if row is not None else None


def verify_chain(reader: Reader, session_id: str, since_offset: int, key: bytes | None) -> int:
    """Check a session's hash chain (S-52); returns how many entries it has.

    Raises:
        ChainBroken: Names the first bad seq as fact `seq`.
    """
    previous, after = GENESIS, 0
    while True:
        chunk = reader.execute(
            "SELECT * FROM entry_rows WHERE session = $1 AND feed_offset >= $2 "
            "AND seq > $3 ORDER BY seq, feed_offset LIMIT $4",
            [uuid_of(session_id), since_offset, after, CHAIN_CHUNK],
        ).fetchall()
        for row in chunk:
            expected = after + 1
            if row[2] != expected or linked(session_id, row, previous, key) != bytes(row[9]):
                raise ChainBroken(
                    f"{session_id}: entry {expected} is not what was written",
                    session_id=session_id,
                    seq=expected,
                )
            previous, after = bytes(row[9]), expected
        if len(chunk) < CHAIN_CHUNK:
            return after


def linked(session_id: str, row: Any, previous: bytes, key: bytes | None) -> bytes:
    """The hash that a row of `entry_rows` must have behind an entry with the hash `previous`."""
    return link(
        previous,
        key=key,
        session_id=session_id,
        seq=row[2],
        recorded_at=time_of(row[3]),
        kind=row[4],
        run_id=id_of(ids.RUN, row[5]) if row[5] is not None else None,
        op=row[6],
        principal_json=row[7],
        body_json=row[8],
    )


Json = dict[str, Any]


def transcript(
    reader: Reader,
    session_id: str,
    since_offset: int,
    after: int | None,
    cursor: str | None,
    limit: int,
) -> Json:
    """Entries behind a seq; a cursor wins over `after`."""
    name = f"transcript:{session_id}"
    start = _start(name, after, cursor)
    found = session_entries(reader, session_id, since_offset, start, limit + 1)
    more = len(found) > limit
    shown = found[:limit]
    following = views.encode_cursor(name, [shown[-1].seq]) if more else None
    return views.page([entry_json(entry) for entry in shown], following)


def records(
    reader: Reader,
    session_id: str,
    direction: str,
    stream: str,
    since_offset: int,
    after: int | None,
    cursor: str | None,
    limit: int,
) -> Json:
    """Records behind a stream seq; of inputs also which wait took each."""
    name = f"{direction}:{session_id}:{stream}"
    found = stream_entries(
        reader,
        session_id,
        views.record_kind(direction),
        stream,
        since_offset=since_offset,
        after=_start(name, after, cursor),
        limit=limit + 1,
    )
    more = len(found) > limit
    shown = found[:limit]
    takers: dict[str, str] = {}
    if direction == "input":
        record_ids = [entry.body["record_id"] for entry in shown]
        takers = consumers(reader, session_id, since_offset, record_ids)
    items = [views.record_json(entry, takers.get(entry.body["record_id"])) for entry in shown]
    following = views.encode_cursor(name, [items[-1]["seq"]]) if more else None
    return views.page(items, following)


def _start(name: str, after: int | None, cursor: str | None) -> int:
    key = views.decode_cursor(name, cursor, (int,))
    return int(key[0]) if key is not None else (after or 0)


TEXT_MAX = 4 * 1024 * 1024
"""Characters of checkpoints that are kept: those of some thousand sessions that parked last."""
KEPT_TEXT_MAX = 16 * 1024
"""A longer one is not kept: what it takes to read it is little beside what it takes to go on from it."""


class RecentCheckpoints:
    """The newest checkpoints, as stored; the oldest dropped first.

    An adoption would find its one row by a statement, a third of what its session's answer costs the ledger.
    """

    def __init__(self) -> None:
        self._by_session: dict[str, Checkpoint] = {}
        self._text = 0

    def add(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Keep what was stored."""
        for checkpoint in checkpoints:
            self._drop(checkpoint.session_id)
            if len(checkpoint.body) <= KEPT_TEXT_MAX:
                self._by_session[checkpoint.session_id] = checkpoint
                self._text += len(checkpoint.body)
        while self._text > TEXT_MAX:
            self._drop(next(iter(self._by_session)))

    def _drop(self, session_id: str) -> None:
        dropped = self._by_session.pop(session_id, None)
        if dropped is not None:
            self._text -= len(dropped.body)

    def whole(self, head: Head, bodies: Bodies) -> str | None:
        """The text of the session's newest checkpoint, if it is here and names nothing that must be read."""
        kept = self._by_session.get(head.session_id)
        if kept is None or kept.feed_offset != head.checkpoint_offset:
            return None
        text = bodies.open_checkpoint(kept.body, session_id=kept.session_id, seq=kept.seq)
        return text if is_whole(text) else None


def checkpoint_of(
    reader: Reader, head: Head, missing: Sequence[int], bodies: Bodies
) -> tuple[str | None, dict[int, str], dict[int, Entry]]:
    """The checkpoint's text, the earlier ones that it names, and the entries that they name or that are missing."""
    if not head.checkpoint_offset:
        return None, {}, entries_at(reader, missing)

    def text_at(offset: int) -> str:
        stored = checkpoint_at(reader, head.session_id, offset)
        if stored is None:
            raise DataError(f"{head.session_id}: its checkpoint at {offset} is not there")
        seq, text = stored
        return bodies.open_checkpoint(text, session_id=head.session_id, seq=seq)

    text = text_at(head.checkpoint_offset)
    earlier = {offset: text_at(offset) for offset in pieces(text)}
    named = {offset for one in (text, *earlier.values()) for offset in refs(one)}
    return text, earlier, entries_at(reader, {*named, *missing})


PAGE_ENTRIES = 500
PAGE_BYTES = 2_000_000
"""Of bodies, unless a single entry and its checkpoints have more: a page is one frame, and must not hold others up."""

_FIRST = "SELECT min(feed_offset) FROM entries WHERE feed_offset > $1 AND feed_offset <= $2"
_SIZES = """
SELECT feed_offset, sum(size_bytes) FROM (
    SELECT feed_offset, strlen(body) AS size_bytes FROM entries WHERE feed_offset > $1 AND feed_offset <= $2
    UNION ALL
    SELECT feed_offset, strlen(body) FROM checkpoints WHERE feed_offset > $1 AND feed_offset <= $2
) GROUP BY feed_offset ORDER BY feed_offset
"""
_ROWS = """
SELECT line FROM (
    SELECT feed_offset, 0 AS place, rowid AS number, json_array('e', feed_offset, session::VARCHAR, seq,
        epoch_us(recorded_at), kind, run::VARCHAR, op, principal, body, lower(hex(hash)))::VARCHAR AS line
    FROM entries WHERE feed_offset > $1 AND feed_offset <= $2
    UNION ALL
    SELECT feed_offset, 1, rowid, json_array('c', feed_offset, session::VARCHAR, seq, body)::VARCHAR
    FROM checkpoints WHERE feed_offset > $1 AND feed_offset <= $2
) ORDER BY feed_offset, place, number
"""
"""Each checkpoint behind the entry that it covers."""


def copied_rows(reader: Reader, after: int, through: int) -> CopiedRows:
    """The entries behind `after`, and the checkpoints that cover them, as far as a page goes; at most to `through`.

    A checkpoint that is stored while its page is read, or later, is of a session that parked meanwhile: it covers
    the same entries as the one before it did, so that a copy is whole with it and without it.
    """
    first = first_row(reader.execute(_FIRST, [after, through]))
    if first is None or first[0] is None:
        return CopiedRows(through, ())
    after = int(first[0]) - 1  # behind a gap that `prune` has left
    bound = min(through, after + PAGE_ENTRIES)
    reached, total = after, 0
    for offset, size_bytes in reader.execute(_SIZES, [after, bound]).fetchall():
        total += int(size_bytes)
        if total > PAGE_BYTES and reached > after:
            break
        reached = int(offset)
    else:
        reached = bound
    found = reader.execute(_ROWS, [after, reached]).fetchall()
    return CopiedRows(reached, tuple(line.encode() for (line,) in found))


def pruned_behind(reader: Reader, offset: int) -> int | None:
    """Feed offset of the newest `sessions.pruned` behind another."""
    found = first_row(
        reader.execute(
            "SELECT max(feed_offset) FROM entries WHERE feed_offset > $1 AND kind = 'sessions.pruned'",
            [offset],
        )
    )
    return found[0] if found is not None else None
