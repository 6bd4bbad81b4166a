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
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

from helmr.current import DurableRun, JsonText, require_run
from helmr.errors import DataError
from helmr.models import RECORD_BYTES_MAX
from helmr.streams import OutputStream

T = TypeVar("T")

ADD, PARTS, PIECE, TEXT = "add", "parts", "piece", "text"
ADDS = f'{{"{ADD}":['
"""First characters of a record that adds items."""
PIECE_CHARS = RECORD_BYTES_MAX // 8
"""Characters of one piece: each may take six bytes of JSON."""
READ_CHARS = 32 * 1024
"""Characters of JSON read at once. Above 128 KiB the system would map memory of its own for the text, clear it in pages
of 4 KiB and unmap it after the read, at each turn."""


@dataclass(frozen=True, slots=True)
class ItemForm(Generic[T]):
    """Storage format of a framework's items.

    Attributes:
        read: Items out of the JSON of a list; it raises a ValueError if they are none.
        write: The JSON of items, the same for items that were read and not changed.
        mark: Tells an item that is as it was read from one that was changed, also in place; cheaper than the JSON.
            Without it the JSON of all is compared.
    """

    read: Callable[[str], list[T]]
    write: Callable[[Sequence[T]], list[Any]]
    mark: Callable[[T], Hashable] | None = None


class KeptConversation(Generic[T]):
    """The items of one session's conversation, as its framework has them.

    The stream keeps text. Each call for the items makes new objects: changes in place, by code, tools or a framework,
    reach neither the stream nor the next caller, live as in a replay.

    Args:
        stream: Keeps it, and nothing else; its schema is any JSON.
        form: Storage format of the items.
    """

    def __init__(self, stream: OutputStream[Any], form: ItemForm[T]) -> None:
        self._stream, self._form = stream, form
        self._by_run: WeakKeyDictionary[DurableRun, ReadConversation[T]] = WeakKeyDictionary()
        self._marks: Marks = WeakKeyDictionary()

    async def items(self) -> list[T]:
        """Return all items, oldest first; the list is the caller's own.

        Raises:
            NotInTask: Outside a run's code.
            DataError: The stream holds something else.
        """
        return (await self._of_run()).items()

    async def _of_run(self) -> ReadConversation[T]:
        stream = self._stream
        run = require_run(f"the conversation in {stream.id}")
        known = self._by_run.get(run)
        if known is None:
            found = await run.history(stream.id, direction=stream.direction)
            records = [
                one.data if isinstance(one.data, JsonText) else JsonText(_text(one.data))
                for one in found
            ]
            known = ReadConversation(self._form, records, stream.id, self._marks)
            self._by_run[run] = known
        return known

    async def add(self, items: Sequence[T]) -> None:
        """Append items."""
        if items:
            await self._append({ADD: self._form.write(items)})

    async def become(self, items: Sequence[T]) -> None:
        """Replace the items; of those already stored only the places are written."""
        change = (await self._of_run()).change(items)
        if change is not None:
            await self._append(change)

    async def _append(self, change: dict[str, Any]) -> None:
        known = self._by_run.get(require_run(f"the conversation in {self._stream.id}"))
        # What a framework stamps with the time of a replay differs from what is recorded, which counts.
        for record in records_of(change):
            await self._stream.append(record, compare=False)
            if known is not None:
                known.append(record)


Marks = WeakKeyDictionary[JsonText, list[Hashable]]
"""Marks of the items that a record adds, as read; kept while a host keeps the record's text."""


class ReadConversation(Generic[T]):
    """The part of a conversation that one run has read and added: pure.

    Args:
        form: Storage format of the items.
        records: JSON of each record.
        stream: Name of the stream, for errors.
        marks: Marks that other runs have found; gets those of the other records.
    """

    def __init__(
        self, form: ItemForm[T], records: list[JsonText], stream: str, marks: Marks
    ) -> None:
        self._form, self._records, self._stream = form, records, stream
        self._marks_of_records = marks
        self._marks: list[Hashable] | None = None
        """Marks of the items, from a read until a record is added."""

    def append(self, record: dict[str, Any]) -> None:
        """Take in a record that the stream has now."""
        self._records.append(JsonText(_text(record)))
        self._marks = None

    def items(self) -> list[T]:
        """Return all items, as new objects each time."""
        mark = self._form.mark
        additions = joined_additions(self._texts())
        if additions is not None:
            try:
                items = list(chain.from_iterable(map(self._form.read, additions)))
            except ValueError:
                pass  # what is read below says what is wrong
            else:
                self._marks = self._marks_by_record(items, mark) if mark is not None else None
                return items
        items = self._form.read(_text(self._folded()))
        self._marks = [mark(item) for item in items] if mark is not None else None
        return items

    def _marks_by_record(self, items: list[T], mark: Callable[[T], Hashable]) -> list[Hashable]:
        """Return the marks of items just read, from records that only add items."""
        marks: list[Hashable] = []
        for record in self._records:
            found = self._marks_of_records.get(record)
            if found is None:
                end = len(marks) + len(record.decoded()[ADD])
                found = [mark(item) for item in items[len(marks) : end]]
                self._marks_of_records[record] = found
            marks += found
        return marks

    def _texts(self) -> list[str]:
        return [record.text for record in self._records]

    def _folded(self) -> list[Any]:
        return folded((record.decoded() for record in self._records), self._stream)

    def change(self, items: Sequence[T]) -> dict[str, Any] | None:
        """Return the change to these items; None if there is none.

        Encodes no item that is as it was read, and decodes nothing if all of those are in place.
        """
        mark, before = self._form.mark, self._marks
        if mark is None or before is None:
            known = self._json()
            return change_of(known, self._form.write(items))
        marks = [mark(item) for item in items]
        count = len(before)
        if count and marks[:count] == before:
            more = self._form.write(items[count:])
            return {ADD: more} if more else None
        known = self._json()
        by_mark = dict(zip(before, known, strict=True))
        new = [item for item, its in zip(items, marks, strict=True) if its not in by_mark]
        written = iter(self._form.write(new))
        return change_of(
            known, [by_mark[its] if its in by_mark else next(written) for its in marks]
        )

    def _json(self) -> list[Any]:
        additions = joined_additions(self._texts())
        if additions is not None:
            try:
                return list(chain.from_iterable(map(json.loads, additions)))
            except ValueError:
                pass
        return self._folded()


PLAIN = frozenset((str, int, float, bool, type(None)))


def mark_of(value: Any) -> Hashable:
    """Stands for a JSON value as it is now: two are equal if the values were, by `==`.

    An object of any other class makes it equal to no other.
    """
    kind = type(value)
    if kind in PLAIN:
        return cast("Hashable", value)
    if kind is dict:
        return (dict, *value, *map(mark_of, value.values())) if value else dict
    if kind is list:
        return (list, *map(mark_of, value)) if value else list
    return object()


def joined_additions(texts: Sequence[str]) -> Iterator[str] | None:
    """The JSON of lists that together have all items, if all records only add some: each is decoded once.

    A record that begins and ends as ours do and is of something else makes no JSON of it: in what it has between,
    the first bracket too many ends the list.
    """
    only_add = [text for text in texts if text.startswith(ADDS) and text.endswith("]}")]
    return _joined(only_add) if len(only_add) == len(texts) else None


def _joined(texts: Sequence[str]) -> Iterator[str]:
    parts: list[str] = []
    chars = 0
    for text in texts:
        part = text[len(ADDS) : -2]
        if part:
            parts.append(part)
            chars += len(part)
        if chars >= READ_CHARS:
            yield f"[{','.join(parts)}]"
            parts, chars = [], 0
    yield f"[{','.join(parts)}]"


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


def change_of(known: list[Any], new: list[Any]) -> dict[str, Any] | None:
    """Return the JSON change from the known items to the new ones; None if they are the same."""
    match difference(known, new):
        case [[0, end]] if end == len(known):
            return None
        case [[0, end], New(more)] if end == len(known):
            return {ADD: more}
        case [New(more)] if not known:
            return {ADD: more}
        case parts:
            return {PARTS: [{ADD: part.items} if isinstance(part, New) else part for part in parts]}


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
