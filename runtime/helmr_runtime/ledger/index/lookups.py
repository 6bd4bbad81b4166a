"""What the index finds sessions by: an operation's id (S-61), an external id (S-2), the time when one is due.

Pure. Operation ids are known for a day. An external id names the newest of the open sessions that have it: several do
when a rewind has opened a session again whose name was given to another meanwhile (S-75). Due times are a heap with
lazy deletion over the index's heads.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from helmr_runtime.ledger.index.heads import Head

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


class OpenNames:
    """External ids of open sessions, by digest.

    Args:
        heads: Of all sessions that are named here.
    """

    def __init__(self, heads: Mapping[str, Head]) -> None:
        self._heads = heads
        self._newest: dict[bytes, str] = {}
        self._others: dict[bytes, list[str]] = {}

    def get(self, key: bytes) -> str | None:
        """The session that it names."""
        return self._newest.get(key)

    def add(self, key: bytes, head: Head) -> None:
        """An open session has this external id."""
        head.external_key = key
        self._keep(key, [head.session_id, *self._take(key)])

    def remove(self, head: Head) -> None:
        """The session has ended."""
        key, head.external_key = head.external_key, None
        if key is not None:
            self._keep(key, [one for one in self._take(key) if one != head.session_id])

    def items(self) -> Iterator[tuple[bytes, list[str]]]:
        """Each external id and the open sessions that have it, newest first."""
        for key, newest in self._newest.items():
            yield key, [newest, *self._others.get(key, ())]

    def _take(self, key: bytes) -> list[str]:
        newest = self._newest.pop(key, None)
        return [newest, *self._others.pop(key, ())] if newest is not None else []

    def _keep(self, key: bytes, session_ids: list[str]) -> None:
        session_ids.sort(key=lambda one: self._heads[one].created_offset)
        if session_ids:
            self._newest[key] = session_ids.pop()
        if session_ids:
            self._others[key] = session_ids[::-1]


SLACK = 1_000
"""Stale alarms that may stay in the heap beyond one per armed session before it is rebuilt."""


class Timers:
    """At most one alarm per session; an alarm that was moved is skipped when it comes up."""

    def __init__(self, heads: Mapping[str, Head]) -> None:
        self._heads = heads
        self._armed: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []

    def arm(self, head: Head, rings_at: datetime | None) -> None:
        """Set the session's one alarm, or take it away."""
        if rings_at is None:
            self._armed.pop(head.session_id, None)
        elif self._armed.get(head.session_id) != rings_at:
            self._armed[head.session_id] = rings_at
            heapq.heappush(self._heap, (rings_at, head.session_id))
        if len(self._heap) > 2 * len(self._armed) + SLACK:
            self._heap = [(at, session_id) for session_id, at in self._armed.items()]
            heapq.heapify(self._heap)

    def next_at(self) -> datetime | None:
        """When the earliest alarm rings."""
        while self._heap and self._armed.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: datetime) -> Head | None:
        """Disarm the earliest session that is due and return it."""
        rings_at = self.next_at()
        if rings_at is None or rings_at > now:
            return None
        _, session_id = heapq.heappop(self._heap)
        del self._armed[session_id]
        return self._heads[session_id]
