"""What a host's process leaves behind of itself, and the memory that it has.

A small file beside each host says which session is in each slot, and whether its code executes. It is read after the
host has crashed: a kill leaves no time to say anything. The file is mapped into the host's memory: to note something is
to set a byte, with no system call, and what was set outlives the process. So a crash is attributed to the code that
executed and not to the other sessions of the host (S-3).

Counted as memory is what is anonymous, also what is swapped out: what code has allocated. Pages of files and shared
memory can be had back by the kernel or belong to others. Source: proc_pid_status(5), cgroups(7); the kernel's
admin-guide/cgroup-v2 and cgroup-v1/memory.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

RECORD = struct.Struct("<40sQI")
"""Session id, epoch, op; the bytes of `Executing` follow."""

RECORD_BYTES = 64
FLAGS_AT = RECORD.size


class Executing(IntEnum):
    """What of a session's code is on the processor: a byte each, which one thread or one lock owns."""

    RUN = FLAGS_AT
    """The loop of its run is awake."""
    STEP = FLAGS_AT + 1
    """The body of an async step is, on the step loop."""
    THREADS = FLAGS_AT + 2
    """A thread executes: of a sync step, or of `asyncio.to_thread` and executors."""


RECENT_AT = FLAGS_AT + len(Executing)
"""A byte that is set when anything of the code executes, until the host says that what was is over."""

OWN_THREADS_AT = RECENT_AT + 1
"""A byte that is set while a thread lives that the code has started itself: what it does, no one knows."""


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """What one slot of a dead host held and did.

    Attributes:
        op: The last op that its run had asked for, None before the first.
        recent: It has executed since the memory of its host was in bounds.
        has_threads: A thread that its code has started itself lived, maybe one of an earlier stay in the host.
    """

    epoch: int
    executing: bool
    op: int | None
    recent: bool = False
    has_threads: bool = False


class SlotMark:
    """One slot's record. Made by `StatusFile.take`; a mark outside any file is kept in memory only."""

    def __init__(self, record: memoryview | None = None) -> None:
        self._record = record if record is not None else memoryview(bytearray(RECORD_BYTES))
        self._op = 0
        self._threads = 0
        self._own_threads = 0
        self._lock = threading.Lock()

    def hold(self, session_id: str, epoch: int) -> None:
        """The slot has this session now; nothing of it executes."""
        self._op = 0
        RECORD.pack_into(self._record, 0, session_id.encode(), epoch, 0)
        for flag in (*Executing, RECENT_AT, OWN_THREADS_AT):
            self._record[flag] = 0

    def asked(self, op: int) -> None:
        """Its run has asked for that op."""
        if op != self._op:
            self._op = op
            struct.pack_into("<I", self._record, RECORD.size - 4, op)

    def executes(self, what: Executing, *, is_so: bool) -> None:
        """That part of its code got the processor, or gave it up."""
        self._record[what] = is_so
        if is_so:
            self._record[RECENT_AT] = 1

    def is_past(self) -> None:
        """What has executed until now and waits is of no interest any more."""
        self._record[RECENT_AT] = 0

    def thread_begins(self) -> None:
        """A thread starts to execute the session's code."""
        with self._lock:
            self._threads += 1
            self._record[Executing.THREADS] = self._record[RECENT_AT] = 1

    def thread_ends(self) -> None:
        """It has ended."""
        with self._lock:
            self._threads -= 1
            self._record[Executing.THREADS] = self._threads > 0

    def own_thread_begins(self) -> None:
        """The code starts a thread of its own."""
        with self._lock:
            self._own_threads += 1
            self._record[OWN_THREADS_AT] = 1

    def own_thread_ends(self) -> None:
        """It has ended."""
        with self._lock:
            self._own_threads -= 1
            self._record[OWN_THREADS_AT] = self._own_threads > 0

    @property
    def has_own_threads(self) -> bool:
        """A thread that the code has started itself lives."""
        return self._own_threads > 0

    @property
    def is_executing(self) -> bool:
        """Some part of its code has the processor, or lives in a thread."""
        return any(self._record[flag] for flag in Executing)

    def detach(self) -> None:
        """The slot is empty; what still executes in its name is known in memory only."""
        with self._lock:
            noted, self._record = self._record, memoryview(bytearray(self._record))
            for flag in Executing:
                self._record[flag] &= noted[flag]  # it may have ended just now
            noted[:] = bytes(RECORD_BYTES)


class StatusFile:
    """The records of one host.

    Args:
        path: Of the file; made again.
        slots: How many records it has; a slot above that is noted nowhere.
    """

    def __init__(self, path: Path, slots: int) -> None:
        size = slots * RECORD_BYTES
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._free = list(range(0, size, RECORD_BYTES))[::-1]
        self._taken: dict[SlotMark, int] = {}
        self._left: dict[SlotMark, int] = {}
        """Of slots that are empty but for threads that the code had started itself."""

    def take(self) -> SlotMark:
        """A record for one slot."""
        for mark in [mark for mark in self._left if not mark.has_own_threads]:
            self._free.append(self._left.pop(mark))
            mark.detach()
        if not self._free:
            return SlotMark()
        at = self._free.pop()
        mark = SlotMark(memoryview(self._map)[at : at + RECORD_BYTES])
        self._taken[mark] = at
        return mark

    def is_past(self) -> None:
        """What executes from now on is recent."""
        for mark in self._taken:
            mark.is_past()

    def give_back(self, mark: SlotMark) -> None:
        """The slot is empty, and nothing of its code is left but threads of its own."""
        at = self._taken.pop(mark, None)
        if at is None:
            return
        if mark.has_own_threads:
            self._left[mark] = at
        else:
            mark.detach()
            self._free.append(at)


def read(path: Path) -> Mapping[str, SlotStatus]:
    """By session, what a dead host held; empty if there is no file."""
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    found: dict[str, SlotStatus] = {}
    for at in range(0, len(content) - RECORD_BYTES + 1, RECORD_BYTES):
        name, epoch, op = RECORD.unpack_from(content, at)
        session_id = name.rstrip(b"\0").decode("ascii", "replace")
        if session_id:
            executing = any(content[at + flag] for flag in Executing)
            before = found.get(session_id)
            found[session_id] = SlotStatus(
                epoch=epoch,
                executing=executing,
                op=op or None,
                recent=executing or bool(content[at + RECENT_AT]),
                has_threads=bool(content[at + OWN_THREADS_AT]),
            )
            if before is not None:
                one, other = sorted((before, found[session_id]), key=lambda status: status.epoch)
                found[session_id] = replace(other, has_threads=one.has_threads or other.has_threads)
    return found


SHARE = 4
"""A host may have that part of the machine's memory if nothing else was said."""

AT_START = 2
"""A host whose task modules alone take more than its bound may have that many times what they take."""


def bound_bytes(asked: int | None, *, at_start: int, machine: int) -> int:
    """How much a host may have.

    Args:
        asked: What was asked for; None is the default.
        at_start: What it has before any session is in it.
        machine: What there is.
    """
    bound = asked if asked is not None else machine // SHARE
    return bound if at_start < bound else AT_START * at_start
