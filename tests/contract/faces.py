"""The blocking client behind the awaited one's face, so that one contract holds for both; and what was called."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helmr import features
from helmr.client import aio, sync
from helmr.wire.operation import Operation

HERE = Path(__file__).parent
CASES_OF = (str(HERE), str(HERE.parent / "features"))
"""Folders whose code is the contract's."""
AT_ONCE = ("open", "input", "output")
"""Methods that ask nothing and are not awaited."""

NAMES = {
    "Client": "client",
    "Runs": "client.runs",
    "Tasks": "client.tasks",
    "Streams": "client.streams",
    "NamedLimits": "client.limits",
    "Bulk": "client.bulk",
    "Waits": "client.waits",
    "Notices": "client.notices",
    "Sessions": "client.sessions",
    "SessionHandle": "session",
    "Input": "session.input()",
    "Output": "session.output()",
    "Tokens": "client.tokens",
    "Auth": "client.auth",
    "Keys": "client.keys",
    "People": "client.people",
}
"""How a program reaches the methods of each class. `StartedSession` is a session handle."""
NAMES |= {
    blocking.partition(":")[2]: f"client.{noun}" for noun, (_, blocking) in features.client_parts()
}

OF_AGENTS = {row: row.route for row in features.OPERATIONS if row.tag == "gate" and not row.call}
"""What programs of agents ask by its route: no method of the client does."""


class Awaited:
    """A blocking client, or a part of one: its calls run in threads and are awaited, its iterators are async."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not inspect.ismethod(found):
            return _wrapped(found)
        if name in AT_ONCE:
            return lambda *args, **options: _wrapped(found(*args, **options))
        return lambda *args, **options: _Call(functools.partial(found, *args, **options))


class _Call:
    """A call under way: awaited for its answer, or iterated."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._items: Iterator[Any] | None = None

    def __await__(self) -> Any:
        return self._answer().__await__()

    def __aiter__(self) -> _Call:
        return self

    async def __anext__(self) -> Any:
        item = await asyncio.to_thread(self._next)
        if item is _END:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """End an iterator that nobody reads on."""
        close = getattr(self._items, "close", None)
        if close is not None:
            await asyncio.to_thread(close)

    async def _answer(self) -> Any:
        return _wrapped(await asyncio.to_thread(self._asked))

    def _asked(self) -> Any:
        return self._call()

    def _next(self) -> Any:
        if self._items is None:
            self._items = iter(self._call())
        return next(self._items, _END)


_END = object()


def _wrapped(found: Any) -> Any:
    is_part = type(found).__module__.startswith(("helmr.client.", "helmr.features."))
    return Awaited(found) if is_part else found


def operations() -> list[str]:
    """Everything that a client can be asked, as a program writes it, and the routes of `OF_AGENTS`."""
    methods = [f"{NAMES[cls.__name__]}.{name}" for cls in _classes(sync) for name in _methods(cls)]
    return [*methods, *OF_AGENTS.values()]


async def as_an_agent(client: Any, row: Operation[Any], *ids: str, **parts: Any) -> Any:
    """What a row of `OF_AGENTS` answers."""
    for called in _recording:
        called.add(OF_AGENTS[row])
    if isinstance(client, Awaited):
        asking = functools.partial(sync.ask, client._inner, row, *ids, **parts)
        return await asyncio.to_thread(asking)
    return await client._ask(row, *ids, **parts)


_recording: list[set[str]] = []


@contextmanager
def recorded() -> Iterator[set[str]]:
    """What the contract's cases call meanwhile, of both faces."""
    called: set[str] = set()
    undo: list[tuple[type, str, Any]] = []
    for module in (sync, aio):
        for cls in _classes(module):
            for name in _methods(cls):
                undo.append((cls, name, vars(cls)[name]))
                shown = f"{NAMES[cls.__name__.removeprefix('Async')]}.{name}"
                setattr(cls, name, _noting(vars(cls)[name], shown, called))
    _recording.append(called)
    try:
        yield called
    finally:
        _recording.remove(called)
        for cls, name, method in undo:
            setattr(cls, name, method)


def _noting(method: Callable[..., Any], shown: str, called: set[str]) -> Callable[..., Any]:
    @functools.wraps(method)
    def noting(*args: Any, **options: Any) -> Any:
        if sys._getframe(1).f_code.co_filename.startswith(CASES_OF):
            called.add(shown)
        return method(*args, **options)

    return noting


def _classes(main: Any) -> list[type]:
    prefix = "" if main is sync else "Async"
    found = (f"{prefix}{name}" for name in NAMES)
    return [getattr(sync, one, None) or getattr(aio, one) for one in found]


def _methods(cls: type) -> list[str]:
    return [
        name
        for name, member in vars(cls).items()
        if not name.startswith("_") and inspect.isfunction(member)
    ]
