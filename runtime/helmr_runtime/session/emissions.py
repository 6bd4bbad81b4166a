"""Carries chunks of live sessions' code from its threads over the host's loop to the long polls of readers (S-90)."""

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
"""Seconds that chunks are kept after an adoption or after a reader has gone: a reader's calls leave gaps, and it learns
of an adoption a moment later."""

OnEmitted = Callable[[str, Emitted], None]
"""Called with everything that a session emits, also on the code's threads; for tests."""


class Emissions:
    """Chunks that one adoption of a session emits. Made on the host's loop; `emit` is called on any thread.

    Args:
        epoch: The adoption's epoch.
        on_news: Called on the host's loop when a waiting reader has something to take.
        on_close: Called when the adoption is over.
        on_emitted: Called with everything emitted.
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
        """Held at most while the kept items are copied, so that emitting code does not wait."""
        self._emitted = SessionEmissions()
        self.has_emitted = False
        """An entry may end chunks."""
        self._readers = 0
        self._kept_until_s = self._loop.time() + KEPT_S
        self._has_told = False

    # --- on any thread ----------------------------------------------------------------------------

    def emit(self, stream: str, op: int | None, data: str) -> None:
        """Keep a chunk for followers, if there are any; returns at once."""
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
            except RuntimeError:  # the host's loop is closed: no reader is left
                return

    # --- on the host's loop -----------------------------------------------------------------------

    def ended_by(self, entry: Entry) -> list[EndedChunks]:
        """Return the ends that an entry causes; send them once the entry is on disk."""
        if not self._emitted.has_open:
            return []
        with self._lock:
            return self._emitted.ended_by(entry)

    def tell(self, ends: list[EndedChunks]) -> None:
        """Pass these ends to the readers."""
        with self._lock:
            for end in ends:
                self._emitted.queue.put(end)
                if self._on_emitted is not None:
                    self._on_emitted(self.session_id, end)
        self._on_news()

    def code_ended(self) -> None:
        """End the run's chunks, also those that an aborted try emitted after the end of its op."""
        with self._lock:
            ends = self._emitted.end_all(ABANDONED)
        if ends:
            self.tell(ends)

    def close(self) -> None:
        """Note that the session left this host: readers may take the rest."""
        self._on_close(self)

    @contextmanager
    def read(self) -> Iterator[None]:
        """Keep chunks for a reader during this context, and for a while afterwards."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            self._kept_until_s = self._loop.time() + KEPT_S

    def after(self, place: ChunkPlace | None, chars_max: int) -> SessionChunks | None:
        """Return the items after a reader's place; None if there are none. A reader without a place begins here.

        Epochs rise, so a reader with a later epoch has had everything of this adoption.
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
"""Seconds between replies, so that a thousand chunks a second make fifty calls; people read no faster."""

CHARS_MAX = 4 * 1024 * 1024
"""About the most characters in one reply; the rest comes with the next."""


class ChunkPolls:
    """The long polls of one host.

    Args:
        on_emitted: Called with everything that code emits, for tests.
    """

    def __init__(self, on_emitted: OnEmitted | None) -> None:
        self._on_emitted = on_emitted
        self._live: dict[str, Emissions] = {}
        self._past: dict[str, Emissions] = {}
        """Emissions of sessions that have left, kept for a while for readers that are not at their end."""
        self._changed = asyncio.Event()
        self._told_at_s = 0.0

    def open(self, session_id: str, epoch: int) -> Emissions:
        """Make the emissions of a session that is adopted."""
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
        """Return those sessions' items after these places; waits for the first item."""
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
            if place is None:  # a new reader has missed nothing
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
