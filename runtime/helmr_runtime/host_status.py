"""Status files that survive a host's process, and the bound of its memory.

A small file beside each host holds the session in each slot, and whether its code executes. It is read after a crash of
the host, since a kill leaves no time to report. The file is mapped into the host's memory: a note sets a byte without a
system call, and outlives the process. So a crash is attributed to the code that executed and not to the other sessions
of the host (S-3).

Memory counts anonymous pages, even if swapped out: code has allocated them. The kernel can reclaim pages of files, and
shared memory may belong to others. Source: proc_pid_status(5), cgroups(7); the kernel's admin-guide/cgroup-v2 and
cgroup-v1/memory.
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
    """Parts of a session's code on the processor; a byte each, owned by one thread or one lock."""

    RUN = FLAGS_AT
    """The loop of its run executes."""
    STEP = FLAGS_AT + 1
    """The body of an async step executes on the step loop."""
    THREADS = FLAGS_AT + 2
    """A thread executes: of a sync step, or of `asyncio.to_thread` and executors."""


RECENT_AT = FLAGS_AT + len(Executing)
"""A byte that is set when any of the code executes, until the host clears it."""

OWN_THREADS_AT = RECENT_AT + 1
"""A byte that is set while a thread lives that the code itself has started, whose work is unknown."""


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """The session and activity of one slot of a dead host.

    Attributes:
        op: The last op that its run had asked for; None before the first.
        recent: It has executed since its host's memory was last in bounds.
        has_threads: A thread that its code itself had started was alive, maybe from an earlier stay in the host.
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
        """Note the slot's new session, whose code does not execute yet."""
        self._op = 0
        RECORD.pack_into(self._record, 0, session_id.encode(), epoch, 0)
        for flag in (*Executing, RECENT_AT, OWN_THREADS_AT):
            self._record[flag] = 0

    def asked(self, op: int) -> None:
        """Note that its run has asked for that op."""
        if op != self._op:
            self._op = op
            struct.pack_into("<I", self._record, RECORD.size - 4, op)

    def executes(self, what: Executing, *, is_so: bool) -> None:
        """Note that a part of its code got the processor or gave it up."""
        self._record[what] = is_so
        if is_so:
            self._record[RECENT_AT] = 1

    def is_past(self) -> None:
        """Clear the note that the code has executed recently."""
        self._record[RECENT_AT] = 0

    def thread_begins(self) -> None:
        """Note that a thread starts to execute the session's code."""
        with self._lock:
            self._threads += 1
            self._record[Executing.THREADS] = self._record[RECENT_AT] = 1

    def thread_ends(self) -> None:
        """It has ended."""
        with self._lock:
            self._threads -= 1
            self._record[Executing.THREADS] = self._threads > 0

    def own_thread_begins(self) -> None:
        """Note that the code starts a thread of its own."""
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
        """A thread that the code itself started is alive."""
        return self._own_threads > 0

    @property
    def is_executing(self) -> bool:
        """A part of its code has the processor or lives in a thread."""
        return any(self._record[flag] for flag in Executing)

    def detach(self) -> None:
        """Detach the mark of an empty slot; code that still executes is noted in memory only."""
        with self._lock:
            noted, self._record = self._record, memoryview(bytearray(self._record))
            for flag in Executing:
                self._record[flag] &= noted[flag]  # it may have just ended
            noted[:] = bytes(RECORD_BYTES)


class StatusFile:
    """The records of one host.

    Args:
        path: Path of the file, which is replaced.
        slots: Number of records; further slots are not noted.
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
        """Records of empty slots in which threads live that the code itself had started."""

    def take(self) -> SlotMark:
        """Take a record for one slot."""
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
        """Clear the notes of all slots: code that executes from now on is recent."""
        for mark in self._taken:
            mark.is_past()

    def give_back(self, mark: SlotMark) -> None:
        """Give back the record of an empty slot, of whose code only its own threads may be left."""
        at = self._taken.pop(mark, None)
        if at is None:
            return
        if mark.has_own_threads:
            self._left[mark] = at
        else:
            mark.detach()
            self._free.append(at)


def read(path: Path) -> Mapping[str, SlotStatus]:
    """Return a dead host's slots by session; empty if there is no file."""
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
"""A host's default bound is the machine's memory divided by this."""

AT_START = 2
"""Factor of the bound of a host whose task modules alone take more than its bound."""


def bound_bytes(asked: int | None, *, at_start: int, machine: int) -> int:
    """Return the bound of a host's memory, in bytes.

    Args:
        asked: The configured bound; None for the default.
        at_start: Bytes that it has before its first session.
        machine: The machine's memory.
    """
    bound = asked if asked is not None else machine // SHARE
    return bound if at_start < bound else AT_START * at_start
