"""How commits go: how long the last ones took, and how all of them were distributed since the file was opened."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import Any

KEPT = 1_000
"""Commits whose time is kept."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Around the few milliseconds of a commit on a good disk."""

JOBS = (1, 2, 5, 10, 20, 50, 100, 200, 512)
"""Up to the most that one transaction takes."""


class Distribution:
    """How many values fell between which bounds; counts only rise.

    Args:
        bounds: The upper bounds, rising; one more bucket has no bound.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one; a value on a bound belongs below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def to_json(self) -> dict[str, Any]:
        """`{bounds[], counts[], sum}`; `counts` has one more, and none holds those before it."""
        return {"bounds": list(self._bounds), "counts": list(self._counts), "sum": self._sum}


class Latency:
    """Times and sizes of commits."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=KEPT)
        self.seconds = Distribution(SECONDS)
        self.jobs = Distribution(JOBS)

    def add(self, duration_s: float, jobs: int) -> None:
        """Note one commit and how many writes shared it."""
        self._times.append(duration_s)
        self.seconds.add(duration_s)
        self.jobs.add(jobs)

    def to_json(self) -> dict[str, Any]:
        """`{commit_seconds, commit_jobs}`, each as `Distribution.to_json`."""
        return {"commit_seconds": self.seconds.to_json(), "commit_jobs": self.jobs.to_json()}

    def percentiles(self) -> dict[str, float | None]:
        """What half of the last commits and 99 of 100 stayed under."""
        return {"commit_p50_ms": self.percentile_ms(0.5), "commit_p99_ms": self.percentile_ms(0.99)}

    def percentile_ms(self, share: float) -> float | None:
        """The time that this share of the kept commits stayed under, None before the first."""
        if not self._times:
            return None
        ordered = sorted(self._times)
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 3)
