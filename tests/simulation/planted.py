"""Bugs to be found: each takes away one thing that the runtime relies on, and nothing else.

They are what a reader might take for superfluous. A simulator that does not find them proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from unittest import mock

from helmr_runtime.ledger.index import LedgerIndex
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ledger.timers import Timers
from helmr_runtime.ledger.work_list import WorkList
from helmr_runtime.ports import Flush
from helmr_runtime.session.session_log import SessionLog

Bug = Callable[[], AbstractContextManager[object]]


def _epoch_unchecked() -> AbstractContextManager[object]:
    """The ledger takes what fits, whoever writes it."""
    check = LedgerIndex.check

    def takes_all(self: LedgerIndex, flush: Flush) -> Any:
        epoch = self.heads[flush.session_id].epoch
        return check(self, replace(flush, epoch=max(flush.epoch, epoch)))

    return mock.patch.object(LedgerIndex, "check", takes_all)


def _acknowledged_before_the_commit() -> AbstractContextManager[object]:
    """A session answers what it has decided and not stored."""

    async def at_once(self: SessionLog, seq: int) -> None:
        return

    return mock.patch.object(SessionLog, "until_durable", at_once)


def _step_before_its_start_is_stored() -> AbstractContextManager[object]:
    """A step begins when it was asked for."""

    def at_once(self: SessionLog, seq: int, call: Callable[[], None]) -> None:
        call()

    return mock.patch.object(SessionLog, "when_durable", at_once)


def _deadline_not_armed_after_a_restart() -> AbstractContextManager[object]:
    """An unheld session's deadline is armed when its wait opens, and not when the ledger has read it back."""
    restore = MemoryLedger._restore

    def forgets(self: MemoryLedger) -> None:
        with mock.patch.object(Timers, "arm"):
            restore(self)

    return mock.patch.object(MemoryLedger, "_restore", forgets)


def _delivery_taken_off_when_sent() -> AbstractContextManager[object]:
    """A token's end is off the work list when somebody has seen it, not when it is stored."""
    since = WorkList.since

    def shows_once(self: WorkList, *args: Any) -> Any:
        found = since(self, *args)
        for wait_id in tuple(self._deliveries):
            self.delivered(wait_id)
        return found

    return mock.patch.object(WorkList, "since", shows_once)


def _released_run_not_on_the_list() -> AbstractContextManager[object]:
    """A session that is given up with a run to go on does not stand in the work list."""
    settle = LedgerIndex.settle

    def forgets(self: LedgerIndex, head: Any, now: Any, *, flush: Flush | None = None) -> None:
        settle(self, head, now, flush=flush)
        if flush is not None and flush.release:
            self.work.set_ready(head, False)

    return mock.patch.object(LedgerIndex, "settle", forgets)


def _stale_load() -> AbstractContextManager[object]:
    """A host that was given up may still load. It takes some luck: no test waits for it."""
    return mock.patch.object(LedgerIndex, "end_holder")


BUGS: dict[str, Bug] = {
    "epoch-unchecked": _epoch_unchecked,
    "acknowledged-early": _acknowledged_before_the_commit,
    "step-early": _step_before_its_start_is_stored,
    "deadline-not-rearmed": _deadline_not_armed_after_a_restart,
    "delivery-lost": _delivery_taken_off_when_sent,
    "released-run-forgotten": _released_run_not_on_the_list,
    "stale-load": _stale_load,
}


def planted(name: str | None) -> AbstractContextManager[object]:
    """The bug of that name, none without one."""
    return BUGS[name]() if name is not None else nullcontext()
