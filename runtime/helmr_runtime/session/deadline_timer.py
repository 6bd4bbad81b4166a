"""The one time that a held session waits for: its wait's next escalation step or deadline, or its run's retry.

A parked session's time is the ledger's (`helmr_runtime.ledger.index.timers`); while it is held, it is fired here.
Invariants: S-14, S-82.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from helmr.errors import HelmrError
from helmr.models import RunStatus
from helmr_runtime.clock import Clock, Timer
from helmr_runtime.core.commands import Command, Deadline
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.core.state import SessionState

DEADLINE_AGAIN_S = 0.5
"""A deadline that the failing store did not take is tried again after this."""

log = logging.getLogger("helmr.session")


class DeadlineTimer:
    """Fires a held session's next time.

    Args:
        state: The session, as it is now whenever this looks.
        clock: The clock.
        command: Decides what of the wait has come by now.
        proceed: Runs what is to run.
    """

    def __init__(
        self,
        state: SessionState,
        clock: Clock,
        *,
        command: Callable[[Command], Awaitable[Any]],
        proceed: Callable[[], None],
    ) -> None:
        self._state = state
        self._clock = clock
        self._command = command
        self._proceed = proceed
        self._timer: Timer | None = None
        self._at: datetime | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    def arm(self) -> None:
        """Fire at the time that the state says now, and at no other."""
        run = self._state.active_run
        due: datetime | None = None
        if run is not None and run.wait is not None:
            due = run.wait.due_at
        elif run is not None and run.status is RunStatus.QUEUED:
            due = run.retry_at
        if due == self._at and self._timer is not None:
            return
        self._disarm()
        if due is not None:
            self._at = due
            self._timer = self._clock.call_when(due, self._on_time)

    def stop(self) -> None:
        """The session is not held any more."""
        self._is_stopped = True
        self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._at = None, None

    def _on_time(self) -> None:
        self._timer, self._at = None, None
        if self._is_stopped:
            return
        wait = self._state.wait
        if wait is None:
            self._proceed()
            return
        task = asyncio.get_running_loop().create_task(self._time_out(wait.id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _time_out(self, wait_id: str) -> None:
        try:
            await self._command(Deadline(principal=RUNTIME, wait_id=wait_id))
        except HelmrError as error:
            if not self._is_stopped:
                log.warning("%s: deadline of %s: %s", self._state.id, wait_id, error.message)
                await asyncio.sleep(DEADLINE_AGAIN_S)
                self.arm()
