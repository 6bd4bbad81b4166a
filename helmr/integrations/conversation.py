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

from helmr.current import DurableRun, JsonText, require_run
from helmr.errors import DataError
from helmr.models import RECORD_BYTES_MAX
from helmr.streams import OutputStream

T = TypeVar("T")

ADD, PARTS, PIECE, TEXT = "add", "parts", "piece", "text"
ADDS = f'{{"{ADD}":['
"""How the JSON of a record begins that adds items."""
PIECE_CHARS = RECORD_BYTES_MAX // 8
"""Of one piece: a character may take six bytes of JSON."""


class KeptConversation(Generic[T]):
    """The items of one session's conversation, as its framework has them.

    What is kept of it is text. Each call for the items makes new objects: what code, tools or a framework
    change in place is neither in what is stored nor in what the next one gets, live as in a replay.

    Args:
        stream: Keeps it, and nothing else; its schema is any JSON.
        read: Items out of the JSON of a list; it raises a ValueError if they are none.
        write: The JSON of items, the same for items that were read and not changed.
    """

    def __init__(
        self,
        stream: OutputStream[Any],
        *,
        read: Callable[[str], list[T]],
        write: Callable[[Sequence[T]], list[Any]],
    ) -> None:
        self._stream, self._read, self._write = stream, read, write
        self._by_run: WeakKeyDictionary[DurableRun, list[str]] = WeakKeyDictionary()
        """The JSON of each record, of the runs that have read them."""

    async def items(self) -> list[T]:
        """All of it, oldest first; the caller's own.

        Raises:
            NotInTask: Outside a run's code.
            DataError: The stream holds something else.
        """
        texts = await self._records()
        joined = joined_additions(texts)
        if joined is not None:
            try:
                return self._read(joined)
            except ValueError:
                pass  # what is read below says what is wrong
        return self._read(_text(folded(map(json.loads, texts), self._stream.id)))

    async def _records(self) -> list[str]:
        stream = self._stream
        run = require_run(f"the conversation in {stream.id}")
        known = self._by_run.get(run)
        if known is None:
            found = await run.history(stream.id, direction=stream.direction)
            known = self._by_run[run] = [
                one.data.text if isinstance(one.data, JsonText) else _text(one.data)
                for one in found
            ]
        return known

    async def add(self, items: Sequence[T]) -> None:
        """Put items behind the others."""
        if items:
            await self._append({ADD: self._write(items)})

    async def become(self, items: Sequence[T]) -> None:
        """Make it these items; of those that are as they were stored only their places are."""
        known, new = await self._json(), self._write(items)
        match difference(known, new):
            case [[0, end]] if end == len(known):
                return
            case [[0, end], New(more)] if end == len(known):
                change: dict[str, Any] = {ADD: more}
            case [New(more)] if not known:
                change = {ADD: more}
            case parts:
                change = {
                    PARTS: [{ADD: part.items} if isinstance(part, New) else part for part in parts]
                }
        await self._append(change)

    async def _json(self) -> list[Any]:
        texts = await self._records()
        joined = joined_additions(texts)
        if joined is not None:
            try:
                found: list[Any] = json.loads(joined)
                return found
            except ValueError:
                pass
        return folded(map(json.loads, texts), self._stream.id)

    async def _append(self, change: dict[str, Any]) -> None:
        known = self._by_run.get(require_run(f"the conversation in {self._stream.id}"))
        # What a framework stamps with the time of a replay differs from what is recorded, which counts.
        for record in records_of(change):
            await self._stream.append(record, compare=False)
            if known is not None:
                known.append(_text(record))


def joined_additions(texts: Sequence[str]) -> str | None:
    """The JSON of the list of all items, if all records only add some: each is decoded once.

    A record that begins and ends as ours do and is of something else makes no JSON of it: in what it has between,
    the first bracket too many ends the list.
    """
    if not all(text.startswith(ADDS) and text.endswith("]}") for text in texts):
        return None
    return f"[{','.join(filter(None, (text[len(ADDS) : -2] for text in texts)))}]"


def records_of(change: dict[str, Any]) -> list[dict[str, Any]]:
    """A change as records that a stream takes."""
    text = _text(change)
    if len(text.encode(errors="surrogatepass")) <= RECORD_BYTES_MAX * 3 // 4:
        return [change]
    pieces = [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]
    return [
        {PIECE: [number, len(pieces)], TEXT: piece} for number, piece in enumerate(pieces, start=1)
    ]


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


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
class New:
    """Items that were not there, as JSON."""

    items: list[Any]


def difference(old: Sequence[Any], new: Sequence[Any]) -> list[list[int] | New]:
    """The new items by what they share with the old: ranges `[from, to]` of those, and what is new. Both are JSON.

    What is shared is found in the order of the old items; one that has moved before others counts as new.
    """
    parts: list[list[int] | New] = []
    at = 0
    if old and list(new[: len(old)]) == list(old):  # nearly always, and many times as fast
        at = len(old)
        parts.append([0, at])
    for item in new[at:]:
        found = next((n for n in range(at, len(old)) if old[n] == item), None)
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
