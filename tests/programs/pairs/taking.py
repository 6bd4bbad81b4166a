"""Takes a history of a pair: clients and faults over one store, then a look at everything that is left."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.programs.benchmarks.processes import free_port
from tests.programs.histories import history_tasks
from tests.programs.histories.clients import MIX as MIXED
from tests.programs.histories.clients import HistoryClient, Pace, World
from tests.programs.histories.history import Call
from tests.programs.histories.nemesis import whole
from tests.programs.histories.taking import look_at_all, write_people
from tests.programs.histories.transport import lean, patient
from tests.programs.pairs.nemesis import PAUSE_S, Done, PairNemesis, Superseded
from tests.programs.pairs.times import Happened
from tests.stack.live import LiveRuntime
from tests.stack.paired import Machines, Store, open_store

CALLS_PER_S = 85.0
"""Six of ten are answers that are accepted: sends, answers of waits, uses of tokens, completions and votes."""
CLIENTS = 24
SESSIONS = 40
MIX = {**MIXED, "send": 34.0, "answer": 16.0, "use": 14.0, "read_log": 3.0, "read_session": 12.0}
"""More answers than elsewhere: a read behind a write costs several of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a history of a pair is taken.

    Args:
        store: What kind of store.
        seed: Of clients and faults. Processes are scheduled by the machine: a seed does not repeat a history.
        takeovers: How many at most.
        seconds: For how long at most.
        calls_per_s: What all clients do together, at most.
        clients: How many call at once, with both addresses; besides one for each address that knows no other.
        sessions: How many are live at once.
        kinds: What may be done to the pair; None: everything.
        pause_s: How long a primary is paused.
        in_process: Each runtime is one process.
        logs: Where the runtimes' logs are kept.
    """

    store: str = "seaweed"
    seed: int = 1
    takeovers: int = 1_000
    seconds: float = 60.0
    calls_per_s: float = CALLS_PER_S
    clients: int = CLIENTS
    sessions: int = SESSIONS
    kinds: frozenset[str] | None = None
    pause_s: float = PAUSE_S
    in_process: bool = True
    logs: Path | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A history, and what was done meanwhile.

    Attributes:
        calls: What clients did and were told.
        happened: The faults.
        unfinished: Runs that had been given all they asked for and had not ended when the history was closed.
        marked: Reads that said that they may be stale.
        load_s: How long clients called.
    """

    calls: list[Call]
    happened: list[Happened]
    unfinished: int
    marked: int
    load_s: float


class NoStore(Exception):
    """It is not installed."""


def take(folder: Path, plan: Plan) -> Taken:
    """Take one, in an empty folder.

    Raises:
        NoStore: The plan's store is not installed.
        AssertionError: A runtime does not start, take over or come back.
    """
    with ExitStack() as stack:
        store = stack.enter_context(open_store(plan.store, folder, has_cuts=plan.store != "folder"))
        if store is None:
            raise NoStore(plan.store)
        people = write_people(folder)
        machines = Machines(
            folder,
            store.urls,
            ports=(free_port(), free_port()),
            tasks=Path(history_tasks.__file__),
            beside=[people],
            hosts=1 if plan.in_process else 2,
            sessions_per_host=max(2, plan.sessions),
            linger="500ms",
            in_process=plan.in_process,
        )
        stack.callback(machines.close)
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        try:
            return runner.run(_take(machines, store, plan))
        finally:
            if plan.logs is not None:
                _keep_logs(machines, plan.logs)


def _keep_logs(machines: Machines, folder: Path) -> None:
    for live in machines.both:
        kept = folder / live.folder.name
        kept.mkdir(parents=True, exist_ok=True)
        for path in (live.folder / "up.log", *(live.data_dir / "logs").glob("*.log")):
            if path.exists():
                shutil.copy(path, kept)


async def _take(machines: Machines, store: Store, plan: Plan) -> Taken:
    await whole(machines.start)
    await whole(lambda: machines.stand_by(machines.second))
    addresses = [one.credentials.url for one in machines.both]
    key = machines.first.client.keys.create(role="admin", name="clients").secret
    world = World(plan.seed, plan.sessions, MIX, pace=Pace(plan.calls_per_s))
    nemesis = PairNemesis(
        machines,
        store,
        world,
        kinds=plan.kinds,
        pause_s=plan.pause_s,
        in_process=plan.in_process,
    )
    ways = [patient(*addresses)] * plan.clients + [lean(one) for one in addresses]
    ran = _steps_of(machines, nemesis.done.superseded)
    wall_ns = time.monotonic_ns() - time.time_ns()
    clients = [
        HistoryClient(number, way, key, world, ran, wall_ns) for number, way in enumerate(ways)
    ]
    began_s, is_ended = time.monotonic(), asyncio.Event()

    def is_over(done: Done) -> bool:
        return done.takeovers >= plan.takeovers or time.monotonic() - began_s > plan.seconds

    async def hurt() -> None:
        await nemesis.act(is_over)
        is_ended.set()

    try:
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.live(is_ended.is_set))
            group.create_task(hurt())
        load_s = time.monotonic() - began_s
        world.pace = None
        unfinished = await look_at_all(clients[0], world)
    finally:
        for client in clients:
            await client.close()
    return Taken(world.calls, nemesis.done.happened, unfinished, world.marked, load_s)


def _steps_of(machines: Machines, superseded: list[Superseded]) -> Callable[[str], list[int]]:
    """When the body of the step with a key began, at either runtime.

    What a superseded one began that had been opened before runs beside its repetition (S-97) and is left out.
    """

    def began(live: LiveRuntime, key: str) -> list[int]:
        path = live.marks / f"step-{key}"
        lines = path.read_text().split() if path.exists() else []
        beside = [(one.since_ns, one.until_ns) for one in superseded if one.live is live]
        return [
            at
            for at in map(int, lines)
            if not any(since_ns <= at <= until_ns for since_ns, until_ns in beside)
        ]

    return lambda key: sorted(at for live in machines.both for at in began(live, key))
