"""Everything that differs between operating systems: processes, peers of sockets, disks, memory.

psutil lists processes. Beyond that, Linux uses calls of its own; other systems, and Linux with `HELMR_PORTABLE=1`, use
calls of macOS and POSIX. No other module of the packages uses a Linux-only call. Slow modules are imported inside
functions, because every start of the command line imports this one.

A pid and a start time together name a process, because systems reuse pids.

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
"""True when Linux's own calls are used."""

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
STOPPED = "T"
"""State of a process stopped by SIGSTOP; a traced one has a lower-case `t`."""
ENDED = "ZX"
"""States of processes that have ended and were not reaped."""
RUNS = "R"
_LETTERS = {"stopped": STOPPED, "tracing-stop": "t", "zombie": "Z", "dead": "X"}
"""Letters of the states that callers ask for, by psutil's names."""
MICROSECONDS = 1_000_000
POLL_S = 0.05

# --- processes ------------------------------------------------------------------------------------


def look(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process; None if there is none.

    The time only tells one process from another: clock ticks after boot on Linux, else microseconds since 1970.
    """
    return _look_in_proc(pid) if IS_LINUX else _look_portably(pid)


def started_at_s(pid: int) -> float | None:
    """Return the process's start in seconds since 1970; None if it has ended or the system has no boot time."""
    import psutil  # noqa: PLC0415

    found = look(pid)
    if found is None or found[0] in ENDED:
        return None
    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, OSError, RuntimeError):  # the last: the system tells no boot time
        return None


def parents() -> dict[int, int]:
    """Return the parent's pid of each process."""
    import psutil  # noqa: PLC0415

    return {one.pid: one.info["ppid"] for one in psutil.process_iter(["ppid"])}


def command(pid: int) -> str:
    """Return the process's command line; empty if it has none, or does not exist."""
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
    """Send a signal to this very process, even if its pid is reused meanwhile, as far as the system can tell.

    Args:
        started: Start time from `look`; a process with another start time gets no signal.

    Returns:
        True if the process existed.

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
    """Wait until this very process ends; return True if it did in that time."""
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
    """Return a name for this boot of this machine, outside of which pids mean nothing."""
    if IS_LINUX:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    first = look(1)
    return f"{os.uname().nodename} {first[1] if first is not None else 0}"


def _look_in_proc(pid: int) -> tuple[str, int] | None:
    """Read /proc, because psutil's start time moves when the wall clock is set."""
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
"""Format of a peer on Linux: pid, uid, gid."""
_XUCRED, _XUCRED_BYTES = "2I", 76
"""Format of a peer on macOS: version and uid; groups follow."""
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1
"""Constants of sys/un.h on macOS, which Python does not name."""


def peer_uid(connection: socket) -> int:
    """Return the user id of the process at the other end when it connected or listened."""
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    if sys.platform == "darwin":
        packed = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_BYTES)
        return int(struct.unpack_from(_XUCRED, packed)[1])
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_PEER))
    return int(struct.unpack(_PEER, packed)[1])


# --- disks ----------------------------------------------------------------------------------------


def _sync(descriptor: int) -> None:
    """Flush to the disk itself; a plain fsync of macOS may stop at the drive's cache."""
    import fcntl  # noqa: PLC0415

    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
            return
        except OSError:
            pass  # a file system that lacks it
    os.fsync(descriptor)


# These are no wrapper functions: a commit waits for every call.
sync: Callable[[int], None] = os.fsync if IS_LINUX else _sync
"""Flush a file or a folder to disk."""
sync_data: Callable[[int], None] = os.fdatasync if IS_LINUX else _sync
"""Flush a file's bytes and size to disk."""


def allocate(descriptor: int, size: int) -> None:
    """Extend the file to that length, and reserve its disk space if the system can.

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
    """Return the bytes that this process has allocated, or its peak if not on Linux. Takes about 40 microseconds."""
    if not IS_LINUX:
        import resource  # noqa: PLC0415

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    lines = (proc / "self/status").read_bytes().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_COUNTED))


def machine_bytes(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Return the machine's memory, or the share of it that this process's control group may use."""
    if not IS_LINUX:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    first, *_ = (proc / "meminfo").read_text().splitlines()
    return min([int(first.split()[1]) * 1024, *_limits(proc, cgroups)])


def elapsed_s() -> float:
    """Return seconds since the machine booted, with time asleep where the system counts it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME if IS_LINUX else time.CLOCK_MONOTONIC)


def _limits(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield the memory limits of this process's control group and its parents, of cgroups v1 and v2."""
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
        # In a container the path may be the host's and not exist; the container's own group is the root.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield from _number(folder / name)


def _number(path: Path) -> Iterator[int]:
    try:
        yield int(path.read_text())
    except (OSError, ValueError):
        return
