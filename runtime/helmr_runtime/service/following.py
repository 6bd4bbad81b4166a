"""Clients follow from a place in the past into the present: older items from the ledger, then the feed.

Invariants: S-54 (never skips, never repeats).

`Events` follows the feed of all sessions, the feed of one, or an output stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from helmr.wire import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.ports.ledger import Json, LedgerClient
from helmr_runtime.service.catalog_view import CatalogView
from helmr_runtime.service.chunks import ChunkFollower, ChunkHub, event_of, to_json
from helmr_runtime.service.feed import FeedHub, FeedItem, Follower

LAST_ENDS_S = 1.0
"""Longest that the end of a followed session waits for its chunks to end."""


class Followed(NamedTuple):
    """One event for a client: its name, the id to resume after, if it has one, and the object as JSON text."""

    event: str
    id: int | None
    text: str


PAGE_ITEMS = 200
"""Older items read from the ledger at once."""

ENDS = frozenset(
    (
        EntryKind.SESSION_CLOSED,
        EntryKind.SESSION_CANCELLED,
        EntryKind.RUN_SUCCEEDED,
        EntryKind.RUN_FAILED,
        EntryKind.RUN_CANCELLED,
    )
)
"""A session may be over after an entry of these kinds."""


class FollowedEvents(Protocol):
    """A source of events for one client."""

    position: int | None
    """The offset where following began, if the client named none; it resumes there if no event came."""

    @property
    def is_closed(self) -> bool:
        """True once nothing more will come; the client may reconnect."""
        ...

    async def take(self, timeout_s: float) -> list[Followed]:
        """Take the new events, oldest first; waits at most `timeout_s` for them."""
        ...

    def close(self) -> None:
        """Stop following."""
        ...


class FollowedEntries:
    """Entries of one session or of all, by feed offset.

    Args:
        hub: The feed.
        session_id: Follow this session only; None follows all.
        after: The offset to begin after; None begins now.
        older: Reads the entries after an offset from the ledger, at most `PAGE_ITEMS`.
    """

    def __init__(
        self,
        hub: FeedHub,
        session_id: str | None,
        after: int | None,
        older: Callable[[int], Awaitable[Sequence[FeedItem]]],
    ) -> None:
        self._hub = hub
        self._session_id = session_id
        self._older = older
        self._follower: Follower | None = None
        self._is_closed = False
        if after is None:
            self._follower = hub.join(session_id)
        self.position = self._follower.started_at if self._follower is not None else None
        self._after = after if after is not None else hub.offset

    @property
    def is_closed(self) -> bool:
        return self._is_closed or (self._follower is not None and self._follower.is_closed)

    async def take(self, timeout_s: float) -> list[Followed]:
        items = await self.take_items(timeout_s)
        return [Followed("entry", item.offset, item.text) for item in items]

    async def take_items(self, timeout_s: float) -> list[FeedItem]:
        """Take as `take` does, but return the entries themselves."""
        if self._follower is None and not self._is_closed:
            self._follower = self._hub.join_after(self._session_id, self._after)
        covered = 0
        if self._follower is not None:
            new = self._new(await self._follower.take(timeout_s))
        else:
            # Entries that the feed has handed on are on disk, so a page that is not full covers them.
            reached = self._hub.offset
            async with self._hub.catching_up:
                items = await self._older(self._after)
                new = self._new(items)
            covered = reached if len(items) < PAGE_ITEMS else 0
        self._after = max(self._after, new[-1].offset if new else 0, covered)
        return new

    def _new(self, items: Sequence[FeedItem]) -> list[FeedItem]:
        return [item for item in items if item.offset > self._after]

    def close(self) -> None:
        self._is_closed = True
        if self._follower is not None:
            self._follower.close()


class FollowedRecords:
    """Records of one output stream of a session, by seq, until its code has ended for good, and optionally chunks.

    Args:
        hub: The feed.
        session_id: The session.
        stream: Its output stream.
        after: The seq to begin after.
        older: Reads the records after a seq from the ledger, at most `PAGE_ITEMS`.
        is_over: Returns True once the session's last record is written.
    """

    position: int | None = None

    def __init__(
        self,
        hub: FeedHub,
        session_id: str,
        stream: str,
        after: int,
        older: Callable[[int], Awaitable[Sequence[dict[str, Any]]]],
        is_over: Callable[[], Awaitable[bool]],
    ) -> None:
        # Joined before the first read, so that no record that comes meanwhile is missed.
        self._follower = hub.join(session_id)
        self._hub = hub
        self._stream = stream
        self._after = after
        self._older = older
        self._is_over = is_over
        self._page: list[dict[str, Any]] = []
        self._has_caught_up = False
        self._has_all = False
        self._chunks: ChunkFollower | None = None
        self._ends_by_s: float | None = None

    async def follow_chunks(self, hub: ChunkHub) -> None:
        """Follow chunks too, from now on."""
        self._chunks = await hub.join(
            self._follower.session_id or "", self._stream, self._follower.wake
        )

    @property
    def is_closed(self) -> bool:
        has_all = self._has_all and not self._page and not self._awaits_ends()
        return has_all or self._follower.is_closed

    def _awaits_ends(self) -> bool:
        """True while open chunks may still end: they may come a moment after the end of the session."""
        now_s = asyncio.get_running_loop().time()
        self._ends_by_s = self._ends_by_s or now_s + LAST_ENDS_S
        return self._chunks is not None and self._chunks.has_open and now_s < self._ends_by_s

    async def begin(self, *, is_over: bool) -> bool:
        """Read the first page, which the next `take` returns; False if no record will come.

        Args:
            is_over: The result of `is_over`, asked after this began to follow.
        """
        self._page = await self._read(is_over=is_over)
        return bool(self._page) or not self._has_all

    async def _read(self, *, is_over: bool) -> list[dict[str, Any]]:
        async with self._hub.catching_up:
            records = list(await self._older(self._after))
        self._has_caught_up = len(records) < PAGE_ITEMS
        self._has_all = is_over and self._has_caught_up
        return records

    async def take(self, timeout_s: float) -> list[Followed]:
        if self._page:
            records, self._page = self._page, []
        elif self._has_caught_up:
            items = await self._follower.take(
                min(timeout_s, LAST_ENDS_S) if self._has_all else timeout_s
            )
            records = [record_of(i) for i in items if is_output(i, self._stream)]
            # The feed does not say if more follows an end; the ledger does.
            self._has_caught_up = self._has_all or not any(item.kind in ENDS for item in items)
        else:
            # Asked first: if the session is over, the read after it finds all records.
            records = await self._read(is_over=await self._is_over())
            if self._has_all and self._chunks is not None:
                await self._chunks.drain()
        new = [record for record in records if record["seq"] > self._after]
        if new:
            self._after = new[-1]["seq"]
        chunks = self._chunks.take() if self._chunks is not None else []
        return [
            *(Followed(event_of(item), None, to_json(item, lost)) for item, lost in chunks),
            *(Followed("record", record["seq"], jsontext.encode(record)) for record in new),
        ]

    def close(self) -> None:
        if self._chunks is not None:
            self._chunks.close()
        self._follower.close()


def is_output(item: FeedItem, stream: str) -> bool:
    """True if the entry is a record of that output stream."""
    return item.kind == "output.appended" and item.entry["body"]["stream"] == stream


def record_of(item: FeedItem) -> dict[str, Any]:
    """The record that an `output.appended` entry holds."""
    entry, body = item.entry, item.entry["body"]
    return {
        "id": body["record_id"],
        "stream": body["stream"],
        "seq": body["stream_seq"],
        "data": body["data"],
        "correlation_id": None,
        "consumed_by": None,
        "principal": entry["principal"],
        "created_at": entry["recorded_at"],
    }


class Events:
    """Followers of entries and records."""

    def __init__(
        self, ledger: LedgerClient, catalog: CatalogView, hub: FeedHub, chunks: ChunkHub
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._hub = hub
        self._chunks = chunks

    async def follow_all(self, after: int | None) -> FollowedEntries:
        """Follow entries of all sessions after a feed offset; None begins now."""
        await self._hub.ready()
        return FollowedEntries(self._hub, None, after, self._older)

    async def follow_session(self, session_id: str, after: int | None) -> FollowedEntries:
        """Follow entries of a session after a feed offset; None begins now.

        Raises:
            SessionNotFound: No session with that id.
        """
        ids.check_id(session_id, ids.SESSION)
        await self._ledger.brief(session_id)
        await self._hub.ready()
        past = _Past(self._ledger, session_id)
        return FollowedEntries(self._hub, session_id, after, past.after)

    async def follow_output(
        self, session_id: str, stream: str, after: int, *, chunks: bool = False
    ) -> FollowedRecords | None:
        """Follow records of an output stream after a seq, to the session's end; None if none will come.

        With `chunks`, chunks that its code emits from now on come too (S-90).

        Raises:
            SessionNotFound: No session with that id.
            StreamNotFound: The task has no such stream.
        """
        ids.check_id(session_id, ids.SESSION)
        await self._hub.ready()

        async def older(seq: int) -> Sequence[dict[str, object]]:
            page = await self._ledger.outputs(session_id, stream, after=seq, limit=PAGE_ITEMS)
            return list(page["items"])

        async def is_over() -> bool:
            return bool((await self._ledger.brief(session_id))["is_over"])

        following = FollowedRecords(self._hub, session_id, stream, after, older, is_over)
        try:
            session = await self._ledger.brief(session_id)
            await self._catalog.stream(session["task"], stream, "output")
            if await following.begin(is_over=session["is_over"]):
                if chunks and not session["is_over"]:
                    await following.follow_chunks(self._chunks)
                return following
        except BaseException:
            following.close()
            raise
        following.close()
        return None

    async def _older(self, after: int) -> Sequence[FeedItem]:
        return [FeedItem(entry) for entry in await self._ledger.feed(after, PAGE_ITEMS, 0.0)]


class _Past:
    """A session's entries by feed offset, from a transcript that is read by seq."""

    def __init__(self, ledger: LedgerClient, session_id: str) -> None:
        self._ledger = ledger
        self._session_id = session_id
        self._after_seq: int | None = None

    async def after(self, offset: int) -> Sequence[FeedItem]:
        """The next entries after a feed offset."""
        if self._after_seq is None:
            self._after_seq = await self._ledger.seq_at(self._session_id, offset)
        page = await self._ledger.transcript(
            self._session_id, after=self._after_seq, limit=PAGE_ITEMS
        )
        entries: Sequence[Json] = page["items"]
        if entries:
            self._after_seq = int(entries[-1]["seq"])
        return [FeedItem(entry) for entry in entries]
