"""Takes a history: clients and faults on a real runtime, then a look at everything that is left."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from helmr.client import AsyncClient
from helmr.client.endpoint import Endpoint
from tests import preloaded
from tests.ledger import failing_sync
from tests.programs.histories import history_tasks
from tests.programs.histories.asking import LimitedSessions
from tests.programs.histories.clients import PEOPLE, STREAMS, HistoryClient, World
from tests.programs.histories.history import Call, Kind
from tests.programs.histories.nemesis import BETWEEN_S, Means, Nemesis, small_disk, whole
from tests.programs.histories.stepped_clock import SteppedClock
from tests.programs.histories.transport import LeanTransport, lean
from tests.programs.histories.wire import Wire
from tests.stack.live import LiveRuntime

SETTLED_S = 180.0
"""After the last fault everything that was accepted is done within so long; a busy machine takes a minute to start."""
SETTLED_POLL_S = 0.2
LOOKS_AT_ONCE = 16


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
        between_s: How long it is left alone between two faults, at most.
        logs: Where the runtime's logs are kept if no history comes of it.
    """

    seed: int = 1
    seconds: float = 60.0
    calls: int = 1_000_000
    clients: int = 32
    sessions: int = 40
    has_faults: bool = True
    in_process: bool = False
    between_s: float = BETWEEN_S
    logs: Path | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A history, and what was done meanwhile."""

    calls: list[Call]
    unfinished: int
    """Runs that had been given all they asked for and had not ended when the history was closed."""

    @property
    def faults(self) -> Counter[str]:
        """How often each was done."""
        return Counter(call.target for call in self.calls if call.kind is Kind.FAULT)


def take(folder: Path, plan: Plan) -> Taken:
    """Take one, in an empty folder.

    Raises:
        AssertionError: The runtime does not start, or does not come back after a fault.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_take(folder, plan))


async def _take(folder: Path, plan: Plan) -> Taken:
    syncing = failing_sync.library(folder) or {}
    clock = SteppedClock.build(folder)
    people = write_people(folder)
    with small_disk() as disk:
        live = LiveRuntime(
            disk if disk is not None else folder,
            tasks=Path(history_tasks.__file__),
            beside=[people] if disk is not None else [],
            hosts=2,
            sessions_per_host=max(2, plan.sessions // 2),
            linger="500ms",
            in_process=plan.in_process,
            environ=preloaded.together(syncing, clock.environ if clock is not None else {}),
        )
        sync_fails = syncing.get(failing_sync.VARIABLE)
        means = Means(
            disk=disk,
            sync_fails=Path(sync_fails) if sync_fails is not None else None,
            clock=clock,
        )
        try:
            await whole(live.start)
            return await _taken(live, means, plan)
        except BaseException:
            if plan.logs is not None:
                shutil.copytree(live.data_dir / "logs", plan.logs, dirs_exist_ok=True)
                shutil.copy(live.folder / "up.log", plan.logs)
            raise
        finally:
            await asyncio.to_thread(_end, live)


def write_people(folder: Path) -> Path:
    """The file that says who they are, for a runtime in that folder."""
    path = folder / "helmr.toml"
    path.write_text("".join(f'[people.{one}]\ngroups = ["finance"]\n' for one in PEOPLE))
    return path


def _end(live: LiveRuntime) -> None:
    try:
        live.stop()
    except subprocess.TimeoutExpired:
        live.kill_all()  # a fault that was cut short may still be on
        raise


async def _taken(live: LiveRuntime, means: Means, plan: Plan) -> Taken:
    world = World(plan.seed, plan.sessions)
    wire = Wire(lambda: live.credentials.url)
    clock_is_set = plan.has_faults and means.clock is not None

    def ran(key: str) -> list[int]:
        path = live.marks / f"step-{key}"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    async with wire as url:
        key = live.credentials.key
        wall_ns = None if clock_is_set else time.monotonic_ns() - time.time_ns()
        clients = [
            HistoryClient(number, lean(url), key, world, ran, wall_ns)
            for number in range(plan.clients)
        ]
        nemesis = Nemesis(
            live, wire, world, means, in_process=plan.in_process, between_s=plan.between_s
        )
        endpoint = Endpoint(url=url, key=key, found_by="the history")
        asking = LimitedSessions(AsyncClient._over(LeanTransport(endpoint)), live.marks)
        try:
            async with asyncio.TaskGroup() as group:
                is_over = _ending(world, plan)
                for client in clients:
                    group.create_task(client.live(is_over))
                if plan.has_faults:
                    group.create_task(nemesis.act(is_over))
                group.create_task(asking.begin(is_over))
            unfinished = await look_at_all(clients[0], world)
            unfinished += await asking.end(SETTLED_S)
            world.calls += await asking.read()
        finally:
            for client in clients:
                await client.close()
            await asking.close()
    return Taken(world.calls, unfinished)


def _ending(world: World, plan: Plan) -> Callable[[], bool]:
    ending = time.monotonic() + plan.seconds
    return lambda: time.monotonic() > ending or len(world.calls) >= plan.calls


async def look_at_all(client: HistoryClient, world: World) -> int:
    """Read everything once more, when all that was accepted is done; how many runs it was not done for."""
    unfinished = list(world.places)
    ending = time.monotonic() + SETTLED_S
    while (unfinished := await client.unsettled(unfinished)) and time.monotonic() < ending:
        await asyncio.sleep(SETTLED_POLL_S)
    places = [*world.left, *world.places]
    for begin in range(0, len(places), LOOKS_AT_ONCE):
        some = places[begin : begin + LOOKS_AT_ONCE]
        await asyncio.gather(*(client.read_run(place) for place in some))
        for stream in STREAMS:
            await asyncio.gather(*(client.read_log(place, stream) for place in some))
        await asyncio.gather(*(client.read_token(place) for place in some))
    await client.read_uses({place.public_id for place in places})
    return len(unfinished)
