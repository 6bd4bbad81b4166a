"""Helmr with the tasks of these measurements: in a runtime of its own to take patterns from, and as it is measured."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import aiohttp

from tests.programs.benchmarks.scale.build import Pattern
from tests.programs.benchmarks.systems.helmr import Helmr

TASKS = Path(__file__).parents[1] / "apps" / "helmr_scale_tasks.py"
DAYS = 30
STEPS = 46


class AtScale(Helmr):
    """Helmr as `helmr up` starts it.

    Its follower begins where the feed ends, and goes on behind the last entry when it was too slow and is cut off.
    """

    def __init__(self) -> None:
        super().__init__(TASKS)
        self.outputs: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.timed_out = 0
        self.on_entry: Callable[[], None] = lambda: None

    async def review(self) -> str:
        """Start a session that waits for a person."""
        return await self.begin("scale-review", DAYS)

    async def work(self) -> str:
        """Start a session of many steps, which is closed behind the last."""
        return await self.begin("scale-work", STEPS)

    async def _follow_all(self, connected: asyncio.Event) -> None:
        after = ""
        while True:
            try:
                async for line in self.lines(f"/v1/events{after}", connected):
                    entry = json.loads(line)
                    after = f"?after={entry['feed_offset']}"
                    self.heard(entry)
            except aiohttp.ClientError:
                await asyncio.sleep(0)

    def heard(self, entry: dict[str, Any]) -> None:
        super().heard(entry)
        if entry["kind"] == "output.appended":
            self.outputs[entry["session_id"]].set()
        elif entry["kind"] == "wait.timed_out":
            self.timed_out += 1
            self.on_entry()


class Short(AtScale):
    """The same, ready sooner and parking at once."""

    arguments: ClassVar[tuple[str, ...]] = ("--in-process", "--linger=0.1s")


async def run_patterns(folder: Path) -> tuple[Pattern, Pattern]:
    """One that is parked, and one that is over; in a runtime below the folder."""
    system = Short()
    try:
        await system.start(folder)
        waiting, over = await system.review(), await system.work()
        await system.waits(waiting)
        await system.ended(over)
        await system.parked()
        parked = Pattern.of(await system.transcript(waiting))
        return parked, Pattern.of(await system.transcript(over))
    finally:
        await system.stop()
