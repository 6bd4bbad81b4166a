"""A machine's processes: loops by the machine's own clock, and threads that stand still where they wait.

A thread is a greenlet that runs on a turn of its process's loop. Where a real one blocks, in a call of the store or
between two tries of an append, it gives the turn back; its process may be paused or killed meanwhile.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVarTuple, Unpack
from unittest import mock

from greenlet import greenlet

from helmr_runtime.clock import Timer, call_by_wall
from helmr_runtime.ledger import actor, ledger
from helmr_runtime.ledger.log import group
from tests.programs.simulation.scheduler import Lane, Process, Scheduler

Ts = TypeVarTuple("Ts")

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


class MachineLoop(Lane):
    """An event loop whose clock goes as fast as its machine's."""

    process: MachineProcess

    def time(self) -> float:
        return self.scheduler.now_s * self.process.speed

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> events.TimerHandle:
        return super().call_at(when / self.process.speed, callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        return SimulatedThread("executor", self).run(func, *args)


class MachineProcess(Process):
    """One life of a runtime.

    Args:
        speed: Seconds of the machine's clock in a second.
    """

    def __init__(self, name: str, scheduler: Scheduler, speed: float) -> None:
        self.speed = speed
        super().__init__(name, scheduler)
        self.lanes.clear()
        self.lane = MachineLoop(self, name)


class MachineClock:
    """A machine's wall clock: as fast as its monotonic one, and set.

    Args:
        speed: Seconds of it in a second.
        ahead_s: So much it is ahead.
    """

    def __init__(self, scheduler: Scheduler, speed: float, ahead_s: float) -> None:
        self._scheduler = scheduler
        self._speed = speed
        self._ahead_s = ahead_s

    def now(self) -> datetime:
        """The time."""
        return BEGIN + timedelta(seconds=self._scheduler.now_s * self._speed + self._ahead_s)

    def call_at(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Arm a timer of the running loop."""
        delay_s = max(0.0, (when - self.now()).total_seconds())
        return asyncio.get_running_loop().call_later(delay_s, call)

    def call_when(self, when: datetime, call: Callable[[], None]) -> Timer:
        """As the machine's clock does it."""
        return call_by_wall(self, when, call)

    def elapsed_s(self) -> float:
        """Seconds since it all began: to set the clock does not move it."""
        return self._scheduler.now_s * self._speed

    def step(self, seconds: float) -> None:
        """Set the clock forward or back."""
        self._ahead_s += seconds


class SimulatedThread:
    """As `helmr_runtime.ledger.log.group.WriterThread`: blocking calls, one after the other, on turns of a loop."""

    running: SimulatedThread | None = None
    """The one whose turn it is."""

    def __init__(self, name: str, loop: Lane | None = None) -> None:
        found = loop or asyncio.get_running_loop()
        assert isinstance(found, Lane)
        self.loop = found
        self._jobs: deque[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._stack: Any = None

    def run(self, call: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """What the call returns, or raises."""
        future = self.loop.create_future()
        self._jobs.append((future, call, args))
        if self._stack is None:
            self._stack = greenlet(self._main)
            # It is never finalized: what a killed process has left open is closed by no one.
            self.loop.scheduler.graveyard.append(self._stack)
            self.loop.call_soon(self.go_on)
        return future

    def end(self) -> asyncio.Future[Any]:
        """Done when everything asked for is."""
        return self.run(lambda: None)

    def go_on(self) -> None:
        """Give it the turn, until it stands still again."""
        before, SimulatedThread.running = SimulatedThread.running, self
        try:
            self._stack.switch()
        finally:
            SimulatedThread.running = before

    def stand_still(self) -> None:
        """Give the turn back; called in the thread itself."""
        self._stack.parent.switch()

    def _main(self) -> None:
        while self._jobs:
            future, call, args = self._jobs.popleft()
            result, error = None, None
            try:
                result = call(*args)
            except Exception as raised:  # anyone who awaits the call gets it
                error = raised
            self.loop.call_soon(_answer, future, result, error)
        self._stack = None


def _answer(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class Pause:
    """A thread that stands still until it is told to go on, or for so long at most."""

    def __init__(self) -> None:
        thread = SimulatedThread.running
        assert thread is not None, "no thread of a machine has its turn"
        self._thread = thread
        self._is_over = False
        self._is_told = False

    def until_told(self, timeout_s: float) -> bool:
        """Whether it was told within so many seconds of its machine's clock."""
        timer = self._thread.loop.call_later(timeout_s, self._go_on)
        self._thread.stand_still()
        timer.cancel()
        return self._is_told

    def tell(self) -> None:
        """Called from anywhere."""
        self._thread.loop.call_soon(self._told)

    def _told(self) -> None:
        if not self._is_over:
            self._is_told = True
            self._go_on()

    def _go_on(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._thread.go_on()


def sleep(seconds: float) -> None:
    """The running thread stands still for so long."""
    Pause().until_told(seconds)


@contextmanager
def simulated_threads() -> Iterator[None]:
    """Meanwhile ledgers' threads are such ones."""
    with (
        mock.patch.object(group, "WriterThread", SimulatedThread),
        mock.patch.object(ledger, "WriterThread", SimulatedThread),
        mock.patch.object(actor, "WriterThread", SimulatedThread),
    ):
        yield
