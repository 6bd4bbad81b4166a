"""The files beside the database: the lock that one runtime holds for life, and the head mark.

The lock is a file of our own. DuckDB's own POSIX lock is lost when any code of the process opens and closes the
database file; nothing but DuckDB ever does.

The head mark holds the offset and hash of the last entry. It is written in place, after the commit that it
names is on disk, so it is never ahead of durable data; a commit does not wait for it (one small pwrite, 2 µs, no
fsync). A kill loses none of it. It is synced within a second of a commit, and before any of the log of commits is
overwritten: after a loss of power it may be a second behind, but never behind what only the database has. At
open it exposes a lost log or an older copy of the file (S-52).

There are two copies, in blocks of their own. Only one of them has bytes that are not synced: a loss of power can tear
that one, and the other is whole.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helmr.errors import DataError, LedgerBehind, RuntimeHeld
from helmr.platform import sync, sync_data
from helmr_runtime.core.entries import GENESIS, Entry
from helmr_runtime.rpc import sockets
from helmr_runtime.security.private_files import open_private

LOCK_SUFFIX = ".lock"
LOG_SUFFIX = ".commits"
WAL_SUFFIX = ".wal"
MARK_SUFFIX = ".head"
COPY_BYTES = 4_096
"""Of the head mark's file there are two such blocks, each with one line; the second was not there before 0.2.0."""


MAGIC_AT = 8
MAGIC = b"DUCK"
"""What stands there in every DuckDB file."""


def check_is_database(path: Path) -> None:
    """Return if the file can be a ledger, or is not there yet. The engine has not opened it in this process.

    Raises:
        DataError: It is something else; it does not become one by trying again.
    """
    try:
        with path.open("rb") as file:
            head = file.read(MAGIC_AT + len(MAGIC))
    except OSError:  # not there yet; or the engine says what is wrong
        return
    if head and head[MAGIC_AT:] != MAGIC:
        raise DataError(
            f"{path} is not a DuckDB database, so it is not a ledger",
            hint="Put the ledger's own file back, or name another --data-dir.",
        )


def exists(path: Path) -> bool:
    """True if the path holds a file that is not empty, or something that is not a regular file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_size > 0 or not stat.S_ISREG(found.st_mode)


class FileLock:
    """A flock held until `release` or the process's crash."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Hold the lock; idempotent.

        Raises:
            RuntimeHeld: Another process holds it; fact `pid` names it.
        """
        if self._fd is not None:
            return
        fd = open_private(self.path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise RuntimeHeld(
                f"{self.path.parent} is held by another runtime, pid {holder or 'unknown'}",
                hint="Stop that runtime, or use another data directory.",
                pid=int(holder) if holder.isdigit() else None,
                data_dir=str(self.path.parent),
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = sockets.hold(fd)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two hold two files of one name."""
        if self._fd is not None:
            sockets.release(self._fd)
            os.close(self._fd)
            self._fd = None


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock meanwhile; raises as `FileLock.acquire`."""
    lock = FileLock(path)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, slots=True)
class HeadPosition:
    """The last entry as the head mark names it."""

    feed_offset: int
    hash: bytes


def position_of(last: Entry) -> HeadPosition:
    """Return the head position of a ledger that ends with this entry."""
    assert last.feed_offset is not None
    return HeadPosition(last.feed_offset, last.hash)


class HeadMark:
    """The head mark's file. One thread may sync while others write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._copy = 0
        """The one that is written; the other is on disk."""
        self._unsynced = False
        self._syncing = False
        self._last: HeadPosition | None = None
        """Written last."""
        self._later: HeadPosition | None = None
        """To be written when the sync that is under way has ended."""
        self._lock = threading.Lock()

    def read(self) -> HeadPosition:
        """The mark; offset 0 if there is no file yet.

        Raises:
            LedgerBehind: The file is not a head mark.
        """
        try:
            fd = open_private(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return HeadPosition(0, GENESIS)
        try:
            if os.fstat(fd).st_size == 0:
                return HeadPosition(0, GENESIS)
            whole = [found for found in _copies(fd) if found is not None]
        finally:
            os.close(fd)
        if not whole:
            raise LedgerBehind(
                f"{self.path} is damaged, so the ledger's end can't be proven",
                hint="If you know that the ledger is whole, remove that file and start again.",
            )
        return max(whole, key=lambda found: found.feed_offset)

    def note_last(self, last: Entry) -> None:
        """Write that this is the last entry. Raises as `write`."""
        self.write(position_of(last))

    def write(self, mark: HeadPosition) -> None:
        """Name the last durable entry."""
        with self._lock:
            if self._fd is None:
                self._fd = self._open()
            if self._syncing:
                self._later = mark
            else:
                self._write(mark)

    def _open(self) -> int:
        if not self.path.exists():
            self._make()
        fd = open_private(self.path, os.O_RDWR)
        try:
            first, second = _copies(fd)
            # What a killed process has left may not be on disk, and is what counts while the other copy is written.
            sync_data(fd)
            is_first_older = first is None or (
                second is not None and first.feed_offset < second.feed_offset
            )
            self._copy = 0 if is_first_older else 1
            size = os.fstat(fd).st_size
            if size < 2 * COPY_BYTES:
                # Written in place from then on, which needs no room on a full disk.
                os.pwrite(fd, b"\n" * (2 * COPY_BYTES - size), size)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _make(self) -> None:
        """It has its name only when it is whole on disk, so that no loss of power leaves a damaged one."""
        part = self.path.with_name(f".{self.path.name}.part")
        fd = open_private(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.pwrite(fd, 2 * _line(HeadPosition(0, GENESIS)).ljust(COPY_BYTES, b"\n"), 0)
            sync(fd)
        finally:
            os.close(fd)
        part.rename(self.path)

    def _write(self, mark: HeadPosition) -> None:
        assert self._fd is not None
        self._last, self._unsynced = mark, True
        os.pwrite(self._fd, _line(mark), self._copy * COPY_BYTES)

    def sync(self) -> None:
        """Bring the mark to disk, if it changed. What is written meanwhile comes after it."""
        with self._lock:
            if self._fd is None or self._syncing or not self._unsynced:
                return
            self._syncing = True
        is_synced = False
        try:
            sync_data(self._fd)
            is_synced = True
        finally:
            with self._lock:
                self._syncing = False
                if is_synced:
                    self._copy, self._unsynced = 1 - self._copy, False
                if self._later is not None:
                    later, self._later = self._later, None
                    self._write(later)

    def close(self) -> None:
        """Bring it to disk in both copies, and close."""
        if self._fd is not None:
            self.sync()
            if self._last is not None:
                self.write(self._last)
                self.sync()
            os.close(self._fd)
            self._fd = None


def _copies(fd: int) -> tuple[HeadPosition | None, HeadPosition | None]:
    """Both copies; None for one that is torn, or not there."""
    return _position(os.pread(fd, COPY_BYTES, 0)), _position(os.pread(fd, COPY_BYTES, COPY_BYTES))


def _position(text: bytes) -> HeadPosition | None:
    fields = text.split()
    if len(fields) != 3 or _checksum(fields[0], fields[1]) != fields[2]:
        return None
    try:
        return HeadPosition(int(fields[0]), bytes.fromhex(fields[1].decode("ascii")))
    except ValueError:
        return None


def _line(mark: HeadPosition) -> bytes:
    offset, text = b"%020d" % mark.feed_offset, mark.hash.hex().encode()
    return b"%s %s %s\n" % (offset, text, _checksum(offset, text))


def _checksum(offset: bytes, text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(offset + b" " + text)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable; DuckDB syncs its files, never their directory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


def sync_what_is_left(path: Path) -> None:
    """Bring to disk what a process that was killed has left in a database and its engine's log.

    The engine takes what it reads for durable: it removes its log, and writes over blocks, because of a header that may
    stand in the machine's memory alone. To be called before it opens the file; no engine of this process has it open.
    """
    for file in (path, path.with_name(path.name + WAL_SUFFIX)):
        try:
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            sync(fd)
        finally:
            os.close(fd)


class RemadeFile:
    """A file that another program removes and makes again: its name, brought to disk each time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None
        """Its number and size; a number may be given again."""

    def sync_name(self) -> None:
        """Return when the name of the file that is there now is on disk; to be called after each write to it."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._seen = None
            return
        number, size = self._seen or (None, 0)
        if found.st_ino != number or found.st_size < size:
            sync_directory(self.path.parent)
        self._seen = (found.st_ino, found.st_size)


def room(path: Path) -> dict[str, int]:
    """`{size,wal,disk_free,disk_total}_bytes`: of the database and its logs, of its own log, of the disk below."""
    files = [path.with_name(path.name + suffix) for suffix in ("", WAL_SUFFIX, LOG_SUFFIX)]
    sizes = [_size_of(file) for file in files]
    disk = shutil.disk_usage(path.parent)
    return {
        "size_bytes": sum(sizes),
        "wal_bytes": sizes[1],
        "disk_free_bytes": disk.free,
        "disk_total_bytes": disk.total,
    }


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # the engine removes its log when it has put it into the file
        return 0
