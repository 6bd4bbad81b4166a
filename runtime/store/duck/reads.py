"""What adoptions, followers and the service ask of entries: by offset, by session, by stream.

Each function runs on a reader's cursor and returns entries or plain values. Reads by feed offset cost about the
same however long the log is; those by session scan one column of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from helmr import ids
from helmr.errors import ChainBroken
from runtime.core.entries import GENESIS, Entry, EntryKind, link
from runtime.store.duck.database import Connection
from runtime.store.duck.rows import entry_of, id_of, time_of, uuid_of

CHAIN_CHUNK = 10_000
"""Entries of a session checked at a time."""


def entries_at(connection: Connection, offsets: Iterable[int]) -> dict[int, Entry]:
    """The entries at these feed offsets."""
    wanted = list(offsets)
    if not wanted:
        return {}
    found = connection.execute(
        "SELECT * FROM entry_rows WHERE feed_offset IN (SELECT unnest($1::BIGINT[]))", [wanted]
    ).fetchall()
    return {row[0]: entry_of(row) for row in found}


def entries_after(connection: Connection, offset: int, limit: int) -> list[Entry]:
    """The feed behind an offset."""
    found = connection.execute(
        "SELECT * FROM entry_rows WHERE feed_offset > $1 AND feed_offset <= $2 ORDER BY feed_offset",
        [offset, offset + limit],
    ).fetchall()
    return list(map(entry_of, found))


def checkpoint_at(connection: Connection, session_id: str, offset: int) -> str | None:
    """The newest checkpoint of a session at that feed offset."""
    row = connection.execute(
        "SELECT body FROM checkpoints WHERE feed_offset = $1 AND session = $2 "
        "ORDER BY rowid DESC LIMIT 1",
        [offset, uuid_of(session_id)],
    ).fetchone()
    return str(row[0]) if row is not None else None


def hash_at(
    connection: Connection, session_id: str, seq: int, since_offset: int
) -> tuple[int, bytes] | None:
    """Feed offset and hash of a session's entry."""
    row = connection.execute(
        "SELECT feed_offset, hash FROM entries WHERE session = $1 AND seq = $2 AND feed_offset >= $3",
        [uuid_of(session_id), seq, since_offset],
    ).fetchone()
    return (int(row[0]), bytes(row[1])) if row is not None else None


def session_entries(
    connection: Connection, session_id: str, since_offset: int, after: int, limit: int
) -> list[Entry]:
    """A session's entries behind a seq, in order."""
    found = connection.execute(
        "SELECT * FROM entry_rows WHERE session = $1 AND feed_offset >= $2 AND seq > $3 "
        "ORDER BY seq LIMIT $4",
        [uuid_of(session_id), since_offset, after, limit],
    ).fetchall()
    return list(map(entry_of, found))


def stream_entries(
    connection: Connection,
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
    found = connection.execute(
        "SELECT * FROM (SELECT *, CAST(json_extract(body, '$.stream_seq') AS INTEGER) AS stream_seq "
        "FROM entry_rows WHERE session = $1 AND feed_offset >= $2 AND kind = $3 "
        "AND json_extract_string(body, '$.stream') = $4) "
        "WHERE stream_seq > $5 AND ($6::INTEGER IS NULL OR stream_seq <= $6) "
        "ORDER BY stream_seq LIMIT $7",
        [uuid_of(session_id), since_offset, kind.value, stream, after, through, limit],
    ).fetchall()
    return [entry_of(row[:10]) for row in found]


def consumers(
    connection: Connection, session_id: str, since_offset: int, record_ids: Sequence[str]
) -> dict[str, str]:
    """Which wait took each record of a session."""
    if not record_ids:
        return {}
    found = connection.execute(
        "SELECT json_extract_string(body, '$.record_id'), json_extract_string(body, '$.wait_id') "
        "FROM entries WHERE session = $1 AND feed_offset >= $2 AND kind = 'wait.fulfilled' "
        "AND json_extract_string(body, '$.record_id') IN (SELECT unnest($3::VARCHAR[]))",
        [uuid_of(session_id), since_offset, list(record_ids)],
    ).fetchall()
    return dict(found)


def send_key(
    connection: Connection, session_id: str, stream: str, key_hash: str
) -> tuple[str, int] | None:
    """Data hash and record offset of an idempotency key (S-26)."""
    row = connection.execute(
        "SELECT data_hash, record_offset FROM send_keys "
        "WHERE session = $1 AND stream = $2 AND key_hash = $3",
        [uuid_of(session_id), stream, key_hash],
    ).fetchone()
    return (str(row[0]), int(row[1])) if row is not None else None


def start_keys(connection: Connection, keys: Sequence[str]) -> dict[str, int]:
    """`created_offset` of the sessions started with these idempotency keys."""
    found = connection.execute(
        "SELECT start_key, created_offset FROM sessions "
        "WHERE start_key IN (SELECT unnest($1::VARCHAR[]))",
        [list(keys)],
    ).fetchall()
    return dict(found)


def operation_offset(connection: Connection, operation_id: str) -> int | None:
    """Where an operation's receipt stands, also one that memory no longer holds."""
    row = connection.execute(
        "SELECT feed_offset FROM operations WHERE id = $1 ORDER BY feed_offset LIMIT 1",
        [operation_id],
    ).fetchone()
    return int(row[0]) if row is not None else None


def verify_chain(
    connection: Connection, session_id: str, since_offset: int, key: bytes | None
) -> int:
    """Check a session's hash chain (S-52); returns how many entries it has.

    Raises:
        ChainBroken: Names the first bad seq as fact `seq`.
    """
    previous, after = GENESIS, 0
    while True:
        chunk = connection.execute(
            "SELECT * FROM entry_rows WHERE session = $1 AND feed_offset >= $2 "
            "AND seq > $3 ORDER BY seq, feed_offset LIMIT $4",
            [uuid_of(session_id), since_offset, after, CHAIN_CHUNK],
        ).fetchall()
        for row in chunk:
            expected = after + 1
            if row[2] != expected or _linked(session_id, row, previous, key) != bytes(row[9]):
                raise ChainBroken(
                    f"{session_id}: entry {expected} is not what was written",
                    session_id=session_id,
                    seq=expected,
                )
            previous, after = bytes(row[9]), expected
        if len(chunk) < CHAIN_CHUNK:
            return after


def _linked(session_id: str, row: Any, previous: bytes, key: bytes | None) -> bytes:
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
