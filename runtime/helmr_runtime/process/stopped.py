"""Reads the data directory of a runtime that is stopped, under its lock, as its service would."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from helmr.models import RunInfo, RunJournal, RunsQuery, RunStatus
from helmr_runtime.clock import SystemClock
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.log.files import check_is_database
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.process.spec import LEDGER_NAME, RING_NAME
from helmr_runtime.process.startup import lock
from helmr_runtime.security.keys import read_key_ring
from helmr_runtime.service.sessions import read_journal, read_runs

PAGE = 200


class StoredJournals:
    """The journals in a ledger that nobody else has open."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger

    async def runs(self, status: RunStatus) -> AsyncIterator[RunInfo]:
        """The runs with that status."""
        cursor: str | None = None
        while True:
            page = await read_runs(
                self._ledger, RunsQuery(status=status, limit=PAGE, cursor=cursor)
            )
            for run in page.items:
                yield run
            cursor = page.next_cursor
            if cursor is None:
                return

    async def journal(self, run_id: str) -> RunJournal:
        """What a replay of the run follows."""
        return await read_journal(self._ledger, run_id)


@asynccontextmanager
async def stored_journals(
    data_dir: Path, say: Callable[[str], None]
) -> AsyncIterator[StoredJournals]:
    """The journals in a data directory; it is locked meanwhile, and no entry is written.

    Raises:
        RuntimeHeld: A runtime has it.
        DataError: The ledger's file is no database.
    """
    with lock(data_dir, say):
        path = data_dir / LEDGER_NAME
        check_is_database(path)
        ring = read_key_ring(data_dir / RING_NAME, os.environ)
        ledger = LedgerActor(path, clock=SystemClock(), ring=ring)
        try:
            yield StoredJournals(ledger)
        finally:
            await ledger.close()
