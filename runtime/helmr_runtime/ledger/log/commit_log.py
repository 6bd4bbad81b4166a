"""The log of commits: what was acknowledged and does not stand in the database yet.

A commit costs the database more than a millisecond of processor time, whatever it stores. So a commit is one record
appended to this file and synced, and what the records hold is moved into the database many at a time, in one of its
transactions, which also says up to which record (`meta`, `LOG_NUMBER`). From then on those records are no one's, and
the next ones are written over them from the file's beginning: a file that does not grow is synced faster.

A record is a header (mark, log, number, length and checksum of the text) and a JSON text in ASCII, so that nothing that
a text holds can pass for a header. Reading ends at a record that is torn, or does not carry the next number: it is what
an earlier round has left, or was never acknowledged. But a record is written only when the one before it is on disk, so
a whole one with a higher number behind a bad one proves that the bad one was acknowledged: that is damage, never the
end. `log` is a number that the database has too: a file that belongs to another ledger is found out.

Every method blocks. One thread appends; another one, which writes the database, asks what is `to_merge` and says
what was `merged`, while the first goes on.

Invariants: S-52, S-60 (on disk when `append` returns), S-65.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helmr.errors import DataError, LedgerBehind, LedgerDamaged
from helmr_runtime.core.entries import Entry, EntryKind, Principal, principal_text
from helmr_runtime.ledger.tables.appends import Appends, Checkpoint, LeaseRow, joined
from helmr_runtime.ledger.tables.engine import EPOCH, MICROSECOND, time_of
from helmr_runtime.security.private_files import open_private

logger = logging.getLogger(__name__)

LOG_ID, LOG_NUMBER = "log_id", "log_number"
"""Rows of `meta`: whose log it is, and its last record that stands in the database."""

HEADER = struct.Struct("<4sQQII")
PLACE = struct.Struct("<QQ")
MARK = b"\xffHL\x01"
"""Its first byte stands in no record's text."""

Kinds = tuple[type, ...]
_INT, _TEXT = (int,), (str,)
_INT_OR_NONE, _TEXT_OR_NONE = (int, type(None)), (str, type(None))
_ENTRY: tuple[Kinds, ...] = (
    *(_INT, _TEXT, _INT, _INT, _TEXT),  # feed offset, session, seq, time, kind
    *(_TEXT_OR_NONE, _INT_OR_NONE),  # run, op
    *(_TEXT, _TEXT, _TEXT),  # principal, body, hash
)
_CHECKPOINT: tuple[Kinds, ...] = (_INT, _TEXT, _INT, _TEXT)
_LEASE: tuple[Kinds, ...] = (_TEXT, _INT, _TEXT_OR_NONE)
"""What the values of a record's rows are, in their order."""

GROWS_BYTES = 1024 * 1024
FULL_BYTES = 16 * 1024 * 1024
"""So much may lie in the file; then the database has to take it before the next commit."""


class CommitLog:
    """One ledger's log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._id = 0
        self._place = 0
        """Where the next record begins."""
        self._size = 0
        self.number = 0
        """Of the last record."""
        self._unmerged: list[tuple[int, Appends]] = []
        """The records that are not in the database, each with its number."""
        self._sessions: set[str] = set()
        """Whose they are."""
        self._lock = threading.Lock()
        """Held by who writes to the file or changes what is unmerged."""

    @property
    def has_unmerged(self) -> bool:
        """Something stands here and not in the database; also to be asked from other threads."""
        return bool(self._unmerged)

    def unmerged(self) -> Appends:
        """What stands here and not in the database."""
        return self.to_merge()[1]

    def to_merge(self) -> tuple[int, Appends]:
        """Number of the last record, and what stands up to it and not in the database."""
        with self._lock:
            return self.number, joined(appends for _, appends in self._unmerged)

    def lacks(self, session_id: str) -> bool:
        """The database lacks something of that session; also to be asked from other threads."""
        return session_id in self._sessions

    @property
    def is_full(self) -> bool:
        """The database has to take what is here before more can be written."""
        return self._place >= FULL_BYTES

    @property
    def unmerged_bytes(self) -> int:
        """So much of the file the database may lack; also to be asked from other threads."""
        return self._place

    def open(self, log_id: int, number: int) -> None:
        """Open the file, or make it, and read the records behind that number.

        Args:
            log_id: Of the ledger's own log; 0 for one that never had one.
            number: Of the last record that stands in the database.

        Raises:
            LedgerBehind: The file is another ledger's, or of a later state of this one.
            LedgerDamaged: A record is whole and nothing that a ledger writes, or one before a whole one is bad.
            OSError: It can't be opened.
        """
        fd = open_private(self.path, os.O_RDWR | os.O_CREAT)
        try:
            self._size = os.fstat(fd).st_size
            self._id, self.number = log_id, number
            for found, text, end in _behind(self.path, _whole(fd, self._size), log_id, number):
                self.number, self._place = found, end
                self._keep(found, _read(self.path, found, text))
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def belongs_to(self, log_id: int) -> None:
        """From now on records carry that number."""
        self._id = log_id

    def append(self, appends: Appends) -> None:
        """Write a record; on disk when this returns.

        Raises:
            OSError: It is not, and the next one takes its place.
        """
        text = _text(appends)
        with self._lock:
            self._append(appends, text)

    def _append(self, appends: Appends, text: bytes) -> None:
        assert self._fd is not None
        number = self.number + 1
        checksum = _checksum(self._id, number, text)
        header = HEADER.pack(MARK, self._id, number, len(text), checksum)
        end = self._place + len(header) + len(text)
        if end > self._size:
            size = -(-end // GROWS_BYTES) * GROWS_BYTES
            os.posix_fallocate(self._fd, 0, size)
            self._size = size
        try:
            _write(self._fd, header + text, self._place)
            os.fdatasync(self._fd)
        except OSError:
            # It may be whole all the same, and a kill before the next one would have it read as acknowledged.
            with contextlib.suppress(OSError):
                os.pwrite(self._fd, bytes(len(MARK)), self._place)
            raise
        self.number, self._place = number, end
        self._keep(number, appends)

    def _keep(self, number: int, appends: Appends) -> None:
        self._unmerged.append((number, appends))
        self._sessions |= _sessions_of(appends)

    def merged(self, number: int) -> None:
        """The database has everything up to that record."""
        with self._lock:
            # Others look at these without the lock: each is replaced as a whole.
            self._unmerged = [one for one in self._unmerged if one[0] > number]
            self._sessions = set().union(*(_sessions_of(one) for _, one in self._unmerged))
            if not self._unmerged:
                self._place = 0
                if self._fd is not None and self._size > FULL_BYTES:
                    os.ftruncate(self._fd, 0)
                    self._size = 0

    def close(self) -> None:
        """Close the file; it is empty if the database has everything."""
        if self._fd is None:
            return
        if not self.has_unmerged:
            os.ftruncate(self._fd, 0)
        os.close(self._fd)
        self._fd = None


def _sessions_of(appends: Appends) -> set[str]:
    written = {entry.session_id for entry in appends.entries}
    return written | {checkpoint.session_id for checkpoint in appends.checkpoints}


def read_unmerged(path: Path, log_id: int, number: int) -> Appends:
    """What a log holds that its ledger's database lacks; the file is left as it is. Raises as `CommitLog.open`."""
    appends, damage = read_to_damage(path, log_id, number)
    if damage is not None:
        raise damage
    return appends


def read_to_damage(path: Path, log_id: int, number: int) -> tuple[Appends, DataError | None]:
    """As `read_unmerged`, up to what makes the rest of the log unusable, and what that is."""
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
            found.append(_read(path, n, text))
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
                    hint="Put back a newer copy of the ledger with its log; don't start on this one.",
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


def _text(appends: Appends) -> bytes:
    rows = (
        [_entry_row(entry) for entry in appends.entries],
        [(c.feed_offset, c.session_id, c.seq, c.body) for c in appends.checkpoints],
        [(h.session_id, h.epoch, h.holder) for h in appends.holdings],
    )
    return json.dumps(rows, separators=(",", ":")).encode("ascii")


def _read(path: Path, number: int, text: bytes) -> Appends:
    try:
        entries, checkpoints, holdings = json.loads(text)
        return Appends(
            entries=[_entry_of(_typed(row, _ENTRY)) for row in entries],
            checkpoints=[Checkpoint(*_typed(row, _CHECKPOINT)) for row in checkpoints],
            holdings=[LeaseRow(*_typed(row, _LEASE)) for row in holdings],
        )
    except (
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        AttributeError,
        RecursionError,
    ) as error:
        raise LedgerDamaged(f"{path}: commit {number} is nothing that a ledger writes") from error


def _typed(row: list[Any], types: tuple[Kinds, ...]) -> list[Any]:
    if not all(type(value) in kinds for value, kinds in zip(row, types, strict=True)):
        raise TypeError("a value of another type")
    return row


def _entry_row(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.feed_offset,
        entry.session_id,
        entry.seq,
        (entry.recorded_at - EPOCH) // MICROSECOND,
        entry.kind.value,
        entry.run_id,
        entry.op,
        principal_text(entry.principal),
        entry.body_json,
        entry.hash.hex(),
    )


def _entry_of(row: list[Any]) -> Entry:
    """An entry as it is stored: its body stays closed, since only a row is made of it."""
    offset, session_id, seq, recorded_us, kind, run_id, op, principal, body, digest = row
    return Entry(
        session_id=session_id,
        seq=seq,
        recorded_at=time_of(recorded_us),
        kind=EntryKind(kind),
        run_id=run_id,
        op=op,
        principal=Principal.from_json(json.loads(principal)),
        body={},
        body_json=body,
        hash=bytes.fromhex(digest),
        feed_offset=offset,
    )
