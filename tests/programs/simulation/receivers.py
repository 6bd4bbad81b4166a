"""Who is told: receivers that take their time, fail, and lose their answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from helmr_runtime.notices.content import Notice, NotTaken, Sender
from helmr_runtime.notices.targets import Target, read_targets

if TYPE_CHECKING:
    from tests.programs.simulation.world import World

ALL = [
    *("wait.opened", "wait.reminded", "wait.assigned", "wait.resolved", "wait.timed_out"),
    *("run.failed", "run.blocked"),
]
TARGETS = read_targets(
    {
        "oncall": {"type": "command", "command": ["tell"], "events": ALL},
        "archive": {"type": "command", "command": ["tell"], "events": ALL, "detail": "full"},
        "leads": {
            "type": "command",
            "command": ["tell"],
            "events": ["wait.opened", "wait.due_soon"],
            "filter": "priority:high",
            "links": "lead",
            "due_soon": "10s",
        },
    },
    "the simulator",
)
TOLD_ALL = ("oncall", "archive")
"""Targets that are told every event."""


class SimulatedReceiver:
    """One target's `helmr_runtime.notices.content.Sender`, as the world has it."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    async def send(self, notice: Notice) -> None:
        world, random = self._world, self._world.receiving
        await asyncio.sleep(random.random() * 0.05)
        if world.scheduler.now_s < world.receivers_fail_until_s.get(self._name, 0.0):
            world.counts.reached("notice not taken")
            raise NotTaken("it fails")
        world.invariants.notices.taken(self._name, notice.id, is_late=notice.late)
        world.told_link(notice.data.get("link"), notice.data.get("wait_id"))
        await asyncio.sleep(random.random() * 0.05)
        if not world.is_calm and random.random() < 0.03:
            world.counts.reached("notice taken unheard")
            raise NotTaken("its answer was lost")


def receivers(world: World) -> list[tuple[Target, Sender]]:
    """The targets, with who stands for them."""
    return [(target, SimulatedReceiver(world, target.name)) for target in TARGETS]
