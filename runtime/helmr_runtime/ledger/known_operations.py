"""The operation ids of the last day, and where their receipts stand. Pure, in memory (S-61)."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime, timedelta

OPERATION_AGE = timedelta(hours=24)
"""How long a repeated operation is known (S-61)."""

OPERATIONS_MAX = 1_000_000
"""Operation ids kept in memory, about 150 MB; the ledger's table answers for older ones of the same day."""


def digest(text: str) -> bytes:
    """How external ids, keys and operation ids are kept in memory: 16 bytes however long they are."""
    return hashlib.sha256(text.encode("utf-8")).digest()[:16]


class KnownOperations:
    """Feed offsets of the entries that carry the receipts of accepted operations, the oldest forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[int, datetime]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[tuple[bytes, tuple[int, datetime]]]:
        return iter(self._known.items())

    def offset_of(self, operation_id: str) -> int | None:
        """Where the receipt stands."""
        known = self._known.get(digest(operation_id))
        return known[0] if known is not None else None

    def remember(
        self, operation_id: str, feed_offset: int, recorded_at: datetime, now: datetime
    ) -> None:
        """Know an accepted operation for a day."""
        self._known[digest(operation_id)] = (feed_offset, recorded_at)
        self.forget_old(now)

    def forget_old(self, now: datetime) -> None:
        """Forget those of more than a day ago, and the oldest of too many."""
        oldest_at = now - OPERATION_AGE
        while self._known:
            _, known_at = next(iter(self._known.values()))
            if known_at >= oldest_at and len(self._known) <= OPERATIONS_MAX:
                break
            self._known.popitem(last=False)
