"""`AsyncClient`: sessions, runs and waits for programs with an event loop.

Every method calls an operation of the table; the transport repeats it after transient failures, with the same
operation id. Lists and follows are async iterators. Every method may raise, besides its own errors:

    BadId: An invalid id, or one of another kind.
    Unauthenticated, RoleDenied: The key is missing, unknown, or lacks the right.
    Unavailable: No answer within the bounds of `Retry`. A mutation raises `OutcomeUnknown`, since it may have
        acted: repeat the call with the same `operation_id` to find out.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from pkgutil import resolve_name
from types import TracebackType
from typing import Any, Self

from helmr.client.bulk import AsyncBulk
from helmr.client.calls import (
    READ_TIMEOUT_S,
    UNSET,
    Call,
    Download,
    Feed,
    Retry,
    call,
    reads,
)
from helmr.client.discovery import find_runtime
from helmr.client.endpoint import Endpoint
from helmr.client.http import AsyncHttpTransport, ClientPart, all_pages
from helmr.client.keys import AsyncKeys
from helmr.client.notices import AsyncNotices
from helmr.client.people import AsyncPeople
from helmr.client.public_tokens import AsyncAuth
from helmr.client.runs import AsyncRuns
from helmr.client.sessions import AsyncSessions
from helmr.client.tokens import AsyncTokens
from helmr.client.waits import AsyncWaits
from helmr.features import AsyncParts, client_parts
from helmr.models import (
    QUERY_TIMEOUT_S,
    EntryInfo,
    Health,
    LimitInfo,
    PruneReceipt,
    StreamInfo,
    TaskInfo,
)
from helmr.wire.durations import Duration, seconds
from helmr.wire.operations import (
    FOLLOW_ALL,
    LIST_LIMITS,
    LIST_STREAMS,
    LIST_TASKS,
    PRUNE_SESSIONS,
    READ_BACKUP,
    READYZ,
    RUN_QUERY,
)
from helmr.wire.query import ARROW_MEDIA_TYPE, QueryResult, has_arrow

_OF_FEATURES: dict[str, type[ClientPart]] = {
    name: resolve_name(awaited) for name, (awaited, _) in client_parts()
}
globals().update({part.__name__: part for part in _OF_FEATURES.values()})


class AsyncClient(ClientPart, AsyncParts):
    """A connection to one runtime. Belongs to one event loop; close it, or use it in an `async with`.

    Args:
        url: The runtime's URL, or the addresses of a pair, also as one text with commas; `ray` is the one in the
            Ray cluster of this process. Without it the client looks in `HELMR_URL`, `data_dir`, the Ray cluster that
            this process is connected to, the nearest `.helmr/` upward, then for the only live runtime.
        key: API key. Without it `HELMR_API_KEY` for a URL, else the one found with the runtime.
        data_dir: The runtime's data directory.
        on_behalf_of: The person for whom this program acts; recorded with everything it does (S-51).
        retry: Bounds on retries.

    Raises:
        RuntimeNotFound: None is running in these places.
        AmbiguousRuntime: Several are running, and none is named.
    """

    def __init__(
        self,
        *,
        url: str | Sequence[str] | None = None,
        key: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        on_behalf_of: str | None = None,
        retry: Retry | None = None,
    ) -> None:
        endpoint = find_runtime(url=url, key=key, data_dir=data_dir)
        self._bind(AsyncHttpTransport(endpoint, retry=retry, on_behalf_of=on_behalf_of))

    @classmethod
    def _over(cls, transport: AsyncHttpTransport) -> Self:
        """Return a client over an existing transport."""
        client = cls.__new__(cls)
        client._bind(transport)
        return client

    def _bind(self, transport: AsyncHttpTransport) -> None:
        self._transport = transport
        self.sessions = AsyncSessions(self._transport)
        self.runs = AsyncRuns(self._transport)
        self.waits = AsyncWaits(self._transport)
        self.tokens = AsyncTokens(self._transport)
        self.auth = AsyncAuth(self._transport)
        self.keys = AsyncKeys(self._transport)
        self.people = AsyncPeople(self._transport)
        for name, part in _OF_FEATURES.items():
            setattr(self, name, part(self._transport))
        self.notices = AsyncNotices(self._transport)
        self.tasks = AsyncTasks(self._transport)
        self.streams = AsyncStreams(self._transport)
        self.limits = AsyncNamedLimits(self._transport)
        self.bulk = AsyncBulk(self._transport)

    @property
    def endpoint(self) -> Endpoint:
        """The runtime that this client talks to."""
        return self._transport.endpoint

    async def health(self) -> Health:
        """Return the runtime's health; `ready` False comes with the reasons and is not an error.

        With several addresses, the one that is ready answers, if any.
        """
        asking = replace(call(READYZ), also_ok=(503,))
        found = await self._transport.call(asking)
        for _ in self.endpoint.others:
            if found.ready or not self._transport.turn():
                break
            found = await self._transport.call(asking)
        return found

    async def query(self, sql: str, *, limit: int | None = None) -> QueryResult:
        """Run one SELECT over the views `sessions, runs, waits, records, entries, tokens` (docs/sql.md).

        Args:
            sql: One SELECT statement.
            limit: Most rows, up to 100,000; default 10,000. A cut result has `truncated` set.

        Raises:
            BadQuery: It can't be read, or is not allowed.
            QueryTimeout, QueryTooLarge: It reached a limit of time, memory or size.
        """
        body: dict[str, Any] = {"sql": sql, "limit": limit if limit is not None else UNSET}
        wanted: Call[Any] = call(RUN_QUERY, body=body)
        answer: QueryResult = await self._transport.call(
            replace(
                wanted,
                read_timeout_s=READ_TIMEOUT_S + QUERY_TIMEOUT_S,
                accept=ARROW_MEDIA_TYPE if has_arrow() else "application/json",
                read=QueryResult.read,
            )
        )
        return answer

    def backup(self) -> AsyncGenerator[bytes, None]:
        """Yield the whole ledger at its current feed offset, in pieces, for `helmr restore`; admins only.

        Bodies are as stored: in the clear unless the runtime encrypts. The master keys are not included.

        Raises:
            Unavailable: The stream broke off; the pieces so far are not a backup.
        """
        path = READ_BACKUP.at()
        return self._transport.download(Download(path=path, media_type="application/jsonl"))

    async def prune(
        self,
        older_than: Duration,
        *,
        archive: bool = True,
        dry_run: bool = False,
        reason: str | None = None,
    ) -> PruneReceipt:
        """Remove one page of old, finished sessions from the ledger; admins only (S-69).

        Call it until the receipt says `is_last`. An entry of the feed records the removed sessions, the person and the
        reason.

        Args:
            older_than: Least age of their last entry; at least a day.
            archive: First write them to a Parquet file in the data directory.
            dry_run: Remove nothing, and count all that would go.
            reason: Reason for the entry.

        Raises:
            StoreUnavailable: A backup is being read, or the archive can't be written.
        """
        body: dict[str, Any] = {
            "older_than_s": seconds(older_than),
            "archive": archive,
            "dry_run": dry_run,
        }
        body |= {"reason": reason} if reason is not None else {}
        return await self._ask(PRUNE_SESSIONS, body=body)

    def events(self, *, after: int | None = None) -> AsyncGenerator[EntryInfo, None]:
        """Follow every session: yield entries as they are stored, for ever, reconnecting after the last one.

        Args:
            after: A feed offset; None begins now.
        """
        feed: Feed[EntryInfo] = Feed(path=FOLLOW_ALL.at(), item=reads(EntryInfo), after=after)
        return self._transport.items(feed)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class AsyncTasks(ClientPart):
    """The catalog's tasks."""

    def list(self) -> AsyncIterator[TaskInfo]:
        """Every task that the runtime knows."""
        return all_pages(lambda cursor: self._ask(LIST_TASKS, query={"cursor": cursor}))


class AsyncStreams(ClientPart):
    """The catalog's streams."""

    def list(self) -> AsyncIterator[StreamInfo]:
        """Every stream of every task, with its JSON Schema."""
        return all_pages(lambda cursor: self._ask(LIST_STREAMS, query={"cursor": cursor}))


class AsyncNamedLimits(ClientPart):
    """Limits that steps and tasks share (S-119)."""

    def list(self) -> AsyncIterator[LimitInfo]:
        """Every limit with a bound, its use and its queue."""
        return all_pages(lambda cursor: self._ask(LIST_LIMITS, query={"cursor": cursor}))
