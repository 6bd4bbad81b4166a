"""What one operation costs each of a runtime's processes: `python -m tests.programs.benchmarks.cpu_probe`.

Processor time is what this tells and not the time that goes by: it drifts less beside other work. The memory is that of
a runtime of which nothing has been asked.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from pathlib import Path

import psutil

from tests.programs.benchmarks import cases
from tests.programs.benchmarks.processes import tree
from tests.programs.benchmarks.systems.base import CALLERS, at_once, started
from tests.programs.benchmarks.systems.helmr import Helmr

SETTLE_S = 2.0
"""A start goes on for so long after it says that it is ready."""

ROLES = ("gateway", "directory", "ledger", "host")


@lru_cache
def role(process: psutil.Process) -> str:
    """What a process of a runtime is: by the socket that it answers at, or its command line."""
    command = " ".join(process.cmdline())
    if command.startswith("ray::"):
        sockets = (Path(at.laddr).name for at in process.net_connections("unix"))
        return next((name for at in sockets for name in ROLES if name in at), "ray")
    if "helmr.cli up" in command:
        return "supervisor"
    return "watchdog" if "watchdog" in command else "ray"


def by_role(roots: Iterable[int], read: Callable[[psutil.Process], float]) -> dict[str, float]:
    """What is read of each process, added up for each role."""
    found: dict[str, float] = defaultdict(float)
    for process in tree(roots):
        try:
            found[role(process)] += read(process)
        except psutil.Error:
            continue
    return found


def cpu_s(process: psutil.Process) -> float:
    """Processor time so far; finer than what psutil reads, which counts hundredths of a second."""
    total_ns = 0
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        try:
            total_ns += int((thread / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return total_ns / 1e9


def pss_mb(process: psutil.Process) -> float:
    """Memory, shared pages divided among those that share them."""
    return float(process.memory_full_info().pss) / 1e6


class Probe:
    """Counts what a runtime's processes use while something is done."""

    def __init__(self, system: Helmr) -> None:
        self._system = system

    async def measure(self, title: str, operations: int, work: Awaitable[object]) -> None:
        """Do it and print milliseconds an operation."""
        before = by_role(self._system.roots(), cpu_s)
        await work
        after = by_role(self._system.roots(), cpu_s)
        used = {name: 1000 * (after[name] - before[name]) / operations for name in after}
        print_row(title, used)


def print_row(title: str, values: dict[str, float]) -> None:
    """One line: the sum, and each role's part."""
    parts = "  ".join(f"{name} {values[name]:.2f}" for name in sorted(values) if values[name] > 0)
    print(f"{title:34} {sum(values.values()):8.2f}   {parts}", flush=True)


async def probe(folder: Path, scale: int, *, parks: bool) -> None:
    """All of it, once."""
    system = Helmr()
    await system.start(folder)
    try:
        await asyncio.sleep(SETTLE_S)
        print_row("memory when idle, MB", by_role(system.roots(), pss_mb))
        print("processor time, ms each:")
        await operations(system, scale, parks=parks)
        print_row("memory after, MB", by_role(system.roots(), pss_mb))
    finally:
        await system.stop()


class WithoutRoom(Helmr):
    """A runtime with room for the code of one session."""

    arguments = ("--sessions-per-host=1",)


async def starts_alone(folder: Path, scale: int) -> None:
    """Starts to their acknowledgement, and nothing behind it: one session runs, and all others wait for room."""
    system = WithoutRoom()
    await system.start(folder)
    try:
        await system.begin_busy(3_600.0)
        await asyncio.sleep(SETTLE_S)

        async def start_one_by_one(count: int) -> None:
            for _ in range(count):
                await system.begin_chat(1)

        await start_one_by_one(cases.WARM_ANSWERS)
        count = 100 * scale
        title = "start acknowledged, alone, no room"
        await Probe(system).measure(title, count, start_one_by_one(count))
    finally:
        await system.stop()


async def operations(system: Helmr, scale: int, *, parks: bool) -> None:
    """Each kind of operation; the first answers are not counted."""
    probe = Probe(system)
    alone, crowd, turns = 100 * scale, 16, 20 * scale
    [talker] = await started(system, 1, alone + cases.WARM_ANSWERS)
    talkers = await started(system, crowd, turns + cases.WARM_ANSWERS)

    async def talk(session: str, numbers: range) -> None:
        for turn in numbers:
            await cases.exchange(system, session, turn)

    async def all_talk(numbers: range) -> None:
        await asyncio.gather(*(talk(session, numbers) for session in talkers))

    warm = range(cases.WARM_ANSWERS)
    await talk(talker, warm)
    await all_talk(warm)
    last = cases.WARM_ANSWERS + alone
    await probe.measure("answer alone", alone, talk(talker, range(len(warm), last)))
    last = cases.WARM_ANSWERS + turns
    await probe.measure("answer, 16 hot", crowd * turns, all_talk(range(len(warm), last)))

    async def start_one_by_one() -> None:
        for _ in range(alone):
            await started(system, 1, 1)

    await probe.measure("start to first wait, alone", alone, start_one_by_one())
    count = 150 * scale
    waiting: list[str] = []

    async def start_many() -> None:
        waiting.extend(await started(system, count, 1))

    await probe.measure("start to first wait, 16 callers", count, start_many())

    async def answer_all() -> None:
        ends = [asyncio.ensure_future(system.ended(session)) for session in waiting]

        async def answer(number: int) -> None:
            await system.send(waiting[number], 0, cases.MESSAGE)

        await at_once(count, CALLERS, answer)
        await asyncio.gather(*ends)

    await probe.measure("answer to the run's end", count, answer_all())
    if not parks:
        return
    waiting.clear()
    await start_many()
    await probe.measure("parking", count, system.parked())
    await probe.measure("answer when parked, to the end", count, answer_all())


def main() -> None:
    """Measure in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=1, help="how many times as much is done")
    parser.add_argument(
        "--no-parking", action="store_true", help="leave out what takes half a minute"
    )
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="helmr-cpu-"))
    try:
        for name, work in (
            ("all", lambda at: probe(at, chosen.scale, parks=not chosen.no_parking)),
            ("alone", lambda at: starts_alone(at, chosen.scale)),
        ):
            (folder / name).mkdir()
            asyncio.run(work(folder / name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
