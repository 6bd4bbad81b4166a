"""Pages of lists that are whole in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helmr.errors import BadCursor
from helmr.models import ListQuery


def page_of(items: Sequence[Any], query: ListQuery) -> dict[str, Any]:
    """Return a page of the list; its cursor is the number of items before it.

    Raises:
        BadCursor: It is not a number.
    """
    start = 0
    if query.cursor is not None:
        if not (query.cursor.isascii() and query.cursor.isdecimal()) or len(query.cursor) > 9:
            raise BadCursor(f"{query.cursor[:40]!r} is not a cursor of this list")
        start = int(query.cursor)
    end = start + query.limit
    return {
        "items": items[start:end],
        "next_cursor": str(end) if end < len(items) else None,
    }
