"""Runs: read, cancel, retry (S-3, S-5, S-6)."""

from __future__ import annotations

from helmr import ids
from helmr.models import Page, RunInfo, RunStatus
from helmr_runtime.core.commands import CancelRun, RetryRun
from helmr_runtime.rpc.ledger_client import LedgerClient
from helmr_runtime.service.caller import Caller
from helmr_runtime.service.repeats import Deduplicator
from helmr_runtime.service.router import Router


class Runs:
    """Runs: read, cancelled, retried."""

    def __init__(self, ledger: LedgerClient, router: Router, repeats: Deduplicator) -> None:
        self._ledger = ledger
        self._router = router
        self._repeats = repeats

    async def get(self, run_id: str) -> RunInfo:
        """A run.

        Raises:
            RunNotFound: No run with that id.
        """
        ids.check_id(run_id, ids.RUN)
        return RunInfo.model_validate(await self._ledger.get_run(run_id))

    async def list(
        self,
        *,
        session_id: str | None = None,
        task: str | None = None,
        status: RunStatus | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[RunInfo]:
        """Runs, newest first."""
        if session_id is not None:
            ids.check_id(session_id, ids.SESSION)
        found = await self._ledger.list_runs(
            session_id=session_id,
            task=task,
            status=status.value if status is not None else None,
            limit=limit,
            cursor=cursor,
        )
        return Page[RunInfo].model_validate(found)

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
