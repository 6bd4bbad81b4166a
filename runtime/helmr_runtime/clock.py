"""The only home of wall-clock time. All other code gets a clock as an argument, so that tests can pass their own."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Protocol
from weakref import WeakKeyDictionary

from helmr import platform


class Timer(Protocol):
    """A pending call that can be cancelled."""

    def cancel(self) -> None:
        """Cancel the call. Harmless once it was made."""
        ...


class Clock(Protocol):
    """Tells the time and makes calls at a time, on the running event loop."""

    def now(self) -> datetime:
        """The time, aware, UTC, with microseconds. May be called from any thread."""
        ...

    def call_at(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Make `call` on the running loop at `when`, at once if that has passed."""
        ...

    def call_when(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Make `call` like `call_at`, but by the wall clock: if that is set meanwhile, `when` is by its new time.

        A change of the clock is noticed within `LOOK_EVERY_S`. `call_at` waits for the duration left when it was
        called, which is right for a pause.
        """
        ...

    def elapsed_s(self) -> float:
        """Return seconds since some moment, by a clock that is never set; sleep of the machine counts."""
        ...


LOOK_EVERY_S = 1.0
"""Seconds between checks whether the machine's clock was set, while a call waits for its time."""

STEP_S = 0.05
"""Seconds that the machine's clock and the loop's may drift apart before calls are armed again; slewing takes minutes
for that."""


class SystemClock:
    """The machine's clock."""

    now = staticmethod(partial(datetime.now, UTC))
    """The time, aware, UTC. A builtin without a Python frame, since an answer asks it ten times."""

    def call_at(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Arm a timer of the running loop."""
        delay_s = max(0.0, (when - self.now()).total_seconds())
        return asyncio.get_running_loop().call_later(delay_s, call)

    def call_when(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Arm a timer of the running loop that is armed again when the machine's clock is set."""
        return call_by_wall(self, when, call)

    def elapsed_s(self) -> float:
        """Seconds since the machine began."""
        return platform.elapsed_s()


def call_by_wall(clock: Clock, when: datetime, call: Callable[[], None]) -> Timer:
    """Implement `Clock.call_when` with timers of the running loop, for a clock that may be set."""
    loop = asyncio.get_running_loop()
    pending = _PENDING.get(loop)
    if pending is None:
        pending = _PENDING[loop] = _WallTimers(loop)
    return pending.add(_WallTimer(clock, when, call, pending))


class _WallTimer:
    """A call that waits for a time by a clock that may be set."""

    def __init__(
        self, clock: Clock, when: datetime, call: Callable[[], None], pending: _WallTimers
    ) -> None:
        self.clock = clock
        self._when = when
        self._call = call
        self._pending = pending
        self._timer: Timer | None = None
        self._apart_s = 0.0

    def arm(self) -> None:
        """Arm the timer by the clock's current time."""
        if self._timer is not None:
            self._timer.cancel()
        self._apart_s = self._pending.apart_s(self.clock)
        self._timer = self.clock.call_at(self._when, self._on_time)

    def look(self, apart_s: float) -> None:
        """Arm the timer again if the clock was set since."""
        if abs(apart_s - self._apart_s) > STEP_S:
            self.arm()

    def cancel(self) -> None:
        """Cancel the call."""
        self._pending.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def _on_time(self) -> None:
        if self.clock.now() < self._when:  # it was set back since the last check
            self.arm()
            return
        self._pending.discard(self)
        self._call()


class _WallTimers:
    """Calls of a loop that wait for a time by the wall clock; checks that clock while there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._now_s = loop.time
        self._timers: dict[_WallTimer, None] = {}
        self._is_looking = False

    def add(self, timer: _WallTimer) -> _WallTimer:
        """Arm a timer."""
        self._timers[timer] = None
        timer.arm()
        if not self._is_looking:
            self._look_later()
        return timer

    def discard(self, timer: _WallTimer) -> None:
        """Remove a timer that has fired or was cancelled."""
        self._timers.pop(timer, None)

    def apart_s(self, clock: Clock) -> float:
        """Return the seconds between the wall clock and the loop's clock, which is never set."""
        return clock.now().timestamp() - self._now_s()

    def _look_later(self) -> None:
        self._is_looking = True
        asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        self._is_looking = False
        apart_s: dict[int, float] = {}
        for timer in list(self._timers):
            clock = timer.clock
            if id(clock) not in apart_s:
                apart_s[id(clock)] = self.apart_s(clock)
            timer.look(apart_s[id(clock)])
        if self._timers:
            self._look_later()


_PENDING: WeakKeyDictionary[asyncio.AbstractEventLoop, _WallTimers] = WeakKeyDictionary()


class FakeClock:
    """A clock that stands still until it is moved; the only fake clock of all tests and of `helmr.testing`.

    Args:
        start: The first time it tells, aware.
    """

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._start = start
        self._order = count()
        self._calls: list[tuple[datetime, int, _FakeTimer]] = []

    def now(self) -> datetime:
        """Return the time it stands at."""
        return self._now

    def call_at(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Make `call` when the clock is moved to `when` or past it; at the loop's next turn if it stands there."""
        timer = _FakeTimer(call)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(timer.fire)
        else:
            heapq.heappush(self._calls, (when, next(self._order), timer))
        return timer

    def call_when(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Make `call` like `call_at`, since only `move_to` changes this clock."""
        return self.call_at(when, call)

    def elapsed_s(self) -> float:
        """Return seconds since its start, since only `move_to` changes this clock."""
        return (self._now - self._start).total_seconds()

    @property
    def next_at(self) -> datetime | None:
        """The time of the next pending call."""
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
