"""The one timer of a ledger: it rings when the next unheld session is due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from helmr_runtime.clock import Clock, Timer

RECHECK_EVERY = timedelta(seconds=60)
"""Longest time between two looks at the deadlines, whatever the clock says."""


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
        self._recheck: Timer | None = None
        self._rings_at = clock.now()

    def arm(self, due_at: datetime) -> None:
        """Ring at that time by the wall clock, as it will be set then, or sooner."""
        if self._recheck is None:
            at = self._clock.now() + RECHECK_EVERY
            self._recheck = self._clock.call_at(at, self._on_time)
        if self._timer is not None:
            # One that rings sooner looks and arms again: cheaper than a new timer after every commit.
            if self._rings_at <= due_at:
                return
            self._timer.cancel()
        self._rings_at = due_at
        self._timer = self._clock.call_when(due_at, self._on_time)

    def cancel(self) -> None:
        """Don't ring."""
        for timer in (self._timer, self._recheck):
            if timer is not None:
                timer.cancel()
        self._timer = self._recheck = None

    def _on_time(self) -> None:
        self.cancel()
        self._ring()
