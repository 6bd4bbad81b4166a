"""What a turn of a long chat costs, live over HTTP: `python -m tests.programs.benchmarks.chats [TASK…] [--turns 10]`.

Each chat of `tests/integrations/long_chats.py` in one process, or on Ray (`--ray`); a line for each size, in
milliseconds of wall and of CPU: hot turns, turns after a park, and turns of the framework alone behind the same
conversation, each after a hot one: in a loop of their own they would find all they need in the processor's caches. They
are measured twice, in a process of their own ("alone") and in that of the runtime ("beside"), which is larger and has
its settings. `--own` measures what Helmr adds, and nothing else: hot turns less one beside, taken in turns; and in one
process the CPU of the runtime's loop, in whose thread no framework computes. `--resumes` measures what a resume takes
where a run has one turn, ten, or all of them. docs/chats.md shows its numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from helmr.integrations.conversation import folded
from tests.integrations.long_chats import BARE, Turn
from tests.programs.benchmarks.apps.chat_alone_tasks import SETTLES_S
from tests.stack.live import LiveRuntime, until

HOT, PARKED = 9, 5
"""Turns of each kind that are measured."""

NEAR = 5
"""Turns before and after one that count as that one, of 400 as many as a tenth; and turns for which the framework alone
stays behind the same conversation."""


class Took(NamedTuple):
    """Milliseconds of a turn."""

    wall: float
    cpu: float
    loop: float = 0.0
    """CPU of the runtime's loop, where it has one process."""


class Chat:
    """One session of a runtime that parks what waits for 0.7 s."""

    def __init__(self, live: LiveRuntime, task: str, every: int = 1) -> None:
        self._live = live
        self._task = task
        self._cpu_clocks = [cpu_clock_of(pid) for pid in computing(live)]
        self._loops = computing(live) if live.is_in_process else []
        started = live.client.sessions.start(task, every)
        self.session = live.client.sessions.open(started.session.id)
        self._entries = self.session.follow()
        self.turns = 0
        self._until("wait.opened")

    def say(self) -> Took:
        """One turn, until its reply is seen and the code waits again."""
        self.turns += 1
        cpu_s, loop_ms = self._cpu_s(), self._loop_ms()
        began_s = time.perf_counter()
        self.session.input("messages").send(f"pen {self.turns:04}")
        said = ""
        while not said.startswith(f"{self.turns}:"):
            said = str(self._until("output.appended").body["data"])
        wall_s = time.perf_counter() - began_s
        self._until("wait.opened")
        return Took(wall_s * 1000, (self._cpu_s() - cpu_s) * 1000, self._loop_ms() - loop_ms)

    def _cpu_s(self) -> float:
        return sum(map(time.clock_gettime, self._cpu_clocks))

    def _loop_ms(self) -> float:
        return sum(map(first_thread_ms, self._loops))

    def _until(self, kind: str) -> Any:
        """The next entry of that kind, from one follower: to ask again and again would be measured too."""
        return next(entry for entry in self._entries if entry.kind == kind)

    def say_parked(self) -> Took:
        """One turn of a session that is on disk alone."""
        until(lambda: self._live.live_sessions() == 0, within_s=60, what="a park")
        return self.say()

    def resume_ms(self, turns: int) -> float:
        """CPU of the resume for that turn, as the runtime measures it."""
        while self.turns < turns - 1:
            self.say()
        before = resumed(self._live)
        self.say_parked()
        until(lambda: resumed(self._live)[0] > before[0], within_s=60, what="it is measured")
        return 1000 * (resumed(self._live)[1] - before[1])

    def measure(self, turns: int) -> dict[str, Any]:
        """All numbers at that size."""
        while self.turns < turns - HOT:
            self.say()
        before = self.session.get().last_seq
        said = [record.data for record in self.session.output("turns").read()]
        items = folded(said, "turns")
        beside_it = Beside(self._live, self._task, items)
        hot, alone, beside = [], [], []
        with asyncio.Runner() as runner:
            turn = runner.run(BARE[self._task](items))
            for _ in range(HOT):
                hot.append(self.say())
                alone.append(runner.run(took(turn)))
                beside.append(beside_it.say())
        entries = list(self.session.transcript(after=before))
        size = sum(len(json.dumps(one.body, separators=(",", ":"), default=str)) for one in entries)
        parked = [self.say_parked() for _ in range(PARKED)]
        found = {"hot": hot, "parked": parked, "alone": alone, "beside": beside}
        return {"bytes": size // HOT, **{name: middle(taken) for name, taken in found.items()}}

    def pairs(self, turns: int) -> Iterator[tuple[Took, Took]]:
        """Turns about that one, each with one of the framework alone behind the same conversation."""
        near = max(NEAR, turns // 10)
        while self.turns < turns - near:
            self.say()
        while self.turns < turns + near:
            said = [record.data for record in self.session.output("turns").read()]
            beside = Beside(self._live, self._task, folded(said, "turns"))
            beside.say()  # it gets ready
            for _ in range(NEAR):
                time.sleep(SETTLES_S)  # as the one beside waits
                yield self.say(), beside.say()


class Beside:
    """The framework alone, behind the same conversation, in the process of the runtime."""

    def __init__(self, live: LiveRuntime, task: str, items: list[Any]) -> None:
        with tempfile.NamedTemporaryFile(
            "w", dir=live.folder, suffix=".json", delete=False
        ) as file:
            json.dump(items, file)
        started = live.client.sessions.start("alone", [task, file.name])
        self._session = live.client.sessions.open(started.session.id)
        self._entries = self._session.follow()

    def say(self) -> Took:
        """One turn, until its code waits again: what it leaves to do would count as the next one's."""
        self._session.input("asks").send("go on")
        found = next(entry for entry in self._entries if entry.kind == "output.appended")
        next(entry for entry in self._entries if entry.kind == "wait.opened")
        return Took(*found.body["data"])


async def took(turn: Turn) -> Took:
    """One turn of the framework."""
    cpu_s, began_s = time.process_time(), time.perf_counter()
    await turn()
    wall_s = time.perf_counter() - began_s
    return Took(wall_s * 1000, (time.process_time() - cpu_s) * 1000)


def computing(live: LiveRuntime) -> list[int]:
    """The processes of a runtime in which its own code runs."""
    if live.is_in_process:
        return live.pids()[:1]
    return [*live.host_pids(), *(live.pid_of(kind) for kind in ("ledger", "directory", "gateway"))]


def cpu_clock_of(pid: int) -> int:
    """Linux's clock of a process's CPU, in nanoseconds; psutil counts in ticks of 10 ms."""
    return (~pid << 3) | 2


def first_thread_ms(pid: int) -> float:
    """CPU of the thread that a process begins with, from Linux; no clock tells that of another process's thread."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e6


def resumed(live: LiveRuntime) -> tuple[float, float]:
    """How many resumes there were, and the seconds of CPU of all."""
    found = live.credentials
    headers = {"Authorization": f"Bearer {found.key}"}
    lines = httpx.get(f"{found.url}/metrics", headers=headers).text.splitlines()
    said = dict(line.rsplit(" ", 1) for line in lines if line.startswith("helmr_resume_seconds_"))
    return float(said["helmr_resume_seconds_count"]), float(said["helmr_resume_seconds_sum"])


def own(live: LiveRuntime, task: str, turns: int, count: int) -> dict[str, Any]:
    """What Helmr adds to a hot turn, of so many pairs: the median of the differences, and where it is with 95 %."""
    chats = iter(lambda: Chat(live, task), None)
    pairs = list(islice((pair for chat in chats for pair in chat.pairs(turns)), count))
    found: dict[str, Any] = {"pairs": count}
    for name in ("wall", "cpu"):
        hot, beside = ([getattr(one[which], name) for one in pairs] for which in (0, 1))
        found[name] = spread(list(map(float.__sub__, hot, beside)))
        found[f"{name} hot, beside"] = [round(statistics.median(one), 1) for one in (hot, beside)]
    if live.is_in_process:
        found["cpu of the loop"] = spread([hot.loop for hot, _ in pairs])
    return found


def spread(values: list[float]) -> str:
    """The median, its interval of 95 % (by rank, for any distribution), and the quartiles."""
    ordered = sorted(values)
    low, half, high = statistics.quantiles(ordered, n=4)
    off = round(0.98 * len(ordered) ** 0.5)
    half_way, last = len(ordered) // 2, len(ordered) - 1
    least, most = ordered[max(0, half_way - off)], ordered[min(last, half_way + off)]
    return f"{half:.1f} (95 %: {least:.1f} to {most:.1f}; half of them: {low:.1f} to {high:.1f})"


EVERY = {"a run a turn": (1, 400), "a run for ten turns": (10, 100), "one run for all": (0, 200)}
"""How long a run is, and up to which turn that is measured."""


def show_resumes(live: LiveRuntime, turns: list[int]) -> None:
    """Of the first chat."""
    for name, (every, most) in EVERY.items():
        chat = Chat(live, next(iter(BARE)), every)
        for size in (size for size in turns if size <= most):
            sys.stdout.write(f"{name}, resume at turn {size}: {chat.resume_ms(size):.1f} ms\n")
            sys.stdout.flush()


def middle(taken: list[Took]) -> Took:
    """The medians: a turn in which all of memory is looked through for garbage counts no more than another."""
    walls, cpus, loops = zip(*taken, strict=True)
    return Took(*(round(statistics.median(one), 1) for one in (walls, cpus, loops)))


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", nargs="*", default=list(BARE))
    parser.add_argument("--turns", default="10,50,200,400")
    parser.add_argument("--resumes", action="store_true")
    parser.add_argument("--own", type=int, metavar="PAIRS")
    parser.add_argument("--ray", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        live = LiveRuntime(
            Path(folder),
            modules=[
                "tests.integrations.long_chats",
                "tests.programs.benchmarks.apps.chat_alone_tasks",
            ],
            in_process=not asked.ray,
            linger="700ms",
            is_cold=True,
        ).start()
        try:
            if asked.resumes:
                show_resumes(live, [int(size) for size in asked.turns.split(",")])
                return
            for task in asked.tasks:
                if asked.own:
                    for turns in map(int, asked.turns.split(",")):
                        sys.stdout.write(
                            f"{task}, own at turn {turns}: {own(live, task, turns, asked.own)}\n"
                        )
                        sys.stdout.flush()
                    continue
                chat = Chat(live, task)
                for turns in map(int, asked.turns.split(",")):
                    sys.stdout.write(f"{task} at turn {turns}: {chat.measure(turns)}\n")
                    sys.stdout.flush()
        finally:
            live.stop()


if __name__ == "__main__":
    main()
