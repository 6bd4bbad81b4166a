"""A runtime of one's own inside a program or a notebook: `helmr up` in processes that end with it.

```python
runtime = embedded.start("reviews.py")
with runtime.client() as client:
    client.sessions.start("review", "Hello")
runtime.stop()
```

Needs the extra `runtime`.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from helmr.client import AsyncClient, Client
from helmr.errors import MissingExtra
from helmr.temporary import remove_folder

if TYPE_CHECKING:
    from runtime.actors.embedded import Runtime


def start(
    *tasks: str,
    data_dir: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    slots: int | None = None,
    linger_s: float = 30.0,
) -> Embedded:
    """Start a runtime and return when it is ready; takes some seconds.

    Args:
        tasks: Task modules, dotted or as files, looked up from `folder`.
        data_dir: Where sessions are stored, kept afterwards; an existing one goes on. None: a temporary one, which
            goes when the runtime ends.
        folder: Where tasks are looked up; None is the current one.
        slots: Actors that run task code; None fits the machine.
        linger_s: Seconds that a waiting session stays in memory.

    Raises:
        MissingExtra: The runtime is not installed.
        UsageError: A task module can't be read.
        Conflict: Another runtime has the data directory.
        Unavailable: It was not ready in time.
    """
    try:
        from runtime.actors.embedded import Runtime
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"a runtime needs {error.name}, which is not installed",
            hint="pip install 'helmr[runtime]'",
            extra="runtime",
        ) from error
    temporary = tempfile.mkdtemp(prefix="helmr-") if data_dir is None else None
    try:
        runtime = Runtime.start(
            data_dir=data_dir if data_dir is not None else str(temporary),
            tasks=tasks,
            folder=folder,
            slots=slots,
            linger_s=linger_s,
        )
        runtime.__enter__()
    except BaseException:
        _remove(temporary)
        raise
    return Embedded(runtime, temporary)


class Embedded:
    """A runtime that `start` has started. Ends with `stop`, with a `with` block, or with this process."""

    def __init__(self, runtime: Runtime, temporary: str | None) -> None:
        self._runtime = runtime
        self._temporary = temporary
        atexit.register(self.stop)

    @property
    def url(self) -> str:
        """Where it answers."""
        return self._runtime.url

    @property
    def key(self) -> str:
        """Its local admin key."""
        return self._runtime.key

    def client(self, **options: Any) -> Client:
        """A client of it; options as those of `Client`."""
        return Client(url=self.url, key=self.key, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        """A client of it; options as those of `AsyncClient`. `helmr.experiments` takes this function."""
        return AsyncClient(url=self.url, key=self.key, **options)

    def stop(self) -> None:
        """End it; sessions are parked. Harmless if it has ended."""
        atexit.unregister(self.stop)
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
