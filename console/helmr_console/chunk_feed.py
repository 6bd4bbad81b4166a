"""Follows what the code of one session emits, for as long as its screen is open, and says it a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from helmr.client.aio import AsyncClient
from helmr.errors import HelmrError
from helmr.models import ChunkInfo, ChunksEnd, EntryInfo, SessionInfo, SessionStatus, StreamInfo
from helmr_console.live_text import LiveText
from helmr_console.steps import OUTCOMES

STREAMS_MAX = 8
"""Each stream that is followed is a connection."""
SAY_EVERY_S = 0.1
NO_RECORDS = 2**53
"""No stream has as many: of the records nothing is sent, they come by the feed."""


def streams_to_follow(session: SessionInfo | None, streams: Sequence[StreamInfo]) -> list[str]:
    """The output streams of a session that is open."""
    if session is None or session.status is not SessionStatus.OPEN:
        return []
    outputs = [one for one in streams if one.direction == "output" and session.task in one.tasks]
    return sorted(one.name for one in outputs)[:STREAMS_MAX]


class ChunkFeed:
    """What comes now, as text.

    Args:
        client: Talks to the gateway.
        session_id: The session.
        changed: Called when it has changed, at most every `SAY_EVERY_S`.
    """

    def __init__(
        self,
        client: AsyncClient,
        session_id: str,
        *,
        changed: Callable[[], None],
    ) -> None:
        self.live = LiveText()
        self._client = client
        self._session_id = session_id
        self._changed = changed
        self._news = asyncio.Event()

    def heard(self, entry: EntryInfo) -> bool:
        """The feed has this entry; whether it ended what was being said."""
        if entry.kind in OUTCOMES:
            self.live.ended(entry.op)
        return entry.kind in OUTCOMES

    async def run(self, streams: Sequence[str]) -> None:
        """Follow until the session is over or this is cancelled. What can't be followed is not shown."""
        following = [asyncio.ensure_future(self._follow(name)) for name in streams]
        saying = asyncio.ensure_future(self._say())
        try:
            await asyncio.gather(*following)
        finally:
            saying.cancel()
            for one in following:
                one.cancel()
            with suppress(asyncio.CancelledError):
                await saying
            self.live.clear()

    async def _follow(self, stream: str) -> None:
        output = self._client.sessions.open(self._session_id).output(stream)
        with suppress(HelmrError):  # a stream that is gone, a role that may not read it
            async for item in output.follow_chunks(after=NO_RECORDS):
                if isinstance(item, ChunkInfo | ChunksEnd):
                    self.live.take(item)
                    self._news.set()

    async def _say(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            self._changed()
            await asyncio.sleep(SAY_EVERY_S)
