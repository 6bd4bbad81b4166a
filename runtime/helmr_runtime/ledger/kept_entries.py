"""What the memory ledger has stored: lists, in which what was pruned leaves gaps, and what may be pruned (S-69).

The rule of pruning is that of the tables (`helmr_runtime.ledger.pruning`), said over the index; a test holds one
against the other. A session that is held stays, without holding up the others: in a test nobody parks it by and by.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from helmr.models import SessionStatus
from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.ledger_index import LedgerIndex


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


def prunable(index: LedgerIndex, entries: KeptEntries, before: datetime) -> list[Head]:
    """Sessions that are over since before that time, and that nothing refers to which stays; children first."""
    old = {
        head.session_id: head
        for head in index.heads.values()
        if head is not index.system and _is_old(head, before)
    }
    kept = {one.session_id for one in index.schedules.by_name.values() if one.session_id}
    kept |= {one for one, head in old.items() if head.is_held}
    families: dict[str, set[str]] = {}
    for token in index.tokens:
        if token.parent is not None:
            families.setdefault(token.session_id, set()).add(token.parent.session_id)
            families.setdefault(token.parent.session_id, set()).add(token.session_id)
            continue
        if token.is_pending:
            kept.add(token.session_id)
        if token.pin_offset:
            kept |= {entries.at(token.pin_offset).session_id} - {token.session_id}
    kept |= {kin for one, kins in families.items() if one not in old for kin in kins}
    unseen = list(kept)
    while unseen:
        for kin in families.get(unseen.pop(), set()) - kept:
            kept.add(kin)
            unseen.append(kin)
    return [head for one, head in reversed(old.items()) if one not in kept]


def _is_old(head: Head, before: datetime) -> bool:
    is_over = head.status is not SessionStatus.OPEN and not head.has_active_run
    return is_over and head.last_at is not None and head.last_at < before
