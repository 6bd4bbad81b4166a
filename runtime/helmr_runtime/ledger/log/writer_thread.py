"""A thread in which something of an open ledger is written, asked from the loop."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

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
        """Nobody has closed the ledger: what was asked for is done all the same."""
        self._jobs.put(None)
        self._thread.join()

    def _main(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call, args = job
            result, error = None, None
            try:
                result = call(*args)
            except BaseException as raised:  # noqa: BLE001 - whoever awaits the call is told
                error = raised
            with suppress(RuntimeError):  # the loop is closed: nobody awaits it any more
                self._loop.call_soon_threadsafe(_answer, future, result, error)
            del job, future, call, args, result, error


def _answer(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
