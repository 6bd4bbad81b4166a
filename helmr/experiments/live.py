"""The two drivers of an experiment's course: beside a live runtime in real time, and under a fake clock.

Against a runtime, one feed of its events tells what happened; answers go out when they are due. Nothing polls. Under
the fake clock of `helmr.testing`, time jumps from one event to the next; a few hundred waiting sessions stay in memory,
and more are parked, so that their code comes back by replay, as in a runtime: thousands may wait at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from datetime import datetime, timedelta

from helmr.client import AsyncClient
from helmr.errors import (
    GroupsUnknown,
    NotAnAnswerer,
    SignatureNeeded,
    TokenCompleted,
    Unavailable,
    UsageError,
    WaitResolved,
    WaitTimedOut,
)
from helmr.experiments.results import Tell
from helmr.experiments.simulation import Experiment, OperatorReply, Simulation, Start
from helmr.models import EntryInfo
from helmr.tasks import Task
from helmr.testing import Harness, HarnessSession
from helmr.testing.session import Author
from helmr.wire import ids
from helmr.wire.durations import seconds

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
        bench = _LiveBench(experiment, client, people, course, tell, began_at)
        return await bench.run(after=health.feed_offset)


class _LiveBench:
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
        """Take in new entries; wait for one until something is due."""
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

    async def _call(self, one: Start | OperatorReply) -> None:
        async with self._calls:
            await self._do(one)

    async def _do(self, one: Start | OperatorReply) -> None:
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
        # Someone else was faster, or the deadline; its entry says who.
        with contextlib.suppress(WaitResolved, WaitTimedOut, TokenCompleted):
            try:
                await self._people[one.operator.name].waits.answer(one.wait_id, one.data)
            except (NotAnAnswerer, GroupsUnknown, SignatureNeeded) as error:
                self._course.refused(one, error.message)
                self._entries.put_nowait(None)


HOT_MAX = 200
"""Waiting sessions in memory. Each has a thread, and three files of its loop; a park and a replay cost about as much
as the rest of a session (measured: 4.4 ms of processor time for a small one that stays, 6.8 for one that parks)."""


async def simulate(experiment: Experiment, *, seed: int, tell: Tell) -> Simulation:
    """Run it to its end, or to `until`.

    Raises:
        UsageError: The task is only an id.
    """
    if not isinstance(experiment.task, Task):
        raise UsageError(
            f"{experiment.task} is only a task's id", hint="The fake clock needs the task itself."
        )
    tasks = experiment.task, *experiment.also
    made = Harness(*tasks, replay_always=False, new_id=_ids(seed))
    made.is_strict = False
    async with made as harness:
        return await _FakeBench(experiment, harness, seed, tell).run()


class _FakeBench:
    def __init__(self, experiment: Experiment, harness: Harness, seed: int, tell: Tell) -> None:
        self._experiment = experiment
        self._harness = harness
        self._tell = tell
        self._course = Simulation(experiment, seed=seed, began_at=harness.clock.now())
        self._seen = 0
        self._sessions: dict[str, HarnessSession] = {}
        self._hot: dict[str, None] = {}
        """Sessions in memory, the one that moved last at the end."""

    async def run(self) -> Simulation:
        clock, course, until = self._harness.clock, self._course, self._experiment.until
        ends_at = clock.now() + timedelta(seconds=seconds(until)) if until is not None else None
        while not course.is_over:
            due = [moment for moment in (course.next_at, clock.next_at) if moment is not None]
            if not due or (ends_at is not None and min(due) > ends_at):
                break
            clock.move_to(min(due))
            await self._harness.settle()
            await self._look()
            for one in course.due(clock.now()):
                await self._do(one)
                await self._look()
            self._tell(course.over)
        return course

    async def _do(self, one: Start | OperatorReply) -> None:
        if isinstance(one, Start):
            session = await self._harness.start(self._experiment.task, one.payload)
            self._sessions[session.id] = session
            self._course.started(one.session, session.id)
            return
        # Two fates of one instant: the deadline came first. Its entry says so.
        with contextlib.suppress(WaitResolved, WaitTimedOut):
            if one.token_id is not None:
                await self._harness.complete_token(one.token_id, one.data)
            else:
                session, operator = self._sessions[one.session_id], one.operator
                author = Author.of(None, on_behalf_of=operator.name)
                if one.restricted:
                    author = Author.of(operator.known_as, operator.groups)
                await session.answer_as(author, one.data, one.wait_id)
                await self._harness.settle()

    async def _look(self) -> None:
        """Take in what was stored, and park waiting sessions."""
        entries = self._harness.entries(after=self._seen)
        self._seen += len(entries)
        touched = dict.fromkeys(e.session_id for e in entries if self._course.knows(e.session_id))
        for entry in entries:
            if entry.session_id in touched:
                self._course.saw(
                    entry.session_id, entry.kind, entry.body, recorded_at=entry.recorded_at
                )
        self._course.hand_out(self._harness.clock.now())
        for session_id in touched:
            self._hot.pop(session_id, None)
            self._hot[session_id] = None
            if self._course.has_ended(session_id):
                await self._park(session_id)
        while len(self._hot) > HOT_MAX:
            await self._park(next(iter(self._hot)))

    async def _park(self, session_id: str) -> None:
        del self._hot[session_id]
        with contextlib.suppress(UsageError):  # a step of it is in a short backoff
            await self._harness.park(session_id)


class _ids:  # noqa: N801  # a function with a count
    """Ids that are the same for the same seed: what `ctx.uuid` and `ctx.random` derive from."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, prefix: str) -> str:
        self._count += 1
        digest = bytearray(hashlib.sha256(f"{self._seed}|{prefix}|{self._count}".encode()).digest())
        digest[6] = 0x70 | digest[6] & 0x0F  # version 7
        digest[8] = 0x80 | digest[8] & 0x3F
        return ids.from_uuid(prefix, uuid.UUID(bytes=bytes(digest[:16])))
