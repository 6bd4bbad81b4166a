"""A whole log in a store: checked from outside, without a runtime (S-67), and moved there and back.

Nothing is written to a log that is checked, so that it can be done beside a runtime that works on it; what is committed
meanwhile may be left out.

A ledger that is moved is in one place at every moment, whatever ends the move: in a store once the root there names a
snapshot of it and its file is marked as a cache, on a disk once the root says that it was moved and the mark is gone.
The same move again finishes one that was ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from helmr.errors import LedgerBehind, UsageError
from helmr_runtime.clock import Clock
from helmr_runtime.core.shared_log import raised
from helmr_runtime.ledger.log.carry_over import CarryProgress, carry_over
from helmr_runtime.ledger.log.commit_log import LOG_ID, LOG_NUMBER
from helmr_runtime.ledger.log.database import Database, Settings
from helmr_runtime.ledger.log.files import LOCK_SUFFIX, held
from helmr_runtime.ledger.log.object_log import ObjectLog
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.snapshots import (
    Cache,
    copy_file,
    download,
    mark,
    marked,
    unmark,
    upload,
)
from helmr_runtime.ledger.log.stored import read_only
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tools.audit import Audit, audit


@dataclass(frozen=True, slots=True)
class CheckedLog:
    """Result of checking a log in a store.

    Attributes:
        store: Its name.
        commit: The last record.
        floor: Each snapshot includes the records up to this one.
        snapshots: The last record in each snapshot.
        checked: The check of the ledger that they make.
    """

    store: str
    commit: int
    floor: int
    snapshots: tuple[int, ...]
    checked: Audit


def check_log(log: ObjectLog, path: Path, keys: LedgerKeys, now: datetime) -> CheckedLog:
    """Check every snapshot and record, make a ledger of them, and check that as `verify` does. Closes the log.

    Args:
        log: Not open yet.
        path: Of a file that is made, in a temporary folder.
        keys: Of the ledger.
        now: The time.

    Raises:
        LedgerBehind: There is no log, or what it holds does not follow from its snapshot.
        LedgerDamaged: A snapshot, a record or an entry is not what was written; names the first bad one.
        MasterKeyMissing: The keys are another ledger's.
        StoreUnavailable: The store does not answer.
    """
    root = log.require_root()
    for place in root.snapshots:
        download(log, place, path)
    mark(path, log.objects.name, root.log_id)
    Cache(path, log).drop()
    database = Database(path, Settings(), shared=log)
    database.open(carry_over=lambda: carry_over(path, keys, now, CarryProgress()))
    commit = database.log_number
    database.close()
    with read_only(path) as ledger:
        checked = audit(ledger, keys, now)
    snapshots = tuple(place.number for place in root.snapshots)
    return CheckedLog(log.objects.name, commit, root.floor, snapshots, checked)


def move_to_store(path: Path, log: ObjectLog) -> int:
    """Move a ledger's commits to a store; returns the number of the last. Closes the log.

    Args:
        path: The ledger's file. No runtime has it open, now or later without `--log`.
        log: The target; not open yet.

    Raises:
        UsageError: The file is a cache already, or the store holds something else.
        LedgerBehind: The store has commits that the file lacks.
        RuntimeHeld: A runtime has the file open.
        StoreUnavailable: The store does not answer; the ledger is where it was.
    """
    try:
        database = Database(path, Settings())
        database.open()
        number, numbers = database.log_number, database.numbers()
        database.close()
        log_id = numbers[LOG_ID]
        _take_room(log, log_id, number, path)
        with held(path.with_name(path.name + LOCK_SUFFIX)):
            copy = Cache(path, log).aside
            try:
                copy_file(path, copy)
                upload(log, copy, number, pruned_offset=numbers.get("pruned_offset", 0))
            finally:
                copy.unlink(missing_ok=True)
            log.change_root(lambda root: replace(raised(root, number), moved=False))
            mark(path, log.objects.name, log_id)
    finally:
        log.close()
    return number


def _take_room(log: ObjectLog, log_id: int, number: int, path: Path) -> None:
    root = log.root()
    if root is None:
        log.make(log_id, floor=number)
        return
    if root.log_id != log_id:
        raise UsageError(
            f"{log.objects.name} holds the log of another ledger than the one in {path}",
            hint="Name another bucket, prefix or ledger.",
        )
    newest = log.newest()
    if newest > number:
        raise LedgerBehind(
            f"{log.objects.name} has commit {newest}, and {path} ends with {number}",
            hint="A runtime has gone on there: start this one with --log and an empty --data-dir.",
        )


async def move_to_disk(
    path: Path, opens: Callable[[], ObjectLog], keys: LedgerKeys, clock: Clock
) -> int:
    """Move a ledger's commits beside its database; returns the number of the last.

    A runtime that uses the log is superseded first.

    Args:
        path: The file, in a data directory that is the log's cache, or empty.
        opens: Opens the log in its store.
        keys: The ledger's keys.
        clock: Tells the time.

    Raises:
        UsageError: The file is a ledger by itself.
        LedgerSuperseded: Another runtime has opened the log meanwhile.
        StoreUnavailable: The store does not answer; the ledger is where it was.
    """
    log = opens()
    try:
        root = log.require_root()
        if not root.moved:
            ledger = await open_ledger(
                path, clock=clock, ring=keys.ring, log=opens(), features=keys.features
            )
            await ledger.close()
        elif marked(path) != (log.objects.name, root.log_id):
            raise UsageError(f"the ledger was moved from {log.objects.name} to another machine")
        newest = log.newest()
        with held(path.with_name(path.name + LOCK_SUFFIX)), read_only(path) as stored:
            number = stored.meta[LOG_NUMBER]
        if number != newest:
            raise LedgerBehind(
                f"{log.objects.name} has commit {newest}, and {path} ends with {number}",
                hint="Move it again.",
            )
        log.change_root(lambda root: replace(root, moved=True))
        unmark(path)
    finally:
        log.close()
    return number
