"""How long commits took lately."""

from __future__ import annotations

from collections import deque

KEPT = 1_000
"""Commits whose time is kept."""


class Latency:
    """Times of the last commits, in seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=KEPT)

    def add(self, duration_s: float) -> None:
        """Note one commit."""
        self._times.append(duration_s)

    def percentile_ms(self, share: float) -> float | None:
        """The time that this share of the kept commits stayed under, None before the first."""
        if not self._times:
            return None
        ordered = sorted(self._times)
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 3)
