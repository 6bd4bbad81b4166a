"""`AsyncClient`: the same methods as `Client`, awaited. A test holds the two to the same signatures.

What each method does and raises is said once, in `helmr.client.sync`. Lists and follows are async iterators.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

from helmr.client import operations, waiting
from helmr.client.discovery import Endpoint, find_runtime
from helmr.client.http import AsyncHttpTransport
from helmr.client.operations import UNSET
from helmr.client.paging import all_pages_async
from helmr.client.retry import Retry
from helmr.client.waiting import Until
from helmr.durations import Duration
from helmr.models import (
    EntryInfo,
    Health,
    NoteReceipt,
    Page,
    RecordInfo,
    RunInfo,
    SendReceipt,
    SessionInfo,
    StartReceipt,
    StreamInfo,
    TaskInfo,
    TokenAnswerReceipt,
    WaitInfo,
)


class AsyncClient:
    """A connection to one runtime. Belongs to one event loop; close it, or use it in an `async with`.

    Args:
        url: Where the runtime answers. Without it the runtime is found: `HELMR_URL`, `data_dir`, the nearest
            `.helmr/` upward, the only live one.
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
        self._transport = AsyncHttpTransport(endpoint, retry=retry, on_behalf_of=on_behalf_of)
        self.sessions = AsyncSessions(self._transport)
        self.runs = AsyncRuns(self._transport)
        self.waits = AsyncWaits(self._transport)
        self.tasks = AsyncTasks(self._transport)
        self.streams = AsyncStreams(self._transport)

    @property
    def endpoint(self) -> Endpoint:
        """The runtime that this client talks to."""
        return self._transport.endpoint

    async def health(self) -> Health:
        """What the runtime says about itself; `ready` False comes with the reasons and is no error."""
        return await self._transport.call(operations.health())

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


class AsyncSessions:
    """Start sessions and find them."""

    def __init__(self, transport: AsyncHttpTransport) -> None:
        self._transport = transport

    async def start(
        self,
        task: str,
        payload: Any = None,
        *,
        external_id: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        result_timeout: Duration | None = None,
        operation_id: str | None = None,
    ) -> AsyncStartedSession:
        """Start a session and its first run, or return the open one of that external id (S-2)."""
        call = operations.start(
            task,
            payload,
            external_id=external_id,
            tags=tags,
            metadata=metadata,
            idempotency_key=idempotency_key,
            result_timeout=result_timeout,
            operation_id=operation_id,
        )
        return AsyncStartedSession(self._transport, await self._transport.call(call))

    async def start_and_wait(
        self,
        task: str,
        payload: Any = None,
        *,
        timeout: Duration | None = None,
        external_id: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        operation_id: str | None = None,
    ) -> AsyncStartedSession:
        """Start as `start` does; return when the run has ended or needs somebody, or after `timeout`."""
        ends_at_s = waiting.deadline_s(timeout)
        started = await self.start(
            task,
            payload,
            external_id=external_id,
            tags=tags,
            metadata=metadata,
            idempotency_key=idempotency_key,
            result_timeout=waiting.first_hold_s(ends_at_s),
            operation_id=operation_id,
        )
        run = await _wait(
            self._transport, started.started_run, ends_at_s=ends_at_s, until="stopped"
        )
        if run is started.started_run:
            return started
        session = await started.get()
        receipt = StartReceipt(session=session, run=run, created=started.created)
        return AsyncStartedSession(self._transport, receipt)

    def open(self, session_id: str) -> AsyncSessionHandle:
        """A handle on the session with that id. Asks nothing: a wrong id is told by the first call."""
        return AsyncSessionHandle(self._transport, session_id)

    async def find(self, external_id: str) -> AsyncSessionHandle:
        """A handle on the open session of that external id, else on the newest (S-2)."""
        page = await self.page(external_id=external_id)
        return AsyncSessionHandle(self._transport, operations.pick_session(page, external_id).id)

    def list(
        self,
        *,
        external_id: str | None = None,
        task: str | None = None,
        status: str | None = None,
        activity: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[SessionInfo]:
        """Every session that fits, newest first, page by page."""
        return all_pages_async(
            lambda cursor: self.page(
                external_id=external_id,
                task=task,
                status=status,
                activity=activity,
                tag=tag,
                limit=limit,
                cursor=cursor,
            )
        )

    async def page(
        self,
        *,
        external_id: str | None = None,
        task: str | None = None,
        status: str | None = None,
        activity: str | None = None,
        tag: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[SessionInfo]:
        """One page of `list`; its `next_cursor` fetches the next."""
        return await self._transport.call(
            operations.list_sessions(
                external_id=external_id,
                task=task,
                status=status,
                activity=activity,
                tag=tag,
                limit=limit,
                cursor=cursor,
            )
        )


class AsyncSessionHandle:
    """One session, by id."""

    def __init__(self, transport: AsyncHttpTransport, session_id: str) -> None:
        self._transport = transport
        self.id = operations.check_session_id(session_id)

    async def get(self) -> SessionInfo:
        """The session as it is now, with its active wait in full."""
        return await self._transport.call(operations.get_session(self.id))

    def input(self, stream: str) -> AsyncInput:
        """An input stream of the session."""
        return AsyncInput(self._transport, self.id, stream)

    def output(self, stream: str) -> AsyncOutput:
        """An output stream of the session."""
        return AsyncOutput(self._transport, self.id, stream)

    def transcript(
        self, *, after: int | None = None, limit: int | None = None
    ) -> AsyncIterator[EntryInfo]:
        """The session's entries so far, in seq order, page by page."""
        return all_pages_async(
            lambda cursor: self.transcript_page(after=after, limit=limit, cursor=cursor)
        )

    async def transcript_page(
        self, *, after: int | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Page[EntryInfo]:
        """One page of `transcript`."""
        return await self._transport.call(
            operations.read_transcript(self.id, after=after, limit=limit, cursor=cursor)
        )

    def follow(self, *, after: int | None = 0) -> AsyncGenerator[EntryInfo, None]:
        """Entries from the beginning and then as they are stored, for ever; leave the loop to stop."""
        return self._transport.items(operations.follow_session(self.id, after=after))

    async def run(self, payload: Any = UNSET, *, operation_id: str | None = None) -> RunInfo:
        """Start the next run; without a payload with that of the newest run (S-2)."""
        return await self._transport.call(
            operations.start_run(self.id, payload, operation_id=operation_id)
        )

    def runs(self, *, limit: int | None = None) -> AsyncIterator[RunInfo]:
        """The session's runs, newest first."""
        return all_pages_async(
            lambda cursor: self._transport.call(
                operations.list_session_runs(self.id, limit=limit, cursor=cursor)
            )
        )

    async def close(
        self, *, end_input: bool = False, operation_id: str | None = None
    ) -> SessionInfo:
        """Close the session; closing a closed one succeeds (S-6)."""
        return await self._transport.call(
            operations.close_session(self.id, end_input=end_input, operation_id=operation_id)
        )

    async def cancel(self, *, operation_id: str | None = None) -> SessionInfo:
        """Cancel the session, its run, waits and tokens; cancelling a cancelled one succeeds (S-6)."""
        return await self._transport.call(
            operations.cancel_session(self.id, operation_id=operation_id)
        )

    async def note(self, text: str, *, operation_id: str | None = None) -> NoteReceipt:
        """Write a person's note into the transcript."""
        return await self._transport.call(
            operations.add_note(self.id, text, operation_id=operation_id)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"


class AsyncStartedSession(AsyncSessionHandle):
    """The session that a start made or found, with what the start said."""

    def __init__(self, transport: AsyncHttpTransport, receipt: StartReceipt) -> None:
        super().__init__(transport, receipt.session.id)
        self.receipt = receipt

    @property
    def session(self) -> SessionInfo:
        """The session as it was when the start was answered."""
        return self.receipt.session

    @property
    def started_run(self) -> RunInfo:
        """The run as it was when the start was answered."""
        return self.receipt.run

    @property
    def created(self) -> bool:
        """False if the session was there already."""
        return self.receipt.created


class AsyncInput:
    """An input stream of a session."""

    def __init__(self, transport: AsyncHttpTransport, session_id: str, stream: str) -> None:
        self._transport = transport
        self.session_id = session_id
        self.stream = stream

    async def send(
        self,
        data: Any,
        *,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        public_access_token: str | None = None,
        operation_id: str | None = None,
    ) -> SendReceipt:
        """Append a record; the receipt says what it did: fulfilled, buffered, late or unmatched (S-25)."""
        call = operations.send(
            self.session_id,
            self.stream,
            data,
            correlation_id=correlation_id,
            idempotency_key=idempotency_key,
            public_access_token=public_access_token,
            operation_id=operation_id,
        )
        return await self._transport.call(call)

    def list(
        self, *, after: int | None = None, limit: int | None = None
    ) -> AsyncIterator[RecordInfo]:
        """The stream's records of any state, by seq."""
        return all_pages_async(lambda cursor: self.page(after=after, limit=limit, cursor=cursor))

    async def page(
        self, *, after: int | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Page[RecordInfo]:
        """One page of `list`."""
        return await self._transport.call(
            operations.list_inputs(
                self.session_id, self.stream, after=after, limit=limit, cursor=cursor
            )
        )


class AsyncOutput:
    """An output stream of a session."""

    def __init__(self, transport: AsyncHttpTransport, session_id: str, stream: str) -> None:
        self._transport = transport
        self.session_id = session_id
        self.stream = stream

    def read(
        self, *, after: int | None = None, limit: int | None = None
    ) -> AsyncIterator[RecordInfo]:
        """The records so far, by seq, page by page."""
        return all_pages_async(lambda cursor: self.page(after=after, limit=limit, cursor=cursor))

    async def page(
        self, *, after: int | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Page[RecordInfo]:
        """One page of `read`."""
        return await self._transport.call(
            operations.read_output(
                self.session_id, self.stream, after=after, limit=limit, cursor=cursor
            )
        )

    def follow(self, *, after: int | None = None) -> AsyncGenerator[RecordInfo, None]:
        """Records after that seq and then as they are appended, for ever; leave the loop to stop."""
        feed = operations.follow_output(self.session_id, self.stream, after=after)
        return self._transport.items(feed)


class AsyncRuns:
    """Runs of all sessions."""

    def __init__(self, transport: AsyncHttpTransport) -> None:
        self._transport = transport

    async def get(self, run_id: str) -> RunInfo:
        """The run as it is now."""
        return await self._transport.call(operations.get_run(run_id))

    def list(
        self,
        *,
        session_id: str | None = None,
        task: str | None = None,
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
        task: str | None = None,
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

    async def cancel(self, run_id: str, *, operation_id: str | None = None) -> RunInfo:
        """Cancel the run; cancelling an ended one changes nothing (S-6)."""
        return await self._transport.call(operations.cancel_run(run_id, operation_id=operation_id))

    async def retry(self, run_id: str, *, operation_id: str | None = None) -> RunInfo:
        """Start the run's next attempt, which replays what was recorded (S-5)."""
        return await self._transport.call(operations.retry_run(run_id, operation_id=operation_id))

    async def wait(
        self, run_id: str, *, timeout: Duration | None = None, until: Until = "ended"
    ) -> RunInfo:
        """Return when the run has come far enough, or as it is after `timeout`: look at its `status`."""
        ends_at_s = waiting.deadline_s(timeout)
        return await _wait(
            self._transport, await self.get(run_id), ends_at_s=ends_at_s, until=until
        )


class AsyncWaits:
    """Waits of all sessions: the inbox."""

    def __init__(self, transport: AsyncHttpTransport) -> None:
        self._transport = transport

    async def get(self, wait_id: str) -> WaitInfo:
        """The wait with its body and JSON Schema."""
        return await self._transport.call(operations.get_wait(wait_id))

    def list(
        self,
        *,
        status: str | None = None,
        kind: str | Iterable[str] | None = None,
        task: str | None = None,
        stream: str | None = None,
        session_id: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[WaitInfo]:
        """Waits that fit, soonest deadline first; pending ones of kind input and token unless asked."""
        return all_pages_async(
            lambda cursor: self.page(
                status=status,
                kind=kind,
                task=task,
                stream=stream,
                session_id=session_id,
                limit=limit,
                cursor=cursor,
            )
        )

    async def page(
        self,
        *,
        status: str | None = None,
        kind: str | Iterable[str] | None = None,
        task: str | None = None,
        stream: str | None = None,
        session_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[WaitInfo]:
        """One page of `list`."""
        return await self._transport.call(
            operations.list_waits(
                status=status,
                kind=kind,
                task=task,
                stream=stream,
                session_id=session_id,
                limit=limit,
                cursor=cursor,
            )
        )

    async def answer(
        self, wait_id: str, data: Any, *, operation_id: str | None = None
    ) -> SendReceipt | TokenAnswerReceipt:
        """Answer exactly this wait (S-18)."""
        return await self._transport.call(
            operations.answer_wait(wait_id, data, operation_id=operation_id)
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


async def _wait(
    transport: AsyncHttpTransport, run: RunInfo, *, ends_at_s: float | None, until: Until
) -> RunInfo:
    if waiting.is_far_enough(run, until):
        return run
    feed = operations.follow_session(run.session_id, after=None)
    entries = transport.follow(feed, deadline_s=ends_at_s)
    async with aclosing(entries):
        async for entry in entries:
            if entry is None or waiting.may_change(entry, run.id):
                run = await transport.call(operations.get_run(run.id))
                if waiting.is_far_enough(run, until):
                    break
    return run
