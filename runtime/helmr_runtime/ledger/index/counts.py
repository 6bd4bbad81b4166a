"""What is counted: open sessions by what they do, and how long commits took. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from helmr.models import Activity, RunStatus, SessionStatus
from helmr_runtime.ledger.index.heads import Head

Kind = tuple[Activity, bool, bool]

_KINDS: dict[Kind, Kind] = {
    (one, is_held, has_failed): (one, is_held, has_failed)
    for one in Activity
    for is_held in (False, True)
    for has_failed in (False, True)
}
"""One triple for all sessions that are counted under it: what they do, held, their newest run has failed."""


class Census:
    """Sessions by what they do, and whether someone holds them."""

    def __init__(self) -> None:
        self._counts: Counter[Kind] = Counter()

    def recount(self, head: Head) -> None:
        """The head has changed."""
        counted = (
            _KINDS[head.activity, head.is_held, head.run_status is RunStatus.FAILED]
            if head.status is SessionStatus.OPEN or head.has_active_run
            else None
        )
        if counted == head.counted_as:
            return
        if head.counted_as is not None:
            self._counts[head.counted_as] -= 1
        if counted is not None:
            self._counts[counted] += 1
        head.counted_as = counted

    @property
    def held(self) -> int:
        """Those that someone holds."""
        return sum(count for (_, is_held, _), count in self._counts.items() if is_held)

    @property
    def parked(self) -> int:
        """Those that wait and that no one holds."""
        return self._counts[Activity.WAITING, False, False]

    @property
    def failed(self) -> int:
        """Those whose newest run has failed."""
        return sum(count for (_, _, has_failed), count in self._counts.items() if has_failed)

    def by_activity(self) -> dict[str, int]:
        """By the names of activities."""
        found = dict.fromkeys((one.value for one in Activity), 0)
        for (activity, _, _), count in self._counts.items():
            found[activity.value] += count
        return found


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
