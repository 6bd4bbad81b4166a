"""What lists and objects are read from: the port between the reads and what holds the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from helmr.models import RunsQuery, SessionsQuery, TokensQuery, WaitsQuery
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

    async def page(self, wanted: Wanted, *, resolving: Sequence[str] = ()) -> Json:
        """Of waits `resolving` are those whose token has ended: no longer pending to callers, though their sessions
        do not know it yet."""
        ...

    async def wait_totals(self, resolving: Sequence[str]) -> list[Json]:
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
