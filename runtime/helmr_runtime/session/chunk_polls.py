"""Who reads the chunks of a host's sessions: long polls, each for some of them (S-90)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack, suppress

from helmr_runtime.core.chunks import Chunk, ChunkNews, ChunkPlace
from helmr_runtime.session.emissions import KEPT_S, Emissions, OnEmitted

PACE_S = 0.02
"""Answers come no faster, so that a thousand chunks a second are fifty calls; nobody reads as fast as that."""

CHARS_MAX = 4 * 1024 * 1024
"""About so much in one answer; what is left comes with the next."""


class ChunkPolls:
    """The polls of one host.

    Args:
        on_emitted: Told of all that code emits, for tests.
    """

    def __init__(self, on_emitted: OnEmitted | None) -> None:
        self._on_emitted = on_emitted
        self._live: dict[str, Emissions] = {}
        self._past: dict[str, Emissions] = {}
        """Of sessions that have left, for a while: a reader may not have come to their end."""
        self._changed = asyncio.Event()
        self._told_at_s = 0.0

    def open(self, session_id: str, epoch: int) -> Emissions:
        """What takes the chunks of a session that is adopted."""
        emissions = self._live[session_id] = Emissions(
            session_id,
            epoch,
            on_news=self._changed.set,
            on_close=self._left,
            on_emitted=self._on_emitted,
        )
        self._changed.set()
        return emissions

    def _left(self, emissions: Emissions) -> None:
        if self._live.get(emissions.session_id) is emissions:
            self._past[emissions.session_id] = self._live.pop(emissions.session_id)
            asyncio.get_running_loop().call_later(KEPT_S, self._forget, emissions)
            self._changed.set()

    def _forget(self, emissions: Emissions) -> None:
        if self._past.get(emissions.session_id) is emissions:
            del self._past[emissions.session_id]

    async def take(self, known: Mapping[str, ChunkPlace | None], timeout_s: float) -> ChunkNews:
        """What those sessions have emitted behind these places; waits for the first of it."""
        loop = asyncio.get_running_loop()
        with ExitStack() as reading:
            for session_id in known:
                if (emissions := self._live.get(session_id)) is not None:
                    reading.enter_context(emissions.read())
            found = self._look(known)
            if found != ChunkNews():
                return found
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    while found == ChunkNews():
                        self._changed.clear()
                        await self._changed.wait()
                        await asyncio.sleep(max(0.0, self._told_at_s + PACE_S - loop.time()))
                        found = self._look(known)
            self._told_at_s = loop.time()
            return found

    def _look(self, known: Mapping[str, ChunkPlace | None]) -> ChunkNews:
        sessions, gone, left = [], [], CHARS_MAX
        for session_id, place in known.items():
            live, past = self._live.get(session_id), self._past.get(session_id)
            if place is None:  # who begins has missed nothing
                past = None
            there = (emissions for emissions in (past, live) if emissions is not None)
            found = (emissions.after(place, left) for emissions in there)
            new = next((chunks for chunks in found if chunks is not None), None)
            if new is not None:
                sessions.append(new)
                left -= sum(len(item.data) for item in new.items if isinstance(item, Chunk))
            elif live is None:
                gone.append(session_id)
        return ChunkNews(sessions=tuple(sessions), gone=tuple(gone))
