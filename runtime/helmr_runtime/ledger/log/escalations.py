"""Reads the sessions whose escalations are to run, beside the group commit: what an escalation step does is on disk
(S-82)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta

from helmr.errors import HelmrError, StoreUnavailable
from helmr_runtime.clock import Clock
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.log.batches import AuthoredEntries
from helmr_runtime.ledger.log.group import GroupCommit
from helmr_runtime.ledger.log.jobs import EscalationJob
from helmr_runtime.ports import Loaded
from helmr_runtime.ports.ledger import restore

logger = logging.getLogger(__name__)

AGAIN_AFTER = timedelta(seconds=1)
"""When a session is read again that could not be."""


class Escalations:
    """One session is read after the other, so that adoptions find a reader free.

    Args:
        snapshot: The session as it is on disk.
        group: Decides on that state.
        own: Makes the entries.
        clock: Tells when.
    """

    def __init__(
        self,
        snapshot: Callable[[str], Awaitable[Loaded]],
        group: Callable[[], GroupCommit],
        own: AuthoredEntries,
        clock: Clock,
    ) -> None:
        self._snapshot = snapshot
        self._group = group
        self._own = own
        self._clock = clock
        self._waiting: deque[str] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def add(self, head: Head) -> None:
        """An escalation step of that session is due, and its timer is disarmed."""
        self._add(head.session_id)

    def _add(self, session_id: str) -> None:
        self._waiting.append(session_id)
        if self._task is None and not self._is_closed:
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name="ledger-escalations"
            )

    async def close(self) -> None:
        """Read nothing more; the next opening finds what is due."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._one(self._waiting.popleft())
        finally:
            self._task = None

    async def _one(self, session_id: str) -> None:
        try:
            loaded = await self._snapshot(session_id)
            state, group = restore(session_id, loaded), self._group()
            group.submit(EscalationJob(state, group.index, self._own, self._clock.now))
        except HelmrError as error:
            logger.error("the escalation of %s can't be run: %s", session_id, error)
            if isinstance(error, StoreUnavailable):
                at = self._clock.now() + AGAIN_AFTER
                self._clock.call_at(at, lambda: self._add(session_id))
