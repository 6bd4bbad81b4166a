"""The machine's clock, as the scheduler has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from helmr_runtime.clock import Timer, call_by_wall
from tests.programs.simulation.scheduler import Scheduler

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)
SETTLED = timedelta(seconds=1)
"""What was promised until a time by the clock that was set is over by then."""


class SimulatedClock:
    """As `helmr_runtime.clock.SystemClock`: the wall's time, which can be set, and timers of the loop, which that
    does not move."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._begin = BEGIN
        self.sound_from = BEGIN
        """Since then it was not set; what was stamped before it was is earlier."""
        self.latest = BEGIN
        """The latest time that it has told."""

    def now(self) -> datetime:
        """The time."""
        now = self._begin + timedelta(seconds=self._scheduler.now_s)
        self.latest = max(self.latest, now)
        return now

    def call_at(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Arm a timer of the running loop."""
        delay_s = max(0.0, (when - self.now()).total_seconds())
        return asyncio.get_running_loop().call_later(delay_s, call)

    def call_when(self, when: datetime, call: Callable[[], None]) -> Timer:
        """As the machine's clock does it."""
        return call_by_wall(self, when, call)

    def elapsed_s(self) -> float:
        """Seconds since it all began: a step does not move it."""
        return self._scheduler.now_s

    def elapsed_at(self, at: datetime) -> float | None:
        """What `elapsed_s` was then; None if that may be a time from before the clock was set."""
        return (at - self._begin).total_seconds() if at >= self.sound_from else None

    def step(self, seconds: float) -> None:
        """Set the wall's clock forward or back."""
        self._begin += timedelta(seconds=seconds)
        self.sound_from = max(self.latest, self.now()) + SETTLED
