"""Waiting by a clock that is handed in, and the times a directory keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from helmr_runtime.clock import Clock

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The directory's times, all in seconds."""

    linger_s: float = 30.0
    """A waiting session stays in its slot that long, unless others need the slot."""
    ping_every_s: float = 1.0
    """A stopped host is replaced after 3 s at most."""
    silent_s: float = 2.0
    """A host that has not answered for this long is looked up in /proc; if it is stopped or gone, it is killed."""
    silent_max_s: float = 30.0
    """A host that runs and has not answered for this long is killed."""
    start_s: float = 60.0
    """A host that has not answered `who` this long after its creation is killed."""
    retire_s: float = 600.0
    """A retiring host that does not say how long its steps may take is killed after that long, whatever still executes
    in it; one that does, after that."""
    retire_min_s: float = 10.0
    """No retiring host is killed earlier: what waits is being parked."""
    who_s: float = 2.0
    """At a take-over, a host has this long to say what it holds, and how long its steps may take when it retires."""
    work_poll_s: float = 30.0
    reconcile_every_s: float = 30.0
    """What the ledger believes held and no one holds is looked for so often."""
    decide_wait_s: float = 5.0
    """A command that finds no room for its session's code is decided without it after this wait."""
    route_s: float = 10.0
    """A command is routed again and again for at most that long."""
    retry_s: float = 0.25
    retry_max_s: float = 30.0
    """First and longest pause before what failed is tried again."""
    shutdown_s: float = 5.0
    """Running sessions get this long to reach a wait when the runtime stops."""

    def backoff_s(self, failures: int) -> float:
        """The pause after that many failures in a row."""
        return float(min(self.retry_max_s, self.retry_s * 2 ** min(failures, 20)))


async def sleep(clock: Clock, duration_s: float) -> None:
    """Return after that time by `clock`."""
    done = asyncio.get_running_loop().create_future()
    timer = clock.call_at(clock.now() + timedelta(seconds=duration_s), lambda: _finish(done))
    try:
        await done
    finally:
        timer.cancel()


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


async def within(clock: Clock, duration_s: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, if it comes within that time by `clock`.

    Raises:
        TimeoutError: It did not; `work` is cancelled.
    """
    task = asyncio.ensure_future(work)
    timer = asyncio.ensure_future(sleep(clock, duration_s))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise TimeoutError
    finally:
        timer.cancel()
        task.cancel()


class BackgroundTasks:
    """Background tasks that end with their owner; what one raises is a bug and is reported."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in the background and hold on to it."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a background task failed", "exception": error, "task": task}
        )

    async def stop(self) -> None:
        """Cancel what runs and wait for its end."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
