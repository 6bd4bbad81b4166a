"""What the ledger wants the directory to see to: runs to resume and tokens to deliver.

One call stays pending on the ledger; the list it returns replaces the one before, so nothing is lost
with a caller. An item leaves the list when a commit clears it, not when somebody has looked at it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import HelmrError
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import Command
from helmr_runtime.directory.timing import Limits, Tasks, sleep
from helmr_runtime.ports import Ledger, WorkItem

logger = logging.getLogger(__name__)

DELIVERIES_MAX = 64
"""Deliveries on their way at once."""

FULL_LIST = 500
"""A list this long may have been cut by the ledger; what is behind it is asked for when half of it
is taken."""

FAILING_MAX = 10_000
"""Sessions remembered as failing; when there are more, all are tried again."""

Deliver = Callable[[WorkItem], Awaitable[Command | None]]
"""Makes the command that delivers an ended token, None if there is nothing to deliver any more."""


@dataclass(slots=True)
class _Failing:
    count: int
    until: datetime


class WorkQueue:
    """The ledger's work, oldest first.

    Args:
        on_change: Called when there may be something to do: a new list, or a pause that is over.
        on_return: Called when the ledger answers again after it did not.
        route: How a delivery reaches its session.
        deliver: See `Deliver`; without it deliveries stay on the list.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Clock,
        limits: Limits,
        on_change: Callable[[], None],
        on_return: Callable[[], None],
        route: Callable[[str, Command], Awaitable[object]],
        deliver: Deliver | None = None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._limits = limits
        self._on_change = on_change
        self._on_return = on_return
        self._route = route
        self._deliver = deliver
        self._runs: dict[str, WorkItem] = {}
        self._deliveries: dict[tuple[str, str | None], WorkItem] = {}
        self._delivering: set[tuple[str, str | None]] = set()
        self._failing: dict[str, _Failing] = {}
        self._tasks = Tasks()

    def start(self) -> None:
        """Follow the ledger's list."""
        self._tasks.start(self._follow())

    async def stop(self) -> None:
        """Follow it no more."""
        await self._tasks.stop()

    def __len__(self) -> int:
        """Runs that wait for a slot."""
        return len(self._runs)

    def due(self) -> Iterator[str]:
        """Sessions to resume, oldest first, without those that failed a moment ago."""
        now = self._clock.now()
        for session_id in self._runs:
            failing = self._failing.get(session_id)
            if failing is None or failing.until <= now:
                yield session_id

    def oldest_at(self) -> datetime | None:
        """Since when the longest waits for a slot, of those that can be resumed."""
        times = [i.queued_at for s, i in self._runs.items() if s not in self._failing]
        return min(times, default=None)

    def taken(self, session_id: str) -> None:
        """A session is resumed; the ledger's next list will not have it."""
        self._runs.pop(session_id, None)
        self._failing.pop(session_id, None)

    def failed(self, session_id: str, error: HelmrError) -> None:
        """Resuming a session failed; try it again later, and longer later each time."""
        if len(self._failing) >= FAILING_MAX:
            self._failing.clear()
        count = self._failing[session_id].count + 1 if session_id in self._failing else 1
        pause_s = self._limits.backoff_s(count)
        until = self._clock.now() + timedelta(seconds=pause_s)
        self._failing[session_id] = _Failing(count, until)
        logger.warning("%s can't be resumed: %s", session_id, error)
        self._tasks.start(self._remind(pause_s))

    def to_json(self) -> dict[str, Any]:
        """For `status`: how many runs wait, the oldest for how long, and how many can't be resumed."""
        oldest_at, oldest_s = self.oldest_at(), 0.0
        if oldest_at is not None:
            oldest_s = max(0.0, (self._clock.now() - oldest_at).total_seconds())
        return {
            "queue": len(self),
            "queue_oldest_s": round(oldest_s, 1),
            "failing": sum(1 for session_id in self._failing if session_id in self._runs),
        }

    async def _remind(self, pause_s: float) -> None:
        await sleep(self._clock, pause_s)
        self._on_change()

    async def _follow(self) -> None:
        known, failures = -1, 0
        while True:
            try:
                known, items = await self._ledger.work(known, self._limits.work_poll_s)
            except HelmrError as error:
                logger.info("the ledger gives no work: %s", error)
                await sleep(self._clock, self._limits.backoff_s(failures))
                known, failures = -1, failures + 1
                continue
            if failures:
                self._on_return()
            failures = 0
            self._replace(items)
            self._on_change()
            if len(items) >= FULL_LIST:
                await self._half_taken()
                known = -1

    async def _half_taken(self) -> None:
        """Return when half of a long list is taken, at the latest after a second."""
        half = len(self._runs) // 2
        for _ in range(20):
            if len(self._runs) <= half:
                return
            await sleep(self._clock, 0.05)

    def _replace(self, items: Sequence[WorkItem]) -> None:
        self._runs = {item.session_id: item for item in items if item.kind == "run"}
        self._deliveries = {
            (item.session_id, item.wait_id): item for item in items if item.kind == "delivery"
        }
        self._dispatch()

    def _dispatch(self) -> None:
        if self._deliver is None:
            return
        for key, item in self._deliveries.items():
            if len(self._delivering) >= DELIVERIES_MAX:
                return
            if key not in self._delivering:
                self._delivering.add(key)
                self._tasks.start(self._run_delivery(self._deliver, key, item))

    async def _run_delivery(
        self, deliver: Deliver, key: tuple[str, str | None], item: WorkItem
    ) -> None:
        try:
            command = await deliver(item)
            if command is not None:
                await self._route(item.session_id, command)
        except HelmrError as error:
            logger.warning("%s: %s is not delivered: %s", item.session_id, item.token_id, error)
            await sleep(self._clock, self._limits.retry_s)
        else:
            self._deliveries.pop(key, None)
        self._delivering.discard(key)
        self._dispatch()
