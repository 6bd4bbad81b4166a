"""One thread that stands for all processes and threads: it decides whose turn is next, and what time it is.

A `Lane` is an event loop that never runs by itself: the scheduler takes one of its handles at a time. What one lane has
ready happens in order, as on any loop; lanes interleave as the seed says. Time passes by a fixed amount a step, and
jumps when nothing is ready.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable
from contextvars import Context
from itertools import count
from random import Random
from typing import Any, TypeVarTuple, Unpack

from tests.programs.simulation.history import History

Ts = TypeVarTuple("Ts")

STEP_S = 0.00005
"""Virtual time that a step takes: forty of them are a flush's pause."""


class Killed(BaseException):
    """The process ends between two instructions: what unwinds from here on is nobody's any more."""


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address, so that a seed is a whole history."""

    _numbers = count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(self._numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    """A future of which the same is true."""

    _numbers = count()

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        self._number = next(self._numbers)
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class Process:
    """What is killed and stopped as one: an actor's loop, the loops and threads of the code that runs in it."""

    def __init__(self, name: str, scheduler: Scheduler) -> None:
        self.name = name
        self.scheduler = scheduler
        self.lanes: list[Lane] = []
        self.is_dead = False
        self.is_stopped = False
        self.locals: dict[str, Any] = {}
        """What would be a global of the process."""
        self.lane = Lane(self, name)

    def stop(self) -> None:
        """As SIGSTOP: nothing of it moves."""
        self.is_stopped = True
        for lane in self.lanes:
            self.scheduler.hold(lane)

    def go_on(self) -> None:
        """As SIGCONT."""
        self.is_stopped = False
        for lane in self.lanes:
            if lane.has_work:
                self.scheduler.wake(lane)

    def die(self) -> None:
        """As SIGKILL. Its objects are kept: nothing of them may be finalized while others run."""
        self.is_dead = True
        for lane in self.lanes:
            self.scheduler.hold(lane)
        self.scheduler.graveyard.append(self)


class Lane(asyncio.BaseEventLoop):
    """An event loop whose turns the scheduler gives."""

    def __init__(self, process: Process, name: str) -> None:
        super().__init__()
        self.process = process
        self.name = name
        self.scheduler = process.scheduler
        self.ready: deque[events.Handle] = deque()
        self.place = -1
        """In the scheduler's list of lanes that have something to do."""
        self.timers = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self._prune_at = 64
        process.lanes.append(self)
        self.set_task_factory(_make_task)
        self.set_exception_handler(self.scheduler.on_exception)

    # --- what asyncio asks ------------------------------------------------------------------------

    def time(self) -> float:
        return self.scheduler.now_s

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> events.Handle:
        handle = events.Handle(callback, args, self, context)
        if not self.process.is_dead and not self.is_closed():
            self.add(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> events.Handle:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> events.TimerHandle:
        timer = events.TimerHandle(when, callback, args, self, context)
        if not self.process.is_dead:
            self.timers += 1
            self.scheduler.at(when, self, timer)
        return timer

    def set_debug(self, enabled: bool) -> None:
        self._debug = False

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def is_running(self) -> bool:
        return not self.is_closed()

    def close(self) -> None:
        self.ready.clear()
        self.scheduler.hold(self)
        self._closed = True

    def __del__(self) -> None:
        """Nothing is open."""

    # --- what the scheduler asks --------------------------------------------------------------------

    @property
    def has_work(self) -> bool:
        return bool(self.ready)

    def add(self, handle: events.Handle) -> None:
        self.ready.append(handle)
        if self.place < 0 and not self.process.is_stopped:
            self.scheduler.wake(self)

    def due(self, timer: events.TimerHandle) -> None:
        """A timer's time has come."""
        self.timers -= 1
        if not timer.cancelled():
            self.add(timer)

    def turn(self) -> None:
        """Run one handle."""
        self.run_next()
        if not self.ready:
            self.scheduler.hold(self)

    def run_next(self) -> None:
        handle = self.ready.popleft()
        if not handle._cancelled:
            self.scheduler.history.turn(self, handle)
            handle._run()

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold on to what is not done: a dead process's coroutines must not be closed while others run."""
        self.tasks.append(task)
        if len(self.tasks) > self._prune_at:
            self.tasks = [one for one in self.tasks if not one.done()]
            self._prune_at = 2 * len(self.tasks) + 64


def _make_task(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    task = _Task(coroutine, loop=loop, **options)
    loop.keep(task)
    return task


class Scheduler:
    """The lanes, the time, and the seed.

    Args:
        random: Decides whose turn is next.
        on_exception: What a loop's exception handler is told.
        history: Told of every turn.
    """

    def __init__(
        self,
        random: Random,
        on_exception: Callable[[Any, dict[str, Any]], None],
        history: History,
    ) -> None:
        self.now_s = 0.0
        self.steps = 0
        self.random = random
        self.on_exception = on_exception
        self.history = history
        self.graveyard: list[Any] = []
        self._busy: list[Lane] = []
        self._timers: list[tuple[float, int, Lane, events.TimerHandle]] = []
        self._order = count()

    def wake(self, lane: Lane) -> None:
        """The lane has something to do."""
        if lane.place < 0 and not lane.process.is_dead:
            lane.place = len(self._busy)
            self._busy.append(lane)

    def hold(self, lane: Lane) -> None:
        """The lane has nothing to do, or may not."""
        place = lane.place
        if place >= 0:
            last = self._busy.pop()
            if last is not lane:
                self._busy[place] = last
                last.place = place
            lane.place = -1

    def at(self, when: float, lane: Lane, timer: events.TimerHandle) -> None:
        """Give the lane this timer at that time."""
        heapq.heappush(self._timers, (when, next(self._order), lane, timer))

    @property
    def next_timer_s(self) -> float | None:
        """When the next timer is due."""
        return self._timers[0][0] if self._timers else None

    def step(self) -> bool:
        """Give one lane a turn; False if nothing will ever happen again."""
        self.steps += 1
        self.now_s += STEP_S
        timers, busy = self._timers, self._busy
        if not busy:
            if not timers:
                return False
            self.now_s = max(self.now_s, timers[0][0])
        while timers and timers[0][0] <= self.now_s:
            _, _, lane, timer = heapq.heappop(timers)
            if not lane.process.is_dead and not lane.is_closed():
                lane.due(timer)
        if not busy:
            return True
        lane = busy[int(self.random.random() * len(busy))]
        events._set_running_loop(lane)
        try:
            lane.turn()
        except Killed:
            pass
        finally:
            events._set_running_loop(None)
        return True
