"""Which sessions the memory ledger may remove, and removing them (S-69).

The rule is that of the tables (`helmr_runtime.ledger.duck.pruning`), said over the index; a test holds one against the
other. A session that is held stays, without holding up the others: in a test nobody parks it by and by.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from helmr.models import SessionStatus
from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import Draft, Entry
from helmr_runtime.core.pruning import AT_ONCE, Prune, Pruned, pruned_draft
from helmr_runtime.ledger.heads import Head
from helmr_runtime.ledger.index import LedgerIndex
from helmr_runtime.ledger.kept_entries import KeptEntries, Stored
from helmr_runtime.ledger.memory_rows import MemoryRows


class MemoryPruning:
    """What of the memory ledger prunes it."""

    clock: Clock
    stored: Stored
    _index: LedgerIndex
    _rows: MemoryRows
    _keys: dict[tuple[str, str, str], Entry]

    @property
    @abstractmethod
    def index(self) -> LedgerIndex:
        """The ledger's memory, while it lives."""

    @abstractmethod
    def _facts(self, drafts: Sequence[Draft], now: datetime) -> tuple[Entry, ...]:
        """Entries of the nil session."""

    @abstractmethod
    def _store(self, entries: Sequence[Entry]) -> list[Entry]:
        """Store entries."""

    async def prune(self, prune: Prune) -> Pruned:
        """Remove some old sessions, or count all; nothing is archived, for there is no disk."""
        now = self.clock.now()
        before = now - timedelta(seconds=prune.age_s)
        found = prunable(self.index, self.stored.entries, before)
        page = found if prune.is_rehearsed else found[:AT_ONCE]
        gone = tuple(head.session_id for head in page)
        counted = sum(head.next_seq - 1 for head in page)
        if gone and not prune.is_rehearsed:
            self._store(self._facts((pruned_draft(prune, gone, counted, None),), now))
            self._remove(frozenset(gone))
        is_last = prune.is_rehearsed or not gone
        return Pruned(sessions=len(gone), entries=counted, is_last=is_last)

    def _remove(self, gone: Collection[str]) -> None:
        """Of sessions that are gone nothing stays."""
        self.stored.remove(gone)
        self._keys = {key: entry for key, entry in self._keys.items() if key[0] not in gone}
        self._rows = MemoryRows(self.stored.entries, self._index)


def prunable(index: LedgerIndex, entries: KeptEntries, before: datetime) -> list[Head]:
    """Sessions that are over since before that time, and that nothing refers to which stays; children first."""
    old = {
        head.session_id: head
        for head in index.heads.values()
        if head is not index.nil and _is_old(head, before)
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
