"""What the memory ledger has stored: lists, in which what was pruned leaves gaps (S-69)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass, field

from helmr_runtime.core.entries import Entry


class KeptEntries(list[Entry]):
    """Entries in feed order. What was pruned leaves gaps: places in the list are no offsets."""

    @property
    def next_offset(self) -> int:
        """Of the next entry. The last one is never pruned: it says what was."""
        return (self[-1].feed_offset or 0) + 1 if self else 1

    def at(self, offset: int) -> Entry:
        """The entry with that feed offset.

        Raises:
            KeyError: There is none.
        """
        place = self._place(offset)
        if place == len(self) or self[place].feed_offset != offset:
            raise KeyError(offset)
        return self[place]

    def behind(self, offset: int) -> list[Entry]:
        """All behind that feed offset."""
        return self[self._place(offset + 1) :]

    def remove_sessions(self, gone: Collection[str]) -> None:
        """Remove all entries of these sessions."""
        self[:] = [entry for entry in self if entry.session_id not in gone]

    def _place(self, offset: int) -> int:
        """Of the first entry that is not before that offset."""
        place = offset - 1
        if not self or self[-1].feed_offset == len(self):  # nothing is gone
            return min(place, len(self))
        return bisect_left(self, offset, key=lambda entry: entry.feed_offset or 0)


@dataclass(slots=True)
class Stored:
    """What is on this ledger's disk."""

    entries: KeptEntries = field(default_factory=KeptEntries)
    checkpoints: dict[tuple[str, int], str] = field(default_factory=dict)
    holdings: list[tuple[str, int, str | None]] = field(default_factory=list)

    def remove(self, gone: Collection[str]) -> None:
        """Remove everything of these sessions."""
        self.entries.remove_sessions(gone)
        self.checkpoints = {at: one for at, one in self.checkpoints.items() if at[0] not in gone}
        self.holdings = [one for one in self.holdings if one[0] not in gone]
