"""The event loops that task code runs on: one for each run, and the one that all async steps of a process share."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from selectors import SelectorKey
from typing import Any, TypeVar, TypeVarTuple, Unpack

from helmr_runtime.host_status import SlotMark

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

code_mark: ContextVar[SlotMark | None] = ContextVar("code_mark", default=None)
"""Where it is noted that a run's code executes; the tasks and threads that it makes have it too."""

SELF_PIPE_FILES = 1
"""Files that the loop itself watches."""


class TaskLoop(asyncio.SelectorEventLoop):
    """An ordinary selector loop that notes whose code its threads execute, and starts subprocesses whatever event loop
    policy the process has.

    Up to Python 3.13 such a loop asks the policy how to see the end of a child. Ray sets uvloop's policy in its
    workers, which does not know: without this every async subprocess ends in `NotImplementedError`.
    """

    idle: IdleSelector | None = None
    _threads = 0

    @property
    def has_threads(self) -> bool:
        """Something that was handed to an executor has not ended."""
        return self._threads > 0

    @property
    def is_expecting(self) -> bool:
        """Something can wake the loop that it knows of: a timer, a socket, a thread."""
        return self.has_threads or (self.idle is not None and self.idle.is_expecting)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As the base class; `asyncio.to_thread` comes here too."""
        mark = code_mark.get()
        if mark is None or not (executor is None or isinstance(executor, ThreadPoolExecutor)):
            future = super().run_in_executor(executor, func, *args)
        else:
            future = super().run_in_executor(executor, partial(_in_thread, mark, func, *args))
        self._threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, future: asyncio.Future[Any]) -> None:
        self._threads -= 1

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        """As the base class."""
        try:
            return await super().subprocess_exec(*args, **kwargs)
        except NotImplementedError:
            _give_child_watcher()
            return await super().subprocess_exec(*args, **kwargs)

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        """As the base class."""
        try:
            return await super().subprocess_shell(*args, **kwargs)
        except NotImplementedError:
            _give_child_watcher()
            return await super().subprocess_shell(*args, **kwargs)


def _in_thread(mark: SlotMark, call: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    mark.thread_begins()
    try:
        return call(*args)
    finally:
        mark.thread_ends()


def _give_child_watcher() -> None:
    """Give the policy, which has none, the watcher that serves loops in any thread: one waiting thread per child."""
    policy: Any = asyncio.get_event_loop_policy()
    watcher = asyncio.ThreadedChildWatcher()
    policy.get_child_watcher = lambda: watcher


class IdleSelector(selectors.DefaultSelector):
    """Calls `on_idle` whenever the loop is about to wait; true means it has made something ready.

    A loop with something ready selects with a timeout of 0, else with None or more: that is the moment when the
    next outcome may be delivered without overtaking what earlier ones set off (S-30).

    Source: CPython, asyncio/base_events.py, `_run_once`.
    """

    def __init__(
        self,
        on_idle: Callable[[], bool],
        on_wake: Callable[[], None],
        on_silence: Callable[[], None],
        silence_s: float,
    ) -> None:
        super().__init__()
        self.is_expecting = False
        """When the loop last had nothing ready, it watched a socket or waited for a time."""
        self._on_idle = on_idle
        self._on_wake = on_wake
        self._on_silence = on_silence
        self._silence_s = silence_s

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """As the base class; with nothing ready the idle call comes first."""
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        self.is_expecting = timeout is not None or len(self.get_map()) > SELF_PIPE_FILES
        if self._on_idle():
            return []
        if self.is_expecting:
            ready = super().select(timeout)
            self._on_wake()
            return ready
        ready = super().select(self._silence_s)
        self._on_wake()
        if not ready:
            self._on_silence()
        return ready


def make_loop(
    on_idle: Callable[[], bool],
    on_wake: Callable[[], None],
    on_silence: Callable[[], None],
    silence_s: float,
) -> TaskLoop:
    """A loop for one run.

    Args:
        on_idle: Called when the loop is about to wait; true if that made something ready.
        on_wake: Called when it has waited.
        on_silence: Called when nothing at all happened for `silence_s` seconds.
        silence_s: Seconds.
    """
    selector = IdleSelector(on_idle, on_wake, on_silence, silence_s)
    loop = TaskLoop(selector)
    loop.idle = selector
    return loop
