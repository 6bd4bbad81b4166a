"""The operation ids of the last day, and where their receipts stand. Pure, in memory (S-61)."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta

OPERATION_AGE = timedelta(hours=24)
"""How long a repeated operation is known (S-61)."""

GROUP_MAX = 87_381
"""Operation ids of a group: as many as fill the table of a dictionary, two thirds of 2^17."""

GROUPS_MAX = 12
"""Groups kept in memory: a million operation ids, 130 MB; the ledger's table answers for older ones of the same day."""

_TIME_BITS = 56
"""Of a place, for its time in microseconds since 1970; those before it are its feed offset."""


def operations_max() -> int:
    """The most that are kept in memory."""
    return GROUPS_MAX * GROUP_MAX


def digest(text: str) -> bytes:
    """How external ids, keys and operation ids are kept in memory: 16 bytes however long they are."""
    return hashlib.sha256(text.encode("utf-8")).digest()[:16]


class _Group:
    """Operations accepted one after the other, which are forgotten together."""

    __slots__ = ("newest", "places")

    def __init__(self) -> None:
        self.places: dict[int, int] = {}
        """Two numbers each, because nothing takes less: there are a million."""
        self.newest = 0


class KnownOperations:
    """Feed offsets of the entries that carry the receipts of accepted operations, the oldest forgotten first."""

    def __init__(self) -> None:
        self._groups = deque([_Group()])
        self._oldest = 0
        """What was recorded earlier is not known any more."""
        self._dropped = 0
        """When the newest was recorded that was forgotten because there were too many."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Every operation that is known: a number made of its id, and its feed offset."""
        for group in self._groups:
            for key, place in group.places.items():
                if _time_in(place) >= self._oldest:
                    yield key, place >> _TIME_BITS

    @property
    def is_complete(self) -> bool:
        """All that is younger than a day is here."""
        return self._dropped < self._oldest or self._dropped == 0

    def offset_of(self, operation_id: str) -> int | None:
        """Where the receipt stands."""
        key = _key(operation_id)
        for group in reversed(self._groups):
            place = group.places.get(key)
            if place is not None:
                return place >> _TIME_BITS if _time_in(place) >= self._oldest else None
        return None

    def remember(self, operation_id: str, feed_offset: int, recorded_at: datetime) -> None:
        """Know an accepted operation for a day."""
        group = self._groups[-1]
        if len(group.places) >= GROUP_MAX:
            group = _Group()
            self._groups.append(group)
        time = _microseconds(recorded_at)
        group.places[_key(operation_id)] = feed_offset << _TIME_BITS | time
        group.newest = max(group.newest, time)

    def forget_old(self, now: datetime) -> None:
        """Forget those of more than a day ago, and the oldest of too many."""
        self._oldest = _microseconds(now - OPERATION_AGE)
        while len(self._groups) > 1 and self._groups[0].newest < self._oldest:
            self._groups.popleft()
        while len(self._groups) > GROUPS_MAX:
            self._dropped = max(self._dropped, self._groups.popleft().newest)


def _key(operation_id: str) -> int:
    return int.from_bytes(digest(operation_id))


def _time_in(place: int) -> int:
    return place & ((1 << _TIME_BITS) - 1)


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)
