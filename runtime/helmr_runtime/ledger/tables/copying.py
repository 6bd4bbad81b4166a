"""What a backup reads of a ledger that works: pages of rows as JSON text, made by the engine (S-66).

Each page is three short reads by feed offset. The engine writes the text while Python is free for others, so
that a commit waits for no more than a cursor does.
"""

from __future__ import annotations

from typing import Any

from helmr.errors import LedgerDiverged
from helmr_runtime.ledger.tables.engine import Reader
from helmr_runtime.ledger.tables.rows import first_row
from helmr_runtime.ports.ledger import CopiedRows, CopyPosition

PAGE_ENTRIES = 500
PAGE_BYTES = 2_000_000
"""Of bodies, unless a single entry and its checkpoints have more: a page is one frame, and must not hold others up."""

ENTRIES_MAX = 25_000
BYTES_MAX = 16_000_000
"""Of a page that one session's entries fill: more than is written into a session at once, and less than a frame."""

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
_SESSION = "SELECT session FROM entries WHERE feed_offset = $1"
_OTHER = "SELECT {which}(feed_offset) FROM entries WHERE feed_offset > $1 AND feed_offset <= $2 AND session <> $3"
_LAST_OTHER, _FIRST_OTHER = _OTHER.format(which="max"), _OTHER.format(which="min")
_BYTES = "SELECT sum(strlen(body)) FROM entries WHERE feed_offset > $1 AND feed_offset <= $2"


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
    reached = _end_of_write(reader, after, reached, through)
    found = reader.execute(_ROWS, [after, reached]).fetchall()
    return CopiedRows(reached, tuple(line.encode() for (line,) in found))


def _end_of_write(reader: Reader, after: int, reached: int, through: int) -> int:
    """Where a page ends that could reach so far: what is written into a session at once lies together, and stays so.

    A copy that ends within that has half of a decision, and a follower that is promoted would go on from there. Before
    the last session's entries, if the page has others; else behind them, if they fit.
    """
    behind = _one(reader, _SESSION, reached + 1) if reached < through else None
    if behind is None:
        return reached
    other = _one(reader, _LAST_OTHER, after, reached, behind)
    if other is not None:
        return int(other)
    to = min(through, reached + ENTRIES_MAX)
    other = _one(reader, _FIRST_OTHER, reached, to, behind)
    end = int(other) - 1 if other is not None else to
    is_end = other is not None or to == through
    return end if is_end and int(_one(reader, _BYTES, after, end)) <= BYTES_MAX else reached


def _one(reader: Reader, statement: str, *values: Any) -> Any:
    row = first_row(reader.execute(statement, list(values)))
    return row[0] if row is not None else None


def copied_page(reader: Reader, position: CopyPosition, head: int) -> CopiedRows:
    """What is behind a follower's last entry, as far as a page goes.

    Raises:
        LedgerDiverged: That entry is not this ledger's.
    """
    _check_position(reader, position, head)
    return copied_rows(reader, position.offset, head)


def _check_position(reader: Reader, position: CopyPosition, head: int) -> None:
    places = [position.offset, position.system_offset]
    found = dict(reader.execute(_HASHES, [places]).fetchall())
    if not position.is_of(found.get(position.offset), found.get(position.system_offset), head):
        raise LedgerDiverged(
            f"the follower's entry {position.offset} is not this ledger's",
            feed_offset=position.offset,
        )


def pruned_behind(reader: Reader, offset: int) -> int | None:
    """Feed offset of the newest `sessions.pruned` behind another."""
    found = first_row(
        reader.execute(
            "SELECT max(feed_offset) FROM entries WHERE feed_offset > $1 AND kind = 'sessions.pruned'",
            [offset],
        )
    )
    return found[0] if found is not None else None
