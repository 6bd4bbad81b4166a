"""Replays every run that has not ended with given code, in this process (S-89): what a deploy of that code would block.

The journals are those of a running runtime over HTTP, or of the data directory of one that is stopped, which is read
under its lock, as its service would.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from helmr.client import AsyncClient
from helmr.errors import RunNotFound, RunNotNewest, UsageError
from helmr.models import RunCheck, RunInfo, RunJournal, RunsQuery, RunStatus
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import SystemClock
from helmr_runtime.core.run import ACTIVE
from helmr_runtime.features import FEATURES
from helmr_runtime.launchers.startup import lock
from helmr_runtime.ledger.actor import LedgerActor, LedgerPlace
from helmr_runtime.ledger.log.files import check_is_database
from helmr_runtime.ledger.open import schema_before_start
from helmr_runtime.ledger.tables.schema import SCHEMA
from helmr_runtime.ports.ledger import LedgerClient
from helmr_runtime.process.spec import LEDGER_NAME, RING_NAME
from helmr_runtime.replay.cursor import hashes_of
from helmr_runtime.replay.detached import SILENCE_S, check_run
from helmr_runtime.replay.replay_log import keys_of, state_of
from helmr_runtime.security.keys import read_key_ring
from helmr_runtime.service.sessions import read_journal, read_runs

AT_ONCE = 16
"""Number of concurrent replays, so that silent ones do not delay others for long."""

PASSES = 2
"""Runs change their status while they are listed by it; the second pass finds those that the first has missed."""


class Journals(Protocol):
    """Source of runs and their journals."""

    def runs(self, status: RunStatus) -> AsyncIterator[RunInfo]:
        """The runs with that status."""
        ...

    async def journal(self, run_id: str) -> RunJournal:
        """Read the journal that a replay of the run follows."""
        ...


class RemoteJournals:
    """Journals of a running runtime."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    def runs(self, status: RunStatus) -> AsyncIterator[RunInfo]:
        """The runs with that status."""
        return self._client.runs.list(status=status.value, limit=200)

    async def journal(self, run_id: str) -> RunJournal:
        """Read the journal that a replay of the run follows."""
        return await self._client.runs.journal(run_id)


async def check_runs(
    journals: Journals, registry: Registry, *, silence_s: float = SILENCE_S
) -> list[RunCheck]:
    """Check each active run by replaying it with the new code; results come in the order of run ids.

    Args:
        journals: Source of the runs.
        registry: The code to check.
        silence_s: Seconds without progress after which a run is `unsure`.
    """
    found: dict[str, asyncio.Task[RunCheck | None]] = {}
    room = asyncio.Semaphore(AT_ONCE)

    async def check(run_id: str) -> RunCheck | None:
        async with room:
            return await _check(run_id, journals, registry, silence_s)

    async with asyncio.TaskGroup() as group:
        for _ in range(PASSES):
            for status in sorted(ACTIVE):
                async for run in journals.runs(status):
                    if run.id not in found:
                        found[run.id] = group.create_task(check(run.id))
    checks = [task.result() for _, task in sorted(found.items())]
    return [check for check in checks if check is not None]


async def _check(
    run_id: str, journals: Journals, registry: Registry, silence_s: float
) -> RunCheck | None:
    """Check one run; None if it has ended since."""
    try:
        journal = await journals.journal(run_id)
    except (RunNotFound, RunNotNewest):
        return None
    if journal.status not in ACTIVE:
        return None
    registered = registry.tasks.get(journal.task)
    state, histories = state_of(journal)
    return await check_run(
        registered.task if registered is not None else None,
        state,
        histories,
        clock=SystemClock(),
        silence_s=silence_s,
        hashes=hashes_of(registry.code_hash, keys_of(journal)),
    )


PAGE = 200


class StoredJournals:
    """Journals in a ledger that only this process has open."""

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
        """Read the journal that a replay of the run follows."""
        return await read_journal(self._ledger, run_id)


@asynccontextmanager
async def stored_journals(
    data_dir: Path, say: Callable[[str], None]
) -> AsyncIterator[StoredJournals]:
    """The journals in a data directory; it is locked meanwhile, and no entry is written.

    Raises:
        RuntimeHeld: A runtime has it.
        UsageError: Its ledger is of an earlier schema: to open it would migrate it, and the older version refuses it
            from then on.
        DataError: The ledger's file is not a database, or a newer Helmr wrote it.
    """
    with lock(data_dir, say):
        path = data_dir / LEDGER_NAME
        check_is_database(path)
        schema = await asyncio.to_thread(schema_before_start, path)
        if schema not in (None, 0, SCHEMA):
            raise UsageError(
                f"{path} has schema {schema}, which this Helmr would migrate to {SCHEMA}",
                hint="Check the runs while the older version runs: this asks it over HTTP.",
            )
        ring = read_key_ring(data_dir / RING_NAME, os.environ)
        ledger = LedgerActor(LedgerPlace(path, features=FEATURES), clock=SystemClock(), ring=ring)
        try:
            await ledger.open()
            yield StoredJournals(ledger)
        finally:
            await ledger.close()
