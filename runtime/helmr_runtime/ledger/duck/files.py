"""The files beside the database: the lock that one runtime holds for life, and the head mark.

The lock is a file of our own. DuckDB's own POSIX lock is lost when any code of the process opens and closes the
database file; nothing but DuckDB ever does.

The head mark holds the offset and hash of the last entry. It is written in place, after the commit that it
names has returned from disk, so it is never ahead of what is durable, whatever is lost; a commit does not wait
for it (one small pwrite, 2 µs, no fsync: a killed process loses none of it, and the projection's tick syncs it,
so that a power cut loses some seconds of it). Read at open, it shows a lost write-ahead log or an older
copy of the file (S-52).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

from helmr.errors import DataError, LedgerBehind, RuntimeHeld
from helmr_runtime.core.entries import GENESIS
from helmr_runtime.rpc import descriptors
from helmr_runtime.security.private_files import open_private

LOCK_SUFFIX = ".lock"
LOG_SUFFIX = ".commits"
WAL_SUFFIX = ".wal"
MARK_SUFFIX = ".head"
MARK_BYTES_MAX = 4_096
"""One line; more is not a head mark."""


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
            f"{path} is no DuckDB database, so it is no ledger",
            hint="Put the ledger's own file back, or name another --data-dir.",
        )


class FileLock:
    """A flock held until `release` or the process's death."""

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
        self._fd = descriptors.hold(fd)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two hold two files of one name."""
        if self._fd is not None:
            descriptors.release(self._fd)
            os.close(self._fd)
            self._fd = None


@dataclass(frozen=True, slots=True)
class HeadPosition:
    """The last entry as the head mark names it."""

    feed_offset: int
    hash: bytes


class HeadMark:
    """The head mark's file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._synced = True

    def read(self) -> HeadPosition:
        """The mark; offset 0 if there is no file yet.

        Raises:
            LedgerBehind: The file is not a head mark.
        """
        try:
            fd = open_private(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return HeadPosition(0, GENESIS)
        with os.fdopen(fd, "rb") as file:
            text = file.read(MARK_BYTES_MAX)
        if not text:
            return HeadPosition(0, GENESIS)
        fields = text.split()
        if len(fields) != 3 or _checksum(fields[0], fields[1]) != fields[2]:
            raise LedgerBehind(
                f"{self.path} is damaged, so the ledger's end can't be proven",
                hint="If you know the ledger to be whole, remove that file and start again.",
            )
        return HeadPosition(int(fields[0]), bytes.fromhex(fields[1].decode("ascii")))

    def write(self, mark: HeadPosition) -> None:
        """Name the last durable entry."""
        if self._fd is None:
            self._fd = open_private(self.path, os.O_WRONLY | os.O_CREAT)
        offset, text = b"%020d" % mark.feed_offset, mark.hash.hex().encode()
        os.pwrite(self._fd, b"%s %s %s\n" % (offset, text, _checksum(offset, text)), 0)
        self._synced = False

    def sync(self) -> None:
        """Bring the mark to disk, if it changed."""
        if self._fd is not None and not self._synced:
            os.fdatasync(self._fd)
            self._synced = True

    def close(self) -> None:
        """Sync and close."""
        if self._fd is not None:
            self.sync()
            os.close(self._fd)
            self._fd = None


def _checksum(offset: bytes, text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(offset + b" " + text)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable; DuckDB syncs its files, never their directory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
