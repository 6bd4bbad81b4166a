"""The ledger's disk: a database that is a list, and the log of commits beside it in a file that tears and forgets.

What decides about the log is the real `CommitLog` over the real `FileStore`; the file below them is simulated. A write
is in the machine's memory until it is synced: a process that is killed loses none of it but what it had not written
yet, a machine that loses power any part of it. A sync that fails may have brought it to disk or not.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.log import file_store
from helmr_runtime.ledger.log.commit_log import CommitLog
from helmr_runtime.ledger.log.file_store import file_log
from helmr_runtime.ledger.memory_rows import KeptEntries, Stored
from helmr_runtime.ledger.tables.appends import Appends
from tests.programs.simulation.counts import Counts

LOG_ID = 7
GROWS_BYTES = 16 * 1024
FULL_BYTES = 64 * 1024
"""Less than a ledger's, so that the log is full now and then."""


class SimulatedFile:
    """A file as a machine has it in memory, and as it stands on disk."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._durable = bytearray()
        self._unsynced: list[tuple[int, bytes]] = []

    def write(self, place: int, data: bytes) -> None:
        """Into the machine's memory."""
        _put(self.data, place, data)
        self._unsynced.append((place, data))

    def truncate(self, size: int) -> None:
        """Shorten it; on disk at once."""
        del self.data[size:], self._durable[size:]
        self._unsynced.clear()

    def lengthen(self, size: int) -> None:
        """So that it has at least that many bytes; on disk with the next sync."""
        self.data.extend(bytes(max(0, size - len(self.data))))

    def sync(self) -> None:
        """On disk when this returns."""
        for place, data in self._unsynced:
            _put(self._durable, place, data)
        self._unsynced.clear()

    def lose(self, random: Random) -> None:
        """Of what was not synced any part gets to disk, torn anywhere."""
        for place, data in self._unsynced:
            kept = random.choice((0, len(data), random.randrange(len(data) + 1)))
            _put(self._durable, place, data[:kept])
        self._unsynced.clear()

    def reboot(self) -> None:
        """The machine has no more than what is on disk."""
        self.data[:] = self._durable


def _put(into: bytearray, place: int, data: bytes) -> None:
    into.extend(bytes(max(0, place + len(data) - len(into))))
    into[place : place + len(data)] = data


@dataclass(slots=True)
class Database:
    """What transactions have stored, and which record of the log is the last of it."""

    stored: Stored = field(default_factory=Stored)
    log_number: int = 0
    openings: int = 0


class SimulatedDisk:
    """One ledger's files. What is planned to break does at one of the next accesses.

    Args:
        number: Of each disk another.
        on_crash: Called where the ledger's process ends in the middle of an access; does not return.
    """

    def __init__(
        self, random: Random, counts: Counts, on_crash: Callable[[], None], number: int = 1
    ) -> None:
        self.number = number
        self.log_path = Path(f"/simulated/{number}/ledger.duckdb.commits")
        self.database = Database()
        self.breaks: str | None = None
        """`kill`, `power` or `error`: what happens at the next access that can break."""
        self.may_fail = False
        """Whoever writes now is told of errors."""
        self._random = random
        self._counts = counts
        self._on_crash = on_crash
        self._file = SimulatedFile()

    def opened(self) -> tuple[Stored, CommitLog]:
        """What a ledger that starts finds, and its log, open."""
        database = self.database
        database.openings += 1
        log = file_log(self.log_path)
        log.open(LOG_ID, database.log_number)
        if log.has_unmerged:
            self._counts.reached("commits read from the log")
            self.merge_found(log)
        kept = database.stored
        stored = Stored(KeptEntries(kept.entries), dict(kept.checkpoints), list(kept.holdings))
        add(stored, log.unmerged())
        return stored, log

    def merge_found(self, log: CommitLog) -> None:
        """What was written and never synced may be gone yet: a ledger that starts relies on none of it."""
        self.merge(log)

    def merge(self, log: CommitLog) -> None:
        """Move what is in the log into the database, in one transaction."""
        add(self.database.stored, log.unmerged())
        self.database.log_number = log.number
        self._counts.reached("commits moved into the database")
        if self.breaks in ("kill", "power") and self._random.random() < 0.5:
            self._die("between database and log")
        log.merged(log.number)

    def remove(self, log: CommitLog, appends: Appends, gone: Collection[str]) -> None:
        """Remove sessions and store what says so, in one transaction, with all that is in the log."""
        if self.breaks in ("kill", "power") and self._random.random() < 0.5:
            self._die("before a removal")
        stored = self.database.stored
        add(stored, log.unmerged())
        add(stored, appends)
        stored.remove(gone)
        self.database.log_number = log.number
        if self.breaks in ("kill", "power"):
            self._die("after a removal")
        log.merged(log.number)

    def lose_power(self) -> None:
        """The ledger's machine ends; what was not synced may be gone."""
        self._counts.reached("power lost")
        self._file.lose(self._random)
        self._file.reboot()

    # --- what the log asks of the system ------------------------------------------------------------

    @property
    def size(self) -> int:
        """Of the log's file."""
        return len(self._file.data)

    def pread(self, size: int, place: int) -> bytes:
        """Read."""
        return bytes(self._file.data[place : place + size])

    def lengthen(self, size: int) -> None:
        """As `posix_fallocate`."""
        self._file.lengthen(size)

    def truncate(self, size: int) -> None:
        """As `ftruncate`."""
        self._file.truncate(size)

    def pwrite(self, data: Any, place: int) -> int:
        """Write, as far as it gets."""
        written = bytes(data)
        if self.breaks is not None and self._random.random() < 0.5:
            part = self._random.randrange(len(written) + 1)
            self._file.write(place, written[:part])
            self._break("in a write")
        self._file.write(place, written)
        return len(written)

    def fdatasync(self) -> None:
        """Bring it to disk."""
        if self.breaks is not None:
            self._break("in a sync")
        self._file.sync()

    def _break(self, where: str) -> None:
        if self.breaks != "error":
            self._die(where)
        if self.may_fail:
            self.breaks = None
            self._counts.reached(f"disk error {where}")
            self._file.lose(self._random)
            raise OSError(errno.EIO, "simulated")

    def _die(self, where: str) -> None:
        self._counts.reached(f"ledger ends {where}")
        has_power, self.breaks = self.breaks == "kill", None
        if not has_power:
            self.lose_power()
        self._on_crash()


@contextmanager
def below_the_log(disks: Callable[[], Mapping[int, SimulatedDisk]]) -> Iterator[None]:
    """Meanwhile logs of commits are on these disks, by the disk's number."""

    def opened(path: Path, flags: int) -> int:
        return next(number for number, one in disks().items() if one.log_path == path)

    system = SimpleNamespace(
        O_RDWR=os.O_RDWR,
        O_CREAT=os.O_CREAT,
        O_RDONLY=os.O_RDONLY,
        close=lambda fd: None,
        fstat=lambda fd: SimpleNamespace(st_size=disks()[fd].size),
        pread=lambda fd, size, place: disks()[fd].pread(size, place),
        pwrite=lambda fd, data, place: disks()[fd].pwrite(data, place),
        ftruncate=lambda fd, size: disks()[fd].truncate(size),
    )
    with (
        mock.patch.object(file_store, "allocate", lambda fd, size: disks()[fd].lengthen(size)),
        mock.patch.object(file_store, "sync_data", lambda fd: disks()[fd].fdatasync()),
        mock.patch.object(file_store, "os", system),
        mock.patch.object(file_store, "open_private", opened),
        mock.patch.object(file_store, "GROWS_BYTES", GROWS_BYTES),
        mock.patch.object(file_store, "FULL_BYTES", FULL_BYTES),
    ):
        yield


def add(stored: Stored, appends: Appends) -> None:
    """What a transaction does."""
    stored.entries += map(_whole, appends.entries)
    for one in appends.checkpoints:
        stored.checkpoints[one.session_id, one.feed_offset] = one.body
    stored.holdings += [(one.session_id, one.epoch, one.holder) for one in appends.holdings]


def _whole(entry: Entry) -> Entry:
    """The log reads entries with their bodies closed."""
    return entry if entry.body else replace(entry, body=jsontext.decode(entry.body_json))
