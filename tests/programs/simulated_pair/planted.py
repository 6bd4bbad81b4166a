"""Bugs of a pair to be found: each takes away one thing that two runtimes with one log rely on, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

from helmr.errors import StoreUnavailable
from helmr_runtime.core.shared_log import Appended, LogRoot, StoreLease, root_bytes, root_of
from helmr_runtime.ledger import ledger
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.index.ledger_index import KnownOperations
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log import object_log
from helmr_runtime.ledger.log.group import GroupCommit
from helmr_runtime.ledger.log.object_log import LOG, ROOT, ObjectLog, record_key
from helmr_runtime.ledger.standby import Records, StandbyMemory
from helmr_runtime.ledger.tables.appends import Appends

Bug = Callable[[], AbstractContextManager[object]]


# --- what a writer believes -------------------------------------------------------------------------


def _lease_believed_as_a_fence() -> AbstractContextManager[object]:
    """A writer that has the lease stores its record whatever stands there: no one else can have written."""

    def stores(self: ObjectLog, number: int, data: bytes) -> Appended:
        try:
            self.objects.replace(record_key(number), data, None)
        except StoreUnavailable:
            return Appended.UNKNOWN
        return Appended.DURABLE

    return mock.patch.object(ObjectLog, "_tried", stores)


def _exists_taken_for_own() -> AbstractContextManager[object]:
    """What stands under a number that a writer has tried is its own."""

    def believes(mine: bytes, found: bytes | None) -> Appended:
        return Appended.UNKNOWN if found is None else Appended.DURABLE

    return mock.patch.object(object_log, "after_append", believes)


def _own_taken_for_anothers() -> AbstractContextManager[object]:
    """What stands under a number that a writer has tried is another's."""

    def believes(mine: bytes, found: bytes | None) -> Appended:
        return Appended.UNKNOWN if found is None else Appended.SUPERSEDED

    return mock.patch.object(object_log, "after_append", believes)


def _unknown_taken_for_no() -> AbstractContextManager[object]:
    """A record of which the store says nothing is not stored, and the next one takes its number."""

    def gives_up(self: ObjectLog, tries: int) -> None:
        raise StoreUnavailable("the store has not answered")

    return mock.patch.object(ObjectLog, "_pause", gives_up)


def _answered_before_the_append() -> AbstractContextManager[object]:
    """A commit counts when its record is on the way to the store."""

    async def begins(self: GroupCommit, appends: Appends) -> None:
        self._log_thread.run(self.database.commit, appends).add_done_callback(_heard)

    return mock.patch.object(GroupCommit, "_commit_far", begins)


def _heard(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


# --- what is deleted --------------------------------------------------------------------------------


def _trimmed_by_a_superseded_writer() -> AbstractContextManager[object]:
    """A writer deletes what it knows to be stored without a look at the floor."""

    def sweeps(self: ObjectLog) -> int:
        numbers = [int(key.removeprefix(LOG)) for key in self.objects.keys(LOG)]
        gone = [one for one in numbers if one <= self._newest - 1]
        self.objects.delete([record_key(one) for one in gone if one != self._opened_at])
        return len(gone)

    return mock.patch.object(ObjectLog, "sweep", sweeps)


def _floor_overwritten() -> AbstractContextManager[object]:
    """The root is replaced by what its writer makes of what it has read, whatever stands there since."""

    def replaces(self: ObjectLog, change: Callable[[LogRoot], LogRoot]) -> LogRoot:
        found = self.objects.get(ROOT)
        assert found is not None
        changed = change(root_of(found[0]))
        self.objects.replace(ROOT, root_bytes(changed), None)
        return changed

    return mock.patch.object(ObjectLog, "change_root", replaces)


def _openings_swept() -> AbstractContextManager[object]:
    """Records that open the log go as all others do."""

    def all_of_them(found: Iterable[tuple[int, bool]], floor: int) -> Collection[int]:
        return [number for number, _ in found if number <= floor]

    return mock.patch.object(object_log, "deletable", all_of_them)


# --- how a runtime takes over -----------------------------------------------------------------------


def _floor_not_read_by_an_opening() -> AbstractContextManager[object]:
    """Who has stored a record that opens the log is the primary, though trimming has passed its number."""
    return mock.patch.object(object_log, "has_opened", return_value=True)


def _floor_not_read_by_a_reader() -> AbstractContextManager[object]:
    """What was read behind a number follows it, though trimming has passed it."""
    return mock.patch.object(object_log, "follows", return_value=True)


def _adopted_before_the_takeover() -> AbstractContextManager[object]:
    """A runtime gives sessions to its hosts while its record that opens the log is on its way."""
    take_log = DuckLedger.take_log

    async def takes_later(self: DuckLedger, writer: str) -> None:
        taking = asyncio.create_task(take_log(self, writer))
        taking.add_done_callback(_heard)
        await asyncio.sleep(0)

    return mock.patch.object(DuckLedger, "take_log", takes_later)


def _epochs_from_what_is_stored() -> AbstractContextManager[object]:
    """Epochs go on behind those that are in the log; what a primary gave out since is not."""
    return mock.patch.object(ledger, "EPOCHS_PER_OPENING", 0)


def _prunes_not_followed() -> AbstractContextManager[object]:
    """A standby keeps what the primary has removed."""
    fold = StandbyMemory.fold

    async def keeps(self: StandbyMemory, records: Records) -> None:
        await fold(self, [(n, replace(appends, removals=[])) for n, appends in records])

    return mock.patch.object(StandbyMemory, "fold", keeps)


def _operations_not_followed() -> AbstractContextManager[object]:
    """A standby does not know the operations that it has followed."""
    fold = StandbyMemory._fold

    async def forgets(self: StandbyMemory, *args: Any) -> None:
        await fold(self, *args)
        self._group.index.operations = KnownOperations()

    return mock.patch.object(StandbyMemory, "_fold", forgets)


def _order_forgotten() -> AbstractContextManager[object]:
    """An order to take over holds for one try, which may lose its number to the primary."""
    opened_once = LedgerActor._open_once

    async def forgets(self: LedgerActor) -> DuckLedger:
        self._is_ordered = False
        return await opened_once(self)

    return mock.patch.object(LedgerActor, "_open_once", forgets)


def _lease_written_over() -> AbstractContextManager[object]:
    """A primary renews its lease whoever's stands there."""
    write = ObjectLog.write_lease

    def writes(self: ObjectLog, lease: StoreLease, tag: str | None) -> str:
        return write(self, lease, None)

    return mock.patch.object(ObjectLog, "write_lease", writes)


BUGS: dict[str, Bug] = {
    "lease-is-a-fence": _lease_believed_as_a_fence,
    "exists-is-own": _exists_taken_for_own,
    "own-is-anothers": _own_taken_for_anothers,
    "unknown-is-no": _unknown_taken_for_no,
    "answered-early": _answered_before_the_append,
    "trimmed-by-the-superseded": _trimmed_by_a_superseded_writer,
    "floor-overwritten": _floor_overwritten,
    "openings-swept": _openings_swept,
    "opened-below-the-floor": _floor_not_read_by_an_opening,
    "read-below-the-floor": _floor_not_read_by_a_reader,
    "adopted-early": _adopted_before_the_takeover,
    "epochs-again": _epochs_from_what_is_stored,
    "operations-not-followed": _operations_not_followed,
    "prunes-not-followed": _prunes_not_followed,
    "lease-written-over": _lease_written_over,
    "order-forgotten": _order_forgotten,
}


def planted(name: str | None) -> AbstractContextManager[object]:
    """The bug of that name, none without one."""
    return BUGS[name]() if name is not None else nullcontext()
