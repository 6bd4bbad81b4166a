"""What can be followed: the feed of all sessions, of one, and an output stream (S-54)."""

from __future__ import annotations

from collections.abc import Sequence

from helmr import ids
from helmr_runtime.rpc.ledger_client import Json, LedgerClient
from helmr_runtime.service.catalog import CatalogView
from helmr_runtime.service.chunks import ChunkHub
from helmr_runtime.service.feed import FeedHub, FeedItem
from helmr_runtime.service.following import PAGE_ITEMS, FollowedEntries, FollowedRecords


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
        """Entries of all sessions after a feed offset; None begins now."""
        await self._hub.ready()
        return FollowedEntries(self._hub, None, after, self._older)

    async def follow_session(self, session_id: str, after: int | None) -> FollowedEntries:
        """Entries of a session after a feed offset; None begins now.

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
        """Records of an output stream after a seq, to the session's end; None if none will come.

        With `chunks` what its code emits from now on comes beside them (S-90).

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
