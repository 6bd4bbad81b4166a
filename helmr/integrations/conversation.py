"""A conversation that an output stream keeps, over parks, crashes and `continue_as` (S-128).

Each record says what one turn changed, so that a turn takes as much room late as early:

```
{"add": [item…]}                        behind all there are
{"parts": [[from, to] | {"add": […]}…]} the whole again: ranges of what was there, and new items
{"piece": [number, count], "text": …}   of a change that one record can't hold: its JSON, cut
```

A run reads it once, and knows what it adds itself. One turn at a time: branches that change it at once lose changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from helmr.current import DurableRun, require_run
from helmr.errors import DataError
from helmr.models import RECORD_BYTES_MAX
from helmr.streams import OutputStream

T = TypeVar("T")

ADD, PARTS, PIECE, TEXT = "add", "parts", "piece", "text"
PIECE_CHARS = RECORD_BYTES_MAX // 8
"""Of one piece: a character may take six bytes of JSON."""


class KeptConversation(Generic[T]):
    """The items of one session's conversation, as its framework has them.

    Args:
        stream: Keeps it, and nothing else; its schema is any JSON.
        read: Items out of JSON.
        write: The JSON of items.
    """

    def __init__(
        self,
        stream: OutputStream[Any],
        *,
        read: Callable[[list[Any]], list[T]],
        write: Callable[[Sequence[T]], list[Any]],
    ) -> None:
        self._stream, self._read, self._write = stream, read, write
        self._by_run: WeakKeyDictionary[DurableRun, list[T]] = WeakKeyDictionary()

    async def items(self) -> list[T]:
        """All of it, oldest first; the caller's own list.

        Raises:
            NotInTask: Outside a run's code.
            DataError: The stream holds something else.
        """
        return [*await self._items()]

    async def _items(self) -> list[T]:
        run = require_run(f"the conversation in {self._stream.id}")
        known = self._by_run.get(run)
        if known is None:
            records = await self._stream.history()
            known = self._by_run[run] = self._read(folded(records, self._stream.id))
        return known

    async def add(self, items: Sequence[T]) -> None:
        """Put items behind the others."""
        known = await self._items()
        if items:
            await self._append({ADD: self._write(items)})
            known.extend(items)

    async def become(self, items: Sequence[T], same: Callable[[T, T], bool]) -> None:
        """Make it these items; of those that it had only their places are stored.

        Args:
            items: In order.
            same: Whether an item is one that it had, unchanged.
        """
        known = await self._items()
        match difference(known, items, same):
            case [[0, end]] if end == len(known):
                return
            case [[0, end], New(more)] if end == len(known):
                change: dict[str, Any] = {ADD: self._write(more)}
            case [New(more)] if not known:
                change = {ADD: self._write(more)}
            case parts:
                change = {PARTS: [self._part(part) for part in parts]}
        await self._append(change)
        known[:] = items

    def _part(self, part: list[int] | New[T]) -> Any:
        return {ADD: self._write(part.items)} if isinstance(part, New) else part

    async def _append(self, change: dict[str, Any]) -> None:
        # What a framework stamps with the time of a replay differs from what is recorded, which counts.
        for record in records_of(change):
            await self._stream.append(record, compare=False)


def records_of(change: dict[str, Any]) -> list[dict[str, Any]]:
    """A change as records that a stream takes."""
    text = json.dumps(change, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode(errors="surrogatepass")) <= RECORD_BYTES_MAX * 3 // 4:
        return [change]
    pieces = [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]
    return [
        {PIECE: [number, len(pieces)], TEXT: piece} for number, piece in enumerate(pieces, start=1)
    ]


def folded(records: Iterable[Any], stream: str) -> list[Any]:
    """The items that records come to, as JSON.

    Pieces of which the last is missing are of a run that ended before it was stored: they change nothing.

    Raises:
        DataError: They are of something else.
    """
    items: list[Any] = []
    pieces: list[str] = []
    try:
        for record in records:
            change = record
            if PIECE in record:
                number, count = record[PIECE]
                pieces = [*(pieces if number > 1 else ()), record[TEXT]]
                if len(pieces) < count:
                    continue
                change = json.loads("".join(pieces))
            if ADD in change:
                items.extend(change[ADD])
            else:
                items = [one for part in change[PARTS] for one in _picked(items, part)]
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"stream {stream} does not hold a conversation",
            hint="Give the conversation a stream of its own.",
        ) from error
    return items


def _picked(items: list[Any], part: Any) -> list[Any]:
    if isinstance(part, dict):
        return list(part[ADD])
    begin, end = part
    return items[begin:end]


@dataclass(frozen=True, slots=True)
class New(Generic[T]):
    """Items that were not there."""

    items: list[T]


def difference(
    old: Sequence[T], new: Sequence[T], same: Callable[[T, T], bool]
) -> list[list[int] | New[T]]:
    """The new items by what they share with the old: ranges `[from, to]` of those, and what is new.

    What is shared is found in the order of the old items; one that has moved before others counts as new.
    """
    parts: list[list[int] | New[T]] = []
    at = 0
    for item in new:
        found = next((n for n in range(at, len(old)) if same(old[n], item)), None)
        last = parts[-1] if parts else None
        if found is None:
            if not isinstance(last, New):
                parts.append(last := New([]))
            last.items.append(item)
            continue
        at = found + 1
        if isinstance(last, list) and last[1] == found:
            last[1] = at
        else:
            parts.append([found, at])
    return parts
