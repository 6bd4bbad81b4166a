"""A ledger of an earlier edition becomes one of today's: its entries are verified and folded into today's tables.

This is the only way from any earlier schema to today's. The new file is created beside the old one and takes its name
in one step once it is complete and on disk: an interruption leaves the old file unchanged, and the next open starts
again. Numbers that no entry holds restart above a floor (`helmr_runtime.ledger.log.rebuild.UNSAID`). An encrypted
ledger needs its keys. `CarryProgress` reports the progress, and can stop it between two pages.

Invariants: S-52, S-53, S-62, S-63.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from helmr.errors import LedgerDamaged, StoreUnavailable
from helmr.wire.durations import spell
from helmr_runtime.ledger.log.files import (
    LOG_SUFFIX,
    MARK_SUFFIX,
    WAL_SUFFIX,
    exists,
    sync_directory,
)
from helmr_runtime.ledger.log.rebuild import LedgerKeys, Page, rebuild
from helmr_runtime.ledger.log.stored import StoredLedger, read_only, translated
from helmr_runtime.ledger.tables.schema import SCHEMA

logger = logging.getLogger(__name__)

ENTRIES_A_SECOND = 15_000
"""What a log line promises before: 25,000 were measured, on a core that had nothing else to do."""

SAYS_EVERY_S = 10.0
"""Seconds between two log lines of progress."""

ROOM = 1.5
"""The new file's size by the old one's, at most: it holds the same rows, packed once."""


class CarryProgress:
    """Progress of carrying a ledger over. Its thread reports; other threads read it and may ask it to stop.

    Attributes:
        total: Entries of the ledger; 0 before it has begun.
        done: Entries folded so far.
    """

    def __init__(self) -> None:
        self.total = 0
        self.done = 0
        self._began_s = 0.0
        self._is_under_way = False
        self._is_stopped = False

    @property
    def lasts_s(self) -> float:
        """Seconds since the carry-over began; 0 if none is running."""
        return time.monotonic() - self._began_s if self._is_under_way else 0.0

    @property
    def left_s(self) -> float:
        """About how long it still takes."""
        speed = self.done / self.lasts_s if self.done and self.lasts_s else ENTRIES_A_SECOND
        return (self.total - self.done) / speed

    def __str__(self) -> str:
        return (
            f"a ledger of an earlier edition is carried over: {self.done:,} of {self.total:,} entries are done, "
            f"about {spell(round(self.left_s))} left"
        )

    def begin(self, total: int) -> None:
        """Start the clock, with the number of entries to fold."""
        self.total, self.done, self._began_s = total, 0, time.monotonic()
        self._is_under_way = True

    def advance(self, entries: int) -> None:
        """Count this many more entries as folded."""
        self.done += entries

    def end(self) -> None:
        """It is over, well or badly."""
        self._is_under_way = False

    def stop(self) -> None:
        """Stop this carry-over and any later one at its next page boundary."""
        self._is_stopped = True

    def check(self) -> None:
        """Raise StoreUnavailable if it is to end."""
        if self._is_stopped:
            raise StoreUnavailable("the carrying over of the ledger was stopped; it is unchanged")


def carry_over(path: Path, keys: LedgerKeys, now: datetime, progress: CarryProgress) -> None:
    """Bring a file, which this process holds and has closed, to today's tables.

    Args:
        path: The file, of an earlier schema; its logs are empty.
        keys: Its master keys.
        now: The time.
        progress: Is kept up to date.

    Raises:
        LedgerDamaged, PayloadDamaged: Names the first entry that is not what was written; the file is as it was.
        MasterKeyMissing, UsageError: A key is lacking.
        StoreUnavailable: There is no room for a second file, or it is to end.
    """
    try:
        with _replaced(path) as (old, fresh):
            rebuild(fresh, _told(old, progress), keys, now, old.known)
    finally:
        progress.end()


@contextmanager
def _replaced(path: Path) -> Iterator[tuple[StoredLedger, Path]]:
    """Yield the old file, and the path of the file that replaces it at the end."""
    fresh = path.with_name(f".{path.name}.carried.part")
    _remove(fresh)
    _check_room(path)
    started_s = time.monotonic()
    try:
        with translated(path), read_only(path) as old:
            yield old, fresh
        _check_settled(path)
        fresh.rename(path)
    except BaseException:
        _remove(fresh)
        raise
    sync_directory(path.parent)
    _remove(fresh)
    logger.info("%s has schema %d now, after %.1f s", path, SCHEMA, time.monotonic() - started_s)


def _told(old: StoredLedger, progress: CarryProgress) -> Iterator[Page]:
    """The old file's pages; the log says how far it is."""
    total, said_s = old.count(), time.monotonic()
    progress.begin(total)
    logger.info(
        "%s has schema %d: its %d entries are checked and folded into the tables of schema %d, in about %.0f s",
        old.path,
        old.schema,
        total,
        SCHEMA,
        total / ENTRIES_A_SECOND,
    )
    for page in old.pages():
        progress.check()
        yield page
        progress.advance(len(page[0]))
        if time.monotonic() - said_s >= SAYS_EVERY_S:
            said_s = time.monotonic()
            logger.info("%s: %s", old.path, progress)


def _check_room(path: Path) -> None:
    needed, free = int(path.stat().st_size * ROOM), shutil.disk_usage(path.parent).free
    if free < needed:
        raise StoreUnavailable(
            f"{path} has an earlier schema, and there is no room to write it again beside it: {needed} bytes are "
            f"needed, {free} are free",
            hint="Free space on that disk, or move the data directory to a larger one.",
        )


def _check_settled(path: Path) -> None:
    """Return if all of the old ledger was in its file: a log that is left would be taken for the new one's."""
    for suffix in (WAL_SUFFIX, LOG_SUFFIX):
        if exists(path.with_name(path.name + suffix)):
            raise LedgerDamaged(f"{path}{suffix} holds something that {path} lacks")


def _remove(fresh: Path) -> None:
    for suffix in ("", WAL_SUFFIX, MARK_SUFFIX):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
