"""Chunks: values that code emits to its followers. They are not entries and are never stored.

A live session keeps the newest chunks in a ring, and each reader takes those after its position; a reader that is too
slow finds some gone. Chunks are numbered on their stream, so the last reader of a chain can count those that were
dropped anywhere before it. Invariant: S-90.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from helmr_runtime.core.entries import Entry, EntryKind

CHUNKS_MAX = 1_000
"""Chunks kept for a reader: about one second of a fast model's output."""

CHARS_MAX = 1024 * 1024
"""Characters of JSON text kept for a reader."""

ENDS_MAX = 1_000
"""Ends kept besides the chunks; followers get them even where chunks were dropped."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One value that code emitted.

    Attributes:
        op: Op of the step that emitted it; None outside of steps.
        number: Its place on the stream, from 1 in each adoption of the session.
        data: JSON text.
    """

    stream: str
    op: int | None
    number: int
    data: str


@dataclass(frozen=True, slots=True)
class EndedChunks:
    """No more chunks come from there, or the step begins again.

    Attributes:
        number: Number of the last chunk that it ends.
        outcome: succeeded, failed, retried, abandoned or died of a step; next_entry or died outside of steps.
    """

    stream: str
    op: int | None
    number: int
    outcome: str


Emitted = Chunk | EndedChunks


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """A reader's place among a session's chunks: the adoption, and the position in its ring."""

    epoch: int
    position: int


BEGINNING = ChunkPlace(0, 0)
"""The place of a reader that followed before the session was adopted: all chunks are new to it."""


@dataclass(frozen=True, slots=True)
class SessionChunks:
    """Chunks that a session emitted after a reader's place, and the reader's new place."""

    session_id: str
    place: ChunkPlace
    items: tuple[Emitted, ...]


@dataclass(frozen=True, slots=True)
class ChunkNews:
    """A host's reply to a reader of chunks. `gone`: sessions that it no longer holds and has sent completely."""

    sessions: tuple[SessionChunks, ...] = ()
    gone: tuple[str, ...] = ()


class ChunkQueue:
    """The newest chunks and ends, within bounds: a full queue drops its oldest chunk, and ends stay."""

    def __init__(self, *, chunks_max: int = CHUNKS_MAX, chars_max: int = CHARS_MAX) -> None:
        self._chunks_max = chunks_max
        self._chars_max = chars_max
        self._items: deque[tuple[int, Emitted]] = deque()
        self._chunks = self._chars = 0
        self.position = 0
        """Position of the newest item."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Emitted) -> None:
        """Add the newest."""
        self.position += 1
        self._items.append((self.position, item))
        if isinstance(item, Chunk):
            self._chunks += 1
            self._chars += len(item.data)
            while self._chunks > self._chunks_max or self._chars > self._chars_max:
                self._drop(Chunk)
        elif len(self._items) - self._chunks > ENDS_MAX:
            self._drop(EndedChunks)

    def after(self, position: int, chars_max: int = CHARS_MAX) -> tuple[list[Emitted], int]:
        """Return the items after that position, of about `chars_max` characters at most, and the position of the
        last."""
        found: list[Emitted] = []
        for place, item in self._items:
            if place <= position:
                continue
            if chars_max <= 0:
                return found, place - 1
            found.append(item)
            chars_max -= len(item.data) if isinstance(item, Chunk) else 0
        return found, self.position

    def clear(self) -> None:
        """Drop all items; positions go on."""
        self._items.clear()
        self._chunks = self._chars = 0

    def _drop(self, kind: type[Emitted]) -> None:
        """Drop the oldest of that kind; few of the other stand before it."""
        index = next(i for i, (_, item) in enumerate(self._items) if isinstance(item, kind))
        _, item = self._items[index]
        del self._items[index]
        if isinstance(item, Chunk):
            self._chunks -= 1
            self._chars -= len(item.data)


class OpenOps:
    """Ops whose chunks have not ended yet, with the last chunk of each on a stream."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, int | None], int] = {}

    def __bool__(self) -> bool:
        return bool(self._last)

    def note(self, item: Emitted) -> None:
        """A chunk opens its op, an end closes it."""
        place = item.stream, item.op
        if isinstance(item, Chunk):
            self._last[place] = item.number
        elif self._last.get(place, 0) <= item.number:
            self._last.pop(place, None)

    def end(self, outcomes: Mapping[int | None, str]) -> list[EndedChunks]:
        """Close those ops and return their ends."""
        ended = [place for place in self._last if place[1] in outcomes]
        return [
            EndedChunks(stream, op, self._last.pop((stream, op)), outcomes[op])
            for stream, op in ended
        ]

    def end_all(self, outcome: str) -> list[EndedChunks]:
        """Close all ops and return their ends."""
        return self.end({op: outcome for _, op in self._last})


class SessionEmissions:
    """Numbers the chunks that one adoption of a session emits, and keeps them for readers."""

    def __init__(self) -> None:
        self.queue = ChunkQueue()
        self._open = OpenOps()
        self._numbers: dict[str, int] = {}

    @property
    def has_open(self) -> bool:
        """True while an entry may end chunks."""
        return bool(self._open)

    def emit(self, stream: str, op: int | None, data: str, *, is_kept: bool) -> Chunk:
        """The code emits; if no one follows, the chunk is only counted."""
        number = self._numbers[stream] = self._numbers.get(stream, 0) + 1
        chunk = Chunk(stream, op, number, data)
        if is_kept:
            self._open.note(chunk)
            self.queue.put(chunk)
        else:
            self.queue.clear()
        return chunk

    def ended_by(self, entry: Entry) -> list[EndedChunks]:
        """Return the ends that this entry causes; put them into the queue once the entry is on disk."""
        outcomes: dict[int | None, str] = {None: NEXT_ENTRY}
        if entry.op is not None and entry.kind in STEP_OUTCOMES:
            outcomes[entry.op] = STEP_OUTCOMES[entry.kind]
        return self._open.end(outcomes)

    def end_all(self, outcome: str) -> list[EndedChunks]:
        """The ends of all that is open."""
        return self._open.end_all(outcome)


NEXT_ENTRY = "next_entry"
ABANDONED = "abandoned"
DIED = "died"
STEP_OUTCOMES: Mapping[str, str] = {
    EntryKind.STEP_SUCCEEDED: "succeeded",
    EntryKind.STEP_FAILED: "failed",
    EntryKind.STEP_TRY_FAILED: "retried",
    EntryKind.STEP_ABANDONED: ABANDONED,
}
"""Outcome of an op's chunks, by the entry that ends them."""


class LossCount:
    """Counts the chunks of a stream that one follower missed.

    Args:
        has_followed: It was there before the stream's first chunk of this adoption.
    """

    def __init__(self, *, has_followed: bool) -> None:
        self._seen = 0 if has_followed else None

    def lost_before(self, item: Emitted) -> int:
        """Return the number of chunks missing between the last item and this one."""
        last = item.number - 1 if isinstance(item, Chunk) else item.number
        lost = max(0, last - self._seen) if self._seen is not None else 0
        self._seen = max(item.number, self._seen or 0)
        return lost
