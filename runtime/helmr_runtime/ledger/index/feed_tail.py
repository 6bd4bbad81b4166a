"""The newest entries, kept in memory: what followers, adoptions and the projection ask for again at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from helmr_runtime.core.entries import Entry

ENTRIES_MAX = 4_096
TEXT_MAX = 32 * 1024 * 1024
"""Bounds of what is kept: entries, and characters of their bodies."""


class FeedTail:
    """Entries by feed offset, consecutive, the oldest dropped first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._text = 0

    def add(self, entry: Entry) -> None:
        """Keep a stored entry."""
        assert entry.feed_offset is not None
        self._entries[entry.feed_offset] = entry
        self._text += len(entry.body_json)
        while len(self._entries) > ENTRIES_MAX or (
            self._text > TEXT_MAX and len(self._entries) > 1
        ):
            _, dropped = self._entries.popitem(last=False)
            self._text -= len(dropped.body_json)

    def get(self, feed_offset: int) -> Entry | None:
        """The entry at that offset, if it is still here."""
        return self._entries.get(feed_offset)

    def after(self, feed_offset: int, limit: int) -> list[Entry] | None:
        """The entries behind an offset; None if some of them are no longer here."""
        if feed_offset + 1 not in self._entries:
            return None
        last = min(next(reversed(self._entries)), feed_offset + limit)
        return [self._entries[offset] for offset in range(feed_offset + 1, last + 1)]

    def forget_through(self, feed_offset: int) -> None:
        """Drop what is not behind that offset: some of it was pruned, and what stays here has no gaps."""
        while self._entries and next(iter(self._entries)) <= feed_offset:
            _, dropped = self._entries.popitem(last=False)
            self._text -= len(dropped.body_json)

    def split(self, offsets: Iterable[int]) -> tuple[dict[int, Entry], list[int]]:
        """Those that are here, and the offsets of those that must be read."""
        found: dict[int, Entry] = {}
        missing: list[int] = []
        for offset in offsets:
            entry = self._entries.get(offset)
            if entry is None:
                missing.append(offset)
            else:
                found[offset] = entry
        return found, missing
