"""A runtime on a thread of the calling process: for tests and scripts that want no other process."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

from helmr.errors import Unavailable
from helmr_runtime.process import pointer_files
from helmr_runtime.process.foreground import RUN
from helmr_runtime.process.in_process import InProcess
from helmr_runtime.process.startup import (
    Claim,
    UpOptions,
    announce,
    claim,
    keep_keys,
    load_code,
    local_key,
    make_spec,
)

T = TypeVar("T")

STOP_WITHIN_S = 20.0


class ThreadedRuntime:
    """A runtime that lives on a daemon thread until `stop`, or until the interpreter exits.

    It takes no signal and leaves logging and the standard streams as they are.
    """

    def __init__(self, options: UpOptions) -> None:
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="helmr", daemon=True)
        self._runtime: InProcess | None = None
        self._held = ExitStack()
        self.url = ""
        self.key = ""

    def start(self) -> None:
        """Return when it serves.

        Raises:
            RuntimeHeld: Another runtime has the data directory; names it.
            BadDefinition: A task module can't be used.
            Unavailable: It was not ready in time.
        """
        self._thread.start()
        try:
            self._start(self._held.enter_context(claim(self._options, _say_nothing)))
        except BaseException:
            self.stop()
            raise
        # An ordinary exit function would come too late: threads can start no work any more by then.
        _at_threads_end(weakref.WeakMethod(self.stop))

    def _start(self, claimed: Claim) -> None:
        options = self._options
        registry, catalog = load_code(options.tasks, claimed.folder, _say_nothing)
        self.key = local_key(claimed.data_dir)
        run_dir = claimed.data_dir / RUN
        spec = make_spec(options, claimed, catalog, run_dir=run_dir, key=self.key)
        keep_keys(spec, self.key)
        self._runtime = InProcess(spec, registry, catalog, _say_nothing)
        self._on_loop(self._runtime.start())
        pointer = announce(options, claimed, self.key, _say_nothing)
        self._held.callback(pointer_files.withdraw, claimed.data_dir, pointer)
        self.url = spec.base_url

    def stop(self) -> None:
        """End it; sessions are parked. Harmless if it has ended."""
        if self._loop.is_closed():
            return
        try:
            if self._runtime is not None:
                self._on_loop(self._runtime.stop(), within_s=STOP_WITHIN_S)
            self._on_loop(self._loop.shutdown_asyncgens())
            self._on_loop(self._loop.shutdown_default_executor())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_WITHIN_S)
            self._loop.close()
            self._held.close()

    def _on_loop(self, work: Coroutine[Any, Any, T], *, within_s: float | None = None) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)
        except TimeoutError as error:
            raise Unavailable(f"the runtime has not ended within {within_s} s") from error


def _say_nothing(line: str) -> None:
    """There is no terminal of the runtime's own."""


def _at_threads_end(stop: Callable[[], Callable[[], None] | None]) -> None:
    def end() -> None:
        found = stop()
        if found is not None:
            found()

    register: Callable[[Callable[[], None]], None] = getattr(threading, "_register_atexit")  # noqa: B009
    register(end)
