"""Threads that task code starts itself, noted for whoever finds the host dead.

A thread that was started and left behind executes while its run waits, or after it has left the host. If it ends the
process, nothing else says whose it was. The threads of executors are not noted: they live on, idle, beyond the work
of whoever happened to need the first of them.
"""

from __future__ import annotations

import inspect
import threading
from concurrent.futures import thread as executors

from helmr_runtime.replay.loop import code_mark


def mark_threads() -> None:
    """From now on a thread that session code starts is noted as that session's, and those that it starts in turn."""
    start = threading.Thread.start

    def marked_start(thread: threading.Thread) -> None:
        mark = code_mark.get()
        if mark is None or _is_called_by_executor():
            start(thread)
            return
        run = thread.run

        def marked_run() -> None:
            code_mark.set(mark)
            try:
                run()
            finally:
                mark.own_thread_ends()

        thread.run = marked_run  # type: ignore[method-assign]
        mark.own_thread_begins()
        try:
            start(thread)
        except BaseException:
            mark.own_thread_ends()
            raise

    threading.Thread.start = marked_start  # type: ignore[method-assign,assignment]


def _is_called_by_executor() -> bool:
    """The caller of the function that asks is the module of the standard library's executors."""
    here = inspect.currentframe()
    asks = here.f_back if here is not None else None
    caller = asks.f_back if asks is not None else None
    return caller is not None and caller.f_globals.get("__name__") == executors.__name__
