"""What the code of one live session emits, on its way from the code's threads to the host's loop (S-90)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from helmr_runtime.core.chunks import (
    ABANDONED,
    ChunkPlace,
    ChunksEnd,
    Emitted,
    SessionChunks,
    SessionEmissions,
)
from helmr_runtime.core.entries import Entry

KEPT_S = 5.0
"""So long after a session is adopted, and after a reader has gone, chunks are kept for one that is on its way: one call
of it ends before the next comes, and it learns of an adoption a moment later."""

OnEmitted = Callable[[str, Emitted], None]
"""Told of all that a session emits, on the code's threads too; for tests."""


class Emissions:
    """What one adoption of a session has emitted. Made on the host's loop; `emit` is called on any thread.

    Args:
        session_id: Whose.
        epoch: Of which adoption.
        on_news: Called on the host's loop when there is something for a reader that waits.
        on_close: Called when the adoption is over.
        on_emitted: Told of everything.
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
        """Held for a copy of what is kept at the longest, so that nobody who emits waits."""
        self._emitted = SessionEmissions()
        self._readers = 0
        self._kept_until_s = self._loop.time() + KEPT_S
        self._has_told = False

    # --- on any thread ----------------------------------------------------------------------------

    def emit(self, stream: str, op: int | None, data: str) -> None:
        """Keep a chunk for who follows, if somebody does; returns at once."""
        is_kept = self._readers > 0 or self._loop.time() < self._kept_until_s
        with self._lock:
            chunk = self._emitted.emit(stream, op, data, is_kept=is_kept or self._is_watched)
            if self._on_emitted is not None:
                self._on_emitted(self.session_id, chunk)
        if self._readers and not self._has_told:
            self._has_told = True
            try:
                self._loop.call_soon_threadsafe(self._on_news)
            except RuntimeError:  # the host's loop is closed: nobody is left to read
                return

    # --- on the host's loop -----------------------------------------------------------------------

    def ended_by(self, entry: Entry) -> list[ChunksEnd]:
        """What an entry ends; to be told when it is on disk."""
        if not self._emitted.has_open:
            return []
        with self._lock:
            return self._emitted.ended_by(entry)

    def tell(self, ends: list[ChunksEnd]) -> None:
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
