"""`AsyncClient`: what a program does with sessions, runs and waits, awaited.

Every method makes a call of the table of operations; the transport tries again after what may pass, with the same
operation id. Lists and follows are async iterators. Every method may raise, besides what it names:

    BadId: An id that is none, or one of another kind.
    Unauthenticated, RoleDenied: The key is missing, unknown, or has no right to it.
    Unavailable: No answer within the bounds of `Retry`; for a mutation `OutcomeUnknown` says that it may have
        acted: the same call with the same `operation_id` finds out.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
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
from helmr.client.grants import AsyncGrants
from helmr.client.http import AsyncHttpTransport, ClientPart, all_pages
from helmr.client.keys import AsyncKeys
from helmr.client.notices import AsyncNotices
from helmr.client.outcomes import AsyncOutcomes
from helmr.client.people import AsyncPeople
from helmr.client.public_tokens import AsyncAuth
from helmr.client.runs import AsyncRuns
from helmr.client.sessions import AsyncSessions
from helmr.client.tokens import AsyncTokens
from helmr.client.waits import AsyncWaits
from helmr.durations import Duration, seconds
from helmr.feature import load
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
from helmr.operations import (
    FOLLOW_ALL,
    LIST_LIMITS,
    LIST_STREAMS,
    LIST_TASKS,
    PRUNE_SESSIONS,
    READ_BACKUP,
    READYZ,
    RUN_QUERY,
)
from helmr.query import ARROW_MEDIA_TYPE, QueryResult, has_arrow

_OF_FEATURES: dict[str, type[ClientPart]] = {
    name: load(awaited) for name, (awaited, _) in client_parts()
}
globals().update({part.__name__: part for part in _OF_FEATURES.values()})


class AsyncClient(ClientPart, AsyncParts):
    """A connection to one runtime. Belongs to one event loop; close it, or use it in an `async with`.

    Args:
        url: Where the runtime answers, or the addresses of a pair, also as one text with commas; `ray` is the one in
            the Ray cluster of this process. Without it the runtime is found: `HELMR_URL`, `data_dir`, the Ray cluster
            that this process is connected to, the nearest `.helmr/` upward, the only live one.
        key: API key. Without it `HELMR_API_KEY` for a URL, else the one found with the runtime.
        data_dir: The runtime's data directory.
        on_behalf_of: The person for whom this program acts; recorded with everything it does (S-51).
        retry: Bounds of trying again.

    Raises:
        RuntimeNotFound: None is running where this looked.
        AmbiguousRuntime: Several are, and nothing says which one.
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
        """A client over a transport that someone else has made."""
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
        self.grants = AsyncGrants(self._transport)
        self.outcomes = AsyncOutcomes(self._transport)
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
        """What the runtime says about itself; `ready` False comes with the reasons and is not an error.

        Of several addresses the one that is ready answers, if one is.
        """
        asking = replace(call(READYZ), also_ok=(503,))
        found = await self._transport.call(asking)
        for _ in self.endpoint.others:
            if found.ready or not self._transport.turn():
                break
            found = await self._transport.call(asking)
        return found

    async def query(self, sql: str, *, limit: int | None = None) -> QueryResult:
        """What one SELECT over the views `sessions, runs, waits, records, entries, tokens` gives (docs/sql.md).

        Args:
            sql: One SELECT statement.
            limit: Rows at most, to 100,000; 10,000 without it. A result that was cut says `truncated`.

        Raises:
            BadQuery: It can't be read, or asks for what no query may.
            QueryTimeout, QueryTooLarge: It was ended at its limit of time, memory or size.
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
        """The whole ledger at the feed offset that it has now, in pieces, for `helmr restore`; for an admin.

        Bodies are as the ledger stores them: in the clear unless the runtime encrypts. The master keys are not in it.

        Raises:
            Unavailable: The end did not come; the pieces so far are no backup.
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
        """Take sessions out of the ledger that are over and so old, a page of them; for an admin (S-69).

        Call it until the receipt says `is_last`. An entry of the feed says which are gone, who asked and why.

        Args:
            older_than: How long ago their last entry was written; at least a day.
            archive: Write them to a Parquet file in the data directory before.
            dry_run: Remove nothing, count all that would go.
            reason: What the entry says.

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
        """Follow every session: entries as they are stored, for ever, reconnecting after the last one.

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
        """Every limit that bounds something, with what is in use and what waits."""
        return all_pages(lambda cursor: self._ask(LIST_LIMITS, query={"cursor": cursor}))
