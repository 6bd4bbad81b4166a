"""How much memory this process has for itself, and how much there is: what a host is bounded by.

Counted is anonymous memory, also what is swapped out: what code has allocated. Pages of files and shared memory can be
had back by the kernel or belong to others.

Source: proc_pid_status(5), cgroups(7); the kernel's admin-guide/cgroup-v2 and cgroup-v1/memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")

SHARE = 4
"""A host may have that part of the machine's memory if nothing else was said."""

AT_START = 2
"""A host whose task modules alone take more than its bound may have that many times what they take."""

COUNTED = (b"RssAnon:", b"VmSwap:")


def anonymous_bytes(proc: Path = PROC) -> int:
    """What this process has allocated; costs some 40 microseconds."""
    lines = (proc / "self/status").read_bytes().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(COUNTED))


def machine_bytes(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """The machine's memory, or what the control group of this process may have of it."""
    first, *_ = (proc / "meminfo").read_text().splitlines()
    return min([int(first.split()[1]) * 1024, *_limits(proc, cgroups)])


def bound_bytes(asked: int | None, *, at_start: int, machine: int) -> int:
    """How much a host may have.

    Args:
        asked: What was asked for; None is the default.
        at_start: What it has before any session is in it.
        machine: What there is.
    """
    bound = asked if asked is not None else machine // SHARE
    return bound if at_start < bound else AT_START * at_start


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
