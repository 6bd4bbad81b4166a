"""When unheld sessions are due: a heap with lazy deletion over the index's heads."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import datetime

from helmr_runtime.ledger.index.heads import Head

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
