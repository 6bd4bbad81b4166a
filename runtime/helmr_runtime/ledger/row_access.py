"""What lists and objects are read from: the filters, and the port between the reads and whatever holds the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from helmr_runtime.ledger.heads import Head

Json = dict[str, Any]

FAR_FUTURE_US = 2**62
"""Sorts waits that time does not end last; as an integer, because NULL compares with nothing."""

ANSWERABLE = ("input", "token")
"""Kinds of waits that somebody can answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """Which sessions; None takes all."""

    external_id: str | None = None
    task: str | None = None
    status: str | None = None
    activity: str | None = None
    """Of sessions that are over, none is `idle`."""
    tag: str | None = None
    forked_from: str | None = None
    parent: str | None = None
    run_status: str | None = None
    """Of the newest run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs; None takes all."""

    session_id: str | None = None
    task: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitFilter:
    """Which waits; None takes all."""

    status: str | None = "pending"
    kinds: tuple[str, ...] = ANSWERABLE
    session_id: str | None = None
    task: str | None = None
    stream: str | None = None
    correlation_id: str | None = None
    priority: str | None = None
    assignee: str | None = None
    tag: str | None = None
    """Of the wait or of its session."""
    batch_id: str | None = None
    resolved_since: datetime | None = None
    """Over at that time or later."""
    resolving: tuple[str, ...] = ()
    """Waits whose token has ended: no longer pending to those who ask, though their sessions have yet to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFilter:
    """Which tokens; None takes all."""

    status: str | None = None
    tag: str | None = None


Filter = SessionFilter | RunFilter | WaitFilter | TokenFilter


class Rows(Protocol):
    """Objects as JSON that fits `helmr.models`, None where there is none; pages go on behind a cursor of their own.

    Waits are sorted by when time ends them (soonest first, never last; the ladder's default, else the deadline), then
    id; what has a seq, by it; all else newest first.
    """

    async def session(self, session_id: str) -> Json | None: ...
    async def run(self, run_id: str) -> Json | None: ...
    async def wait(self, wait_id: str) -> Json | None: ...
    async def public_token(self, public_token_id: str) -> Json | None: ...

    async def page(self, wanted: Filter, cursor: str | None, limit: int) -> Json: ...
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
