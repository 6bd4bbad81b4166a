"""Chunks: what code emits to anyone who follows, on its way there. Nothing of it is an entry, and nothing is stored.

A live session keeps the newest in a ring, from which each reader takes what is behind its position; a reader that is
too slow finds some gone. Every chunk has a number on its stream, so anyone who reads last can tell how many it did not
get, wherever they were dropped. Invariant: S-90.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from helmr_runtime.core.entries import Entry, EntryKind

CHUNKS_MAX = 1_000
"""Chunks that wait for one reader: a second's worth of what a model says at its fastest."""

CHARS_MAX = 1024 * 1024
"""Of their JSON text."""

ENDS_MAX = 1_000
"""Ends that wait beside them; followers get them even where chunks were dropped."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One value that code emitted.

    Attributes:
        op: The step that it came from; None outside of steps.
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
        number: Of the last chunk that it ends.
        outcome: succeeded, failed, retried, abandoned or died of a step; next_entry or died outside of steps.
    """

    stream: str
    op: int | None
    number: int
    outcome: str


Emitted = Chunk | EndedChunks


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Up to where a reader has a session's chunks: of which adoption, and the position in its ring."""

    epoch: int
    position: int


BEGINNING = ChunkPlace(0, 0)
"""The place of who followed before the session was adopted: whatever is kept is new."""


@dataclass(frozen=True, slots=True)
class SessionChunks:
    """What a session has emitted behind a reader's place, and the place that it has now."""

    session_id: str
    place: ChunkPlace
    items: tuple[Emitted, ...]


@dataclass(frozen=True, slots=True)
class ChunkNews:
    """What a host answers who reads chunks. `gone`: sessions that it does not hold, and has sent all of."""

    sessions: tuple[SessionChunks, ...] = ()
    gone: tuple[str, ...] = ()


class ChunkQueue:
    """The newest of what was emitted, within bounds: the oldest chunk makes room, an end stays."""

    def __init__(self, *, chunks_max: int = CHUNKS_MAX, chars_max: int = CHARS_MAX) -> None:
        self._chunks_max = chunks_max
        self._chars_max = chars_max
        self._items: deque[tuple[int, Emitted]] = deque()
        self._chunks = self._chars = 0
        self.position = 0
        """Of the newest."""

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
        """What is behind that position, about so much of it at most; and the position that this reaches."""
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
        """Keep nothing; positions go on."""
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
    """Which ops have chunks whose end is still to come, and the last chunk of each on a stream."""

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
        """The ends of those ops, which are open no more."""
        ended = [place for place in self._last if place[1] in outcomes]
        return [
            EndedChunks(stream, op, self._last.pop((stream, op)), outcomes[op])
            for stream, op in ended
        ]

    def end_all(self, outcome: str) -> list[EndedChunks]:
        """The ends of all."""
        return self.end({op: outcome for _, op in self._last})


class SessionEmissions:
    """What the code of one adoption has emitted: numbers it, and keeps it for readers."""

    def __init__(self) -> None:
        self.queue = ChunkQueue()
        self._open = OpenOps()
        self._numbers: dict[str, int] = {}

    @property
    def has_open(self) -> bool:
        """An entry may end something."""
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
        """What this entry ends, to be put into the queue when it is on disk."""
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
"""What the end of an op's chunks is called, by the entry that ends them."""


class LossCount:
    """What one follower of a stream has got, and so how many chunks it has not.

    Args:
        has_followed: It was there before the stream's first chunk of this adoption.
    """

    def __init__(self, *, has_followed: bool) -> None:
        self._seen = 0 if has_followed else None

    def lost_before(self, item: Emitted) -> int:
        """How many chunks are missing between the last item and this one."""
        last = item.number - 1 if isinstance(item, Chunk) else item.number
        lost = max(0, last - self._seen) if self._seen is not None else 0
        self._seen = max(item.number, self._seen or 0)
        return lost
