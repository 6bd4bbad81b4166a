"""What the code of live sessions emits, from the code's threads over the host's loop to the long polls that read it
(S-90)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from helmr_runtime.core.chunks import (
    ABANDONED,
    Chunk,
    ChunkNews,
    ChunkPlace,
    Emitted,
    EndedChunks,
    SessionChunks,
    SessionEmissions,
)
from helmr_runtime.core.entries import Entry

KEPT_S = 5.0
"""For this long after a session is adopted, and after a reader has gone, chunks are kept for a reader on its way: one
call of it ends before the next comes, and it learns of an adoption a moment later."""

OnEmitted = Callable[[str, Emitted], None]
"""Gets all that a session emits, on the code's threads too; for tests."""


class Emissions:
    """What one adoption of a session has emitted. Made on the host's loop; `emit` is called on any thread.

    Args:
        session_id: Whose.
        epoch: Of which adoption.
        on_news: Called on the host's loop when there is something for a reader that waits.
        on_close: Called when the adoption is over.
        on_emitted: Gets everything.
    """

    def __init__(
        self,
        session_id: str,
        epoch: int,
        *,
        on_news: Callable[[], None],
        on_close: Callable[[Emissions], None],
        on_emitted: OnEmitted | None,
    ) -> None:
        self.session_id = session_id
        self.epoch = epoch
        self._on_news = on_news
        self._on_close = on_close
        self._on_emitted = on_emitted
        self._is_watched = on_emitted is not None
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        """Held for a copy of what is kept at the longest, so that no one who emits waits."""
        self._emitted = SessionEmissions()
        self.has_emitted = False
        """There may be something that an entry ends."""
        self._readers = 0
        self._kept_until_s = self._loop.time() + KEPT_S
        self._has_told = False

    # --- on any thread ----------------------------------------------------------------------------

    def emit(self, stream: str, op: int | None, data: str) -> None:
        """Keep a chunk for who follows, if someone does; returns at once."""
        self.has_emitted = True
        is_kept = self._readers > 0 or self._loop.time() < self._kept_until_s
        with self._lock:
            chunk = self._emitted.emit(stream, op, data, is_kept=is_kept or self._is_watched)
            if self._on_emitted is not None:
                self._on_emitted(self.session_id, chunk)
        if self._readers and not self._has_told:
            self._has_told = True
            try:
                self._loop.call_soon_threadsafe(self._on_news)
            except RuntimeError:  # the host's loop is closed: no one is left to read
                return

    # --- on the host's loop -----------------------------------------------------------------------

    def ended_by(self, entry: Entry) -> list[EndedChunks]:
        """What an entry ends; to be sent when it is on disk."""
        if not self._emitted.has_open:
            return []
        with self._lock:
            return self._emitted.ended_by(entry)

    def tell(self, ends: list[EndedChunks]) -> None:
        """Tell the readers of these ends."""
        with self._lock:
            for end in ends:
                self._emitted.queue.put(end)
                if self._on_emitted is not None:
                    self._on_emitted(self.session_id, end)
        self._on_news()

    def code_ended(self) -> None:
        """No more comes of the run: what a try let out while it was cut off, after its op's end, is ended too."""
        with self._lock:
            ends = self._emitted.end_all(ABANDONED)
        if ends:
            self.tell(ends)

    def close(self) -> None:
        """The session is not held here any more: readers may take what is left."""
        self._on_close(self)

    @contextmanager
    def read(self) -> Iterator[None]:
        """A reader is there: whatever is emitted is kept for it, and a while longer."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            self._kept_until_s = self._loop.time() + KEPT_S

    def after(self, place: ChunkPlace | None, chars_max: int) -> SessionChunks | None:
        """What is new to a reader at that place; None if nothing is. Without a place it begins here.

        Epochs rise: of an adoption before its own the reader has had all that there will be.
        """
        with self._lock:
            self._has_told = False
            queue = self._emitted.queue
            if place is None:
                found: list[Emitted] = []
                position = queue.position
            elif place.epoch < self.epoch:
                found, position = queue.after(0, chars_max)
            elif place.epoch > self.epoch or place.position == queue.position:
                return None
            else:
                found, position = queue.after(place.position, chars_max)
        return SessionChunks(self.session_id, ChunkPlace(self.epoch, position), tuple(found))


PACE_S = 0.02
"""Answers come no faster, so that a thousand chunks a second are fifty calls; no one reads as fast as that."""

CHARS_MAX = 4 * 1024 * 1024
"""About so much in one answer; what is left comes with the next."""


class ChunkPolls:
    """The polls of one host.

    Args:
        on_emitted: Gets all that code emits, for tests.
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
            del self._live[emissions.session_id]
            if emissions.has_emitted:
                self._past[emissions.session_id] = emissions
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
