# Made by `make clients` from aio_streams.py; edit that one.
"""Input and output streams of a session, blocking.

`helmr.client.sync` says what every method may raise besides what it names.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from helmr.client import operations
from helmr.client.http import HttpTransport
from helmr.client.paging import all_pages
from helmr.models import ChunkInfo, ChunksEnd, Page, RecordInfo, SendReceipt


class Input:
    """An input stream of a session."""

    def __init__(self, transport: HttpTransport, session_id: str, stream: str) -> None:
        self._transport = transport
        self.session_id = session_id
        self.stream = stream

    def send(
        self,
        data: Any,
        *,
        correlation_id: str | None = None,
        idempotency_key: str | None = None,
        public_access_token: str | None = None,
        operation_id: str | None = None,
    ) -> SendReceipt:
        """Append a record; the receipt says what it did: fulfilled, buffered, late or unmatched (S-25).

        Args:
            data: By the stream's schema.
            correlation_id: Meets only waits for this id, and waits for none.
            idempotency_key: A second send with it and the same data returns the first receipt (S-26).
            public_access_token: Sent instead of the client's key.
            operation_id: Makes the call repeatable by a later process.

        Raises:
            SessionNotFound, StreamNotFound: There is none; the latter lists those there are.
            SchemaMismatch: The data does not fit; `errors` names the paths. Nothing is stored.
            SessionTerminal: The session is closed or cancelled.
            IdleInputRejected: No run is active and the task rejects input then.
            IdempotencyConflict: The key was used with other data.
            ScopeDenied, TokenExhausted: What the public token does not allow.
        """
        call = operations.send(
            self.session_id,
            self.stream,
            data,
            correlation_id=correlation_id,
            idempotency_key=idempotency_key,
            public_access_token=public_access_token,
            operation_id=operation_id,
        )
        return self._transport.call(call)

    def list(self, *, after: int | None = None, limit: int | None = None) -> Iterator[RecordInfo]:
        """The stream's records of any state, by seq."""
        return all_pages(lambda cursor: self.page(after=after, limit=limit, cursor=cursor))

    def page(
        self,
        *,
        after: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[RecordInfo]:
        """One page of `list`."""
        return self._transport.call(
            operations.list_inputs(
                self.session_id, self.stream, after=after, limit=limit, cursor=cursor
            )
        )


class Output:
    """An output stream of a session."""

    def __init__(self, transport: HttpTransport, session_id: str, stream: str) -> None:
        self._transport = transport
        self.session_id = session_id
        self.stream = stream

    def read(
        self,
        *,
        after: int | None = None,
        limit: int | None = None,
        public_access_token: str | None = None,
    ) -> Iterator[RecordInfo]:
        """The records so far, by seq, page by page.

        Raises:
            SessionNotFound, StreamNotFound: There is none.
        """
        return all_pages(
            lambda cursor: self.page(
                after=after, limit=limit, cursor=cursor, public_access_token=public_access_token
            )
        )

    def page(
        self,
        *,
        after: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        public_access_token: str | None = None,
    ) -> Page[RecordInfo]:
        """One page of `read`."""
        return self._transport.call(
            operations.read_output(
                self.session_id,
                self.stream,
                after=after,
                limit=limit,
                cursor=cursor,
                public_access_token=public_access_token,
            )
        )

    def follow(
        self, *, after: int | None = None, public_access_token: str | None = None
    ) -> Generator[RecordInfo, None, None]:
        """Records after that seq and then as they are appended, until the session is over; leave the loop to stop."""
        feed = operations.follow_output(
            self.session_id, self.stream, after=after, public_access_token=public_access_token
        )
        return self._transport.items(feed)

    def follow_chunks(
        self, *, after: int | None = None, public_access_token: str | None = None
    ) -> Generator[RecordInfo | ChunkInfo | ChunksEnd, None]:
        """As `follow`, and beside the records what the code emits from now on, which is not stored (S-90).

        Chunks come in order, each at most once. Records come by another way: one may overtake the chunks before it.
        """
        feed = operations.follow_chunks(
            self.session_id, self.stream, after=after, public_access_token=public_access_token
        )
        return self._transport.items(feed)
