"""The processes of one runtime, named by pid and start time so that no other process is ever hit.

Linux only: it reads /proc, and signals through pidfds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

RECORD = "processes.json"
"""What a running `helmr up` has started, in its data directory."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process; `started` is its start in clock ticks since boot, so a later one of that pid differs."""

    pid: int
    started: int


def recorded(data_dir: Path) -> list[Process]:
    """What the runtime wrote down that it has started, its supervisor first; empty if there is no record."""
    try:
        record = json.loads((data_dir / RECORD).read_text())
        named = [record["supervisor"], *record["processes"]]
        return [Process(int(pid), int(started)) for pid, started in named]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def family(pid: int) -> list[Process]:
    """The process and all its descendants, as they are now."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            parents[int(entry.name)] = int(fields[1])
    members = {pid} if pid in parents else set()
    while more := {child for child, parent in parents.items() if parent in members} - members:
        members |= more
    started = ((member, started_at(member)) for member in sorted(members))
    return [Process(member, start) for member, start in started if start is not None]


def started_at(pid: int) -> int | None:
    """When the process started; None if there is none, or only its remains."""
    fields = _stat(pid)
    return int(fields[19]) if fields is not None and fields[0] not in "ZX" else None


def alive(processes: Iterable[Process]) -> list[Process]:
    """Those that still run."""
    return [one for one in processes if started_at(one.pid) == one.started]


def kill(processes: Iterable[Process], *, within_s: float) -> list[Process]:
    """kill -9 each of them, all before the first is waited for; returns those that are left after that time."""
    handles: list[int] = []
    everyone = list(processes)
    try:
        for one in everyone:
            try:
                handle = os.pidfd_open(one.pid)
            except ProcessLookupError:
                continue
            handles.append(handle)
            if started_at(one.pid) == one.started:  # the handle can't become another process
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        _await_end(handles, within_s=within_s)
    finally:
        for handle in handles:
            os.close(handle)
    return alive(everyone)


def _await_end(handles: list[int], *, within_s: float) -> None:
    ends_at_s = time.monotonic() + within_s
    poll = select.poll()
    waiting = set(handles)
    for handle in waiting:
        poll.register(handle, select.POLLIN)
    while waiting and (left_s := ends_at_s - time.monotonic()) > 0:
        for handle, _ in poll.poll(left_s * 1000):
            poll.unregister(handle)
            waiting.discard(handle)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on. Source: proc_pid_stat(5); a name may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
