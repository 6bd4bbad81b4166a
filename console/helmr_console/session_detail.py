"""One session as far as its screen has read it: its summary, its runs, its waits."""

from __future__ import annotations

from dataclasses import dataclass, field

from helmr.client.aio import AsyncClient
from helmr.models import LIST_LIMIT_MAX, RunInfo, SessionInfo, SessionStatus, WaitInfo, WaitStatus
from helmr.safe_text import one_line
from helmr_console.reads import first

RUNS_MAX = 1_000


@dataclass(slots=True)
class SessionDetail:
    """Runs and waits by id, newest first."""

    session_id: str
    summary: SessionInfo | None = None
    runs: dict[str, RunInfo] = field(default_factory=dict)
    waits: dict[str, WaitInfo] = field(default_factory=dict)

    async def read_lists(self, client: AsyncClient) -> None:
        """Runs and waits as they are now."""
        listed = client.sessions.open(self.session_id).runs(limit=LIST_LIMIT_MAX)
        runs = await first(listed, RUNS_MAX)
        waits: list[WaitInfo] = []
        for status in WaitStatus:
            page = await client.waits.page(
                session_id=self.session_id, status=status.value, limit=LIST_LIMIT_MAX
            )
            waits += page.items
        waits.sort(key=lambda wait: wait.opened_at, reverse=True)
        self.runs = {run.id: run for run in runs}
        self.waits = {wait.id: wait for wait in waits}

    @property
    def newest_run(self) -> RunInfo | None:
        """The one that a retry goes on with."""
        return next(iter(self.runs.values()), None)

    @property
    def active_wait(self) -> WaitInfo | None:
        """What the session waits for, as its summary says."""
        return self.summary.wait if self.summary is not None else None

    def words(self) -> str:
        """`publish   waiting   2 runs`; empty before it was read."""
        if self.summary is None:
            return ""
        is_open = self.summary.status is SessionStatus.OPEN
        state = self.summary.activity if is_open else self.summary.status
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        return f"{one_line(self.summary.task, 40)}   {state.value}   {runs}"
