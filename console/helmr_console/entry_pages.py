"""The entries of one transcript as far as they are here, in pages. Pure.

Entries are dense in seq from 1, so entry n is on page (n - 1) // PAGE.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from helmr.models import EntryInfo

PAGE = 128
PAGES_HELD = 256


class EntryPages:
    """Pages by number; those that were not looked at for longest are dropped."""

    def __init__(self) -> None:
        self.held: OrderedDict[int, list[EntryInfo]] = OrderedDict()
        self._asked: set[int] = set()

    def put(self, page: int, entries: Sequence[EntryInfo]) -> None:
        """A page has come."""
        self.held[page] = list(entries)
        self.held.move_to_end(page)
        while len(self.held) > PAGES_HELD:
            dropped, _ = self.held.popitem(last=False)
            self._asked.discard(dropped)

    def append(self, entry: EntryInfo) -> None:
        """An entry came by the feed; it is kept if its page is here, or begins with it."""
        page, place = divmod(entry.seq - 1, PAGE)
        held = self.held.get(page)
        if place == 0 and held is None:
            held = self.held[page] = []
            self._asked.add(page)
        if held is not None and len(held) == place:
            held.append(entry)

    def peek(self, seq: int) -> EntryInfo | None:
        """The entry, if it is here."""
        page, place = divmod(seq - 1, PAGE)
        held = self.held.get(page)
        return held[place] if seq > 0 and held is not None and place < len(held) else None

    def look(self, seq: int) -> EntryInfo | None:
        """The entry, if it is here; its page is kept for longer."""
        found = self.peek(seq)
        if found is not None:
            self.held.move_to_end((seq - 1) // PAGE)
        return found

    def ask(self, seq: int) -> int | None:
        """The page to ask for so that this entry is here; None if it was asked for already."""
        page = (seq - 1) // PAGE
        if page in self._asked:
            return None
        self._asked.add(page)
        return page

    def may_be_asked_again(self, page: int) -> None:
        """It could not be read, or was read before it was full."""
        self._asked.discard(page)

    def in_order(self) -> Iterator[EntryInfo]:
        """All that is here."""
        for page in sorted(self.held):
            yield from self.held[page]

    def missing(self, count: int, newest: int) -> list[int]:
        """The pages that are not here, of so many at the end of so many entries, the last first."""
        last = max(0, count - 1) // PAGE
        return [page for page in range(last, max(-1, last - newest), -1) if page not in self.held]
