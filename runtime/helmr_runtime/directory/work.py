"""Work that the ledger lists for the directory, in a fair order: runs to resume, ends of tokens to deliver.

One call stays pending on the ledger, which returns changes of its list since the last returned version. An item leaves
the list when a commit clears it, not when it is read; a new directory gets the whole list.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import HelmrError
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import AnswerDetails, CancelSession, SessionCommand, TokenEnded
from helmr_runtime.core.entries import RUNTIME, Principal, from_iso
from helmr_runtime.directory.hosts import BackgroundTasks, PoolTimings, sleep
from helmr_runtime.ports.ledger import FROM_START, Ledger, WorkChanges, WorkItem

logger = logging.getLogger(__name__)

DELIVERIES_MAX = 16
"""Deliveries under way at the same time."""

KNOWN_MAX = 10_000
"""Items known here at which no more are asked for until half of them are done."""

HALF_TRIES = 20

TRACES_MAX = 1_000
"""Commands whose trace context is remembered until their sessions resume; beyond that, the oldest is forgotten."""

FAILING_MAX = 10_000
"""Sessions remembered as failing; beyond that, all are tried again."""

Deliver = Callable[[WorkItem], Awaitable[SessionCommand | None]]
"""Makes the command that delivers an ended token; returns None if there is nothing left to deliver."""


class FairQueue:
    """Items by key, in an order that is fair between families of sessions.

    A family is a session that no task started, with all its descendants. Each family's work keeps its order, and
    families take turns, so that one with thousands of items delays others by its share only. Sessions without children
    are families of one: among themselves they come in the order of asking.
    """

    def __init__(self) -> None:
        self._items: dict[str, WorkItem] = {}
        self._families: dict[str, dict[str, None]] = {}
        """The keys of each family; the family with the next turn comes first."""

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: str) -> bool:
        return key in self._items

    def get(self, key: str) -> WorkItem | None:
        """Return the item of that key."""
        return self._items.get(key)

    def items(self) -> Iterator[WorkItem]:
        """Yield all items in the order of adding."""
        return iter(self._items.values())

    @property
    def last(self) -> WorkItem | None:
        """The item added last."""
        return next(reversed(self._items.values()), None)

    def add(self, item: WorkItem) -> None:
        """Add an item behind those of its family; one already here keeps its place."""
        self._items[item.key] = item
        self._families.setdefault(_family(item), {})[item.key] = None

    def pop(self, key: str) -> None:
        """Remove an item and end its family's turn."""
        item = self._items.pop(key, None)
        if item is None:
            return
        family = _family(item)
        keys = self._families.pop(family)
        del keys[key]
        if keys:
            self._families[family] = keys

    def clear(self) -> None:
        """Remove all items."""
        self._items.clear()
        self._families.clear()

    def sort(self) -> None:
        """Sort the items, the longest-waiting first."""
        items = sorted(self._items.values(), key=lambda item: item.queued_at)
        self.clear()
        for item in items:
            self.add(item)

    def __iter__(self) -> Iterator[str]:
        """Iterate over keys, one of each family in each round. Do not change the queue meanwhile."""
        rounds = [iter(keys) for keys in self._families.values()]
        while rounds:
            going_on = []
            for keys in rounds:
                key = next(keys, None)
                if key is not None:
                    yield key
                    going_on.append(keys)
            rounds = going_on


def _family(item: WorkItem) -> str:
    return item.family or item.session_id


@dataclass(slots=True)
class _Failing:
    count: int
    until: datetime


class WorkQueue:
    """The ledger's work, fair between families of sessions (`FairQueue`), oldest first within each.

    Args:
        on_change: Called when there may be work: after a new list, or at the end of a pause.
        on_return: Called when the ledger answers again after it did not.
        route: Sends a delivery to its session.
        deliver: A `Deliver`; without it deliveries stay on the list.

    Attributes:
        is_aside: Returns true if a session waits for its turn under a limit.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Clock,
        timings: PoolTimings,
        on_change: Callable[[], None],
        on_return: Callable[[], None],
        route: Callable[[str, SessionCommand], Awaitable[object]],
        deliver: Deliver | None = None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._timings = timings
        self._on_change = on_change
        self._on_return = on_return
        self._route = route
        self._deliver = deliver
        self._runs = FairQueue()
        self._aside: dict[str, WorkItem] = {}
        """Runs that wait for their turn under a limit: they are not resumed yet, and hold up no others."""
        self.is_aside: Callable[[str], bool] = lambda session_id: False
        self._deliveries = FairQueue()
        self._delivering: set[str] = set()
        self._failing: dict[str, _Failing] = {}
        self._set_off: OrderedDict[str, str] = OrderedDict()
        self._tasks = BackgroundTasks()

    def start(self) -> None:
        """Follow the ledger's list."""
        self._tasks.start(self._follow())

    async def stop(self) -> None:
        """Stop following the list."""
        await self._tasks.stop()

    def __len__(self) -> int:
        """Return the number of runs that wait for a slot."""
        return len(self._runs)

    def due(self) -> Iterator[str]:
        """Yield sessions to resume in order, without those that just failed."""
        now = self._clock.now()
        for session_id in self._runs:
            failing = self._failing.get(session_id)
            if failing is None or failing.until <= now:
                yield session_id

    def oldest_at(self) -> datetime | None:
        """Return the time since which the longest-waiting resumable run waits for a slot."""
        times = [i.queued_at for i in self._runs.items() if i.session_id not in self._failing]
        return min(times, default=None)

    def is_on_list(self, session_id: str) -> bool:
        """True if the session's run should resume, at once or when its turn comes."""
        return session_id in self._aside or session_id in self._runs

    def turn(self, session_id: str) -> None:
        """Note that the session no longer waits for its turn under a limit, or that the turn is near."""
        item = self._aside.pop(session_id, None)
        if item is not None:
            self._runs.add(item)
            self._on_change()

    def taken(self, session_id: str) -> None:
        """Note that a session is resumed; the ledger's next list will lack it."""
        self._runs.pop(session_id)
        self._aside.pop(session_id, None)
        self._failing.pop(session_id, None)
        self._set_off.pop(session_id, None)

    def set_off(self, session_id: str, trace: str | None) -> None:
        """Note the trace of the command, if any, for which the session's run is about to wait for room."""
        if trace is None:
            return
        self._set_off[session_id] = trace
        if len(self._set_off) > TRACES_MAX:
            self._set_off.popitem(last=False)

    def trace_of(self, session_id: str) -> str | None:
        """Return the trace that made the session wait for room, as far as the ledger remembers."""
        item = self._runs.get(session_id)
        return self._set_off.pop(session_id, None) or (item.trace if item is not None else None)

    def family_of(self, session_id: str) -> str | None:
        """Return the session's family, as in `WorkItem`."""
        item = self._runs.get(session_id) or self._aside.get(session_id)
        return item.family if item is not None else None

    def failed(self, session_id: str, error: HelmrError) -> None:
        """Note a failed resume; it is retried after a pause that grows each time."""
        if len(self._failing) >= FAILING_MAX:
            self._failing.clear()
        count = self._failing[session_id].count + 1 if session_id in self._failing else 1
        pause_s = self._timings.backoff_s(count)
        until = self._clock.now() + timedelta(seconds=pause_s)
        self._failing[session_id] = _Failing(count, until)
        logger.warning("%s can't be resumed: %s", session_id, error)
        self._tasks.start(self._remind(pause_s))

    def to_json(self) -> dict[str, Any]:
        """Return the part of `status`: number of waiting runs, seconds of the oldest, number that can't be resumed."""
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
        known, failures = FROM_START, 0
        while True:
            try:
                changes = await self._ledger.work(known, self._timings.work_poll_s)
            except HelmrError as error:
                logger.info("the ledger gives no work: %s", error)
                await sleep(self._clock, self._timings.backoff_s(failures))
                known, failures = FROM_START, failures + 1
                continue
            if failures:
                self._on_return()
            # After a while without changes, ask for the whole list again, to find missed items.
            is_quiet = not changes.added and not changes.is_whole
            known, failures = FROM_START if is_quiet else changes.position, 0
            self._take(changes)
            self._on_change()
            if changes.has_more:
                await self._half_taken()

    async def _half_taken(self) -> None:
        """Return once half of the known items are done; if there are few, after a second at the latest."""
        known = len(self._runs) + len(self._deliveries)
        tries = 0
        while len(self._runs) + len(self._deliveries) > known // 2:
            tries += 1
            if tries > HALF_TRIES and known < KNOWN_MAX:
                return
            await sleep(self._clock, 0.05)

    def _take(self, changes: WorkChanges) -> None:
        if changes.is_whole:
            self._runs.clear()
            self._aside.clear()
            self._deliveries.clear()
        for key in changes.gone:
            self._runs.pop(key)
            self._aside.pop(key, None)
            self._deliveries.pop(key)
        newest = self._runs.last
        for item in changes.added:
            if item.kind == "run" and self.is_aside(item.session_id):
                self._aside[item.session_id] = item
            else:
                (self._runs if item.kind == "run" else self._deliveries).add(item)
        first = next((item for item in changes.added if item.kind == "run"), None)
        if newest is not None and first is not None and first.queued_at < newest.queued_at:
            self._runs.sort()
        self._dispatch()

    def _dispatch(self) -> None:
        if self._deliver is None:
            return
        for key in self._deliveries:
            if len(self._delivering) >= DELIVERIES_MAX:
                return
            item = self._deliveries.get(key)
            if item is not None and key not in self._delivering:
                self._delivering.add(key)
                self._tasks.start(self._run_delivery(self._deliver, key, item))

    async def _run_delivery(self, deliver: Deliver, key: str, item: WorkItem) -> None:
        try:
            command = await deliver(item)
            if command is not None:
                await self._route(item.session_id, command)
        except HelmrError as error:
            logger.warning("%s: %s is not delivered: %s", item.session_id, item.token_id, error)
            await sleep(self._clock, self._timings.retry_s)
        else:
            self._deliveries.pop(key)
        self._delivering.discard(key)
        self._dispatch()


async def delivery(ledger: Ledger, item: WorkItem) -> SessionCommand | None:
    """Return the command that delivers the end of a token or child to its wait, or ends a child (S-40, S-91); None if
    nothing is left to deliver.
    """
    assert item.token_id is not None
    end = item.end if item.end is not None else await ledger.token_end(item.token_id)
    if end is None:
        return None
    ended_by = Principal.from_json(end["ended_by"])
    if item.kind == "end":
        reason = end.get("reason", "parent_cancelled")
        return CancelSession(principal=ended_by, reason=reason, family=item.family)
    assert item.wait_id is not None
    return TokenEnded(
        principal=RUNTIME,
        trace=item.trace,
        family=item.family,
        wait_id=item.wait_id,
        token_id=item.token_id,
        status=end["status"],
        data=end.get("data"),
        ended_at=from_iso(end["ended_at"]),
        ended_by=ended_by,
        details=AnswerDetails.of(end),
    )
