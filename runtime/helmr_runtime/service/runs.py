"""Runs: read, cancel, retry (S-3, S-5, S-6)."""

from __future__ import annotations

from helmr import ids
from helmr.errors import RunNotNewest
from helmr.models import Page, RunInfo, RunJournal, RunsQuery
from helmr_runtime.core.commands import CancelRun, RetryRun
from helmr_runtime.replay.replay_log import journal_of
from helmr_runtime.rpc.ledger_client import LedgerClient
from helmr_runtime.security.task_secrets import TaskSecrets
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.shared import Shared
from helmr_runtime.session.dry_run import read_snapshot

ALL_RUNS = RunsQuery()


class Runs:
    """Runs: read, cancelled, retried."""

    def __init__(self, shared: Shared) -> None:
        self._ledger = shared.ledger
        self._router = shared.router
        self._repeats = shared.repeats

    async def get(self, run_id: str) -> RunInfo:
        """A run.

        Raises:
            RunNotFound: No run with that id.
        """
        return await read_run(self._ledger, run_id)

    async def list(self, wanted: RunsQuery = ALL_RUNS) -> Page[RunInfo]:
        """Runs, newest first."""
        return await read_runs(self._ledger, wanted)

    async def journal(self, run_id: str) -> RunJournal:
        """All that a replay of the run follows, as it is on disk now.

        Raises:
            RunNotFound: No run with that id.
            RunNotNewest: Its session has begun another since.
        """
        return await read_journal(self._ledger, run_id)

    async def cancel(self, caller: Caller, run_id: str) -> RunInfo:
        """Cancel the run if it is active; idempotent (S-6).

        Raises:
            RunNotFound: No run with that id.
            OperationConflict: The operation id was used with another request.
        """
        operation = caller.operation("runs.cancel", run_id)
        run = await self.get(run_id)
        if run.status.is_final:
            await self._repeats.first(caller, operation)
            return run
        command = CancelRun(
            principal=caller.principal,
            operation=operation,
            run_id=run_id,
            next_run_id=ids.new_id(ids.RUN),
        )
        await self._router.command(run.session_id, command)
        return await self.get(run_id)

    async def retry(self, caller: Caller, run_id: str) -> RunInfo:
        """Start the run's next attempt (S-5).

        Raises:
            RunNotFound: No run with that id.
            RunNotRetryable: It is not its session's newest run, or neither failed nor blocked.
        """
        operation = caller.operation("runs.retry", run_id)
        run = await self.get(run_id)
        command = RetryRun(principal=caller.principal, operation=operation, run_id=run_id)
        await self._router.command(run.session_id, command)
        return await self.get(run_id)


# --- reads that need a ledger and nothing else ------------------------------------------------------


async def read_run(ledger: LedgerClient, run_id: str) -> RunInfo:
    """As `Runs.get`."""
    ids.check_id(run_id, ids.RUN)
    return RunInfo.model_validate(await ledger.get_run(run_id))


async def read_runs(ledger: LedgerClient, wanted: RunsQuery) -> Page[RunInfo]:
    """As `Runs.list`."""
    return Page[RunInfo].model_validate(await ledger.list_runs(**wanted.given()))


async def read_journal(ledger: LedgerClient, run_id: str) -> RunJournal:
    """As `Runs.journal`."""
    run = await read_run(ledger, run_id)
    snapshot = await read_snapshot(ledger, run.session_id)
    state = snapshot.state
    if state.run is None or state.run.id != run_id:
        raise RunNotNewest(f"{run_id} is not the newest run of {run.session_id}")
    secrets = TaskSecrets(snapshot.loaded.keys, "")
    return journal_of(state, snapshot.histories, secrets.asked_keys)
