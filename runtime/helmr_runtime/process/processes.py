"""Finds and ends the processes of a runtime.

A pid alone never identifies a process, since pids are reused: pid and start time do. A runtime's
processes are found even after their parent has ended: everything that `up` starts inherits a random
marker in its environment, and Ray's agents, which write their title over their environment, hold
files open in the runtime's own folder.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from helmr import platform
from helmr.platform import ENDED, STOPPED, boot_id, look

__all__ = [
    "MARKER",
    "OsProcess",
    "RuntimeMark",
    "boot_id",
    "command",
    "end_all",
    "is_running",
    "is_stopped",
    "kill",
    "look",
    "marked",
    "process",
]

MARKER = "HELMR_RUNTIME"
"""The environment variable that holds the marker of a runtime."""

COMMAND_CHARS_MAX = 200
END_ROUND_S = 0.05


@dataclass(frozen=True, slots=True)
class OsProcess:
    """One process, not whichever has its pid later."""

    pid: int
    started: int
    """As `helmr.platform.look` says it."""


def process(pid: int) -> OsProcess | None:
    """The process that has that pid now."""
    found = look(pid)
    return OsProcess(pid, found[1]) if found is not None else None


def is_running(one: OsProcess) -> bool:
    """It has not ended. A zombie has."""
    found = look(one.pid)
    return found is not None and found[1] == one.started and found[0] not in ENDED


def command(one: OsProcess) -> str:
    """Its command line, for people."""
    if look(one.pid) is None:
        return "gone"
    return platform.command(one.pid)[:COMMAND_CHARS_MAX] or "no command"


def is_stopped(pid: int) -> bool:
    """It got SIGSTOP. What a debugger or a profiler holds someone looks at."""
    found = look(pid)
    return found is not None and found[0] == STOPPED


@dataclass(frozen=True, slots=True)
class RuntimeMark:
    """The mark shared by the processes of one runtime."""

    marker: str
    run_dir: Path


def marked(mark: RuntimeMark) -> Iterator[OsProcess]:
    """This user's processes that belong to the runtime, without this one."""
    pids = {*platform.with_variable(MARKER, mark.marker), *_agents_in(mark.run_dir)}
    for pid in sorted(pids - {os.getpid()}):
        one = process(pid)
        if one is not None and is_running(one):
            yield one


def _agents_in(folder: Path) -> Iterator[int]:
    """Processes of Ray that have a file of that folder open."""
    for pid in platform.parents():
        if platform.command(pid).startswith("ray::") and any(
            name.startswith(f"{folder}/") for name in platform.open_files(pid)
        ):
            yield pid


def kill(one: OsProcess) -> None:
    """SIGKILL, if it still runs and is this user's."""
    with suppress(OSError):
        platform.send_signal(one.pid, signal.SIGKILL, started=one.started)


def end_all(
    mark: RuntimeMark,
    recorded: Iterable[OsProcess] = (),
    *,
    spare: Iterable[int] = (),
    within_s: float,
) -> list[OsProcess]:
    """Kill what is marked or was recorded, until nothing of it runs but this process.

    Args:
        mark: Of the runtime.
        recorded: Processes that belong to it too.
        spare: Pids to leave alone.
        within_s: Give up after this time.

    Returns:
        What still runs.
    """
    spared = {os.getpid(), *spare}
    known = set(recorded)
    empty_looks = 0
    deadline = time.monotonic() + within_s
    while True:
        # What was marked once may have lost its environment by now, and not be dead yet.
        known |= set(marked(mark))
        alive = {one for one in known if one.pid not in spared and is_running(one)}
        empty_looks = 0 if alive else empty_looks + 1
        # One look may miss a process that is just being started by another.
        if empty_looks == 2 or time.monotonic() >= deadline:
            return sorted(alive, key=lambda one: one.pid)
        for one in alive:
            kill(one)
        time.sleep(END_ROUND_S)
