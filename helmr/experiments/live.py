"""An experiment against a live runtime: the same course, in real time, through the client.

One feed of the runtime's events tells what happened; answers go out when they are due. Nothing polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from datetime import datetime, timedelta

from helmr.client import AsyncClient
from helmr.durations import seconds
from helmr.errors import TokenCompleted, Unavailable, WaitResolved, WaitTimedOut
from helmr.experiments.experiment import Experiment
from helmr.experiments.progress import Tell
from helmr.experiments.simulation import Reply, Simulation, Start
from helmr.models import EntryInfo

CALLS_MAX = 16
"""Calls of one experiment that are under way at a time."""


async def live(
    experiment: Experiment, *, seed: int, connect: Callable[..., AsyncClient], tell: Tell
) -> Simulation:
    """Run it to its end, or to `until`; `connect` as `helmr.experiments.run` says."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect())
        people = {
            operator.name: await stack.enter_async_context(connect(on_behalf_of=operator.name))
            for operator in experiment.operators
        }
        health = await client.health()
        began_at = health.now
        if began_at is None:
            raise Unavailable("the runtime does not say what time it is")
        course = Simulation(experiment, seed=seed, began_at=began_at)
        bench = _Bench(experiment, client, people, course, tell, began_at)
        return await bench.run(after=health.feed_offset)


class _Bench:
    def __init__(
        self,
        experiment: Experiment,
        client: AsyncClient,
        people: dict[str, AsyncClient],
        course: Simulation,
        tell: Tell,
        began_at: datetime,
    ) -> None:
        self._experiment = experiment
        self._client = client
        self._people = people
        self._course = course
        self._tell = tell
        self._entries: asyncio.Queue[EntryInfo | None] = asyncio.Queue()
        """None only wakes: something else than an entry may have made something due."""
        self._early: dict[str, list[EntryInfo]] = {}
        """Entries of sessions that may be ours: their start is not answered yet."""
        self._starting = 0
        self._calls = asyncio.Semaphore(CALLS_MAX)
        self._began_at = began_at
        self._began_s = time.monotonic()

    async def run(self, *, after: int | None) -> Simulation:
        course, until = self._course, self._experiment.until
        ends_at = self._began_at + timedelta(seconds=seconds(until)) if until is not None else None
        try:
            async with asyncio.TaskGroup() as group:
                feed = group.create_task(self._follow(after))
                while not course.is_over:
                    now = self._now()
                    if ends_at is not None and now >= ends_at:
                        break
                    for one in course.due(now):
                        group.create_task(self._call(one))
                        self._starting += isinstance(one, Start)
                    self._tell(course.over)
                    if course.is_stuck:
                        break
                    await self._next_entry(ends_at)
                self._tell(course.over)
                feed.cancel()
        except* Exception as group_of:  # noqa: BLE001 - the first error is the experiment's
            raise group_of.exceptions[0] from None
        return course

    def _now(self) -> datetime:
        """The runtime's time, carried on by this machine's monotonic clock."""
        return self._began_at + timedelta(seconds=time.monotonic() - self._began_s)

    async def _follow(self, after: int | None) -> None:
        async with aclosing(self._client.events(after=after)) as events:
            async for entry in events:
                self._entries.put_nowait(entry)

    async def _next_entry(self, ends_at: datetime | None) -> None:
        """Take in what has happened; wait for it until something is due."""
        moments = [one for one in (self._course.next_at, ends_at) if one is not None]
        left_s = (min(moments) - self._now()).total_seconds() if moments else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                self._take(await self._entries.get())
        while not self._entries.empty():
            self._take(self._entries.get_nowait())
        self._course.hand_out(self._now())

    def _take(self, entry: EntryInfo | None) -> None:
        if entry is None:
            return
        if self._course.knows(entry.session_id):
            self._saw(entry)
        elif self._starting:
            self._early.setdefault(entry.session_id, []).append(entry)

    def _saw(self, entry: EntryInfo) -> None:
        self._course.saw(entry.session_id, entry.kind, entry.body, recorded_at=entry.recorded_at)

    async def _call(self, one: Start | Reply) -> None:
        async with self._calls:
            await self._do(one)

    async def _do(self, one: Start | Reply) -> None:
        if isinstance(one, Start):
            started = await self._client.sessions.start(self._experiment.task_id, one.payload)
            self._course.started(one.session, started.id)
            self._starting -= 1
            for entry in self._early.pop(started.id, ()):
                self._saw(entry)
            self._entries.put_nowait(None)
            if not self._starting:
                self._early.clear()
            return
        # Somebody else was faster, or the deadline; its entry says who.
        with contextlib.suppress(WaitResolved, WaitTimedOut, TokenCompleted):
            await self._people[one.operator].waits.answer(one.wait_id, one.data)
