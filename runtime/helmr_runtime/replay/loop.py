"""The event loops that task code runs on.

Each run has a loop, and all async steps of a process share one. The loops of runs fix orders that asyncio leaves to
chance (S-30):

- Tasks hash by address, so a set of them, such as the done set of `asyncio.wait`, has another order in a replay. Here
  they hash by their run and their number in it.
- `asyncio.as_completed` puts its awaitables into a set before it starts any, so no loop can know their order. This
  module replaces the function: on loops of runs it starts them in the given order. Code that imported the function
  before Helmr's runtime keeps the old one; there only durable calls have an order (`helmr.current`).

Source: CPython 3.11 to 3.14, asyncio/tasks.py, `as_completed`; run with 3.11.
"""

from __future__ import annotations

import asyncio
import hashlib
import selectors
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial, wraps
from itertools import count
from queue import Empty, SimpleQueue
from selectors import SelectorKey
from typing import Any, TypeVar, TypeVarTuple, Unpack

from helmr_runtime.host_status import SlotMark
from helmr_runtime.replay.outside_steps import handed_over, place_of_task

T = TypeVar("T")

BASE_BYTES = 6
"""Bytes of a hash's base; less than Python's 61 bits, so that numbers can be added."""


class OrderedTask(asyncio.Task[T]):
    """A task with a hash that is the same at each replay."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T],
        number: int,
        **options: Any,
    ) -> None:
        self._number = number  # first: the base class puts the task into a set
        self.made_at = place_of_task()
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class OrderedTasks:
    """Makes the tasks of one run's loop, numbered from a base of the run's own, since asyncio keeps the tasks of all
    runs in one set."""

    def __init__(self, run_id: str) -> None:
        digest = hashlib.blake2b(run_id.encode(), digest_size=BASE_BYTES).digest()
        self._numbers = count(int.from_bytes(digest, "big"))

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Future[Any]:
        """Make a task, as a loop's task factory."""
        return OrderedTask(coroutine, next(self._numbers), loop=loop, **options)


_as_completed: Any = asyncio.as_completed


@wraps(_as_completed)
def as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    """Like asyncio's; on the loop of a run it starts its awaitables in the given order."""
    loop = asyncio._get_running_loop()
    is_many = not asyncio.isfuture(fs) and not asyncio.iscoroutine(fs)
    if is_many and loop is not None and isinstance(loop.get_task_factory(), OrderedTasks):
        fs = [asyncio.ensure_future(one) for one in dict.fromkeys(fs)]
    return _as_completed(fs, timeout=timeout)


def install() -> None:
    """Replace asyncio's function with this one."""
    asyncio.as_completed = asyncio.tasks.as_completed = as_completed


install()

Ts = TypeVarTuple("Ts")

code_mark: ContextVar[SlotMark | None] = ContextVar("code_mark", default=None)
"""Notes that a run's code executes; inherited by the tasks and threads that the code makes."""

SELF_PIPE_FILES = 1
"""Number of files that the loop itself watches."""


def _ignored(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Drop an exception of a closed loop: asyncio's own handler would log those of a parked run."""


class TaskLoop(asyncio.SelectorEventLoop):
    """A selector loop that notes whose code its threads execute, and starts subprocesses under any event loop policy.

    Up to Python 3.13 such a loop asks the policy how to see the end of a child. Ray sets uvloop's policy in its
    workers, which cannot: without this every async subprocess would raise `NotImplementedError`.
    """

    idle: IdleSelector | None = None
    _threads = 0

    @property
    def has_threads(self) -> bool:
        """A call in an executor has not ended."""
        return self._threads > 0

    @property
    def is_expecting(self) -> bool:
        """A timer, socket or thread of the loop can wake it."""
        idle = self.idle  # the loop's own thread removes it
        return self.has_threads or (idle is not None and idle.is_expecting)

    def close(self) -> None:
        """Close the loop, and release its callbacks even if the loop itself is still referenced."""
        super().close()
        self.idle = None
        self.set_exception_handler(_ignored)

    def _write_to_self(self) -> None:
        """Wake the loop for a call from another thread; `call_soon_threadsafe` ends here."""
        idle = self.idle
        if idle is None or idle.wake():
            super()._write_to_self()  # type: ignore[misc]  # no stub knows it

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run a call in an executor and count it; `asyncio.to_thread` comes here too."""
        mark = code_mark.get()
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            func = handed_over(func)  # not for another process, which gets only the function itself
        else:
            mark = None
        if mark is None:
            future = super().run_in_executor(executor, func, *args)
        else:
            future = super().run_in_executor(executor, partial(_in_thread, mark, func, *args))
        self._threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, future: asyncio.Future[Any]) -> None:
        self._threads -= 1

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().subprocess_exec(*args, **kwargs)
        except NotImplementedError:
            _give_child_watcher()
            return await super().subprocess_exec(*args, **kwargs)

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
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
    """Give a policy without a child watcher one that serves loops in any thread, with one waiting thread per child."""
    policy: Any = asyncio.get_event_loop_policy()
    watcher = asyncio.ThreadedChildWatcher()
    policy.get_child_watcher = lambda: watcher


class IdleSelector(selectors.DefaultSelector):
    """Calls `on_idle` whenever the loop is about to wait; a true result means that something became ready.

    A loop with something ready selects with a timeout of 0, and an idle one with None or more. When it is idle, the
    next outcome may be delivered without overtaking effects of earlier ones (S-30).

    While the code has no files in the loop, the loop waits at a queue instead of at files: waking a thread by a socket
    takes four system calls, each of which releases the interpreter's lock.

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
        """When last idle, the loop watched a socket or waited for a time."""
        self._on_idle = on_idle
        self._on_wake = on_wake
        self._on_silence = on_silence
        self._silence_s = silence_s
        self._wakes: SimpleQueue[None] = SimpleQueue()
        """Not empty if the loop was woken since it last waited."""
        self._is_at_files = False

    @property
    def _has_files(self) -> bool:
        return len(self.get_map()) > SELF_PIPE_FILES

    def wake(self) -> bool:
        """End this wait or the next one, from any thread; true if that needs the loop's own file too."""
        if self._wakes.empty():
            self._wakes.put(None)
        return self._is_at_files

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Select as the base class does; an idle loop calls `on_idle` first."""
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
            # A wake before that was set wrote to no file.
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
    """Make a loop for one run.

    Args:
        on_idle: Called when the loop is about to wait; returns true if that made something ready.
        on_wake: Called when it has waited.
        on_silence: Called when nothing happened for `silence_s` seconds.
        run_id: Seed of the order of its tasks; a fork uses its origin's run.
    """
    selector = IdleSelector(on_idle, on_wake, on_silence, silence_s)
    loop = TaskLoop(selector)
    loop.idle = selector
    loop.set_task_factory(OrderedTasks(run_id))
    return loop
