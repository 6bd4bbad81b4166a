"""What a session's code is handed: outcomes, each when those before it have gone.

Invariants: S-3 (after a crash an outcome is on disk before the code hears of it), S-30 (outcomes are handed over in seq
order).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from helmr.errors import Unavailable
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.core.run import Run
from helmr_runtime.ports import Ledger
from helmr_runtime.replay import Outcome, RunDriver
from helmr_runtime.replay.replay_log import outcome_of
from helmr_runtime.session.session_log import SessionLog

RETRY_LOAD_S = 0.2


@dataclass(slots=True)
class _Pending:
    """An outcome on its way to the code; goes when it is ready and those before it have gone."""

    driver: RunDriver
    outcome: Outcome | None = None


class Outcomes:
    """The outcomes on their way to the code that is here.

    Args:
        log: The session.
        ledger: Has the records that a read of inputs names.
        driver_now: Whose code is here.
    """

    def __init__(
        self, log: SessionLog, ledger: Ledger, driver_now: Callable[[], RunDriver | None]
    ) -> None:
        self._log = log
        self._ledger = ledger
        self._driver_now = driver_now
        self._out: deque[_Pending] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_quiet(self) -> bool:
        """Nothing is on its way."""
        return not self._out and not self._tasks

    def clear(self) -> None:
        """Hand nothing over of what is on its way: the code is cut off, or another's."""
        self._out.clear()

    def add(self, driver: RunDriver, entry: Entry, *, is_cautious: bool) -> None:
        """Hand over what this entry holds."""
        pending = _Pending(driver)
        self._out.append(pending)
        if entry.kind is EntryKind.HISTORY_READ:
            task = asyncio.get_running_loop().create_task(self._read_history(pending, entry))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif is_cautious:
            outcome = outcome_of(self._log.state, entry)
            self._log.when_durable(entry.seq, lambda: self._ready(pending, outcome))
            self._log.flush_now()
        else:
            self._ready(pending, outcome_of(self._log.state, entry))

    async def histories(self, run: Run) -> dict[int, Sequence[Any]]:
        """The records that the run has read, by op: its journal only names them."""
        histories: dict[int, Sequence[Any]] = {}
        for entry in run.journal:
            if entry.kind is EntryKind.HISTORY_READ and entry.op is not None:
                histories[entry.op] = await self._records(entry)
        return histories

    async def _read_history(self, pending: _Pending, entry: Entry) -> None:
        if await self._log.durable(entry.seq):
            records = await self._records(entry)
            self._ready(pending, outcome_of(self._log.state, entry, records))

    async def _records(self, entry: Entry) -> Sequence[Any]:
        body = entry.body
        while self._log.hears_code:
            try:
                return await self._ledger.records(
                    entry.session_id, body["stream"], body["through_seq"]
                )
            except Unavailable:
                await asyncio.sleep(RETRY_LOAD_S)
        return ()

    def _ready(self, pending: _Pending, outcome: Outcome) -> None:
        pending.outcome = outcome
        while self._out and self._out[0].outcome is not None:
            first = self._out.popleft()
            if first.driver is self._driver_now() and first.outcome is not None:
                first.driver.deliver(first.outcome)
