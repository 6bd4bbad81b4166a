"""What operating systems do each in their own way: processes, who is at the other end of a socket, disks, memory.

Processes are asked for by psutil. Otherwise Linux has its own calls; others, and Linux with `HELMR_PORTABLE=1`, what
macOS and every POSIX system have. Nothing else in the packages asks for what only Linux has. What takes time to import
is imported where it is used: a command line's start pays for this module.

A process is named by pid and start time, never by its pid alone: pids are used again.

Source: proc_pid_stat(5), proc_pid_status(5), cgroups(7), unix(4) of macOS, fsync(2) of macOS;
the kernel's admin-guide/cgroup-v2 and cgroup-v1/memory.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

TYPE_CHECKING = False  # `typing` takes long; so do the modules that functions load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from socket import socket

VARIABLE = "HELMR_PORTABLE"
IS_LINUX = sys.platform == "linux" and not os.environ.get(VARIABLE)
"""Linux's own ways are taken."""

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
STOPPED = "T"
"""The state of a process that got SIGSTOP; that of what is traced is a small one."""
ENDED = "ZX"
"""States of what has ended and was not reaped."""
RUNS = "R"
_LETTERS = {"stopped": STOPPED, "tracing-stop": "t", "zombie": "Z", "dead": "X"}
"""What psutil calls the states that anyone here asks for."""
MICROSECONDS = 1_000_000
POLL_S = 0.05

# --- processes ------------------------------------------------------------------------------------


def look(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process; None if there is none.

    The time only tells one process from another: clock ticks after boot on Linux, else microseconds since 1970.
    """
    return _look_in_proc(pid) if IS_LINUX else _look_portably(pid)


def started_at_s(pid: int) -> float | None:
    """When the process started, in seconds since 1970; None if there is none, only its remains, or no boot time."""
    import psutil  # noqa: PLC0415

    found = look(pid)
    if found is None or found[0] in ENDED:
        return None
    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, OSError, RuntimeError):  # the last: the system tells no boot time
        return None


def parents() -> dict[int, int]:
    """Of each process its parent's pid."""
    import psutil  # noqa: PLC0415

    return {one.pid: one.info["ppid"] for one in psutil.process_iter(["ppid"])}


def command(pid: int) -> str:
    """Its command line; empty if there is none, or no such process."""
    import psutil  # noqa: PLC0415

    try:
        return " ".join(psutil.Process(pid).cmdline()).strip()
    except (psutil.Error, OSError):
        return ""


def with_variable(name: str, value: str) -> Iterator[int]:
    """Pids of this user's processes that were started with that environment variable."""
    import psutil  # noqa: PLC0415

    for one in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if one.environ().get(name) == value:
                yield one.pid


def open_files(pid: int) -> Iterator[str]:
    """Regular files that the process has open."""
    import psutil  # noqa: PLC0415

    with suppress(psutil.Error, OSError):
        yield from (file.path for file in psutil.Process(pid).open_files())


def send_signal(pid: int, number: int, *, started: int | None = None) -> bool:
    """Send it to this very process, also if its pid is used again meanwhile, as far as the system can tell.

    Args:
        started: Of `look`; nothing is sent to a process that started at another time.

    Returns:
        Whether there was one.

    Raises:
        PermissionError: It belongs to another user.
    """
    import signal  # noqa: PLC0415

    try:
        descriptor = os.pidfd_open(pid) if IS_LINUX else -1
    except ProcessLookupError:
        return False
    try:
        found = look(pid)
        if found is None or found[0] in ENDED or started not in (None, found[1]):
            return False
        if IS_LINUX:
            signal.pidfd_send_signal(descriptor, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return False
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return True


def await_end(pid: int, *, started: int, within_s: float) -> bool:
    """Wait until this very process has ended; whether it has in that time."""
    import select  # noqa: PLC0415

    ends_at_s = time.monotonic() + within_s
    while (found := look(pid)) is not None and found[1] == started and found[0] not in ENDED:
        left_s = ends_at_s - time.monotonic()
        if left_s <= 0:
            return False
        if not IS_LINUX:
            time.sleep(min(POLL_S, left_s))
            continue
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(left_s * 1000)
        finally:
            os.close(descriptor)
    return True


def boot_id() -> str:
    """Names this boot of this machine: pids mean nothing elsewhere."""
    if IS_LINUX:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    first = look(1)
    return f"{os.uname().nodename} {first[1] if first is not None else 0}"


def _look_in_proc(pid: int) -> tuple[str, int] | None:
    """Not by psutil, whose start time is one of the wall clock, and moves when that is set."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = (
        text.rpartition(b")")[2].decode().split()
    )  # from the state on: a name may hold anything
    return fields[0], int(fields[19])


def _look_portably(pid: int) -> tuple[str, int] | None:
    import psutil  # noqa: PLC0415

    try:
        process = psutil.Process(pid)
        letter = _LETTERS.get(process.status(), RUNS)
        return letter, round(process.create_time() * MICROSECONDS)
    except (psutil.Error, OSError):
        return None


# --- sockets --------------------------------------------------------------------------------------

_PEER = "3i"
"""Linux: pid, uid, gid of a peer."""
_XUCRED, _XUCRED_BYTES = "2I", 76
"""macOS: version and uid; groups follow."""
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1
"""macOS: of sys/un.h, which Python does not name."""


def peer_uid(connection: socket) -> int:
    """The user id of the process at the other end, as it was when it connected or listened."""
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    if sys.platform == "darwin":
        packed = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_BYTES)
        return int(struct.unpack_from(_XUCRED, packed)[1])
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_PEER))
    return int(struct.unpack(_PEER, packed)[1])


# --- disks ----------------------------------------------------------------------------------------


def _sync(descriptor: int) -> None:
    """On disk when this returns: macOS leaves it in the drive's cache unless told otherwise."""
    import fcntl  # noqa: PLC0415

    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
            return
        except OSError:
            pass  # a file system that lacks it
    os.fsync(descriptor)


# Not functions around them: what a commit waits for pays for each call.
sync: Callable[[int], None] = os.fsync if IS_LINUX else _sync
"""Bring a file or a folder to disk."""
sync_data: Callable[[int], None] = os.fdatasync if IS_LINUX else _sync
"""Bring a file's bytes to disk, and its size."""


def allocate(descriptor: int, size: int) -> None:
    """Have the file be that long, with its room on the disk if the system can promise it.

    Raises:
        OSError: There is no room.
    """
    if IS_LINUX:
        os.posix_fallocate(descriptor, 0, size)
        return
    held = os.fstat(descriptor).st_size
    place = held
    while place < size:  # a hole would promise nothing
        place += os.pwrite(descriptor, bytes(min(size - place, 1 << 20)), place)


# --- memory and time ------------------------------------------------------------------------------

_COUNTED = (b"RssAnon:", b"VmSwap:")


def anonymous_bytes(proc: Path = PROC) -> int:
    """What this process has allocated; costs some 40 microseconds. Elsewhere than on Linux: its peak."""
    if not IS_LINUX:
        import resource  # noqa: PLC0415

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    lines = (proc / "self/status").read_bytes().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_COUNTED))


def machine_bytes(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """The machine's memory, or what the control group of this process may have of it."""
    if not IS_LINUX:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    first, *_ = (proc / "meminfo").read_text().splitlines()
    return min([int(first.split()[1]) * 1024, *_limits(proc, cgroups)])


def elapsed_s() -> float:
    """Seconds since the machine began, those that it slept included where the system tells them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME if IS_LINUX else time.CLOCK_MONOTONIC)


def _limits(proc: Path, cgroups: Path) -> Iterator[int]:
    """Of the group and those around it, of either version; what is not a number is not a limit."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = cgroups / "memory" if controllers else cgroups
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        group = root / path.lstrip("/")
        # In a container the path may be the host's, which is not there: its own group is the root.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield from _number(folder / name)


def _number(path: Path) -> Iterator[int]:
    try:
        yield int(path.read_text())
    except (OSError, ValueError):
        return
