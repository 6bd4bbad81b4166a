"""The log of commits in a file beside the database: the default.

Records that the database has are free, and new ones overwrite them from the file's beginning: a file that does not grow
syncs faster.

A record is a header (mark, log, number, length and checksum of the text) and a JSON text in ASCII, so no text can pass
for a header. Reading ends at a record that is torn or lacks the next number: it is left from an earlier round, or was
never acknowledged. But each record is written only once the one before it is on disk, so a whole record with a higher
number behind a bad one proves that the bad one was acknowledged: that is damage, never the end. The database has the
same `log` number, which exposes a file of another ledger.

Invariants: S-52, S-60 (on disk when `append` returns), S-65, S-96 (a failed append is a known no).
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from helmr.errors import DataError, LedgerBehind, LedgerDamaged
from helmr.platform import allocate, sync_data
from helmr_runtime.ledger.log.commit_log import CommitLog, RecordExists, appends_of
from helmr_runtime.ledger.tables.appends import Appends, joined
from helmr_runtime.security.private_files import open_private

logger = logging.getLogger(__name__)

HEADER = struct.Struct("<4sQQII")
PLACE = struct.Struct("<QQ")
MARK = b"\xffHL\x01"
"""Its first byte stands in no record's text."""

GROWS_BYTES = 1024 * 1024
FULL_BYTES = 16 * 1024 * 1024
"""Size at which the database must merge the file before the next commit."""


class FileStore:
    """One ledger's file. As `LogStore`, and read once, at the beginning.

    Args:
        path: The file; `open` makes it.
    """

    is_shared = False
    log_id = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._id = 0
        self._newest = 0
        self._place = 0
        """Offset at which the next record begins."""
        self._size = 0
        self._is_read = False
        """What of it counts is known; before, nothing of it may be lost."""
        self._lock = threading.Lock()
        """Held by who writes to the file."""

    def open(self, log_id: int) -> None:
        """Open the file, or make it; `read` follows, before anything is appended.

        Args:
            log_id: Of the ledger's own log; 0 for one that never had one.

        Raises:
            OSError: It can't be opened.
        """
        self._fd = open_private(self.path, os.O_RDWR | os.O_CREAT)
        self._size = os.fstat(self._fd).st_size
        self._id = log_id

    def belongs_to(self, log_id: int) -> None:
        """From now on records carry that number."""
        self._id = log_id

    @property
    def is_full(self) -> bool:
        """True when the file must be trimmed before more can be written."""
        return self._place >= FULL_BYTES

    @property
    def held_bytes(self) -> int:
        """Size of the untrimmed part of the file; callable from any thread."""
        return self._place

    def newest(self) -> int:
        """Number of the last record."""
        return self._newest

    def read(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Number and text of each record behind that one; the next one is written behind the last that was read.

        Raises:
            LedgerBehind: The file is another ledger's, or of a later state of this one.
            LedgerDamaged: A record before a whole one is bad.
        """
        assert self._fd is not None
        self._newest = after
        for found, text, end in _behind(self.path, _whole(self._fd, self._size), self._id, after):
            self._newest, self._place = found, end
            yield found, text
        self._is_read = True

    def append(self, number: int, record: bytes, *, opens: bool = False) -> None:
        """Write a record; on disk when this returns.

        Raises:
            RecordExists: There is one with that number.
            OSError: It is not on disk, and the next one takes its place.
        """
        with self._lock:
            self._append(number, record)

    def _append(self, number: int, record: bytes) -> None:
        assert self._fd is not None
        if number <= self._newest:
            raise RecordExists(number)
        checksum = _checksum(self._id, number, record)
        header = HEADER.pack(MARK, self._id, number, len(record), checksum)
        end = self._place + len(header) + len(record)
        if end > self._size:
            size = -(-end // GROWS_BYTES) * GROWS_BYTES
            allocate(self._fd, size)
            self._size = size
        try:
            _write(self._fd, header + record, self._place)
            sync_data(self._fd)
        except OSError:
            # It may be whole all the same, and a kill before the next one would have it read as acknowledged.
            with contextlib.suppress(OSError):
                os.pwrite(self._fd, bytes(len(MARK)), self._place)
            raise
        self._newest, self._place = number, end

    def trim(self, up_to: int) -> None:
        """Free the records up to this one; a file frees all of them together."""
        with self._lock:
            if up_to < self._newest:
                return
            self._place = 0
            if self._fd is not None and self._size > FULL_BYTES:
                os.ftruncate(self._fd, 0)
                self._size = 0

    def close(self) -> None:
        """Close the file; it is empty if all of it was trimmed."""
        if self._fd is None:
            return
        if self._is_read and not self._place:
            os.ftruncate(self._fd, 0)
        os.close(self._fd)
        self._fd = None


def file_log(path: Path) -> CommitLog:
    """The log in that file, which is not open yet."""
    return CommitLog(FileStore(path), str(path))


def read_unmerged(path: Path, log_id: int, number: int) -> Appends:
    """Read the commits that a ledger's database lacks; the file stays unchanged. Raises as `CommitLog.open`."""
    appends, damage = read_to_damage(path, log_id, number)
    if damage is not None:
        raise damage
    return appends


def read_to_damage(path: Path, log_id: int, number: int) -> tuple[Appends, DataError | None]:
    """Read the commits that the database lacks up to any damage, and return the damage beside them."""
    try:
        fd = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return Appends(), None
    try:
        data = _whole(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)
    found: list[Appends] = []
    try:
        for n, text, _ in _behind(path, data, log_id, number):
            found.append(appends_of(text, str(path), n))
    except DataError as damage:
        return joined(found), damage
    return joined(found), None


def _write(fd: int, data: bytes, place: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, place)
        rest, place = rest[written:], place + written


def _whole(fd: int, size: int) -> bytes:
    parts: list[bytes] = []
    place = 0
    while place < size and (part := os.pread(fd, size - place, place)):
        parts.append(part)
        place += len(part)
    return b"".join(parts)


def _behind(path: Path, data: bytes, log_id: int, number: int) -> Iterator[tuple[int, bytes, int]]:
    """Number, text and end of each record that the ledger lacks, which has everything up to `number`.

    Raises:
        LedgerBehind: They are not that ledger's, or others lie between.
        LedgerDamaged: One that the ledger lacks is bad, and one behind it is whole.
    """
    begin, goes_on = 0, True
    while goes_on:
        end = begin
        for found_id, found, text, end in _records(data, begin):
            if found_id != log_id:
                raise LedgerBehind(
                    f"{path} is not the log of the ledger beside it",
                    hint="Put back the files that belong together, that ledger's .wal too. If it is whole without this "
                    "one, remove this one.",
                )
            if found > number + 1:
                raise LedgerBehind(
                    f"{path} begins with commit {found}, and the ledger beside it ends with {number}",
                    hint="Put back the files that belong together, that ledger's .wal too, or a newer copy of all of "
                    "them; don't start on these.",
                )
            if found > number:
                number = found
                yield found, text, end
        newer = _newer(data, end, log_id, number)
        goes_on = newer is not None
        if newer is not None:
            begin, found = newer
            _check_nothing_lacks(path, number, found, (end, begin))


def _records(data: bytes, place: int) -> Iterator[tuple[int, int, bytes, int]]:
    """Log, number, text and end of each whole record from there on, as long as their numbers follow one another."""
    expected = None
    while (record := _record(data, place)) is not None:
        _, number, _, end = record
        if expected is not None and number != expected:
            return
        yield record
        place, expected = end, number + 1


def _record(data: bytes, place: int) -> tuple[int, int, bytes, int] | None:
    """Log, number, text and end of the record that begins there; None if none does, or it is bad."""
    if place + HEADER.size > len(data):
        return None
    mark, log_id, number, length, checksum = HEADER.unpack_from(data, place)
    end = place + HEADER.size + length
    if mark != MARK or end > len(data):
        return None
    text = data[place + HEADER.size : end]
    return None if checksum != _checksum(log_id, number, text) else (log_id, number, text, end)


def _newer(data: bytes, place: int, log_id: int, number: int) -> tuple[int, int] | None:
    """Place and number of the first whole record from there on with a higher number, wherever it begins.

    Behind the end of a log there is none: what an earlier round has left there has lower numbers.
    """
    at = data.find(MARK, place)
    while at >= 0 and at + HEADER.size <= len(data):
        _, found_id, found, length, _ = HEADER.unpack_from(data, at)
        text_at = at + HEADER.size
        is_newer = found_id == log_id and found > number
        # A text holds no mark: so each byte is part of few checksums, whatever the lengths say.
        if is_newer and data.find(MARK, text_at, text_at + length) < 0 and _record(data, at):
            return at, found
        at = data.find(MARK, at + 1)
    return None


def _check_nothing_lacks(path: Path, number: int, found: int, bad: tuple[int, int]) -> None:
    """Return if all that is bad in the file, between these bytes, stands in the database; the next record was found."""
    if found != number + 1:
        raise LedgerDamaged(
            f"{path} is damaged behind commit {number}: commit {found} is whole, and what is between them is not",
            hint="Put back that file as it was, or a backup; `helmr repair` says what would be lost without it.",
            commit=number,
            next_commit=found,
        )
    said = "%s is damaged from byte %d to byte %d; the database has what stood there"
    logger.warning(said, path, *bad)


def _checksum(log_id: int, number: int, text: bytes) -> int:
    return zlib.crc32(text, zlib.crc32(PLACE.pack(log_id, number)))
