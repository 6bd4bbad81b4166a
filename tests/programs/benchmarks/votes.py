"""What a vote costs beside an answer: `python -m tests.programs.benchmarks.votes [--sessions 40] [--rounds 12]`.

One runtime, one caller. In turns, so that the machine is the same to all of them: an answer to each of so many waits
that anyone may answer, to each that one of a group may answer, a first vote on each that two must agree on, and the
second, which ends it. docs/performance.md shows its numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.programs.benchmarks.processes import Meter
from tests.programs.benchmarks.systems.helmr import Helmr, HelmrInProcess

TASKS = Path(__file__).parent / "apps" / "helmr_vote_tasks.py"
PEOPLE = """
[people.ada]
groups = ["finance"]
[people.eve]
groups = ["finance"]
"""
DATA = {"decision": "approve", "cents": 4200, "note": "x" * 150}
KINDS = {
    "an answer of anyone": ("of-anyone", "ada", True),
    "an answer of one of a group": ("of-one", "ada", True),
    "a first vote": ("of-two", "ada", False),
    "the vote that ends it": ("of-two", "eve", True),
}
"""What is measured: the task, who sends it, whether it ends the wait."""
Took = dict[str, dict[str, float]]
"""By kind, each number by its name."""


class Voting:
    """Sessions of a runtime that wait, one wait each."""

    def __init__(self, system: Helmr) -> None:
        self._system = system
        self._keys: dict[str, dict[str, str]] = {}
        self._waits: dict[str, str] = {}
        """By session, its wait that is open."""
        self._opened = asyncio.Condition()
        self.sessions: dict[str, list[str]] = {}

    async def begin(self, count: int, times: int) -> None:
        """Start so many sessions of each task, and the people's keys."""
        for person in ("ada", "eve"):
            made = await self._system.post("/v1/api-keys", {"person": person})
            self._keys[person] = {"Authorization": f"Bearer {made['secret']}"}
        for task in {task for task, _, _ in KINDS.values()}:
            self.sessions[task] = [await self._system.begin(task, times) for _ in range(count)]

    async def follow(self, connected: asyncio.Event) -> None:
        """Hear which waits open."""
        async for line in self._system.lines("/v1/events", connected):
            entry = json.loads(line)
            if entry["kind"] == "wait.opened":
                async with self._opened:
                    self._waits[entry["session_id"]] = entry["body"]["wait_id"]
                    self._opened.notify_all()

    async def all_wait(self) -> None:
        """Return when each session has a wait that is open."""
        count = sum(map(len, self.sessions.values()))
        async with self._opened:
            await self._opened.wait_for(lambda: len(self._waits) == count)

    async def answer(self, session: str, person: str, *, ends: bool) -> float:
        """Seconds to the receipt."""
        wait = self._waits.pop(session) if ends else self._waits[session]
        began_s = time.perf_counter()
        url = f"{self._system.url}/v1/waits/{wait}/answer"
        async with self._system.http.post(
            url, json={"data": DATA}, headers=self._keys[person]
        ) as answer:
            answer.raise_for_status()
            said = await answer.json()
        assert (said["outcome"] == "voted") is not ends, said
        return time.perf_counter() - began_s


async def measure(system: Helmr, folder: Path, sessions: int, rounds: int) -> Took:
    """Milliseconds of each kind: to the receipt, and the servers' CPU until every session waits again."""
    took_s: dict[str, list[float]] = {kind: [] for kind in KINDS}
    cpu_s = dict.fromkeys(KINDS, 0.0)
    try:
        await system.start(folder)
        voting, connected = Voting(system), asyncio.Event()
        following = asyncio.create_task(voting.follow(connected))
        await connected.wait()
        await voting.begin(sessions, rounds + 2)
        for number in range(rounds + 1):
            for kind, (task, person, ends) in KINDS.items():
                await voting.all_wait()
                meter = Meter(system.roots())
                found = [
                    await voting.answer(session, person, ends=ends)
                    for session in voting.sessions[task]
                ]
                await voting.all_wait()
                if number:  # the first is to warm up
                    cpu_s[kind] += meter.stop()[1]
                    took_s[kind] += found
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    finally:
        await system.stop()
    return {
        kind: {
            "p50": 1000 * statistics.median(took_s[kind]),
            "p95": 1000 * statistics.quantiles(took_s[kind], n=20)[-1],
            "cpu": 1000 * cpu_s[kind] / len(took_s[kind]),
        }
        for kind in KINDS
    }


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--in-process", action="store_true")
    asked = parser.parse_args()
    system = (HelmrInProcess if asked.in_process else Helmr)(TASKS)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "helmr.toml").write_text(PEOPLE)
        found = asyncio.run(measure(system, Path(folder), asked.sessions, asked.rounds))
    for kind, took in found.items():
        shown = ", ".join(f"{name} {value:.2f} ms" for name, value in took.items())
        sys.stdout.write(f"{kind}: {shown}\n")


if __name__ == "__main__":
    main()
