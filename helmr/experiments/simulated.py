"""An experiment under the fake clock of `helmr.testing`: time jumps from one event to the next.

A few hundred waiting sessions stay in memory; more are parked, so that their code comes back by replay, as in a
runtime: thousands may wait at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from datetime import timedelta

from helmr import ids
from helmr.durations import seconds
from helmr.errors import UsageError, WaitResolved, WaitTimedOut
from helmr.experiments.experiment import Experiment
from helmr.experiments.progress import Tell
from helmr.experiments.simulation import Reply, Simulation, Start
from helmr.tasks import Task
from helmr.testing import Harness, HarnessSession

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
    async with Harness(experiment.task, *experiment.also, new_id=_ids(seed)) as harness:
        return await _Bench(experiment, harness, seed, tell).run()


class _Bench:
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

    async def _do(self, one: Start | Reply) -> None:
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
                session = self._sessions[one.session_id]
                await session.answer(one.data, wait_id=one.wait_id, on_behalf_of=one.operator)

    async def _look(self) -> None:
        """Take in what was stored, and park what waits."""
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
