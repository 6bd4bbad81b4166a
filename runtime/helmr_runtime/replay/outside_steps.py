"""Names the lines of task code that ask clock, chance or network outside of steps: a replay gets something else.

For development only: while someone watches, a few functions of Python's are wrapped, and a call that the watched
modules' own code makes in a run, outside of a step, is logged with its line, once. `datetime.now` is not a function
that could be wrapped; what it gives is found where an op asks for it (S-126).
"""

from __future__ import annotations

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


def _wrap() -> None:
    for owner, name, advice in WRAPPED:
        original = getattr(owner, name)
        wrapped = _noticing(original, f"{owner.__name__}.{name}()", advice)
        _originals.append((owner, name, original, wrapped))
        setattr(owner, name, wrapped)


def _unwrap() -> None:
    """Put back what no one else has wrapped since."""
    while _originals:
        owner, name, original, wrapped = _originals.pop()
        if getattr(owner, name) is wrapped:
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
