"""How a ledger's files begin, and how the log of commits gets into the database: within the writer's transactions.

A file beside the database says that it is being made, from before there is any other until all of it is on disk. While
it is there nothing can have been acknowledged, and what a kill or a loss of power leaves is made again.

Invariants: S-52, S-53, S-60 (nothing is written over before what replaces it is on disk, by name too), S-63.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import duckdb

from helmr.errors import LedgerBehind
from helmr_runtime.core.entries import GENESIS
from helmr_runtime.ledger.log.commit_log import LOG_ID, LOG_NUMBER, CommitLog
from helmr_runtime.ledger.log.files import (
    LOG_SUFFIX,
    WAL_SUFFIX,
    HeadPosition,
    exists,
    sync_directory,
)
from helmr_runtime.ledger.tables.appends import append
from helmr_runtime.ledger.tables.rows import first_row
from helmr_runtime.security.private_files import open_private

Connection = duckdb.DuckDBPyConnection


class Merging:
    """What of the log the database has.

    Args:
        log: Not open yet.
        settle: Brings to disk what stands in for records of the log. Called after a transaction, before they may be
            written over; if it fails, they are not.

    Attributes:
        number: The last record that the database is known to have.
        head: The last entry that it is known to have.
    """

    def __init__(self, log: CommitLog, settle: Callable[[], None]) -> None:
        self._log = log
        self._settle = settle
        self.number = 0
        self.head = HeadPosition(0, GENESIS)
        self._moved: tuple[int, HeadPosition] = (0, self.head)
        """The last record and entry that the database has once the transaction that was begun last is on disk."""
        self._is_open = False
        """It is not known whether that is on disk."""

    def open_log(self, connection: Connection) -> None:
        """Read what was committed and has not got into the database; raises as `CommitLog.open`."""
        meta = log_numbers(connection)
        self.number = meta.get(LOG_NUMBER, 0)
        self._log.open(meta.get(LOG_ID, 0), self.number)

    def own_log(self, connection: Connection) -> None:
        """Say whose the log is, if that has not been said."""
        log_id = log_numbers(connection).get(LOG_ID)
        if log_id is None:
            log_id = secrets.randbelow(2**62) + 1
            connection.execute(
                "INSERT INTO meta VALUES ($1, $2), ($3, 0)", [LOG_ID, log_id, LOG_NUMBER]
            )
        self._log.belongs_to(log_id)

    def move(self, connection: Connection) -> None:
        """Write what is in the log within the open transaction; `moved` follows, or `look`.

        What is committed meanwhile stays in the log.
        """
        if self._is_open:
            self.look(connection)
        number, appends = self._log.to_merge()
        self._is_open = True
        self._moved = (number, self.head)
        if number == self.number:
            return
        append(connection, appends)
        connection.execute("UPDATE meta SET number = $1 WHERE name = $2", [number, LOG_NUMBER])
        if appends.head is not None:
            self._moved = (number, HeadPosition(*appends.head))

    def moved(self) -> None:
        """That transaction is on disk."""
        self.number, self.head = self._moved
        self._give_back()

    def look(self, connection: Connection) -> None:
        """Find out whether it is."""
        self.number = log_numbers(connection).get(LOG_NUMBER, 0)
        if self.number == self._moved[0]:
            self.head = self._moved[1]
        self._give_back()

    def _give_back(self) -> None:
        if self._log.has_unmerged:
            self._settle()
        self._log.merged(self.number)
        self._is_open = False


def log_numbers(connection: Connection) -> dict[str, int]:
    """`LOG_ID` and `LOG_NUMBER` of a database."""
    try:
        found = connection.execute(
            "SELECT name, number FROM meta WHERE name IN ($1, $2)", [LOG_ID, LOG_NUMBER]
        ).fetchall()
    except duckdb.CatalogException:  # a file that is being made
        return {}
    return dict(found)


def entry_hash(connection: Connection, feed_offset: int) -> bytes | None:
    """The hash of the entry there that a database has."""
    try:
        found = first_row(
            connection.execute("SELECT hash FROM entries WHERE feed_offset = $1", [feed_offset])
        )
    except duckdb.CatalogException:
        return None
    return bytes(found[0]) if found is not None else None


def check_mark(path: Path, connection: Connection, mark: HeadPosition) -> None:
    """Return if the database, which is that file's, has the entry that the head mark names.

    Raises:
        LedgerBehind: It has not.
    """
    if mark.feed_offset == 0:
        return
    row = entry_hash(connection, mark.feed_offset)
    if row is None:
        raise LedgerBehind(
            f"{path} ends before entry {mark.feed_offset}, which was acknowledged",
            hint=f"Put back {path.name}{WAL_SUFFIX} and {path.name}{LOG_SUFFIX}, or a newer copy; "
            "don't start on this one.",
            acknowledged_offset=mark.feed_offset,
        )
    if row != mark.hash:
        raise LedgerBehind(
            f"{path} has an entry {mark.feed_offset} other than the one that was acknowledged",
            hint="This file belongs to another ledger, or is a copy that someone has written to since.",
            acknowledged_offset=mark.feed_offset,
        )


logger = logging.getLogger(__name__)

SUFFIX = ".making"


def is_unfinished(path: Path) -> bool:
    """Whether that database is being made, or was when its maker ended."""
    return path.with_name(path.name + SUFFIX).exists()


def begin(path: Path, mark: HeadPosition) -> None:
    """Return when the engine may open the file, or make it.

    Args:
        path: The database.
        mark: What the head mark says.

    Raises:
        LedgerBehind: It is gone, and other files of its ledger are there.
    """
    making = path.with_name(path.name + SUFFIX)
    others = [path.with_name(path.name + suffix) for suffix in (WAL_SUFFIX, LOG_SUFFIX)]
    if is_unfinished(path) and not mark.feed_offset:
        logger.warning(
            "the making of %s was not finished, and nothing stands in it: begun again", path
        )
        for file in (path, *others):
            file.unlink(missing_ok=True)
    elif exists(path):
        return
    elif mark.feed_offset or any(exists(file) for file in others):
        raise LedgerBehind(
            f"{path} is gone, and other files of its ledger are there",
            hint="Put back that file, or restore a backup into another --data-dir; don't start on what is left.",
            acknowledged_offset=mark.feed_offset,
        )
    os.close(open_private(making, os.O_WRONLY | os.O_CREAT))
    sync_directory(path.parent)


def end(path: Path) -> None:
    """What was made is on disk, but for its names: afterwards these are too."""
    path.with_name(path.name + SUFFIX).unlink(missing_ok=True)
    sync_directory(path.parent)
