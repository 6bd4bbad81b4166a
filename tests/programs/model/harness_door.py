"""The client of a harness, whose clock the sequence moves, and a notice target beside it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any, Self

from helmr.errors import UsageError
from helmr.testing import Harness
from tests.programs.model.client_door import ClientDoor
from tests.programs.model.compare import Reply
from tests.programs.model.naive import Model
from tests.programs.model.script import TASKS
from tests.programs.model.told import Told

TICK_S = 1e-6


class HarnessDoor(ClientDoor):
    """The client of a harness, whose clock the sequence moves."""

    time_passes = False
    within_s = 0.0

    def __init__(self, runner: asyncio.Runner, harness: Harness) -> None:
        self.harness = harness
        self.told = Told(harness)
        super().__init__(
            runner, harness.async_client(), begin=harness.clock.now(), nothing=self._wrong
        )

    @classmethod
    def opened(cls, runner: asyncio.Runner) -> Self:
        """Over a harness of its own."""

        async def enter() -> Self:
            harness = Harness(*TASKS)
            await harness.__aenter__()
            door = cls(runner, harness)
            await door.told.begin()
            return door

        return runner.run(enter())

    def close(self) -> None:
        """End the harness."""

        async def leave() -> None:
            await self.told.close()
            await self.client.close()
            await self.harness.__aexit__(None, None, None)

        self.runner.run(leave())

    async def _finish(self, model: Model) -> None:
        await self.told.settle()
        await super()._finish(model)

    def notices(self) -> dict[str, list[Any]]:
        """What the target has taken, each by the first time."""
        told: dict[str, list[Any]] = {}
        for notice in self.told.taken.values():
            data = notice.data
            about = data.get("wait_id", data["run_id"])
            session = told.setdefault(self.lines.names[data["session_id"]], [])
            session.append((notice.event, self.lines.names[about]))
        return told

    async def _wrong(self, session_id: str, how: str) -> None:
        if how == "park":
            with suppress(UsageError):
                await self.harness.park(session_id)
            self.told.store()
        else:
            await self.told.die()
            await self.harness.kill(session_id)
            await self.harness.settle()

    async def do_prune(self, *, older_than: int) -> Reply:
        """None is held by then, and all that they tell of is told."""
        await self.told.settle()
        for session_id in self.seqs:
            await self._wrong(session_id, "park")
        return await super().do_prune(older_than=older_than)

    async def do_advance(self, *, ms: int) -> Reply:
        """Move the clock, and let be told what falls due before it moves on: a notice that waits is passed by."""
        clock, target = self.harness.clock, self.harness.clock.now() + timedelta(milliseconds=ms)
        await self.told.settle()
        while clock.now() < target:
            at = min(clock.next_at or target, target)
            await self.harness.advance(max((at - clock.now()).total_seconds(), TICK_S))
            await self.told.settle()
        await self.harness.settle()
        return {}
