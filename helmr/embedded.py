"""A runtime of one's own inside a program or a notebook: `helmr up` in processes that end with it, or in none.

```python
runtime = embedded.start("reviews.py")  # or the task itself: embedded.start(review)
with runtime.client() as client:
    client.sessions.start("review", "Hello")
runtime.stop()
```

Needs the extra `runtime`.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from helmr.client import AsyncClient, Client
from helmr.client.discovery import CREDENTIALS_FILE, read_credentials
from helmr.errors import Conflict, UsageError
from helmr.hash_seed import remove_folder
from helmr.models import Credentials
from helmr.tasks import Task
from helmr.version import check_extra
from helmr.wire.durations import Size, size_bytes

if TYPE_CHECKING:
    from helmr_runtime.launchers.embedded import RuntimeProcess
    from helmr_runtime.launchers.threaded import ThreadedRuntime

JOIN_WITHIN_S = 150.0
"""Longest that a start waits for the runtime of another process to be ready, or to have ended."""

JOIN_POLL_S = 0.1


def start(
    *tasks: str | os.PathLike[str] | Task[..., Any],
    data_dir: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    hosts: int | None = None,
    sessions_per_host: int | None = None,
    host_memory: Size | None = None,
    linger_s: float = 30.0,
    join: bool = False,
    in_process: bool = False,
) -> Embedded:
    """Start a runtime and return when it is ready; takes some seconds, or one in this process.

    Args:
        tasks: Task modules, dotted or as files, looked up from `folder`; a task stands for its module.
        data_dir: Folder of the sessions, kept afterwards; an existing one is continued. None makes a temporary
            folder, removed when the runtime ends.
        folder: Folder to look tasks up in; None is the current one.
        hosts: Processes that sessions live in; None fits the machine.
        sessions_per_host: Sessions whose code one of them may have at once; None fits the machine.
        host_memory: Memory of one of them, like `"4GB"` or in bytes, above which another takes its place; None is a
            quarter of the machine's. Nothing bounds it in this process.
        linger_s: Seconds that a waiting session stays in memory.
        join: Use the runtime that has the data directory, if there is one, with the tasks and settings that it was
            started with. It ends with the process that started it.
        in_process: Start no processes: the runtime lives on a thread of this one, and its tasks beside it, for code
            that is trusted. There is no Ray then.

    Raises:
        MissingExtra: The runtime is not installed.
        UsageError: A task module can't be read, or `join` without a data directory.
        Conflict: Another runtime has the data directory.
        Unavailable: It was not ready in time.
    """
    check_extra("local" if in_process else "runtime")
    modules = tuple(module_of(one) if isinstance(one, Task) else os.fspath(one) for one in tasks)
    options = {
        "tasks": modules,
        "folder": folder,
        "hosts": hosts,
        "sessions_per_host": sessions_per_host,
        "host_memory_bytes": size_bytes(host_memory) if host_memory is not None else None,
        "linger_s": linger_s,
    }
    begin = _started_here if in_process else _started
    if not join:
        return begin(data_dir, options)
    if data_dir is None:
        raise UsageError("only a runtime with a data directory can be joined", hint="data_dir=…")
    ends_at_s = time.monotonic() + JOIN_WITHIN_S
    while True:
        there = read_credentials(Path(data_dir) / CREDENTIALS_FILE)
        if there is not None:
            return Embedded(there)
        try:
            return begin(data_dir, options)
        except Conflict:  # it is starting, or ending
            if time.monotonic() >= ends_at_s:
                raise
        time.sleep(JOIN_POLL_S)


@asynccontextmanager
async def running(
    *tasks: str | os.PathLike[str] | Task[..., Any], **options: Any
) -> AsyncIterator[Embedded]:
    """A runtime for the time of an `async with`, in an app's lifespan, say; arguments as those of `start`.

    Starts and ends it beside the event loop, which goes on.
    """
    is_left = threading.Event()

    def begin() -> Embedded:
        runtime = start(*tasks, **options)
        if is_left.is_set():
            runtime.stop()
        return runtime

    try:
        runtime = await asyncio.to_thread(begin)
    except asyncio.CancelledError:
        is_left.set()
        raise
    try:
        yield runtime
    finally:
        await asyncio.to_thread(runtime.stop)


def module_of(task: Task[..., Any]) -> str:
    """The module that declares a task, as `start` and `helmr up` take it.

    Raises:
        UsageError: No other process can import it: declared in a notebook, at a prompt or inside a function.
    """
    name = task.function.__module__
    module = sys.modules.get(name)
    if module is None or not any(value is task for value in vars(module).values()):
        raise UsageError(
            f"task {task.id} is not among the globals of {name}, so no other process finds it",
            hint="Declare it at module level.",
        )
    spec = getattr(module, "__spec__", None)
    path: str | None = getattr(module, "__file__", None)
    if name == "__main__" and spec is None and path is None:
        raise UsageError(
            f"task {task.id} is declared in a notebook or at a prompt, where no other process finds it",
            hint="Write it to a file: in a notebook with `%%writefile reviews.py`.",
        )
    dotted: str = spec.name if spec is not None else name
    if "." in dotted or path is None:
        return dotted
    return str(Path(path).absolute())


def _started(data_dir: str | os.PathLike[str] | None, options: dict[str, Any]) -> Embedded:
    from helmr_runtime.launchers.embedded import RuntimeProcess

    def begin(place: Path) -> RuntimeProcess:
        return RuntimeProcess.start(data_dir=place, **options).__enter__()

    return _begun(data_dir, begin)


def _started_here(data_dir: str | os.PathLike[str] | None, options: dict[str, Any]) -> Embedded:
    from helmr_runtime.launchers.startup import UpOptions
    from helmr_runtime.launchers.threaded import ThreadedRuntime

    def begin(place: Path) -> ThreadedRuntime:
        folder = Path(options["folder"] or Path.cwd())
        given = {**options, "folder": folder, "data_dir": place, "port": 0, "in_process": True}
        runtime = ThreadedRuntime(UpOptions(**given))
        runtime.start()
        return runtime

    return _begun(data_dir, begin)


def _begun(
    data_dir: str | os.PathLike[str] | None,
    begin: Callable[[Path], RuntimeProcess | ThreadedRuntime],
) -> Embedded:
    temporary = tempfile.mkdtemp(prefix="helmr-") if data_dir is None else None
    try:
        runtime = begin(Path(data_dir or str(temporary)).absolute())
    except BaseException:
        _remove(temporary)
        raise
    return Embedded(runtime, temporary)


class Embedded:
    """A runtime that `start` has started or joined. Ends with `stop`, with a `with` block, or with this process.

    One that was joined goes on: it belongs to the process that started it.
    """

    def __init__(
        self, runtime: RuntimeProcess | ThreadedRuntime | Credentials, temporary: str | None = None
    ) -> None:
        self._runtime = runtime
        self._temporary = temporary
        atexit.register(self.stop)

    @property
    def url(self) -> str:
        """The URL that it serves."""
        return self._runtime.url

    @property
    def key(self) -> str:
        """Its local admin key."""
        return self._runtime.key

    @property
    def is_joined(self) -> bool:
        """True if another process started it."""
        return isinstance(self._runtime, Credentials)

    def client(self, **options: Any) -> Client:
        """Return a client of this runtime; options as for `Client`."""
        return Client(url=self.url, key=self.key, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        """Return an async client; options as for `AsyncClient`. `helmr.experiments` accepts this method."""
        return AsyncClient(url=self.url, key=self.key, **options)

    def stop(self) -> None:
        """End it; sessions are parked. Harmless if it has ended, or was joined."""
        atexit.unregister(self.stop)
        if not isinstance(self._runtime, Credentials):
            self._runtime.stop()
        _remove(self._temporary)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Embedded runtime on {self.url}>"


def _remove(folder: str | None) -> None:
    if folder is not None:
        remove_folder(Path(folder))
