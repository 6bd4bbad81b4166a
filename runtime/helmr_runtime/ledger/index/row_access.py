"""What lists and objects are read from: the port between the reads and what holds the rows, and its cursors.

Cursors are keyset cursors: where a list goes on, opaque to callers, bound to their list.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from helmr.errors import BadCursor
from helmr.models import (
    LIST_LIMIT_DEFAULT,
    LIST_LIMIT_MAX,
    RunsQuery,
    SessionsQuery,
    TokensQuery,
    WaitsQuery,
)
from helmr_runtime.ledger.index.heads import Head

Json = dict[str, Any]

FAR_FUTURE_US = 2**62
"""Sorts waits that time does not end last; as an integer, because NULL compares with nothing."""

Wanted = SessionsQuery | RunsQuery | WaitsQuery | TokensQuery


class Rows(Protocol):
    """Objects as JSON that fits `helmr.models`, None where there is none; pages go on behind a cursor of their own.

    Waits are sorted by when time ends them (soonest first, never last; the escalation's default, else the deadline),
    then id; what has a seq, by it; all else newest first.
    """

    async def session(self, session_id: str) -> Json | None: ...
    async def run(self, run_id: str) -> Json | None: ...
    async def wait(self, wait_id: str) -> Json | None: ...
    async def public_token(self, public_token_id: str) -> Json | None: ...

    async def page(self, wanted: Wanted, *, resolving: Collection[str] = ()) -> Json:
        """Of waits `resolving` are those whose token has ended: no longer pending to callers, though their sessions
        do not know it yet."""
        ...

    async def wait_totals(self, resolving: Collection[str]) -> list[Json]:
        """The pending waits by what they wait for: `{kind, stream, count, oldest_at}`; none of them is a backoff, nor
        one of those whose token has ended.
        """
        ...

    async def public_tokens(self, cursor: str | None, limit: int) -> Json: ...
    async def api_keys(self, cursor: str | None, limit: int) -> Json: ...

    async def transcript(
        self, head: Head, after: int | None, cursor: str | None, limit: int
    ) -> Json: ...
    async def records(
        self,
        head: Head,
        direction: str,
        stream: str,
        after: int | None,
        cursor: str | None,
        limit: int,
    ) -> Json: ...


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
