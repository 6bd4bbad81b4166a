"""Sessions that are over leave the ledger after the time that `helmr.toml` says (S-69)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from helmr.errors import HelmrError
from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.core.pruning import Prune, Pruned, Retention

logger = logging.getLogger(__name__)

FIRST_AFTER = timedelta(minutes=1)
"""A runtime that starts has other things to do."""

LOOK_EVERY = timedelta(hours=1)
BETWEEN_PAGES = timedelta(milliseconds=250)
"""So that commits come between."""


class Retainer:
    """Prunes an hour's worth every hour, a page at a time.

    Args:
        retention: What is kept how long.
        prune: Removes a page.
        clock: Tells when.
    """

    def __init__(
        self, retention: Retention, prune: Callable[[Prune], Awaitable[Pruned]], clock: Clock
    ) -> None:
        self._wanted = Prune(
            principal=RUNTIME,
            age_s=retention.closed_after_s,
            is_archived=retention.archive,
            reason="retention",
        )
        self._prune = prune
        self._clock = clock

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._sleep(FIRST_AFTER)
        while True:
            await self._look()
            await self._sleep(LOOK_EVERY)

    async def _look(self) -> None:
        removed = 0
        try:
            while not (page := await self._prune(self._wanted)).is_last:
                removed += page.sessions
                await self._sleep(BETWEEN_PAGES)
        except HelmrError as error:
            logger.warning("old sessions stay for now: %s", error)
        if removed:
            logger.info("%d old sessions were pruned", removed)

    async def _sleep(self, pause: timedelta) -> None:
        rang = asyncio.Event()
        timer = self._clock.call_at(self._clock.now() + pause, rang.set)
        try:
            await rang.wait()
        finally:
            timer.cancel()
