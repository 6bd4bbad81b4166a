"""Takes a history: clients and faults on a real runtime, then a look at everything that is left."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.histories import history_tasks
from tests.histories.clients import HistoryClient, World
from tests.histories.history import Call
from tests.histories.nemesis import Nemesis, Wire, small_disk
from tests.ledger import failing_sync
from tests.stack.live import LiveRuntime

SETTLED_S = 60.0
"""After the last fault everything that was accepted is done within so long."""
LOOKS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a history is taken.

    Args:
        seed: Of clients and faults. Processes are scheduled by the machine: a seed does not repeat a history.
        seconds: For how long, at most.
        calls: How many calls at most.
        clients: How many call at once.
        sessions: How many are live at once.
        has_faults: Whether anything is done to the runtime.
        in_process: Whether it is all in one process.
    """

    seed: int = 1
    seconds: float = 60.0
    calls: int = 1_000_000
    clients: int = 16
    sessions: int = 40
    has_faults: bool = True
    in_process: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A history, and what was done meanwhile."""

    calls: list[Call]
    faults: Counter[str]
    unfinished: int
    """Runs that had been given all they asked for and had not ended when the history was closed."""


async def take(folder: Path, plan: Plan) -> Taken:
    """Take one, in an empty folder."""
    environ = failing_sync.library(folder) or {}
    with small_disk() as disk:
        live = LiveRuntime(
            disk if disk is not None else folder,
            tasks=Path(history_tasks.__file__),
            hosts=2,
            sessions_per_host=max(2, plan.sessions // 2),
            linger="500ms",
            in_process=plan.in_process,
            environ=environ,
        )
        await asyncio.to_thread(live.start)
        try:
            return await _taken(live, disk, environ.get(failing_sync.VARIABLE), plan)
        finally:
            await asyncio.to_thread(live.stop)


async def _taken(live: LiveRuntime, disk: Path | None, sync_fails: str | None, plan: Plan) -> Taken:
    world = World(plan.seed, plan.sessions)
    ending = time.monotonic() + plan.seconds

    def is_over() -> bool:
        return time.monotonic() > ending or len(world.calls) >= plan.calls

    wire = Wire(live)
    async with wire as url:
        key = live.credentials.key
        clients = [HistoryClient(number, url, key, world) for number in range(plan.clients)]
        nemesis = Nemesis(
            live,
            wire,
            plan.seed,
            world.calls,
            disk=disk,
            sync_fails=Path(sync_fails) if sync_fails is not None else None,
        )
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.live(is_over))
            if plan.has_faults:
                group.create_task(nemesis.act(is_over))
        unfinished = await _look_at_all(clients[0], world, live.marks)
        for client in clients:
            await client.close()
    return Taken(world.calls, nemesis.done, unfinished)


async def _look_at_all(client: HistoryClient, world: World, marks: Path) -> int:
    """Read everything once more, when all that was accepted is done; how many runs it was not done for."""
    unfinished = list(world.places)
    ending = time.monotonic() + SETTLED_S
    while (unfinished := await client.unsettled(unfinished)) and time.monotonic() < ending:
        await asyncio.sleep(0.5)

    def ran(key: str) -> list[int]:
        path = marks / f"step-{key}"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    places = [*world.left, *world.places]
    for begin in range(0, len(places), LOOKS_AT_ONCE):
        some = places[begin : begin + LOOKS_AT_ONCE]
        await asyncio.gather(*(client.read_log(place) for place in some))
        await asyncio.gather(*(client.read_token(place) for place in some))
        await asyncio.gather(*(client.read_run(place, ran) for place in some))
    await client.read_uses({place.public_id for place in places})
    return len(unfinished)
