"""A whole ledger as one file; a data directory made of it, beside its name, and put in place once checked (S-66)."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from helmr.errors import StoreUnavailable, UsageError
from helmr.platform import sync
from helmr_runtime.core.session_file import ENTRY, BackupHeader, BackupReader, BackupWriter
from helmr_runtime.ledger.log.files import sync_directory
from helmr_runtime.ledger.log.rebuild import (
    CheckpointRow,
    LedgerKeys,
    Page,
    Unsaid,
    checkpoint_row_of,
    entry_row_of,
    rebuild,
)
from helmr_runtime.ledger.log.stored import stored_ledger, translated
from helmr_runtime.ledger.tables.engine import Row
from helmr_runtime.ledger.tables.recovery import ENCRYPTS, uncollected
from helmr_runtime.ledger.tools.audit import Audit, audit

LINES_AT_A_TIME = 10_000
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Restored:
    """A ledger that was made of a backup, and what the check of it found."""

    header: BackupHeader
    checked: Audit


@uncollected()
def build(path: Path, lines: Iterable[bytes], keys: LedgerKeys, now: datetime) -> Restored:
    """Make a ledger's file of a backup, and check it as `verify` does.

    Raises:
        UsageError: It is not a backup, or there is no key for it.
        LedgerDamaged: The backup is not what was written; names the line or the entry.
    """
    reader = BackupReader(lines)
    header = reader.header
    known = Unsaid({"openings": header.openings, ENCRYPTS: int(header.encrypts)})
    with translated(path):
        rebuild(path, _pages(reader), keys, now, known)
    with stored_ledger(path) as stored:
        return Restored(header, audit(stored, keys, now))


def restore(
    backup: Path, path: Path, keys: LedgerKeys, ring_file: tuple[str, bytes] | None, now: datetime
) -> Restored:
    """Make a data directory of a backup; it has its name only once all of it is checked and on disk.

    Args:
        backup: The file.
        path: The ledger's file in the data directory to be.
        keys: Of the backup.
        ring_file: Name and text of the master keys' file that is to stand beside the ledger, if one is.
        now: The time.

    Raises:
        UsageError: The directory holds something, or `build` says so.
        StoreUnavailable: There is no room.
    """
    folder = path.parent
    _require_empty(folder)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    with _removed(beside), _room(folder):
        beside.mkdir(mode=0o700, parents=True)
        with backup.open("rb") as lines:
            restored = build(beside / path.name, lines, keys, now)
        if ring_file is not None:
            _write_private(beside / ring_file[0], ring_file[1])
        sync_directory(beside)
        if folder.exists():
            folder.rmdir()
        beside.rename(folder)
        sync_directory(folder.parent)
    return restored


def _pages(reader: BackupReader) -> Iterator[Page]:
    through = 0
    entries: list[Row] = []
    checkpoints: list[CheckpointRow] = []
    for row in reader.rows():
        try:
            if row[0] == ENTRY:
                if len(entries) + len(checkpoints) >= LINES_AT_A_TIME:
                    yield entries, checkpoints
                    entries, checkpoints = [], []
                entries.append(entry_row_of(row[1:]))
                through = entries[-1][0]
            else:
                checkpoints.append(checkpoint_row_of(row[1:]))
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise reader.damage("it is not a line of a backup") from error
    yield entries, checkpoints
    if through != reader.header.through:
        raise reader.damage(
            f"the entries end at feed offset {through}, not {reader.header.through}"
        )


def _require_empty(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder} is not a folder", hint="Name a folder that is not there yet.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} is not empty", hint="Restore into a folder that is empty or not there yet."
        )


def _write_private(path: Path, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        sync(file.fileno())


@contextmanager
def _removed(folder: Path) -> Iterator[None]:
    """Nothing is left there by what fails."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StoreUnavailable(f"there is no room for {folder}") from error
        raise UsageError(f"{folder} can't be written: {error.strerror or error}") from error


def stored_backup(path: Path, version: str) -> Iterator[bytes]:
    """The ledger in a file that no runtime has open, as pieces of a backup, each of whole lines.

    Raises:
        RuntimeHeld, UsageError, LedgerDamaged: As `helmr_runtime.ledger.log.stored.stored_ledger`.
    """
    with stored_ledger(path) as ledger:
        writer = BackupWriter()
        header = ledger.header(version)
        yield writer.header(header)
        after = 0
        while after < header.through:
            page = ledger.copied_rows(after, header.through)
            after = page.through
            yield writer.rows(page.rows)
        yield writer.footer()
