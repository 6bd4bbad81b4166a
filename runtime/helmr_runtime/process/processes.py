"""The processes of this machine, as /proc shows them, and how those of a runtime are found and ended.

A process is named by pid and start time, never by its pid alone: pids are used again. What belongs
to a runtime is found even after its parent has ended: everything that `up` starts inherits a random
marker in its environment, and Ray's agents, which write their title over their environment, hold
files open in the runtime's own folder. Standard library only: the watchdog runs it.

Source: proc_pid_stat(5); fields are counted from after the last `)`, a name may hold anything.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MARKER = "HELMR_RUNTIME"
"""The environment variable that holds the marker of a runtime."""

PROC = Path("/proc")
ENVIRON_BYTES_MAX = 1024 * 1024
COMMAND_CHARS_MAX = 200
END_ROUND_S = 0.05


@dataclass(frozen=True, slots=True)
class OsProcess:
    """One process, not whichever has its pid later."""

    pid: int
    started: int
    """Clock ticks after boot."""


STOPPED = "T"
"""The state of what got SIGSTOP; that of what is traced is a small one. Source: proc_pid_stat(5)."""


def look(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process; None if there is none."""
    try:
        fields = (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[19])


def process(pid: int) -> OsProcess | None:
    """The process that has that pid now."""
    found = look(pid)
    return OsProcess(pid, found[1]) if found is not None else None


def is_running(one: OsProcess) -> bool:
    """It has not ended. A zombie has."""
    found = look(one.pid)
    return found is not None and found[1] == one.started and found[0] not in "ZX"


def command(one: OsProcess) -> str:
    """Its command line, for people."""
    try:
        text = (PROC / str(one.pid) / "cmdline").read_bytes()[:COMMAND_CHARS_MAX]
    except OSError:
        return "gone"
    return text.replace(b"\0", b" ").decode(errors="replace").strip() or "no command"


def boot_id() -> str:
    """Names this boot of this machine: pids mean nothing elsewhere."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def is_stopped(pid: int) -> bool:
    """It got SIGSTOP. What a debugger or a profiler holds someone looks at."""
    found = look(pid)
    return found is not None and found[0] == STOPPED


@dataclass(frozen=True, slots=True)
class RuntimeMark:
    """What the processes of one runtime have in common."""

    marker: str
    run_dir: Path


def marked(mark: RuntimeMark) -> Iterator[OsProcess]:
    """This user's processes that belong to the runtime, without this one."""
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        if not (_has_marker(entry, mark.marker) or _has_open(entry, mark.run_dir)):
            continue
        one = process(int(entry.name))
        if one is not None and is_running(one):
            yield one


def _has_marker(entry: Path, marker: str) -> bool:
    try:
        with (entry / "environ").open("rb") as file:
            environ = file.read(ENVIRON_BYTES_MAX)
    except OSError:
        return False
    return f"{MARKER}={marker}".encode() in environ.split(b"\0")


def _has_open(entry: Path, folder: Path) -> bool:
    """It is one of Ray's, and has a file of that folder open."""
    try:
        if not (entry / "cmdline").read_bytes().startswith(b"ray::"):
            return False
        links = list((entry / "fd").iterdir())
    except OSError:
        return False
    return any(_target(link).startswith(f"{folder}/") for link in links)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""  # closed meanwhile


def kill(one: OsProcess) -> None:
    """SIGKILL, if it still runs."""
    try:
        # The descriptor names this very process, also when its pid is used again meanwhile.
        descriptor = os.pidfd_open(one.pid)
    except OSError:
        return
    try:
        if is_running(one):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError:
        return
    finally:
        os.close(descriptor)


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
