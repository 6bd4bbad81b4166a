"""The threads and timers of an open ledger: its writers, the one that rings when a session is due, the head mark's.

The head mark is brought to disk a second after a commit, beside the commits that follow. What it lacks on disk is at
most what was committed in that second, so that after a loss of power it still shows the loss of everything before.

Invariants: S-52.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from queue import SimpleQueue
from typing import Any

from helmr_runtime.clock import Clock, Timer

Job = tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]


class WriterThread:
    """Runs blocking calls one after the other, in the order in which they were asked for.

    An executor does the same for half as much processor time again: it makes two futures for each call, of which one
    tells the other, and a commit is such a call.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()
        # A thread that the interpreter ends within the database's engine takes the process down with it.
        atexit.register(self._end_with_process)

    def run(self, call: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """What the call returns, or raises."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.put((future, call, args))
        return future

    def end(self) -> asyncio.Future[None]:
        """End; done when everything asked for is."""
        atexit.unregister(self._end_with_process)
        ended: asyncio.Future[None] = self.run(lambda: None)
        self._jobs.put(None)
        return ended

    def _end_with_process(self) -> None:
        """No one has closed the ledger: what was asked for is done all the same."""
        self._jobs.put(None)
        self._thread.join()

    def _main(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call, args = job
            result, error = None, None
            try:
                result = call(*args)
            except BaseException as raised:  # noqa: BLE001 - anyone who awaits the call gets it
                error = raised
            with suppress(RuntimeError):  # the loop is closed: no one awaits it any more
                self._loop.call_soon_threadsafe(_answer, future, result, error)
            del job, future, call, args, result, error


def _answer(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


SYNC_AFTER_S = 1.0


class MarkTimer:
    """One ledger's.

    Args:
        sync: Begins to bring the mark to disk, in another thread; raises nothing, now or later.
    """

    def __init__(self, sync: Callable[[], asyncio.Future[Any]]) -> None:
        self._sync = sync
        self._timer: asyncio.TimerHandle | None = None

    def committed(self) -> None:
        """Have the mark on disk within a second, unless the disk is slower."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SYNC_AFTER_S, self._begin)

    def cancel(self) -> None:
        """Begin no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        self._sync().add_done_callback(self._ended)

    def _ended(self, synced: asyncio.Future[Any]) -> None:
        self._timer = None


RECHECK_EVERY = timedelta(seconds=60)
"""Longest time between two looks at the deadlines, whatever the clock says."""


class Alarm:
    """Rings once after it was armed.

    Args:
        clock: Tells when.
        ring: Called then.
    """

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self._recheck: Timer | None = None
        self._rings_at = clock.now()

    def arm(self, due_at: datetime) -> None:
        """Ring at that time by the wall clock, as it will be set then, or sooner."""
        if self._recheck is None:
            at = self._clock.now() + RECHECK_EVERY
            self._recheck = self._clock.call_at(at, self._on_time)
        if self._timer is not None:
            # One that rings sooner looks and arms again: cheaper than a new timer after every commit.
            if self._rings_at <= due_at:
                return
            self._timer.cancel()
        self._rings_at = due_at
        self._timer = self._clock.call_when(due_at, self._on_time)

    def cancel(self) -> None:
        """Don't ring."""
        for timer in (self._timer, self._recheck):
            if timer is not None:
                timer.cancel()
        self._timer = self._recheck = None

    def _on_time(self) -> None:
        self.cancel()
        self._ring()
