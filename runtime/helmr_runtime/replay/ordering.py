"""What asyncio leaves to chance, in a fixed order on the loops of runs (S-30).

Tasks hash by their address, so the order of a set of them, as of those that `asyncio.wait` calls done, is another one
at a replay. Here they hash by the run and by how many it has made before.

`asyncio.as_completed` puts what it is given into a set before it starts any of it. No loop sees in which order it was
given, so the function is replaced, in this one place, for loops of runs: it starts what it gets in the order given, and
goes on as before. Code that has imported the function itself before Helmr's runtime was imported has the old one; there
only durable calls have an order (`helmr.durable_calls`).

Source: CPython 3.11 to 3.14, asyncio/tasks.py, `as_completed`; run with 3.11.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Generator, Iterable
from functools import wraps
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")

BASE_BYTES = 6
"""Less than the 61 bits in which Python keeps a hash: numbers can be added."""


class OrderedTask(asyncio.Task[T]):
    """A task with a hash that is the same at each replay."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T],
        number: int,
        **options: Any,
    ) -> None:
        self._number = number  # first: the base class puts the task into a set
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class OrderedTasks:
    """Makes the tasks of one run's loop, numbered from the run's own place: the tasks of all runs meet in one set."""

    def __init__(self, run_id: str) -> None:
        digest = hashlib.blake2b(run_id.encode(), digest_size=BASE_BYTES).digest()
        self._numbers = count(int.from_bytes(digest, "big"))

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Future[Any]:
        """As a loop's task factory."""
        return OrderedTask(coroutine, next(self._numbers), loop=loop, **options)


_as_completed: Any = asyncio.as_completed


@wraps(_as_completed)
def as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    """As asyncio's; on the loop of a run it starts what it is given in the order given."""
    loop = asyncio._get_running_loop()
    is_many = not asyncio.isfuture(fs) and not asyncio.iscoroutine(fs)
    if is_many and loop is not None and isinstance(loop.get_task_factory(), OrderedTasks):
        fs = [asyncio.ensure_future(one) for one in dict.fromkeys(fs)]
    return _as_completed(fs, timeout=timeout)


def install() -> None:
    """Put it in the place of asyncio's."""
    asyncio.as_completed = asyncio.tasks.as_completed = as_completed
