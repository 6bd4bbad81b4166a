"""`AsyncClient.sessions`, with its sessions and their streams.

`helmr.client.aio` lists the errors that every method may raise besides its own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import replace
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    NoReturn,
    ParamSpec,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from helmr.client.calls import (
    READ_TIMEOUT_S,
    UNSET,
    Download,
    Feed,
    call,
    given,
    path_of,
    reads,
    task_id,
)
from helmr.client.http import AsyncHttpTransport, ClientPart, all_pages
from helmr.client.runs import (
    RESULT_TIMEOUT_MAX_S,
    AsyncRuns,
    deadline_s,
    first_hold_s,
    place,
    until_far_enough,
)
from helmr.errors import SessionNotFound, UsageError
from helmr.models import (
    ChunkInfo,
    ChunksEnd,
    EntryInfo,
    NoteReceipt,
    Page,
    RecordInfo,
    RunInfo,
    RunStatus,
    SendReceipt,
    SessionInfo,
    SessionStatus,
    StartReceipt,
)
from helmr.models.queries import SessionsWanted
from helmr.tasks import AnyTask, Task
from helmr.wait_details import metadata_object, tag_list
from helmr.wire import ids
from helmr.wire.durations import Duration, seconds
from helmr.wire.operations import (
    ADD_NOTE,
    CANCEL_SESSION,
    CLOSE_SESSION,
    EXPORT_SESSION,
    FOLLOW_SESSION,
    FORK_SESSION,
    GET_SESSION,
    LIST_INPUTS,
    LIST_SESSION_RUNS,
    LIST_SESSIONS,
    READ_OUTPUTS,
    READ_TRANSCRIPT,
    SEND_INPUT,
    START_RUN,
    START_SESSION,
)
from helmr.wire.truth import no_truth

if TYPE_CHECKING:
    import typing_extensions

    R = typing_extensions.TypeVar("R", default=Any)  # an annotation may leave it out
else:
    R = TypeVar("R")

T = TypeVar("T")
P = ParamSpec("P")


class _Options(TypedDict, total=False):
    external_id: str | None
    tags: Iterable[str]
    metadata: Mapping[str, Any] | None
    idempotency_key: str | None
    operation_id: str | None


class StartOptions(_Options, total=False):
    """Options of `start`."""

    result_timeout: Duration | None


class StartAndWaitOptions(_Options, total=False):
    """Options of `start_and_wait`."""

    timeout: Duration | None


class AsyncSessions(ClientPart):
    """Start sessions and find them."""

    @overload
    async def start(
        self, task: Task[Concatenate[T, P], R], payload: T, **options: Unpack[StartOptions]
    ) -> AsyncStartedSession[R]: ...
    @overload
    async def start(
        self, task: str, payload: Any = ..., **options: Unpack[StartOptions]
    ) -> AsyncStartedSession[Any]: ...
    async def start(
        self,
        task: str | AnyTask,
        payload: Any = None,
        *,
        external_id: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        result_timeout: Duration | None = None,
        operation_id: str | None = None,
    ) -> AsyncStartedSession[Any]:
        """Start a session and its first run, or return the open session with that external id (S-2).

        Args:
            task: The task, or its id.
            payload: Input of the task, by its annotation.
            external_id: Your name for the session; starting it again with the same payload returns it.
            tags: Words to find it by.
            metadata: JSON to keep with it.
            idempotency_key: A second start with this key returns the first one's session.
            result_timeout: Answer when the run waits or has ended, or after this time (at most 60 s).
            operation_id: Makes the call repeatable by a later process.

        Raises:
            TaskNotFound: No such task; the message lists those there are.
            SchemaMismatch: The payload does not fit; `errors` names the paths. Nothing is stored.
            ExternalIdConflict: The external id's open session was started with other parameters.
        """
        if isinstance(task, Task):
            payload = task.encode_payload(payload)
        held_s = None
        if result_timeout is not None:
            held_s = seconds(result_timeout, maximum_s=RESULT_TIMEOUT_MAX_S, allow_zero=True)
        options = {
            "external_id": external_id,
            "tags": list(tag_list(tags)) or None,
            "metadata": metadata_object(metadata) or None,
            "idempotency_key": idempotency_key,
            "result_timeout_s": held_s,
        }
        body = {"task": task_id(task), "payload": payload, **given(options)}
        made = call(START_SESSION, body=body, operation_id=operation_id)
        made = replace(made, read_timeout_s=READ_TIMEOUT_S + (held_s or 0.0))
        receipt = await self._transport.call(made)
        declared = task if isinstance(task, Task) else None
        return AsyncStartedSession(self._transport, receipt, declared)

    @overload
    async def start_and_wait(
        self, task: Task[Concatenate[T, P], R], payload: T, **options: Unpack[StartAndWaitOptions]
    ) -> AsyncStartedSession[R]: ...
    @overload
    async def start_and_wait(
        self, task: str, payload: Any = ..., **options: Unpack[StartAndWaitOptions]
    ) -> AsyncStartedSession[Any]: ...
    async def start_and_wait(
        self,
        task: str | AnyTask,
        payload: Any = None,
        *,
        timeout: Duration | None = None,
        external_id: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        operation_id: str | None = None,
    ) -> AsyncStartedSession[Any]:
        """Start like `start`; return when the run has ended or needs someone, or after `timeout`.

        Returns:
            The session with its newest run: `.started_run.status` is its progress, `.result` its result, by the
            task's return annotation.

        Raises:
            TaskNotFound, SchemaMismatch, ExternalIdConflict: See `start`.
        """
        ends_at_s = deadline_s(timeout)
        started = await self.start(
            task,
            payload,
            external_id=external_id,
            tags=tags,
            metadata=metadata,
            idempotency_key=idempotency_key,
            result_timeout=first_hold_s(ends_at_s),
            operation_id=operation_id,
        )
        runs = AsyncRuns(self._transport)
        run = await until_far_enough(
            runs, started.started_run, ends_at_s=ends_at_s, until="stopped"
        )
        if run is started.started_run:
            return started
        session = await started.get()
        receipt = StartReceipt(session=session, run=run, created=started.created)
        return AsyncStartedSession(self._transport, receipt, started.task)

    def open(self, session_id: str) -> AsyncSessionHandle:
        """Return a handle on the session with that id. It sends no request: a wrong id fails at the first call."""
        return AsyncSessionHandle(self._transport, session_id)

    async def find(self, external_id: str) -> AsyncSessionHandle:
        """Return a handle on the open session with that external id, else on the newest (S-2).

        Raises:
            SessionNotFound: None has it.
        """
        page = await self.page(external_id=external_id)
        return AsyncSessionHandle(self._transport, _picked(page, external_id).id)

    def list(
        self,
        *,
        task: str | AnyTask | None = None,
        limit: int | None = None,
        **wanted: Unpack[SessionsWanted],
    ) -> AsyncIterator[SessionInfo]:
        """Yield every matching session, newest first, page by page.

        Args:
            task: Only sessions of this task.
            limit: Items per page, 1 to 200; the iterator continues with the next page.
            **wanted: More filters: `external_id`, `status`, `activity`, `tag`, `forked_from`, `parent`, `run_status`;
                `SessionsWanted` documents each.

        Raises:
            BadFilter: The filter has an unknown word.
        """
        return all_pages(lambda cursor: self.page(task=task, limit=limit, cursor=cursor, **wanted))

    async def page(
        self,
        *,
        task: str | AnyTask | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        **wanted: Unpack[SessionsWanted],
    ) -> Page[SessionInfo]:
        """One page of `list`; its `next_cursor` fetches the next."""
        query = {"task": task_id(task), **wanted, "limit": limit, "cursor": cursor}
        return await self._ask(LIST_SESSIONS, query=query)


class AsyncSessionHandle(ClientPart):
    """One session, by id."""

    def __init__(self, transport: AsyncHttpTransport, session_id: str) -> None:
        super().__init__(transport)
        self.id = ids.check_id(session_id, ids.SESSION)

    async def get(self) -> SessionInfo:
        """The session as it is now, with its active wait in full.

        Raises:
            SessionNotFound: There is none with this id.
        """
        return await self._ask(GET_SESSION, self.id)

    def input(self, stream: str) -> AsyncInput:
        """An input stream of the session."""
        return AsyncInput(self._transport, self.id, stream)

    def output(self, stream: str) -> AsyncOutput:
        """An output stream of the session."""
        return AsyncOutput(self._transport, self.id, stream)

    def transcript(
        self, *, after: int | None = None, limit: int | None = None
    ) -> AsyncIterator[EntryInfo]:
        """Yield the session's entries so far, in seq order, page by page.

        Args:
            after: Only entries with a greater seq.
            limit: Entries per page, 1 to 200.
        """
        return all_pages(
            lambda cursor: self.transcript_page(after=after, limit=limit, cursor=cursor)
        )

    async def transcript_page(
        self, *, after: int | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Page[EntryInfo]:
        """One page of `transcript`."""
        query = {"after": after, "limit": limit, "cursor": cursor}
        return await self._ask(READ_TRANSCRIPT, self.id, query=query)

    def export(self) -> AsyncGenerator[bytes, None]:
        """Yield the session as a signed file, with all payloads in the clear, in pieces; admins only (S-95).

        `helmr session verify` checks that the whole file is unchanged, and shows the runtime that signed it.

        Raises:
            SessionNotFound: There is none with this id.
            Unavailable: The stream broke off; the pieces so far are not a whole file.
        """
        path = EXPORT_SESSION.at(self.id)
        return self._transport.download(Download(path=path, media_type="application/jsonl"))

    def follow(self, *, after: int | None = 0) -> AsyncGenerator[EntryInfo, None]:
        """Yield entries from the beginning and then as they are stored, for ever; leave the loop to stop.

        Args:
            after: A feed offset (`EntryInfo.feed_offset`); None begins now.
        """
        path = FOLLOW_SESSION.at(self.id)
        return self._transport.items(Feed(path=path, item=reads(EntryInfo), after=after))

    async def run(self, payload: Any = UNSET, *, operation_id: str | None = None) -> RunInfo:
        """Start the next run; without a payload it reuses that of the newest run (S-2).

        Raises:
            RunActive: A run is active.
            SessionTerminal: The session is closed or cancelled.
            SchemaMismatch: The payload does not fit.
        """
        return await self._ask(
            START_RUN, self.id, body={"payload": payload}, operation_id=operation_id
        )

    def runs(self, *, limit: int | None = None) -> AsyncIterator[RunInfo]:
        """The session's runs, newest first."""
        return all_pages(
            lambda cursor: self._ask(
                LIST_SESSION_RUNS, self.id, query={"limit": limit, "cursor": cursor}
            )
        )

    async def close(
        self, *, end_input: bool = False, operation_id: str | None = None
    ) -> SessionInfo:
        """Close the session; closing a closed one succeeds (S-6).

        Args:
            end_input: End the input of a run that waits for it; without this, such a session can't be closed.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            RunActive: A run is active, and `end_input` is not set.
        """
        return await self._ask(
            CLOSE_SESSION, self.id, body={"end_input": end_input}, operation_id=operation_id
        )

    async def cancel(self, *, operation_id: str | None = None) -> SessionInfo:
        """Cancel the session, its run, waits and tokens; cancelling a cancelled one succeeds (S-6).

        Raises:
            SessionTerminal: It is closed.
        """
        return await self._ask(CANCEL_SESSION, self.id, operation_id=operation_id)

    async def fork(
        self,
        *,
        to_op: int | None = None,
        wait_id: str | None = None,
        reason: str,
        answer: Any = UNSET,
        override_reason: str | None = None,
        operation_id: str | None = None,
    ) -> AsyncStartedSession[Any]:
        """Start a session with this one's history up to an op; this session stays unchanged (S-86).

        Steps before the op do not run again; the op itself does.

        Args:
            to_op: An op of the newest run, as the transcript numbers them.
            wait_id: Or a wait of it.
            reason: Why, 1 to 500 characters; it stands in the new session's transcript.
            answer: Answer to the wait at that op in the new session.
            override_reason: An admin's reason to answer instead of the people who may.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            OpNotFound: The newest run's journal has no such op.
            ForkRefused: The op waits for a token, which stays with this session.
            SchemaMismatch: The answer does not fit.
            NotAnAnswerer, NotAmendable: Other people must give the answer.
        """
        body = {**place(to_op, wait_id), "reason": reason, "answer": answer}
        body["override_reason"] = override_reason if override_reason is not None else UNSET
        receipt = await self._ask(FORK_SESSION, self.id, body=body, operation_id=operation_id)
        return AsyncStartedSession(self._transport, receipt)

    async def note(self, text: str, *, operation_id: str | None = None) -> NoteReceipt:
        """Write a person's note into the transcript."""
        return await self._ask(ADD_NOTE, self.id, body={"text": text}, operation_id=operation_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"


class AsyncStartedSession(AsyncSessionHandle, Generic[R]):
    """The session that a start made or found, with the answer of the start."""

    def __init__(
        self,
        transport: AsyncHttpTransport,
        receipt: StartReceipt,
        task: Task[..., R] | None = None,
    ) -> None:
        super().__init__(transport, receipt.session.id)
        self.receipt = receipt
        self.task = task
        """The task that was started, if given itself and not by its id."""

    def __bool__(self) -> NoReturn:  # noqa: PLE0304 - it refuses
        no_truth(self, ".result for what the run returned, .created, or `is not None`")

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

    @property
    def result(self) -> R:
        """Return the run's result, by the task's return annotation; JSON if the task was given by its id.

        Raises:
            UsageError: The run had not succeeded when the start was answered.
            SchemaMismatch: The stored result does not fit the annotation, or the run has continued as another.
        """
        run = self.started_run
        if run.status is not RunStatus.SUCCEEDED:
            raise UsageError(
                f"{run.id} has no result: it is {run.status.value}",
                hint="Look at `started_run.status` and `started_run.error` first.",
            )
        given: Any = run.result
        return given if self.task is None else self.task.result_codec.decode(given)


class AsyncInput(ClientPart):
    """An input stream of a session."""

    def __init__(self, transport: AsyncHttpTransport, session_id: str, stream: str) -> None:
        super().__init__(transport)
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
        """Append a record; the receipt has its outcome: fulfilled, buffered, late or unmatched (S-25).

        Args:
            data: Data that fits the stream's schema.
            correlation_id: Matches waits for this id, and waits without an id.
            idempotency_key: A second send with this key and the same data returns the first receipt (S-26).
            public_access_token: Sent instead of the client's key.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            SessionNotFound, StreamNotFound: There is none; the latter lists those there are.
            SchemaMismatch: The data does not fit; `errors` names the paths. Nothing is stored.
            SessionTerminal: The session is closed or cancelled.
            IdleInputRejected: No run is active and the task rejects input while none is active.
            IdempotencyConflict: The key was used with other data.
            ScopeDenied, TokenExhausted: The public token does not allow it.
        """
        named = {"correlation_id": correlation_id, "idempotency_key": idempotency_key}
        return await self._ask(
            SEND_INPUT,
            self.session_id,
            self.stream,
            body={"data": data, **given(named)},
            operation_id=operation_id,
            bearer=public_access_token,
        )

    def list(
        self, *, after: int | None = None, limit: int | None = None
    ) -> AsyncIterator[RecordInfo]:
        """Yield the stream's records of any state, by seq."""
        return all_pages(lambda cursor: self.page(after=after, limit=limit, cursor=cursor))

    async def page(
        self,
        *,
        after: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[RecordInfo]:
        """One page of `list`."""
        query = {"after": after, "limit": limit, "cursor": cursor}
        return await self._ask(LIST_INPUTS, self.session_id, self.stream, query=query)


class AsyncOutput(ClientPart):
    """An output stream of a session."""

    def __init__(self, transport: AsyncHttpTransport, session_id: str, stream: str) -> None:
        super().__init__(transport)
        self.session_id = session_id
        self.stream = stream

    def read(
        self,
        *,
        after: int | None = None,
        limit: int | None = None,
        public_access_token: str | None = None,
    ) -> AsyncIterator[RecordInfo]:
        """Yield the records so far, by seq, page by page.

        Raises:
            SessionNotFound, StreamNotFound: There is none.
        """
        return all_pages(
            lambda cursor: self.page(
                after=after, limit=limit, cursor=cursor, public_access_token=public_access_token
            )
        )

    async def page(
        self,
        *,
        after: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        public_access_token: str | None = None,
    ) -> Page[RecordInfo]:
        """One page of `read`."""
        return await self._ask(
            READ_OUTPUTS,
            self.session_id,
            self.stream,
            query={"after": after, "limit": limit, "cursor": cursor},
            bearer=public_access_token,
        )

    def follow(
        self, *, after: int | None = None, public_access_token: str | None = None
    ) -> AsyncGenerator[RecordInfo, None]:
        """Yield records after that seq and then new ones, until the session is over; leave the loop to stop."""
        feed = Feed(
            path=self._path(), item=reads(RecordInfo), after=after or 0, bearer=public_access_token
        )
        return self._transport.items(feed)

    def follow_chunks(
        self, *, after: int | None = None, public_access_token: str | None = None
    ) -> AsyncGenerator[RecordInfo | ChunkInfo | ChunksEnd, None]:
        """Follow like `follow`, and also yield chunks that the code emits from now on, which are not stored (S-90).

        Chunks arrive in order, each at most once. Records take another path: one may overtake earlier chunks.
        """
        feed: Feed[RecordInfo | ChunkInfo | ChunksEnd] = Feed(
            path=self._path(),
            item=reads(RecordInfo),
            params=(("chunks", "true"),),
            after=after or 0,
            bearer=public_access_token,
            beside={"chunk": reads(ChunkInfo), "chunks.end": reads(ChunksEnd)},
        )
        return self._transport.items(feed)

    def _path(self) -> str:
        return path_of(READ_OUTPUTS, self.session_id, self.stream)


def _picked(page: Page[SessionInfo], external_id: str) -> SessionInfo:
    """Return the session with that external id: the open one, else the newest (S-2)."""
    if not page.items:
        raise SessionNotFound(f"no session has the external id {external_id!r}")
    is_open = (one for one in page.items if one.status is SessionStatus.OPEN)
    return next(is_open, max(page.items, key=lambda one: one.created_at))
