"""Makes the spans of sessions, runs and waits as the feed tells of their ends (`helmr_runtime.tracing`).

The gateway hears of every entry once it is on disk, whoever wrote it: hosts, or the ledger for parked sessions. When a
thing began stands in its row, so that nothing has to be remembered while it lasts.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from helmr.errors import HelmrError
from helmr_runtime import tracing
from helmr_runtime.core.entries import from_iso
from helmr_runtime.rpc.ledger_client import LedgerClient
from helmr_runtime.service.feed import FeedItem
from helmr_runtime.tracing.derived import Derived

logger = logging.getLogger(__name__)

WAITING_MAX = 1_000
"""Ends whose spans are still to be made; more make none."""

WAIT_ENDS = frozenset({"wait.fulfilled", "wait.timed_out", "wait.cancelled"})
RUN_ENDS = frozenset({"run.succeeded", "run.failed", "run.cancelled"})
SESSION_ENDS = frozenset({"session.closed", "session.cancelled"})


class SessionSpans:
    """Reads the rows of what has ended, one after the other.

    Args:
        ledger: Has the rows.
    """

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger
        self._ends: asyncio.Queue[FeedItem] = asyncio.Queue(WAITING_MAX)
        self._task: asyncio.Task[None] | None = None
        self.lost = 0
        """Ends without a span, because too many waited for theirs."""

    def seen(self, item: FeedItem) -> None:
        """An entry: it may be an end."""
        if item.kind not in WAIT_ENDS | RUN_ENDS | SESSION_ENDS:
            return
        if "copied_from" in item.entry["body"]:
            return
        try:
            self._ends.put_nowait(item)
        except asyncio.QueueFull:
            self.lost += 1
            return
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="session spans")

    async def stop(self) -> None:
        """Make no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            item = await self._ends.get()
            try:
                await self._make(item)
            except HelmrError as error:
                logger.info("%s of %s has no span: %s", item.kind, item.session_id, error)

    async def _make(self, item: FeedItem) -> None:
        session_id, body, ended_at = item.session_id, item.entry["body"], item.entry["recorded_at"]
        run_id = str(item.entry["run_id"])
        attributes: dict[str, Any] = {"helmr.session.id": session_id}
        above: Derived | None
        if item.kind in WAIT_ENDS:
            row = await self._ledger.get_wait(body["wait_id"])
            span, above = Derived("wait", row["id"]), Derived("run", run_id)
            name, began_at = f"wait {row['stream'] or row['kind']}", row["opened_at"]
            attributes |= {"helmr.run.id": run_id, "helmr.wait.id": row["id"]}
        elif item.kind in RUN_ENDS:
            row = await self._ledger.get_run(run_id)
            span, above = Derived("run", run_id), Derived("session", session_id)
            name, began_at = f"run {row['task']}", row["created_at"]
            attributes |= {"helmr.run.id": run_id, "helmr.attempt": row["attempt"]}
        else:
            row = await self._ledger.get_session(session_id)
            span, above = Derived("session", session_id), None
            name, began_at = f"session {row['task']}", row["created_at"]
        attributes |= {"helmr.task": row["task"], "helmr.outcome": item.kind.partition(".")[2]}
        if tracing.spans is not None:
            tracing.spans.ended(
                session_id,
                span,
                above,
                name=name,
                began_at=from_iso(began_at),
                ended_at=from_iso(ended_at),
                attributes=attributes,
                error=item.kind if item.kind == "run.failed" else None,
            )
