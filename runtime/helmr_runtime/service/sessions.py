"""Sessions: start, send, close, cancel, note and read (S-1…S-8, S-20…S-28); their runs (S-3, S-5, S-6)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from helmr.errors import BadRequest, RunNotNewest, TooLarge
from helmr.models import (
    CORRELATION_ID_MAX,
    VALUE_BYTES_MAX,
    AfterQuery,
    AttemptRequest,
    CloseRequest,
    EntryInfo,
    ListQuery,
    NoteReceipt,
    NoteRequest,
    OutputQuery,
    Page,
    RecordInfo,
    RunInfo,
    RunJournal,
    RunRequest,
    RunsQuery,
    RunStatus,
    SendReceipt,
    SendRequest,
    SessionInfo,
    SessionsQuery,
    StartReceipt,
    StartRequest,
)
from helmr.wire import ids
from helmr_runtime import tracing
from helmr_runtime.core import jsontext
from helmr_runtime.core.commands import (
    AddNote,
    CancelRun,
    CancelSession,
    CloseSession,
    RetryRun,
    Send,
    StartRun,
)
from helmr_runtime.core.public_tokens import check_send
from helmr_runtime.ports import SessionLine, StartSession
from helmr_runtime.ports.ledger import Json, LedgerClient
from helmr_runtime.replay.replay_log import journal_of
from helmr_runtime.security.task_secrets import TaskSecrets
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.feed import FeedHub, LongRuns
from helmr_runtime.service.limits import LimitOperations
from helmr_runtime.service.shared import Shared
from helmr_runtime.service.waits import WaitOperations
from helmr_runtime.session.dry_run import read_snapshot

ALL_RUNS = RunsQuery()
ANY_ATTEMPT = AttemptRequest()


class RunOperations:
    """Runs: read, cancelled, retried."""

    def __init__(self, shared: Shared, limits: LimitOperations) -> None:
        self._limits = limits
        self._ledger = shared.ledger
        self._router = shared.router
        self._repeats = shared.repeats

    async def get(self, run_id: str) -> RunInfo:
        """A run.

        Raises:
            RunNotFound: No run with that id.
        """
        ids.check_id(run_id, ids.RUN)
        [found] = await self._limits.of_runs([await self._ledger.get_run(run_id)])
        return RunInfo.model_validate(found)

    async def list(self, wanted: RunsQuery = ALL_RUNS) -> Page[RunInfo]:
        """Runs, newest first."""
        found = await self._ledger.list_runs(**wanted.given())
        items = await self._limits.of_runs(found["items"])
        return Page[RunInfo].model_validate({**found, "items": items})

    async def journal(self, run_id: str) -> RunJournal:
        """Everything that a replay of the run needs, as it is on disk now.

        Raises:
            RunNotFound: No run with that id.
            RunNotNewest: Its session has begun another run since.
        """
        return await read_journal(self._ledger, run_id)

    async def cancel(
        self, caller: Caller, run_id: str, request: AttemptRequest = ANY_ATTEMPT
    ) -> RunInfo:
        """Cancel the run if it is active; idempotent (S-6).

        Raises:
            RunNotFound: No run with that id.
            SessionChanged: It is active, but at another attempt than the request names.
            OperationConflict: The operation id was used with another request.
        """
        operation = caller.operation("runs.cancel", run_id, *_seen(request))
        run = await self.get(run_id)
        if run.status.is_final:
            await self._repeats.first(caller, operation)
            return run
        command = CancelRun(
            principal=caller.principal,
            operation=operation,
            run_id=run_id,
            next_run_id=ids.new_id(ids.RUN),
            attempt=request.attempt,
        )
        await self._router.command(run.session_id, command)
        return await self.get(run_id)

    async def retry(
        self, caller: Caller, run_id: str, request: AttemptRequest = ANY_ATTEMPT
    ) -> RunInfo:
        """Start the run's next attempt (S-5).

        Raises:
            RunNotFound: No run with that id.
            RunNotRetryable: It is not its session's newest run, or neither failed nor blocked.
            SessionChanged: It is at another attempt than the request names.
        """
        operation = caller.operation("runs.retry", run_id, *_seen(request))
        run = await self.get(run_id)
        command = RetryRun(
            principal=caller.principal,
            operation=operation,
            run_id=run_id,
            attempt=request.attempt,
        )
        await self._router.command(run.session_id, command)
        return await self.get(run_id)


def _seen(request: AttemptRequest) -> tuple[int, ...]:
    """The named attempt, as a part of the operation; empty without one, so older operation hashes stay the same."""
    return () if request.attempt is None else (request.attempt,)


# --- reads that need a ledger and nothing else ------------------------------------------------------


async def read_run(ledger: LedgerClient, run_id: str) -> RunInfo:
    """Read a run as `RunOperations.get` does, without its place in the queue of a limit."""
    ids.check_id(run_id, ids.RUN)
    return RunInfo.model_validate(await ledger.get_run(run_id))


async def read_runs(ledger: LedgerClient, wanted: RunsQuery) -> Page[RunInfo]:
    """List runs as `RunOperations.list` does, without places in the queue of a limit."""
    return Page[RunInfo].model_validate(await ledger.list_runs(**wanted.given()))


async def read_journal(ledger: LedgerClient, run_id: str) -> RunJournal:
    """Read a journal as `RunOperations.journal` does."""
    run = await read_run(ledger, run_id)
    snapshot = await read_snapshot(ledger, run.session_id)
    state = snapshot.state
    if state.run is None or state.run.id != run_id:
        raise RunNotNewest(f"{run_id} is not the newest run of {run.session_id}")
    secrets = TaskSecrets(snapshot.loaded.keys, "")
    return journal_of(state, snapshot.histories, secrets.asked_keys)


ALL_SESSIONS = SessionsQuery()
TAG_MAX = 128
METADATA_BYTES_MAX = 16 * 1024
"""Tags and metadata are for finding a session; its data belongs into the payload."""

_STOPPED = frozenset({RunStatus.WAITING, RunStatus.BLOCKED})


class SessionOperations:
    """Sessions: started, sent to, closed, cancelled, read."""

    def __init__(
        self,
        shared: Shared,
        waits: WaitOperations,
        runs: RunOperations,
        limits: LimitOperations,
        hub: FeedHub,
        long_runs: LongRuns,
    ) -> None:
        self._long_runs = long_runs
        self._ledger = shared.ledger
        self._router = shared.router
        self._catalog = shared.catalog
        self._repeats = shared.repeats
        self._waits = waits
        self._runs = runs
        self._limits = limits
        self._hub = hub

    # --- start and read ---------------------------------------------------------------------------

    async def start(
        self,
        caller: Caller,
        request: StartRequest,
        *,
        cause: Mapping[str, Any] | None = None,
        may_start: Callable[[], Awaitable[None]] | None = None,
    ) -> StartReceipt:
        """Create a session and its first run, unless it exists (S-2).

        With `result_timeout_s` the answer comes when the run waits, is blocked or has ended, at most that
        many seconds later; the session is on disk either way.

        Args:
            caller: The caller.
            request: The task and payload to start.
            cause: The facts that the starting feature adds to the session's first entry.
            may_start: Raises if the session may not start now; a repeated operation skips it.

        Raises:
            TaskNotFound: With the tasks there are.
            SchemaMismatch: The payload does not fit the task (S-4).
            ExternalIdConflict: The open session with that id has another task or payload.
            IdempotencyConflict: The key was used with another task or payload.
        """
        start = _start_of(caller, request, cause)
        receipt = await self._started(caller, start, may_start=may_start)
        return await self._shown(request, receipt)

    async def start_with_line(
        self, caller: Caller, request: StartRequest, line_of: Callable[[str], SessionLine]
    ) -> tuple[StartReceipt, bool]:
        """Start a session and write a line about it in one commit; also returns True if the line was written.

        Args:
            caller: The caller.
            request: The task and payload to start.
            line_of: Makes the line from the id of the session that this would create.
        """
        start = _start_of(caller, request)
        receipt = await self._started(caller, start, line_of(start.session_id))
        return await self._shown(request, receipt), bool(receipt.get("lined"))

    async def line(
        self, caller: Caller, request: StartRequest, stream: str, record: SendRequest
    ) -> SessionLine:
        """Make a record for a session whose task does nothing, which the ledger may write itself.

        Args:
            caller: The sender.
            request: Starts the session, unless one with that external id is open.
            stream: An input stream of its task.
            record: The record to write.

        Raises:
            TaskNotFound, SchemaMismatch: As `start`.
        """
        await self._catalog.check_payload(request.task, request.payload)
        code_hash = (await self._catalog.get()).code_hash
        start = replace(_start_of(caller, request), operation=None, done_by=code_hash)
        return SessionLine(start=start, send=_send_of(caller, start.session_id, stream, record))

    async def write_line(self, line: SessionLine, *, rides: bool = False) -> bool:
        """Write a line now, or with the next commit; False if a host holds the session, so `send` must be used.

        Raises:
            SessionTerminal, Overloaded: As `send`.
        """
        written = await self._router.write(
            lambda: self._ledger.write_line(line, rides=rides), what=f"line of {line.start.task}"
        )
        return written is not None

    async def _started(
        self,
        caller: Caller,
        start: StartSession,
        line: SessionLine | None = None,
        may_start: Callable[[], Awaitable[None]] | None = None,
    ) -> Json:
        async def write() -> Json:
            if may_start is not None:
                await may_start()
            await self._catalog.check_payload(start.task, start.payload)
            return await self._router.write(
                lambda: self._ledger.start_session(start, line), what=f"start of {start.task}"
            )

        assert start.operation is not None
        return await self._repeats.receipt(caller, start.operation, write)

    async def _shown(self, request: StartRequest, receipt: Json) -> StartReceipt:
        """The receipt in full, after the wait for a result that the request asks for."""
        if "run" not in receipt:  # accepted before, refused now
            session_id, run_id = str(receipt["session_id"]), str(receipt["run_id"])
            session, run = await asyncio.gather(self.get(session_id), self._runs.get(run_id))
        else:
            session = await self._in_full(receipt["session"])
            run = RunInfo.model_validate(receipt["run"])
        if tracing.spans is not None:
            tracing.spans.started(session.id)
        if request.result_timeout_s:
            run = await self._settled(session.id, run.id, request.result_timeout_s)
            session = await self.get(session.id)
        return StartReceipt(session=session, run=run, created=bool(receipt["created"]))

    async def get(self, session_id: str) -> SessionInfo:
        """A session with its active wait in full.

        Raises:
            SessionNotFound: No session with that id.
        """
        ids.check_id(session_id, ids.SESSION)
        [found] = await self._limits.of_sessions([await self._ledger.get_session(session_id)])
        return await self._in_full(found)

    async def _in_full(self, session: Json) -> SessionInfo:
        wait = session["wait"]
        full = await self._waits.in_full(wait) if wait is not None else None
        warnings = self._long_runs.warnings(session["run_id"])
        return SessionInfo.model_validate({**session, "wait": full, "warnings": warnings})

    async def list(self, wanted: SessionsQuery = ALL_SESSIONS) -> Page[SessionInfo]:
        """Sessions, newest first; their waits without body and schema."""
        found = await self._ledger.list_sessions(**wanted.given())
        items = await self._limits.of_sessions(found["items"])
        return Page[SessionInfo].model_validate({**found, "items": items})

    async def runs(self, session_id: str, query: ListQuery) -> Page[RunInfo]:
        """The session's runs, newest first.

        Raises:
            SessionNotFound: No session with that id.
        """
        await self.get(session_id)
        return await self._runs.list(RunsQuery(session_id=session_id, **dict(query)))

    async def transcript(self, session_id: str, query: AfterQuery) -> Page[EntryInfo]:
        """Entries by seq (S-50).

        Raises:
            SessionNotFound: No session with that id.
        """
        ids.check_id(session_id, ids.SESSION)
        found = await self._ledger.transcript(session_id, **query.given())
        return Page[EntryInfo].model_validate(found)

    # --- input and output -------------------------------------------------------------------------

    async def send(
        self, caller: Caller, session_id: str, stream: str, request: SendRequest
    ) -> SendReceipt:
        """Append a record to an input stream (S-20…S-28).

        Raises:
            SessionNotFound: No session with that id.
            StreamNotFound: The task has no such stream; lists those there are.
            SchemaMismatch: With the failing paths (S-21).
            SessionTerminal: The session is closed or cancelled.
            ScopeDenied: The caller's public token is for another session, stream or correlation id.
        """
        command = _send_of(caller, session_id, stream, request)
        ids.check_id(session_id, ids.SESSION)
        receipt = await self._router.command(session_id, command)
        return SendReceipt.model_validate(receipt)

    async def inputs(self, session_id: str, stream: str, query: AfterQuery) -> Page[RecordInfo]:
        """Records of an input stream, consumed or not, by seq.

        Raises:
            SessionNotFound: No session with that id.
            StreamNotFound: The task has no such stream.
        """
        await self._check_stream(session_id, stream, "input")
        found = await self._ledger.inputs(session_id, stream, **query.given())
        return Page[RecordInfo].model_validate(found)

    async def outputs(self, session_id: str, stream: str, query: OutputQuery) -> Page[RecordInfo]:
        """Records of an output stream, by seq.

        Raises:
            SessionNotFound: No session with that id.
            StreamNotFound: The task has no such stream.
        """
        await self._check_stream(session_id, stream, "output")
        found = await self._ledger.outputs(
            session_id, stream, after=query.after, limit=query.limit, cursor=query.cursor
        )
        return Page[RecordInfo].model_validate(found)

    # --- runs and ends ----------------------------------------------------------------------------

    async def run(self, caller: Caller, session_id: str, request: RunRequest) -> RunInfo:
        """Start the next run of an open, idle session (S-2).

        Raises:
            SessionNotFound: No session with that id.
            RunActive: The session has an active run.
            SchemaMismatch: The payload does not fit the task.
        """
        ids.check_id(session_id, ids.SESSION)
        is_given = "payload" in request.model_fields_set
        check_value(request.payload, what="a payload")
        command = StartRun(
            principal=caller.principal,
            operation=caller.operation("sessions.start_run", session_id, is_given, request.payload),
            run_id=ids.new_id(ids.RUN),
            payload=request.payload,
            payload_given=is_given,
        )
        receipt = await self._router.command(session_id, command)
        return await self._runs.get(str(receipt["run_id"]))

    async def close(self, caller: Caller, session_id: str, request: CloseRequest) -> SessionInfo:
        """Close the session; closing a closed one succeeds (S-6).

        Raises:
            SessionNotFound: No session with that id.
            RunActive: It has an active run that `end_input` can't end.
            SessionChanged: The request names a run that is not the newest, or not at that attempt.
        """
        ids.check_id(session_id, ids.SESSION)
        seen = () if request.run_id is None else (request.run_id, request.attempt)
        command = CloseSession(
            principal=caller.principal,
            operation=caller.operation("sessions.close", session_id, request.end_input, *seen),
            end_input=request.end_input,
            run_id=request.run_id,
            attempt=request.attempt,
        )
        await self._router.command(session_id, command)
        return await self.get(session_id)

    async def cancel(self, caller: Caller, session_id: str) -> SessionInfo:
        """Cancel the session and all that is open in it; idempotent (S-6).

        Raises:
            SessionNotFound: No session with that id.
        """
        ids.check_id(session_id, ids.SESSION)
        command = CancelSession(
            principal=caller.principal, operation=caller.operation("sessions.cancel", session_id)
        )
        await self._router.command(session_id, command)
        return await self.get(session_id)

    async def note(self, caller: Caller, session_id: str, request: NoteRequest) -> NoteReceipt:
        """Write a person's note into the transcript.

        Raises:
            SessionNotFound: No session with that id.
        """
        ids.check_id(session_id, ids.SESSION)
        command = AddNote(
            principal=caller.principal,
            operation=caller.operation("sessions.note", session_id, request.text),
            note_id=ids.new_id(ids.NOTE),
            text=request.text,
        )
        receipt = await self._router.command(session_id, command)
        return NoteReceipt.model_validate(receipt)

    # --- parts ------------------------------------------------------------------------------------

    async def _check_stream(self, session_id: str, stream: str, direction: str) -> None:
        ids.check_id(session_id, ids.SESSION)
        task = (await self._ledger.brief(session_id))["task"]
        await self._catalog.stream(task, stream, direction)

    async def _settled(self, session_id: str, run_id: str, timeout_s: float) -> RunInfo:
        """The run once it waits, is blocked or has ended, at most `timeout_s` later."""

        async def is_settled(run: RunInfo) -> bool:
            return run.status.is_final or run.status in _STOPPED

        return await self.run_once(session_id, run_id, is_settled, timeout_s)

    async def run_once(
        self,
        session_id: str,
        run_id: str,
        is_reached: Callable[[RunInfo], Awaitable[bool]],
        timeout_s: float,
    ) -> RunInfo:
        """The run once `is_reached` is True, or after `timeout_s`. Reads the run after each entry of its session."""
        await self._hub.ready()
        # Followed before the run is read, so that no change is missed.
        follower = self._hub.join(session_id)
        ends_at = asyncio.get_running_loop().time() + timeout_s
        try:
            while True:
                run = await read_run(self._ledger, run_id)
                if await is_reached(run) or follower.is_closed:
                    return run
                left_s = ends_at - asyncio.get_running_loop().time()
                if left_s <= 0 or not await follower.take(left_s):
                    return await self._runs.get(run_id)
        finally:
            follower.close()


def _start_of(
    caller: Caller, request: StartRequest, cause: Mapping[str, Any] | None = None
) -> StartSession:
    _check_labels(request)
    check_value(request.payload, what="a payload")
    asked = request.model_dump(exclude={"result_timeout_s"})
    return StartSession(
        session_id=ids.new_id(ids.SESSION),
        run_id=ids.new_id(ids.RUN),
        task=request.task,
        payload=request.payload,
        external_id=request.external_id,
        tags=tuple(dict.fromkeys(request.tags)),
        metadata=request.metadata,
        idempotency_key=request.idempotency_key,
        principal=caller.principal,
        operation=caller.operation("sessions.start", asked),
        request_hash=jsontext.same_data_hash([request.task, request.payload]),
        cause=cause,
        trace=tracing.current() if tracing.is_on else None,
    )


def _send_of(caller: Caller, session_id: str, stream: str, request: SendRequest) -> Send:
    given = request.correlation_id
    if caller.public_token is not None:
        given = check_send(caller.public_token, session_id, stream, given)
    correlation_id = _trimmed(given)
    asked = [request.data, correlation_id, request.idempotency_key]
    return Send(
        principal=caller.principal,
        operation=caller.operation("sessions.send", session_id, stream, asked),
        record_id=ids.new_id(ids.RECORD),
        stream=stream,
        data=request.data,
        correlation_id=correlation_id,
        idempotency_key=request.idempotency_key,
        next_run_id=ids.new_id(ids.RUN),
        public_token_id=caller.public_token_id,
    )


def _check_labels(request: StartRequest) -> None:
    for tag in request.tags:
        if not 1 <= len(tag) <= TAG_MAX or not tag.isprintable():
            raise BadRequest(
                f"{tag[:TAG_MAX]!r} can't be a tag",
                hint=f"A tag is one line of 1 to {TAG_MAX} characters.",
            )
    if request.external_id is not None and not request.external_id.isprintable():
        raise BadRequest("an external id is one line of printable characters")
    size_bytes = len(jsontext.encode(request.metadata).encode())
    if size_bytes > METADATA_BYTES_MAX:
        raise TooLarge(f"metadata of {size_bytes} bytes; at most {METADATA_BYTES_MAX}")


def check_value(value: Any, *, what: str) -> None:
    """Check the size of a value.

    Raises:
        TooLarge: It has more than `VALUE_BYTES_MAX` bytes as JSON.
    """
    size_bytes = len(jsontext.encode(value).encode())
    if size_bytes > VALUE_BYTES_MAX:
        raise TooLarge(f"{what} of {size_bytes} bytes; at most {VALUE_BYTES_MAX} (S-28)")


def _trimmed(correlation_id: str | None) -> str | None:
    """The correlation id without surrounding white space; None if it is empty (S-23)."""
    trimmed = correlation_id.strip() if correlation_id is not None else ""
    if len(trimmed) > CORRELATION_ID_MAX:
        raise BadRequest(f"a correlation id has at most {CORRELATION_ID_MAX} characters")
    return trimmed or None
