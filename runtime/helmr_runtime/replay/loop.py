"""The event loops that task code runs on: one for each run, and the one that all async steps of a process share."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from queue import Empty, SimpleQueue
from selectors import SelectorKey
from typing import Any, TypeVar, TypeVarTuple, Unpack

from helmr_runtime.host_status import SlotMark
from helmr_runtime.replay import ordering
from helmr_runtime.replay.ordering import OrderedTasks

ordering.install()

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

    def _write_to_self(self) -> None:
        """Have the loop look at what it was given from another thread; `call_soon_threadsafe` ends here."""
        if self.idle is None or self.idle.wake():
            super()._write_to_self()  # type: ignore[misc]  # no stub knows it

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

    As long as the code has no files of its own in the loop, it waits at a queue in place of files: to wake a thread
    up by a socket takes four system calls, and each gives the interpreter's lock away.

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
        self._wakes: SimpleQueue[None] = SimpleQueue()
        """Holds something when the loop was woken up since it last waited."""
        self._is_at_files = False

    @property
    def _has_files(self) -> bool:
        return len(self.get_map()) > SELF_PIPE_FILES

    def wake(self) -> bool:
        """End the wait, or the next one, from any thread; true if that needs the loop's own file too."""
        if self._wakes.empty():
            self._wakes.put(None)
        return self._is_at_files

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """As the base class; with nothing ready the idle call comes first."""
        if timeout is not None and timeout <= 0:
            return super().select(timeout) if self._has_files else []
        has_files = self._has_files
        self.is_expecting = timeout is not None or has_files
        if self._on_idle():
            return []
        if has_files:
            ready = self._select_files(timeout)
            self._on_wake()
            return ready
        wait_s = timeout if timeout is not None else self._silence_s
        is_woken = self._is_woken_within(wait_s)
        self._on_wake()
        if not is_woken and timeout is None:
            self._on_silence()
        return []

    def _is_woken_within(self, wait_s: float) -> bool:
        try:
            self._wakes.get(timeout=wait_s)
        except Empty:
            return False
        return True

    def _select_files(self, timeout: float | None) -> list[tuple[SelectorKey, int]]:
        self._is_at_files = True
        try:
            # Who woke it up before that was said has written to no file.
            return super().select(0 if self._is_woken_within(0) else timeout)
        finally:
            self._is_at_files = False


def make_loop(
    on_idle: Callable[[], bool],
    on_wake: Callable[[], None],
    on_silence: Callable[[], None],
    silence_s: float,
    run_id: str = "",
) -> TaskLoop:
    """A loop for one run.

    Args:
        on_idle: Called when the loop is about to wait; true if that made something ready.
        on_wake: Called when it has waited.
        on_silence: Called when nothing at all happened for `silence_s` seconds.
        silence_s: Seconds.
        run_id: What the order of its tasks is made of; a fork's has that of its origin's run.
    """
    selector = IdleSelector(on_idle, on_wake, on_silence, silence_s)
    loop = TaskLoop(selector)
    loop.idle = selector
    loop.set_task_factory(OrderedTasks(run_id))
    return loop
