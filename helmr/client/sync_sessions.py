# Made by `make clients` from aio_sessions.py; edit that one.
"""`Client.sessions` and what it gives: sessions, blocking.

`helmr.client.sync` says what every method may raise besides what it names.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack, overload

from helmr.client import correction_operations, operations, waiting
from helmr.client.http import HttpTransport
from helmr.client.operations import UNSET
from helmr.client.paging import all_pages
from helmr.client.start_options import StartAndWaitOptions, StartOptions
from helmr.client.sync_streams import Input, Output
from helmr.durations import Duration
from helmr.models import (
    EntryInfo,
    NoteReceipt,
    Page,
    RunInfo,
    SessionInfo,
    StartReceipt,
)
from helmr.tasks import AnyTask, Task

T = TypeVar("T")
P = ParamSpec("P")


class Sessions:
    """Start sessions and find them."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    @overload
    def start(
        self, task: Task[Concatenate[T, P], Any], payload: T, **options: Unpack[StartOptions]
    ) -> StartedSession: ...
    @overload
    def start(
        self, task: str, payload: Any = ..., **options: Unpack[StartOptions]
    ) -> StartedSession: ...
    def start(
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
    ) -> StartedSession:
        """Start a session and its first run, or return the open one of that external id (S-2).

        Args:
            task: The task, or its id.
            payload: What the task gets, by its annotation.
            external_id: Your name for the session; starting it again with the same payload returns it.
            tags: Words to find it by.
            metadata: JSON to keep with it.
            idempotency_key: A second start with this key returns the first one's session.
            result_timeout: Answer when the run waits or has ended, at most after this (60 s).
            operation_id: Makes the call repeatable by a later process.

        Raises:
            TaskNotFound: No such task; the message lists those there are.
            SchemaMismatch: The payload does not fit; `errors` names the paths. Nothing is stored.
            ExternalIdConflict: The external id's open session was started with other parameters.
        """
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
        return StartedSession(self._transport, self._transport.call(call))

    @overload
    def start_and_wait(
        self, task: Task[Concatenate[T, P], Any], payload: T, **options: Unpack[StartAndWaitOptions]
    ) -> StartedSession: ...
    @overload
    def start_and_wait(
        self, task: str, payload: Any = ..., **options: Unpack[StartAndWaitOptions]
    ) -> StartedSession: ...
    def start_and_wait(
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
    ) -> StartedSession:
        """Start as `start` does; return when the run has ended or needs somebody, or after `timeout`.

        Returns:
            The session with its newest run: `.started_run.status` says how far it came, `.result` what it gave.

        Raises:
            TaskNotFound, SchemaMismatch, ExternalIdConflict: As `start`.
        """
        ends_at_s = waiting.deadline_s(timeout)
        started = self.start(
            task,
            payload,
            external_id=external_id,
            tags=tags,
            metadata=metadata,
            idempotency_key=idempotency_key,
            result_timeout=waiting.first_hold_s(ends_at_s),
            operation_id=operation_id,
        )
        run = waiting.wait(
            self._transport, started.started_run, ends_at_s=ends_at_s, until="stopped"
        )
        if run is started.started_run:
            return started
        session = started.get()
        receipt = StartReceipt(session=session, run=run, created=started.created)
        return StartedSession(self._transport, receipt)

    def open(self, session_id: str) -> SessionHandle:
        """A handle on the session with that id. Asks nothing: a wrong id is told by the first call."""
        return SessionHandle(self._transport, session_id)

    def find(self, external_id: str) -> SessionHandle:
        """A handle on the open session of that external id, else on the newest (S-2).

        Raises:
            SessionNotFound: None has it.
        """
        page = self.page(external_id=external_id)
        return SessionHandle(self._transport, operations.pick_session(page, external_id).id)

    def list(
        self,
        *,
        external_id: str | None = None,
        task: str | AnyTask | None = None,
        status: str | None = None,
        activity: str | None = None,
        tag: str | None = None,
        forked_from: str | None = None,
        parent: str | None = None,
        run_status: str | None = None,
        limit: int | None = None,
    ) -> Iterator[SessionInfo]:
        """Every session that fits, newest first, page by page.

        Args:
            external_id: Only sessions with this external id.
            task: Only sessions of this task.
            status: `open`, `closed` or `cancelled`.
            activity: `idle`, `queued`, `running`, `waiting` or `blocked`.
            tag: Only sessions with this tag.
            forked_from: Only forks of the session with this id.
            parent: Only children of the session with this id.
            limit: Items per page, 1 to 200; the iterator goes on to the next page.

        Raises:
            BadFilter: A word that the filter does not know.
        """
        return all_pages(
            lambda cursor: self.page(
                external_id=external_id,
                task=task,
                status=status,
                activity=activity,
                tag=tag,
                forked_from=forked_from,
                parent=parent,
                run_status=run_status,
                limit=limit,
                cursor=cursor,
            )
        )

    def page(
        self,
        *,
        external_id: str | None = None,
        task: str | AnyTask | None = None,
        status: str | None = None,
        activity: str | None = None,
        tag: str | None = None,
        forked_from: str | None = None,
        parent: str | None = None,
        run_status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[SessionInfo]:
        """One page of `list`; its `next_cursor` fetches the next."""
        return self._transport.call(
            operations.list_sessions(
                external_id=external_id,
                task=task,
                status=status,
                activity=activity,
                tag=tag,
                forked_from=forked_from,
                parent=parent,
                run_status=run_status,
                limit=limit,
                cursor=cursor,
            )
        )


class SessionHandle:
    """One session, by id."""

    def __init__(self, transport: HttpTransport, session_id: str) -> None:
        self._transport = transport
        self.id = operations.check_session_id(session_id)

    def get(self) -> SessionInfo:
        """The session as it is now, with its active wait in full.

        Raises:
            SessionNotFound: There is none with this id.
        """
        return self._transport.call(operations.get_session(self.id))

    def input(self, stream: str) -> Input:
        """An input stream of the session."""
        return Input(self._transport, self.id, stream)

    def output(self, stream: str) -> Output:
        """An output stream of the session."""
        return Output(self._transport, self.id, stream)

    def transcript(
        self, *, after: int | None = None, limit: int | None = None
    ) -> Iterator[EntryInfo]:
        """The session's entries so far, in seq order, page by page.

        Args:
            after: Only entries with a greater seq.
            limit: Entries per page, 1 to 200.
        """
        return all_pages(
            lambda cursor: self.transcript_page(after=after, limit=limit, cursor=cursor)
        )

    def transcript_page(
        self, *, after: int | None = None, limit: int | None = None, cursor: str | None = None
    ) -> Page[EntryInfo]:
        """One page of `transcript`."""
        return self._transport.call(
            operations.read_transcript(self.id, after=after, limit=limit, cursor=cursor)
        )

    def export(self) -> Generator[bytes, None, None]:
        """The session as a signed file, with all payloads in the clear, in pieces; for an admin (S-95).

        `helmr session verify` says of the whole file whether it is as it was written, and by whom.

        Raises:
            SessionNotFound: There is none with this id.
            Unavailable: The end did not come; the pieces so far are no file.
        """
        return self._transport.download(operations.export_session(self.id))

    def follow(self, *, after: int | None = 0) -> Generator[EntryInfo, None, None]:
        """Entries from the beginning and then as they are stored, for ever; leave the loop to stop.

        Args:
            after: A feed offset (`EntryInfo.feed_offset`); None begins now.
        """
        return self._transport.items(operations.follow_session(self.id, after=after))

    def run(self, payload: Any = UNSET, *, operation_id: str | None = None) -> RunInfo:
        """Start the next run; without a payload with that of the newest run (S-2).

        Raises:
            RunActive: A run is active.
            SessionTerminal: The session is closed or cancelled.
            SchemaMismatch: The payload does not fit.
        """
        return self._transport.call(
            operations.start_run(self.id, payload, operation_id=operation_id)
        )

    def runs(self, *, limit: int | None = None) -> Iterator[RunInfo]:
        """The session's runs, newest first."""
        return all_pages(
            lambda cursor: self._transport.call(
                operations.list_session_runs(self.id, limit=limit, cursor=cursor)
            )
        )

    def close(self, *, end_input: bool = False, operation_id: str | None = None) -> SessionInfo:
        """Close the session; closing a closed one succeeds (S-6).

        Args:
            end_input: A run that waits on input is told that no more comes, instead of refusing to close.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            RunActive: A run is active and is not told that its input ends.
        """
        return self._transport.call(
            operations.close_session(self.id, end_input=end_input, operation_id=operation_id)
        )

    def cancel(self, *, operation_id: str | None = None) -> SessionInfo:
        """Cancel the session, its run, waits and tokens; cancelling a cancelled one succeeds (S-6).

        Raises:
            SessionTerminal: It is closed.
        """
        return self._transport.call(operations.cancel_session(self.id, operation_id=operation_id))

    def fork(
        self,
        *,
        to_op: int | None = None,
        wait_id: str | None = None,
        reason: str,
        answer: Any = UNSET,
        operation_id: str | None = None,
    ) -> StartedSession:
        """Start a session that begins with this one's past up to an op; this one is not touched (S-86).

        Steps before the op have run and do not run again; the op itself is asked anew.

        Args:
            to_op: An op of the newest run, as the transcript numbers them.
            wait_id: Or a wait of it.
            reason: Why, 1 to 500 characters; it stands in the new session's transcript.
            answer: What answers the wait at that op in the new session.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            OpNotFound: The newest run's journal has no such op.
            ForkRefused: There it waits for a token, which stays its own.
            SchemaMismatch: The answer does not fit.
        """
        given = {"to_op": to_op, "wait_id": wait_id, "reason": reason, "answer": answer}
        call = correction_operations.fork(self.id, **given, operation_id=operation_id)
        return StartedSession(self._transport, self._transport.call(call))

    def note(self, text: str, *, operation_id: str | None = None) -> NoteReceipt:
        """Write a person's note into the transcript."""
        return self._transport.call(operations.add_note(self.id, text, operation_id=operation_id))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"


class StartedSession(SessionHandle):
    """The session that a start made or found, with what the start said."""

    def __init__(self, transport: HttpTransport, receipt: StartReceipt) -> None:
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
