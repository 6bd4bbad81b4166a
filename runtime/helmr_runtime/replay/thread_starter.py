"""Threads that are started while whoever asks for them goes on.

`Thread.start` returns when the thread runs, and for that it takes its turn at the interpreter among all that run
already: of 200 runs that began at once each cost its host's loop 0.6 ms, in which nothing else was answered.
"""

from __future__ import annotations

import logging
import time
from queue import SimpleQueue
from threading import Thread

RETRY_S = 0.1

log = logging.getLogger("helmr.run")


class ThreadStarter:
    """Starts threads in the order in which they are asked for, from a thread of its own."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Thread] = SimpleQueue()
        self._thread: Thread | None = None

    def start(self, thread: Thread) -> None:
        """Have it started. If the system has no room for another thread, as soon as it has.

        Raises `RuntimeError`, and starts nothing later, if there is no room for the thread that starts others.
        """
        if self._thread is None or not self._thread.is_alive():  # it does not live in a fork
            own = Thread(target=self._main, name="helmr-starts", daemon=True)
            own.start()
            self._thread = own
        self._asked.put(thread)

    def _main(self) -> None:
        while True:
            thread = self._asked.get()
            is_told = False
            while not _has_started(thread):
                if not is_told:
                    log.warning("%s waits: the system has no room for another thread", thread.name)
                    is_told = True
                time.sleep(RETRY_S)


def _has_started(thread: Thread) -> bool:
    try:
        thread.start()
    except RuntimeError:
        return thread.ident is not None  # it was started before
    return True
