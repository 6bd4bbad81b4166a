"""Keyset cursors: where a list goes on. Opaque to callers, bound to their list."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from helmr.errors import BadCursor
from helmr.models import LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX


def encode(name: str, key: Sequence[Any]) -> str:
    """The cursor behind the item with this key."""
    text = json.dumps([name, *key], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")


def decode(
    name: str, cursor: str | None, types: Sequence[type | tuple[type, ...]]
) -> list[Any] | None:
    """The key in a cursor, None without one.

    Args:
        name: The list's name.
        cursor: What an earlier page gave.
        types: Of the key's parts.

    Raises:
        BadCursor: Not a cursor, or one of another list.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        content = json.loads(text)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise BadCursor("the cursor can't be read") from error
    if not isinstance(content, list) or not content or content[0] != name:
        raise BadCursor("the cursor belongs to another list")
    key = content[1:]
    if len(key) != len(types) or not all(map(_fits, key, types)):
        raise BadCursor("the cursor can't be read")
    return key


def _fits(part: Any, kind: type | tuple[type, ...]) -> bool:
    if isinstance(part, bool):
        return False
    if isinstance(part, int) and abs(part) > 2**62:
        return False
    return isinstance(part, kind)


def limit_of(limit: int | None) -> int:
    """A list's limit within 1…200, 50 if none is asked for."""
    return LIST_LIMIT_DEFAULT if limit is None else max(1, min(limit, LIST_LIMIT_MAX))


def page(items: Sequence[dict[str, Any]], next_cursor: str | None) -> dict[str, Any]:
    """One page of a list."""
    return {"items": list(items), "next_cursor": next_cursor}
