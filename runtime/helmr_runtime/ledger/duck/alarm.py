"""The one timer of a ledger: it rings when the next unheld session is due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from helmr_runtime.clock import Clock, Timer

RECHECK_EVERY = timedelta(seconds=60)
"""Longest time between two looks at the deadlines, should the clock have jumped."""


class Alarm:
    """Rings once after it was armed.

    Args:
        clock: Tells when.
        ring: Called then.
    """

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self._rings_at = clock.now()

    def arm(self, due_at: datetime) -> None:
        """Ring at that time, or sooner."""
        rings_at = min(due_at, self._clock.now() + RECHECK_EVERY)
        if self._timer is not None:
            # One that rings sooner looks and arms again: cheaper than a new timer after every commit.
            if self._rings_at <= rings_at:
                return
            self._timer.cancel()
        self._rings_at = rings_at
        self._timer = self._clock.call_at(rings_at, self._on_time)

    def cancel(self) -> None:
        """Don't ring."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_time(self) -> None:
        self._timer = None
        self._ring()
