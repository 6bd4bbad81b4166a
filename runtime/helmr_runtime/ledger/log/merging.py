"""Preparation of a ledger's files before it serves: create them, cut the engine's torn log, merge commits.

A marker file beside the database says that it is being created. It is the first file written, and goes once everything
is on disk. While it exists nothing can have been acknowledged, so files left by a kill or power loss are created again.

A loss of power can tear the tail of the database engine's own log, `ledger.duckdb.wal`. The engine syncs each
transaction before it appends the next, so any part of the last one may remain. The engine takes a transaction cut short
for the end of the log; it refuses a file with a hole in one, for ever. The database never acknowledged such a
transaction, and the log of commits holds its contents.

So the log is cut where the engine reports it bad, on three conditions: at most one transaction begins there (a second
one behind it means that the first was synced, and is damaged); the log of commits continues where the database then
ends; and the entry that the head mark names exists. A copy of the uncut log is kept beside it.

Invariants: S-52, S-53, S-60 (nothing is written over before what replaces it is on disk, by name too), S-63.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from helmr.errors import DataError, LedgerBehind, LedgerDamaged
from helmr.platform import sync
from helmr_runtime.core.entries import GENESIS
from helmr_runtime.ledger.log.commit_log import LOG_ID, LOG_NUMBER, CommitLog
from helmr_runtime.ledger.log.file_store import read_to_damage
from helmr_runtime.ledger.log.files import (
    LOG_SUFFIX,
    WAL_SUFFIX,
    HeadPosition,
    RemadeFile,
    exists,
    position_of,
    sync_directory,
)
from helmr_runtime.ledger.tables.appends import append
from helmr_runtime.ledger.tables.engine import first_row
from helmr_runtime.security.private_files import open_private

logger = logging.getLogger(__name__)

Connection = duckdb.DuckDBPyConnection


class Merging:
    """The database's position in the log of commits.

    Args:
        log: Not open yet.
        settle: Syncs the files that replace records of the log. Called after a transaction, before the records may
            be overwritten; if it fails, they stay.

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
            log_id = self._log.log_id or secrets.randbelow(2**62) + 1
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
        if appends.entries:
            self._moved = (number, position_of(appends.entries[-1]))

    def moved(self) -> None:
        """Record that the transaction is on disk, and let the log trim."""
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


def check_mark(
    path: Path, connection: Connection, mark: HeadPosition, *, may_lack: bool = False
) -> None:
    """Return if the database, which is that file's, has the entry that the head mark names.

    Args:
        may_lack: Another machine may have pruned the entry since: one behind it is enough.

    Raises:
        LedgerBehind: It has not.
    """
    if mark.feed_offset == 0:
        return
    row = entry_hash(connection, mark.feed_offset)
    if row is None and may_lack and _goes_on(connection, mark.feed_offset):
        return
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


def _goes_on(connection: Connection, feed_offset: int) -> bool:
    found = first_row(connection.execute("SELECT max(feed_offset) FROM entries"))
    return found is not None and found[0] is not None and found[0] > feed_offset


SUFFIX = ".making"


def is_unfinished(path: Path) -> bool:
    """True if the database is being created, or its creation was interrupted."""
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
    """Remove the marker and sync the names; the files' contents must be on disk already."""
    path.with_name(path.name + SUFFIX).unlink(missing_ok=True)
    sync_directory(path.parent)


KEPT_SUFFIX = ".cut"
"""Of the log as it was before it was cut last."""

_ASIDE_SUFFIX = ".aside"
"""Of the log as it is while it is tried without its tail; found by an open, it is put back."""

FOLLOWED = "other transactions follow, so that what stood there was on disk"

_READING = "while replaying WAL file"
_PLACE = re.compile(r"at byte position (\d+)")
_ROUNDS = re.compile(r"File checkpoint iteration: (\d+), WAL checkpoint iteration: (\d+)")
"""What the engine says of its log; it has no class for that."""

_COMMITTED = re.compile(rb"\x05\0{7}.{8}\x64\0\x64\xff\xff", re.DOTALL)
"""The entry that ends a transaction there: its size, its checksum, and what it is."""


class EngineLog:
    """One ledger's.

    Args:
        database: Its database file, which this process holds and has not open.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + WAL_SUFFIX)
        self.kept = self.path.with_name(self.path.name + KEPT_SUFFIX)
        self._database = database
        self._name = RemadeFile(self.path)
        self._aside = self.path.with_name(self.path.name + _ASIDE_SUFFIX)

    def sync_name(self) -> None:
        """Return when the log that the engine writes now has its name on disk: it makes one after each checkpoint."""
        self._name.sync_name()

    def committed(self) -> None:
        """Sync the log's name after a transaction; on failure the next transaction tries again."""
        try:
            self.sync_name()
        except OSError as error:
            logger.warning("the name of %s can't be synced: %s", self.path, error)

    def bad_place(self, error: duckdb.Error) -> int | None:
        """Return the byte at which an engine's error says the log is bad; None for any other error."""
        said = str(error)
        if _READING not in said or not self.path.exists():
            return None
        place = _PLACE.search(said)
        return int(place[1]) if place is not None else 0

    def is_torn(self, place: int, error: duckdb.Error) -> bool:
        """True if the bytes after `place` can be one unsynced transaction, with no second one behind it.

        Also true if the file already holds all of it: a later log then lost its name.
        """
        rounds = _ROUNDS.search(str(error))
        if rounds is not None and int(rounds[2]) < int(rounds[1]):
            return True
        file_path = self._aside if self._aside.exists() else self.path
        with os.fdopen(open_private(file_path, os.O_RDONLY), "rb") as file:
            file.seek(place)
            return sum(1 for _ in _COMMITTED.finditer(file.read())) <= 1

    def damaged(self, place: int, why: str) -> LedgerDamaged:
        """The error that says so."""
        return LedgerDamaged(
            f"{self.path} is damaged at byte {place}: {why}",
            hint="Put back that file as it was, or a backup; `helmr repair` says what would be lost without it.",
            byte=place,
        )

    def put_back(self) -> None:
        """Undo a `without_tail` that a kill has ended."""
        if self._aside.exists():
            self._aside.replace(self.path)
            sync_directory(self.path.parent)

    @contextmanager
    def without_tail(self, place: int) -> Iterator[None]:
        """Meanwhile the log ends at that place; afterwards it is unchanged, unless `keep_cut` was called."""
        with os.fdopen(open_private(self.path, os.O_RDONLY), "rb") as file:
            head = file.read(place)
        self.path.rename(self._aside)
        try:
            fd = open_private(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with os.fdopen(fd, "wb") as file:
                file.write(head)
                file.flush()
                sync(fd)
            sync_directory(self.path.parent)
            yield
        finally:
            self.put_back()

    def keep_cut(self) -> None:
        """The log stays without its tail; as it was it is kept beside it."""
        self._aside.replace(self.kept)
        sync_directory(self.path.parent)

    def mend(self, error: duckdb.Error, mark: HeadPosition) -> bool:
        """Cut a torn tail off, if nothing that was acknowledged lacks without it.

        Args:
            error: By which the engine refused the file.
            mark: What the head mark says.

        Returns:
            Whether it was cut; False if the error is about something else.

        Raises:
            LedgerDamaged: The log is bad, and may not be cut.
        """
        place = self.bad_place(error)
        if place is None:
            return False
        if not self.is_torn(place, error):
            raise self.damaged(place, FOLLOWED) from error
        size = self.path.stat().st_size
        with self.without_tail(place):
            try:
                with duckdb.connect(str(self._database), read_only=True) as connection:
                    why = _lacking(connection, self._database, mark)
            except duckdb.Error as other:
                why = str(other).splitlines()[0]
            if why is not None:
                raise self.damaged(place, why) from error
            self.keep_cut()
        logger.warning(
            "%s was torn by a loss of power: %d bytes from byte %d on are cut off, and kept in %s. The log of commits "
            "has what they held",
            *(self.path, size - place, place, self.kept),
        )
        return True


def _lacking(
    connection: duckdb.DuckDBPyConnection, database: Path, mark: HeadPosition
) -> str | None:
    """Describe acknowledged entries that both the database and its log lack; None if all are there."""
    numbers = log_numbers(connection)
    log = database.with_name(database.name + LOG_SUFFIX)
    try:
        appends, damage = read_to_damage(log, numbers.get(LOG_ID, 0), numbers.get(LOG_NUMBER, 0))
    except DataError as error:
        return error.message
    if damage is not None:
        return damage.message
    logged = {entry.feed_offset: entry.hash for entry in appends.entries}
    found = logged.get(mark.feed_offset) or entry_hash(connection, mark.feed_offset)
    if mark.feed_offset and found != mark.hash:
        return f"without what is there the ledger lacks entry {mark.feed_offset}, which was acknowledged"
    return None
