"""Names the lines of task code that ask clock, chance, network or an agent outside of steps: a replay differs there.

For development only: while someone watches, a few functions of Python's are wrapped, and a call that the watched
modules' own code makes in a run, outside of a step, is logged with its line, once. `datetime.now` is not a function
that could be wrapped; what it gives is found where an op asks for it (S-126).
"""

from __future__ import annotations

import inspect
import logging
import random  # noqa: TID251 - wraps it, draws nothing
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

from helmr.current import in_run

CLOCK = "use ctx.now()"
CHANCE = "use ctx.random()"
IDS = "use ctx.uuid()"
NETWORK = "what asks another service belongs in a @step"

WRAPPED: tuple[tuple[Any, str, str], ...] = (
    *((time, name, CLOCK) for name in ("time", "time_ns")),
    *(
        (random, name, CHANCE)
        for name in ("random", "randint", "randrange", "uniform", "choice", "choices", "sample")
    ),
    (random, "shuffle", CHANCE),
    (uuid, "uuid1", IDS),
    (uuid, "uuid4", IDS),
    (socket.socket, "connect", NETWORK),
    (socket.socket, "connect_ex", NETWORK),
)

AGENTS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    (
        "agents",
        "Runner",
        ("run", "run_sync", "run_streamed"),
        "call `run` of helmr.integrations.openai_agents in its place",
    ),
    (
        "pydantic_ai",
        "Agent",
        ("run", "run_sync", "run_stream", "run_stream_events", "iter"),
        "give the agent the capability HelmrDurability",
    ),
)
"""Of frameworks that are loaded: what runs an agent, whose model and tools a replay would ask again."""

log = logging.getLogger("helmr.run")

_watched: Counter[str] = Counter()
_named: set[tuple[str, int, str]] = set()


@contextmanager
def watching(modules: Iterable[str]) -> Iterator[None]:
    """Watch the code of these modules meanwhile."""
    names = set(modules)
    if not _watched:
        _wrap()
    _watched.update(names)
    try:
        yield
    finally:
        _watched.subtract(names)
        for name in names:
            if _watched[name] <= 0:
                del _watched[name]
        if not _watched:
            _unwrap()


_originals: list[tuple[Any, str, Any, Any]] = []
_INHERITED = object()
"""In place of an original that stands in a base class."""


def _wrap() -> None:
    for owner, name, advice in WRAPPED:
        original = getattr(owner, name)
        _put(owner, name, original, _noticing(original, f"{owner.__name__}.{name}()", advice))
    for module, kind, names, advice in AGENTS:
        owner = getattr(sys.modules.get(module), kind, None)
        for name in names if isinstance(owner, type) else ():
            found = inspect.getattr_static(owner, name, None)
            if found is not None:
                own = vars(owner).get(name, _INHERITED)
                _put(owner, name, own, _noticing_agents(found, f"{kind}.{name}()", advice))


def _put(owner: Any, name: str, original: Any, wrapped: Any) -> None:
    _originals.append((owner, name, original, wrapped))
    setattr(owner, name, wrapped)


def _unwrap() -> None:
    """Put back what no one else has wrapped since."""
    while _originals:
        owner, name, original, wrapped = _originals.pop()
        if inspect.getattr_static(owner, name) is not wrapped:
            continue
        if original is _INHERITED:
            delattr(owner, name)
        else:
            setattr(owner, name, original)


def _noticing(original: Callable[..., Any], what: str, advice: str) -> Callable[..., Any]:
    is_socket = advice is NETWORK

    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        frame: FrameType | None = sys._getframe(1)
        if is_socket and in_run():
            # A client's frames lie between, or those of a task that it has made: then no line is known.
            while frame is not None and not _is_watched(frame):
                frame = frame.f_back
            _name(frame, "a connection", advice)
        elif frame is not None and _is_watched(frame) and in_run():
            _name(frame, what, advice)
        return original(*args, **kwargs)

    return call


def _noticing_agents(method: Any, what: str, advice: str) -> Any:
    """The method of an agent or, as a class method, of what runs one."""
    is_of_class = isinstance(method, classmethod)
    original = method.__func__ if is_of_class else method

    @wraps(original)
    def call(owner: Any, *args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        if _is_watched(frame) and in_run() and not _is_durable(owner):
            _name(frame, what, advice)
        return original(owner, *args, **kwargs)

    return classmethod(call) if is_of_class else call


def _is_durable(owner: Any) -> bool:
    """An engine for durable agents is among its capabilities: Helmr's, or another that its author has chosen."""
    root = getattr(owner, "root_capability", None)
    return any(hasattr(one, "engine_spec") for one in (root, *getattr(root, "capabilities", ())))


def _is_watched(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") in _watched


def _name(frame: FrameType | None, what: str, advice: str) -> None:
    file, line = ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
    if (file, line, what) in _named:
        return
    _named.add((file, line, what))
    place = f"{file}:{line}" if file else "task code"
    log.warning("%s: %s outside of steps: a replay gets another one; %s", place, what, advice)


def forget() -> None:
    """Name lines again that have been named; for tests."""
    _named.clear()
