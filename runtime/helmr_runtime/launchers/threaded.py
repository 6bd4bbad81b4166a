"""A runtime on a thread of the calling process: for tests and scripts that want no other process."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, suppress

from helmr.errors import Unavailable
from helmr.models import Catalog
from helmr_runtime.catalog import Registry
from helmr_runtime.launchers.foreground import RUN
from helmr_runtime.launchers.in_process import InProcess
from helmr_runtime.launchers.startup import (
    UpOptions,
    announce,
    claim,
    keep_keys,
    load_code,
    make_spec,
)
from helmr_runtime.process import local_access
from helmr_runtime.process.local_access import local_key
from helmr_runtime.process.spec import RuntimeSpec

STOP_WITHIN_S = 20.0


class ThreadedRuntime:
    """A runtime that lives on a daemon thread until `stop`, or until the interpreter exits.

    It takes no signal and leaves logging and the standard streams as they are.
    """

    def __init__(self, options: UpOptions) -> None:
        self._options = options
        self._thread: threading.Thread | None = None
        self._serving: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
        """The thread's loop, and its one task there."""
        self._ready: Future[None] = Future()
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
        options = self._options
        try:
            claimed = self._held.enter_context(claim(options, _say_nothing))
            registry, catalog = load_code(options.tasks, claimed.folder, _say_nothing)
            self.key = local_key(claimed.data_dir)
            run_dir = claimed.data_dir / RUN
            spec = make_spec(options, claimed, (registry, catalog), run_dir=run_dir, key=self.key)
            keep_keys(spec, self.key)
            self._thread = threading.Thread(
                target=self._live, args=(spec, registry, catalog), name="helmr", daemon=True
            )
            self._thread.start()
            self._ready.result()
            pointer = announce(options, claimed, self.key, _say_nothing)
            self._held.callback(local_access.withdraw, claimed.data_dir, pointer)
            self.url = spec.base_url
        except BaseException:
            self.stop()
            raise
        # An ordinary exit function would come too late: threads can start no work any more by then.
        _at_threads_end(weakref.WeakMethod(self.stop))

    def _live(self, spec: RuntimeSpec, registry: Registry, catalog: Catalog) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve(spec, registry, catalog))
        except BaseException as error:
            if self._ready.done():
                raise
            self._serving.cancel()  # if there was no loop to serve on
            self._ready.set_exception(error)

    async def _serve(self, spec: RuntimeSpec, registry: Registry, catalog: Catalog) -> None:
        task = asyncio.current_task()
        assert task is not None, "it is one"
        self._serving.set_result((asyncio.get_running_loop(), task))
        runtime = InProcess(spec, registry, catalog, _say_nothing)
        try:
            await runtime.start()
            self._ready.set_result(None)
            await runtime.until_lost()
        except asyncio.CancelledError:
            task.uncancel()  # the task has to stop, which takes some waiting
        finally:
            await runtime.stop()

    def stop(self) -> None:
        """End it; sessions are parked. Harmless if it has ended.

        Raises:
            Unavailable: It has not ended in time.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            # There is no loop, or it is closed: its start has failed.
            with suppress(CancelledError, RuntimeError):
                loop, task = self._serving.result()
                loop.call_soon_threadsafe(task.cancel)
            thread.join(STOP_WITHIN_S)
            if thread.is_alive():
                raise Unavailable(f"the runtime has not ended within {STOP_WITHIN_S:.0f} s")
        self._held.close()


def _say_nothing(line: str) -> None:
    """There is no terminal of the runtime's own."""


def _at_threads_end(stop: Callable[[], Callable[[], None] | None]) -> None:
    def end() -> None:
        found = stop()
        if found is not None:
            found()

    register: Callable[[Callable[[], None]], None] = getattr(threading, "_register_atexit")  # noqa: B009
    register(end)
