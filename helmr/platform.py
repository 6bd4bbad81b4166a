"""What operating systems do each in their own way: processes, who is at the other end of a socket, disks, memory.

Linux is asked by /proc, pidfds and its own calls; others, and Linux with `HELMR_PORTABLE=1`, by what macOS and every
POSIX system have. Nothing else in the packages asks for what only Linux has. Standard library only: the watchdog runs
it, and a command line's start pays for it.

A process is named by pid and start time, never by its pid alone: pids are used again.

Source: proc_pid_stat(5), proc_pid_status(5), cgroups(7), ps(1) of POSIX and macOS, unix(4) of macOS, fsync(2) of macOS;
the kernel's admin-guide/cgroup-v2 and cgroup-v1/memory.
"""

from __future__ import annotations

import os
import sys
import time
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
ENVIRON_BYTES_MAX = 1024 * 1024
COMMAND_CHARS_MAX = 200
POLL_S = 0.05
PS_S = 10.0
"""Bound of one call of `ps`."""

# --- processes ------------------------------------------------------------------------------------


def look(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process; None if there is none.

    The time only tells one process from another: clock ticks after boot on Linux, else seconds since 1970.
    """
    return _look_in_proc(pid) if IS_LINUX else _look_by_ps(pid)


def started_at_s(pid: int) -> float | None:
    """When the process started, in seconds since 1970; None if there is none, only its remains, or no boot time."""
    found = look(pid)
    if found is None or found[0] in ENDED:
        return None
    if not IS_LINUX:
        return float(found[1])
    try:
        lines = (PROC / "stat").read_text().splitlines()
    except OSError:
        return None
    boots = [int(line.split()[1]) for line in lines if line.startswith("btime ")]
    return boots[0] + found[1] / os.sysconf("SC_CLK_TCK") if boots else None


def parents() -> dict[int, int]:
    """Of each process its parent's pid."""
    if not IS_LINUX:
        rows = (line.split() for line in _ps("-ax", "-o", "pid=,ppid="))
        return {int(pid): int(parent) for pid, parent in rows}
    found = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None:
            found[pid] = int(fields[1])
    return found


def command(pid: int) -> str:
    """Its command line; empty if there is none, or no such process."""
    if not IS_LINUX:
        return next(iter(_ps("-o", "command=", "-p", str(pid))), "").strip()
    try:
        text = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return text.replace(b"\0", b" ").decode(errors="replace").strip()


def with_variable(name: str, value: str) -> Iterator[int]:
    """Pids of this user's processes that were started with that environment variable."""
    sought = f"{name}={value}"
    if not IS_LINUX:
        for line in _ps("axeww", "-o", "pid=,command="):
            found, _, rest = line.strip().partition(" ")
            if sought in rest.split():
                yield int(found)
        return
    for pid in _pids():
        try:
            with (PROC / str(pid) / "environ").open("rb") as file:
                environ = file.read(ENVIRON_BYTES_MAX)
        except OSError:
            continue
        if sought.encode() in environ.split(b"\0"):
            yield pid


def open_files(pid: int) -> Iterator[str]:
    """What the process has open; only Linux tells."""
    if not IS_LINUX:
        return
    try:
        links = list((PROC / str(pid) / "fd").iterdir())
    except OSError:
        return
    for link in links:
        try:
            yield os.readlink(link)
        except OSError:
            continue  # closed meanwhile


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


def _pids() -> Iterator[int]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on: they are counted from the last `)`, a name may hold anything."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    return text.rpartition(b")")[2].decode().split()


def _look_in_proc(pid: int) -> tuple[str, int] | None:
    fields = _stat(pid)
    return (fields[0], int(fields[19])) if fields is not None else None


def _look_by_ps(pid: int) -> tuple[str, int] | None:
    for line in _ps("-o", "stat=,lstart=", "-p", str(pid)):
        state, _, started = line.strip().partition(" ")
        words = " ".join(started.split())
        return state[0], int(time.mktime(time.strptime(words, "%a %b %d %H:%M:%S %Y")))
    return None


def _ps(*arguments: str) -> list[str]:
    import subprocess  # noqa: PLC0415

    environ = {**os.environ, "LC_ALL": "C"}  # names of days and months
    told = subprocess.run(
        ["ps", *arguments], env=environ, capture_output=True, text=True, timeout=PS_S, check=False
    )
    return told.stdout.splitlines()


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
