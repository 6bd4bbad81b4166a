"""`AsyncClient`: the same methods as `Client`, awaited.

Every method makes its call in `operations`, where routes and shapes are; the transport tries again after what may
pass, with the same operation id. Lists and follows are async iterators. Every method may raise, besides what it names:

    BadId: An id that is none, or one of another kind.
    Unauthenticated, RoleDenied: The key is missing, unknown, or has no right to it.
    Unavailable: No answer within the bounds of `Retry`; for a mutation `OutcomeUnknown` says that it may have
        acted: the same call with the same `operation_id` finds out.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Self

from helmr.client import correction_operations, ledger_operations, operations, waiting
from helmr.client.aio_access import AsyncAuth, AsyncKeys, AsyncTokens
from helmr.client.aio_notices import AsyncNotices
from helmr.client.aio_schedules import AsyncSchedules
from helmr.client.aio_sessions import AsyncSessions
from helmr.client.aio_waits import AsyncWaits
from helmr.client.discovery import find_runtime
from helmr.client.endpoint import Endpoint
from helmr.client.http import AsyncHttpTransport
from helmr.client.paging import all_pages_async
from helmr.client.retry import Retry
from helmr.client.waiting import Until
from helmr.durations import Duration, seconds
from helmr.models import (
    CopyPage,
    EntryInfo,
    Health,
    Page,
    PruneReceipt,
    RewindPreview,
    RunInfo,
    RunJournal,
    StreamInfo,
    TaskInfo,
)
from helmr.query import QueryResult
from helmr.tasks import AnyTask


class AsyncClient:
    """A connection to one runtime. Belongs to one event loop; close it, or use it in an `async with`.

    Args:
        url: Where the runtime answers; `ray` is the one in the Ray cluster of this process. Without it the
            runtime is found: `HELMR_URL`, `data_dir`, the Ray cluster that this process is connected to, the
            nearest `.helmr/` upward, the only live one.
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
        url: str | None = None,
        key: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        on_behalf_of: str | None = None,
        retry: Retry | None = None,
    ) -> None:
        endpoint = find_runtime(url=url, key=key, data_dir=data_dir)
        self._bind(AsyncHttpTransport(endpoint, retry=retry, on_behalf_of=on_behalf_of))

    @classmethod
    def _over(cls, transport: AsyncHttpTransport) -> Self:
        """A client over a transport that somebody else has made."""
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
        self.schedules = AsyncSchedules(self._transport)
        self.notices = AsyncNotices(self._transport)
        self.tasks = AsyncTasks(self._transport)
        self.streams = AsyncStreams(self._transport)

    @property
    def endpoint(self) -> Endpoint:
        """The runtime that this client talks to."""
        return self._transport.endpoint

    async def health(self) -> Health:
        """What the runtime says about itself; `ready` False comes with the reasons and is no error."""
        return await self._transport.call(operations.health())

    async def query(self, sql: str, *, limit: int | None = None) -> QueryResult:
        """What one SELECT over the views `sessions, runs, waits, records, entries, tokens` gives (docs/sql.md).

        Args:
            sql: One SELECT statement.
            limit: Rows at most, to 100,000; 10,000 without it. A result that was cut says `truncated`.

        Raises:
            BadQuery: It can't be read, or asks for what no query may.
            QueryTimeout, QueryTooLarge: It was ended at its limit of time, memory or size.
        """
        return await self._transport.call(operations.query(sql, limit=limit))

    def backup(self) -> AsyncGenerator[bytes, None]:
        """The whole ledger at the feed offset that it has now, in pieces, for `helmr restore`; for an admin.

        Bodies are as the ledger stores them: in the clear unless the runtime encrypts. The master keys are not in it.

        Raises:
            Unavailable: The end did not come; the pieces so far are no backup.
        """
        return self._transport.download(ledger_operations.read_backup())

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
        return await self._transport.call(
            ledger_operations.prune(older_than, archive=archive, dry_run=dry_run, reason=reason)
        )

    async def copy(
        self,
        after: int = 0,
        *,
        hash: str | None = None,
        nil_offset: int = 0,
        nil_hash: str | None = None,
        wait: Duration = 0,
        follower: str | None = None,
    ) -> CopyPage:
        """What a follower of the ledger lacks, a page of it; for an admin (S-68).

        Args:
            after: Feed offset of the follower's last entry, 0 if it has none.
            hash: That entry's hash, in hex.
            nil_offset: Feed offset of its last entry of the nil session; that is never pruned.
            nil_hash: That one's hash.
            wait: How long to wait for the first entry, at most 20 s.
            follower: Its name, by which `/readyz` and `/metrics` say how far it is.

        Raises:
            LedgerDiverged: The follower's entries are not this ledger's.
        """
        wait_s = seconds(wait, allow_zero=True)
        return await self._transport.call(
            ledger_operations.read_copy(after, hash, nil_offset, nil_hash, wait_s, follower)
        )

    def events(self, *, after: int | None = None) -> AsyncGenerator[EntryInfo, None]:
        """Follow every session: entries as they are stored, for ever, reconnecting after the last one.

        Args:
            after: A feed offset; None begins now.
        """
        return self._transport.items(operations.follow_all(after=after))

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


class AsyncRuns:
    """Runs of all sessions."""

    def __init__(self, transport: AsyncHttpTransport) -> None:
        self._transport = transport

    async def get(self, run_id: str) -> RunInfo:
        """The run as it is now.

        Raises:
            RunNotFound: There is none with this id.
        """
        return await self._transport.call(operations.get_run(run_id))

    def list(
        self,
        *,
        session_id: str | None = None,
        task: str | AnyTask | None = None,
        status: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[RunInfo]:
        """Every run that fits, newest first, page by page."""
        return all_pages_async(
            lambda cursor: self.page(
                session_id=session_id, task=task, status=status, limit=limit, cursor=cursor
            )
        )

    async def page(
        self,
        *,
        session_id: str | None = None,
        task: str | AnyTask | None = None,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[RunInfo]:
        """One page of `list`."""
        return await self._transport.call(
            operations.list_runs(
                session_id=session_id, task=task, status=status, limit=limit, cursor=cursor
            )
        )

    async def journal(self, run_id: str) -> RunJournal:
        """All that a replay of the run follows: what `helmr check` reads. Needs an admin key.

        Raises:
            RunNotNewest: Its session has begun another run since.
        """
        return await self._transport.call(operations.run_journal(run_id))

    async def cancel(self, run_id: str, *, operation_id: str | None = None) -> RunInfo:
        """Cancel the run; cancelling an ended one changes nothing (S-6)."""
        return await self._transport.call(operations.cancel_run(run_id, operation_id=operation_id))

    async def retry(self, run_id: str, *, operation_id: str | None = None) -> RunInfo:
        """Start the run's next attempt, which replays what was recorded (S-5).

        Raises:
            RunNotRetryable: It is not the session's newest run, or neither failed nor blocked.
        """
        return await self._transport.call(operations.retry_run(run_id, operation_id=operation_id))

    async def preview_rewind(
        self,
        run_id: str,
        *,
        to_op: int | None = None,
        wait_id: str | None = None,
        keep_answers: bool = True,
        keep_children: bool = False,
    ) -> RewindPreview:
        """What taking the run back would do now: steps that run again, answers kept and asked again (S-76).

        Args:
            run_id: A session's newest run.
            to_op: The first op that is asked anew, as the transcript numbers them.
            wait_id: Or a wait of the run.
            keep_answers: False asks every question behind that op again.
            keep_children: True lets the child sessions go on that were started behind it.

        Raises:
            RunNotRewindable: It is not the session's newest run.
            OpNotFound: The run's journal has no such op.
            SessionTerminal: The session was closed or cancelled, and not by this run.
        """
        kept = {"keep_answers": keep_answers, "keep_children": keep_children}
        call = correction_operations.preview_rewind(run_id, to_op=to_op, wait_id=wait_id, **kept)
        return await self._transport.call(call)

    async def rewind(
        self, run_id: str, *, preview: RewindPreview, reason: str, operation_id: str | None = None
    ) -> RunInfo:
        """Take the run back as the preview says; its next attempt goes on from there (S-75).

        Args:
            run_id: The preview's run.
            preview: What somebody looked at.
            reason: Why, 1 to 500 characters; it stands in the transcript.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            SessionChanged: It would do something else by now; nothing has happened. Look again.
        """
        call = correction_operations.rewind(
            run_id, preview, reason=reason, operation_id=operation_id
        )
        return await self._transport.call(call)

    async def wait(
        self, run_id: str, *, timeout: Duration | None = None, until: Until = "ended"
    ) -> RunInfo:
        """Return when the run has come far enough, or as it is after `timeout`: look at its `status`.

        Args:
            run_id: The run.
            timeout: None waits for ever.
            until: `ended`, or `stopped`: also when it waits or is blocked, so that somebody must act.
        """
        ends_at_s = waiting.deadline_s(timeout)
        return await waiting.wait_async(
            self._transport, await self.get(run_id), ends_at_s=ends_at_s, until=until
        )


class AsyncTasks:
    """The catalog's tasks."""

    def __init__(self, transport: AsyncHttpTransport) -> None:
        self._transport = transport

    def list(self) -> AsyncIterator[TaskInfo]:
        """Every task that the runtime knows."""
        return all_pages_async(
            lambda cursor: self._transport.call(operations.list_tasks(cursor=cursor))
        )


class AsyncStreams:
    """The catalog's streams."""

    def __init__(self, transport: AsyncHttpTransport) -> None:
        self._transport = transport

    def list(self) -> AsyncIterator[StreamInfo]:
        """Every stream of every task, with its JSON Schema."""
        return all_pages_async(
            lambda cursor: self._transport.call(operations.list_streams(cursor=cursor))
        )
