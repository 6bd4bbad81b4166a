"""What a backup reads of a ledger that works: pages of rows as JSON text, made by the engine (S-66).

Each page is three short reads by feed offset. The engine writes the text while Python is free for others, so
that a commit waits for no more than a cursor does.
"""

from __future__ import annotations

from helmr.errors import LedgerDiverged
from helmr_runtime.ledger.duck.database import Reader
from helmr_runtime.ports.copies import CopiedRows, CopyPosition

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
_HASHES = "SELECT feed_offset, lower(hex(hash)) FROM entries WHERE feed_offset IN (SELECT unnest($1::BIGINT[]))"
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
    first = reader.execute(_FIRST, [after, through]).fetchone()
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


def copied_page(reader: Reader, position: CopyPosition, head: int) -> CopiedRows:
    """What is behind a follower's last entry, as far as a page goes.

    Raises:
        LedgerDiverged: That entry is not this ledger's.
    """
    _check_position(reader, position, head)
    return copied_rows(reader, position.offset, head)


def _check_position(reader: Reader, position: CopyPosition, head: int) -> None:
    places = [position.offset, position.nil_offset]
    found = dict(reader.execute(_HASHES, [places]).fetchall())
    if not position.is_of(found.get(position.offset), found.get(position.nil_offset), head):
        raise LedgerDiverged(
            f"the follower's entry {position.offset} is not this ledger's",
            feed_offset=position.offset,
        )


def pruned_behind(reader: Reader, offset: int) -> int | None:
    """Feed offset of the newest `sessions.pruned` behind another."""
    found = reader.execute(
        "SELECT max(feed_offset) FROM entries WHERE feed_offset > $1 AND kind = 'sessions.pruned'",
        [offset],
    ).fetchone()
    return found[0] if found is not None else None
