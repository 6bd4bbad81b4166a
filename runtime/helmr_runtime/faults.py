"""Named points in production code where a test can kill, stop or fail a process, once.

Files arm points: with `HELMR_FAULTS=<folder>` set, `<folder>/<point>` with `kill`, `stop` or `fail` acts the next time
any process passes that point, and is deleted. Within one process `passing` decides. An unarmed point costs a call and a
check of `on_point`; the six points on the path of an answer cost only the check.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path

from helmr.errors import StoreUnavailable

VARIABLE = "HELMR_FAULTS"


class Point(StrEnum):
    """A point where a process can be killed; docs/faults.md lists the effects of each."""

    SESSION_LOADED = "session.loaded"
    SESSION_DECIDED = "session.decided"
    SESSION_COMMITTED = "session.committed"
    SESSION_CHILD_STARTED = "session.child_started"
    SESSION_PARKING = "session.parking"
    SESSION_PARKED = "session.parked"
    LEDGER_BEFORE_WRITE = "ledger.before_write"
    LEDGER_WRITTEN = "ledger.written"
    LEDGER_PROJECTING = "ledger.projecting"
    LEDGER_TIMING_OUT = "ledger.timing_out"
    DIRECTORY_BEFORE_ADOPT = "directory.before_adopt"
    DIRECTORY_ADOPTED = "directory.adopted"
    DIRECTORY_ABANDONING = "directory.abandoning"
    GATEWAY_BEFORE_CALL = "gateway.before_call"
    GATEWAY_AFTER_CALL = "gateway.after_call"


def reach(point: Point) -> None:
    """Pass a point; act if it is armed.

    Raises:
        StoreUnavailable: The point is armed with `fail`.
    """
    if on_point is not None:
        on_point(point)


@contextmanager
def passing(call: Callable[[Point], None]) -> Iterator[None]:
    """Let `call` act at each point meanwhile; for tests with several parts in one process."""
    global on_point
    before, on_point = on_point, call
    try:
        yield
    finally:
        on_point = before


def _act(folder: Path, point: Point) -> None:
    armed = folder / point.value
    taken = armed.with_name(f"{armed.name}.{os.getpid()}")
    try:
        armed.rename(taken)
    except OSError:
        return
    action = taken.read_text().strip()
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        raise StoreUnavailable(f"fault {point.value}: {action}")


def arm(folder: Path, point: Point, action: str = "kill") -> None:
    """Arm a point in the folder that the processes' `HELMR_FAULTS` names."""
    fresh = folder / f".{point.value}"
    fresh.write_text(action)
    fresh.rename(folder / point.value)


def armed_by(environ: Mapping[str, str]) -> Callable[[Point], None] | None:
    """Return the function that acts at each point of a process with this environment; None if nothing is armed."""
    folder = environ.get(VARIABLE)
    return partial(_act, Path(folder)) if folder is not None else None


on_point = armed_by(os.environ)
"""Acts at each point; None if nothing is armed."""
