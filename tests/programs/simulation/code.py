"""Task code on lanes: a second shell of the run driver, and of the threads that steps run on.

The driver, the cursor, the steps and the rule that an outcome is delivered when the loop has nothing ready are the real
ones. A hop between threads is a handle on another lane; a thread is a lane with one handle.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

from helmr_runtime.host_status import Executing
from helmr_runtime.replay import driver as driver_module
from helmr_runtime.replay import ends
from helmr_runtime.replay import steps as steps_module
from helmr_runtime.replay.driver import CodeClosed, RunDriver
from helmr_runtime.replay.ends import Raised, error_of, failed_op
from helmr_runtime.replay.steps import StepLoop
from helmr_runtime.session import code_runner
from tests.programs.simulation.scheduler import Lane, Process


class RunLane(Lane):
    """The loop of a run: knows the moment at which it would wait, as `IdleSelector` does."""

    def __init__(
        self,
        process: Process,
        on_idle: Callable[[], bool],
        on_wake: Callable[[], None],
        on_silence: Callable[[], None],
        silence_s: float,
    ) -> None:
        super().__init__(process, "run")
        self._on_idle = on_idle
        self._on_wake = on_wake
        self._on_silence = on_silence
        self._silence_s = silence_s
        self._is_waiting = True
        self._is_over = False
        """What it waited for has come without anything to run, as a timer that was cancelled."""
        self._silence: asyncio.TimerHandle | None = None
        self._silences: list[asyncio.TimerHandle] = []
        """All whose time has not come, those that were cancelled too."""
        self.on_exit: Callable[[BaseException], None] = _nobody

    @property
    def has_work(self) -> bool:
        is_awake = bool(self.ready) or not self._is_waiting or self._is_over
        return is_awake and not self.is_closed()

    @property
    def is_expecting(self) -> bool:
        """The code waits for a timer of its own; threads are lanes."""
        return self.timers > len(self._silences)

    def due(self, timer: asyncio.TimerHandle) -> None:
        self._silences = [one for one in self._silences if one is not timer]
        if timer is self._silence:
            self._silence = None
        super().due(timer)
        if self._is_waiting and not self.ready:
            self._is_over = True
            if not self.process.is_stopped:
                self.scheduler.wake(self)

    def turn(self) -> None:
        if self._is_waiting:
            self._is_waiting = self._is_over = False
            if self._silence is not None:
                self._silence.cancel()
                self._silence = None
            self._on_wake()
        if self.ready:
            try:
                self.run_next()
            except (SystemExit, KeyboardInterrupt) as error:
                self.on_exit(error)
        elif not self._on_idle() and not self.ready and not self.is_closed():
            self._is_waiting = True
            if not self.timers:
                self._silence = self.call_later(self._silence_s, self._on_silence)
                self._silences.append(self._silence)
            self.scheduler.hold(self)


def _nobody(error: BaseException) -> None:
    raise error


def process_here() -> Process:
    """The process that has its turn."""
    thread = LaneThread.current
    return thread.process if thread is not None else cast(Lane, asyncio.get_running_loop()).process


def _make_loop(
    on_idle: Callable[[], bool],
    on_wake: Callable[[], None],
    on_silence: Callable[[], None],
    silence_s: float,
    run_id: str = "",
) -> RunLane:
    return RunLane(process_here(), on_idle, on_wake, on_silence, silence_s)


class LaneDriver(RunDriver):
    """A run driver whose thread is a lane."""

    on_try: Callable[[str], None] = staticmethod(lambda key: None)
    """Told of each try of a step: its key; the world sets it."""

    _loop: RunLane  # type: ignore[assignment]  # a loop, and no selector loop

    def start(self) -> None:
        self._loop.on_exit = self._on_exit
        self._loop.call_soon_threadsafe(self._first_turn)

    def run_step(self, op: int, key: str, tries: int) -> None:
        LaneDriver.on_try(key)
        super().run_step(op, key, tries)

    def _first_turn(self) -> None:
        self._loop.set_exception_handler(self._stray_exception)
        self._mark.executes(Executing.RUN, is_so=True)
        self._await(self._loop.create_task(self._main()))

    def _await(self, main: asyncio.Task[bool]) -> None:
        self._awaited = main
        main.add_done_callback(self._ended)

    def _ended(self, main: asyncio.Task[bool]) -> None:
        if main is self._awaited:
            self._loop.close()
            self._mark.executes(Executing.RUN, is_so=False)
            self._tell(CodeClosed(self, not main.cancelled() and main.result()))

    def _on_exit(self, error: BaseException) -> None:
        main = self._awaited
        self._finish(Raised(error_of(error), failed_op(error)))
        self._await(self._loop.create_task(self._end_tree()))
        main.cancel()


class LaneStepLoop(StepLoop):
    """The loop of all async steps of a process, on a lane."""

    def __init__(self, process: Process) -> None:
        self.loop = cast(Any, Lane(process, "steps"))
        self._bodies = set()
        self._has_bodies = threading.Event()
        self._beat = 0.0


def _step_loop() -> StepLoop:
    process = process_here()
    found = process.locals.get("steps")
    if found is None:
        found = process.locals["steps"] = LaneStepLoop(process)
    return cast(StepLoop, found)


THREAD_S = 0.03
"""What a sync step takes: long enough for its host to die meanwhile."""


class LaneThread:
    """A thread that does one thing: a lane with one handle."""

    current: LaneThread | None = None

    def __init__(self, *, target: Callable[[], None], name: str, daemon: bool) -> None:
        self._target = target
        self.process = process_here()
        self._lane = Lane(self.process, name)
        self._is_over = False

    def start(self) -> None:
        self._lane.call_later(THREAD_S, self._run)

    def is_alive(self) -> bool:
        return not self._is_over

    def _run(self) -> None:
        asyncio.events._set_running_loop(None)  # a thread of a sync step has none
        LaneThread.current = self
        try:
            self._target()
        finally:
            LaneThread.current = None
            self._is_over = True


def _functions(frames: Iterable[traceback.FrameSummary]) -> list[str]:
    """A traceback is part of an entry; in which folder the sources are, and in which line, is part of no history."""
    return [f"  in {frame.name}\n" for frame in frames]


@contextmanager
def code_on_lanes() -> Iterator[None]:
    """Meanwhile runs, async steps and sync steps execute on lanes."""
    threads = SimpleNamespace(Thread=LaneThread, current_thread=lambda: LaneThread.current)
    traces = SimpleNamespace(extract_tb=traceback.extract_tb, format_list=_functions)
    with (
        mock.patch.object(ends, "traceback", traces),
        mock.patch.object(code_runner, "RunDriver", LaneDriver),
        mock.patch.object(driver_module, "make_loop", _make_loop),
        mock.patch.object(steps_module, "step_loop", _step_loop),
        mock.patch.object(steps_module, "threading", threads),
        mock.patch.object(steps_module, "time", SimpleNamespace(monotonic=lambda: 0.0)),
    ):
        yield
