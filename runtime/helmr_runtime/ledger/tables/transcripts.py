"""Pages of a session's entries and of its streams' records.

What is acknowledged is in `entries`, so these need no projection.
"""

from __future__ import annotations

from typing import Any

from helmr_runtime.ledger.index import pages, views
from helmr_runtime.ledger.tables import reads
from helmr_runtime.ledger.tables.engine import Reader

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
    found = reads.session_entries(reader, session_id, since_offset, start, limit + 1)
    more = len(found) > limit
    shown = found[:limit]
    following = pages.encode(name, [shown[-1].seq]) if more else None
    return pages.page([views.entry_json(entry) for entry in shown], following)


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
    found = reads.stream_entries(
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
        takers = reads.consumers(reader, session_id, since_offset, record_ids)
    items = [views.record_json(entry, takers.get(entry.body["record_id"])) for entry in shown]
    following = pages.encode(name, [items[-1]["seq"]]) if more else None
    return pages.page(items, following)


def _start(name: str, after: int | None, cursor: str | None) -> int:
    key = pages.decode(name, cursor, (int,))
    return int(key[0]) if key is not None else (after or 0)
