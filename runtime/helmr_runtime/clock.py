"""The only home of wall-clock time. Everything else is handed a clock, so that tests can hand out theirs."""

from __future__ import annotations

import asyncio
import heapq
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Protocol


class Timer(Protocol):
    """A pending call that can be taken back."""

    def cancel(self) -> None:
        """Do not make the call. Harmless once it was made."""
        ...


class Clock(Protocol):
    """Tells the time and makes calls at a time, on the running event loop."""

    def now(self) -> datetime:
        """The time, aware, UTC, with microseconds. May be called from any thread."""
        ...

    def call_at(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Make `call` on the running loop at `when`, at once if that has passed."""
        ...

    def elapsed_s(self) -> float:
        """Seconds since some moment, by a clock that nobody sets; sleep of the machine counts."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time, aware, UTC."""
        return datetime.now(UTC)

    def call_at(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Arm a timer of the running loop."""
        delay_s = max(0.0, (when - self.now()).total_seconds())
        return asyncio.get_running_loop().call_later(delay_s, call)

    def elapsed_s(self) -> float:
        """Seconds since the machine began."""
        has_boottime = sys.platform == "linux"
        return time.clock_gettime(time.CLOCK_BOOTTIME if has_boottime else time.CLOCK_MONOTONIC)


class FakeClock:
    """A clock that stands still until it is moved; the one fake clock of all tests and of `helmr.testing`.

    Args:
        start: The first time it tells, aware.
    """

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._start = start
        self._order = count()
        self._calls: list[tuple[datetime, int, _FakeTimer]] = []

    def now(self) -> datetime:
        """The time it stands at."""
        return self._now

    def call_at(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Make `call` when the clock is moved to `when` or past it; at the loop's next turn if it stands there."""
        timer = _FakeTimer(call)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(timer.fire)
        else:
            heapq.heappush(self._calls, (when, next(self._order), timer))
        return timer

    def elapsed_s(self) -> float:
        """Seconds since it began: nobody sets it but by letting time pass."""
        return (self._now - self._start).total_seconds()

    @property
    def next_at(self) -> datetime | None:
        """When the next pending call is due."""
        while self._calls and self._calls[0][2].is_over:
            heapq.heappop(self._calls)
        return self._calls[0][0] if self._calls else None

    def move_to(self, when: datetime) -> None:
        """Let time pass, making the calls that fall due, each at its own time."""
        while (due := self.next_at) is not None and due <= when:
            self._now = max(self._now, due)
            heapq.heappop(self._calls)[2].fire()
        self._now = max(self._now, when)


class _FakeTimer:
    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self.is_over = False

    def cancel(self) -> None:
        self.is_over = True

    def fire(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._call()
