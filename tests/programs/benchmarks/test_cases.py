"""The cases against a system in memory, and one of them against a real Helmr."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.programs.benchmarks.__main__ import pin
from tests.programs.benchmarks.cases import CASES, WARM_ANSWERS
from tests.programs.benchmarks.options import parse
from tests.programs.benchmarks.processes import Server, tree
from tests.programs.benchmarks.systems import SYSTEMS
from tests.programs.benchmarks.systems.base import INBOX, Missing, System
from tests.programs.benchmarks.systems.helmr import Helmr
from tests.programs.benchmarks.systems.restate import Restate

ROOT = Path(__file__).parents[3]
OPTIONS = parse(["--quick"], systems=tuple(SYSTEMS), cases=tuple(CASES))


class InMemory(System):
    """Answers at once, and knows how it was used."""

    name = "memory"
    parks = True

    def __init__(self, *, hangs: int = 0) -> None:
        self._numbers = itertools.count()
        self._replies: dict[tuple[str, int], asyncio.Future[str]] = {}
        self.sent: list[tuple[str, int]] = []
        self.at_once = self.at_once_max = 0
        self.has_parked = False
        self.held = self.restarts = 0
        self._hangs = hangs

    @classmethod
    def check(cls) -> None: ...

    async def start(self, folder: Path) -> None: ...

    async def stop(self) -> None: ...

    def roots(self) -> list[int]:
        return [os.getpid()]

    def settings(self) -> dict[str, str]:
        return {}

    async def begin_chat(self, turns: int) -> str:
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        await asyncio.sleep(0)
        self.at_once -= 1
        return f"chat-{next(self._numbers)}"

    async def begin_busy(self, duration_s: float) -> str:
        return f"busy-{next(self._numbers)}"

    async def begin_steps(self) -> str:
        return await self.begin_chat(0)

    async def waits(self, session: str) -> None: ...

    def _reply(self, session: str, turn: int) -> asyncio.Future[str]:
        future = asyncio.get_running_loop().create_future()
        return self._replies.setdefault((session, turn), future)

    async def send(self, session: str, turn: int, message: str) -> None:
        self.sent.append((session, turn))
        self._reply(session, turn).set_result(message)

    async def reply(self, session: str, turn: int) -> str:
        return await self._reply(session, turn)

    async def ended(self, session: str) -> None:
        if int(session.rpartition("-")[2]) < self._hangs:
            await asyncio.Event().wait()

    async def parked(self) -> None:
        self.has_parked = True

    async def hold(self, count: int) -> str:
        self.held = count
        return await super().hold(count)

    async def restart(self) -> None:
        self.restarts += 1

    async def inbox(self) -> int:
        return min(INBOX, self.held)

    async def send_by_command(self, session: str, message: str) -> None:
        await self.send(session, sum(one == session for one, _ in self.sent), message)


@pytest.fixture
def system() -> InMemory:
    return InMemory()


@pytest.mark.parametrize(("case", "size"), [("a", 1), ("b", 8)])
async def test_hot_callers_send_and_see_each_reply(system: InMemory, case: str, size: int) -> None:
    sizes = OPTIONS.sizes
    answers = sizes.hot_answers if size == 1 else sizes.crowd_answers
    found = await CASES[case].run(system, size, OPTIONS)
    assert found.operations == found.wanted == size * answers
    assert len(found.visible_s) == len(found.acknowledged_s) == size * answers
    assert all(a <= v for a, v in zip(found.acknowledged_s, found.visible_s, strict=True))
    turns = WARM_ANSWERS + answers
    assert len(system.sent) == len(set(system.sent)) == size * turns


async def test_starts_have_sixteen_callers(system: InMemory) -> None:
    found = await CASES["c"].run(system, 40, OPTIONS)
    assert (found.operations, system.at_once_max) == (40, 16)


@pytest.mark.parametrize("case", ["d", "d-parked"])
async def test_each_waiting_session_is_answered_once(system: InMemory, case: str) -> None:
    found = await CASES[case].run(system, 20, OPTIONS)
    assert found.operations == 20
    assert sorted(system.sent) == sorted({(session, 0) for session, _ in system.sent})
    assert system.has_parked == (case == "d-parked")


async def test_running_sessions_are_counted_when_the_time_is_up() -> None:
    found = await CASES["e"].run(InMemory(), 20, OPTIONS)
    assert found.operations == found.wanted == 20
    left = await CASES["e"].run(InMemory(hangs=3), 20, replace(OPTIONS, limit_s=0.05))
    assert (left.operations, left.wanted) == (17, 20)


def test_a_missing_server_is_told_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Missing, match=r"npm install --prefix \.bench @restatedev/restate-server$"):
        Restate.check()


@pytest.mark.allows_blocking
def test_what_outlives_its_server_is_ended_with_it(tmp_path: Path) -> None:
    """A worker of a server that ends without ending it."""
    worker = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    )
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    log = tmp_path / "log"
    command = [sys.executable, "-c", program]
    server = Server(command, log, environment=os.environ, cwd=tmp_path)
    ending = time.monotonic() + 20
    while not log.read_text() and time.monotonic() < ending:
        time.sleep(0.01)
    (_, left) = list(tree([server.pid]))
    server.stop()
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE


async def test_a_slow_system_gives_fewer_hot_answers(system: InMemory) -> None:
    slow = type("Slow", (InMemory,), {"pace": 10})()
    found = await CASES["a"].run(slow, 1, OPTIONS)
    assert found.operations == OPTIONS.sizes.hot_answers // 10


async def test_steps_are_run_by_so_many_callers(system: InMemory) -> None:
    found = await CASES["f"].run(system, 4, OPTIONS)
    assert found.operations == len(found.visible_s) == 4 * OPTIONS.sizes.step_runs
    assert system.at_once_max == 4


async def test_memory_is_told_for_live_and_for_parked_sessions(system: InMemory) -> None:
    found = await CASES["g"].run(system, 20, OPTIONS)
    assert set(found.extra) == {"idle MB", "KB a live session", "KB a parked session"}
    stays = type("Stays", (InMemory,), {"parks": False})()
    assert "KB a parked session" not in (await CASES["g"].run(stays, 20, OPTIONS)).extra


async def test_after_a_restart_the_inbox_is_read_and_a_session_answered(system: InMemory) -> None:
    found = await CASES["h"].run(system, 100, OPTIONS)
    assert (system.restarts, system.held) == (1, 100)
    assert set(found.extra) == {"first inbox page ms", "first answer visible ms"}
    assert len(system.sent) == 1


async def test_late_turns_come_behind_the_earlier_ones(system: InMemory) -> None:
    found = await CASES["i"].run(system, 20, OPTIONS)
    late = OPTIONS.sizes.late_turns
    assert found.operations == late
    assert [turn for _, turn in system.sent] == list(range(20 + late + 1))
    assert system.has_parked


async def test_commands_are_sent_one_after_the_other(system: InMemory) -> None:
    found = await CASES["j"].run(system, 3, OPTIONS)
    assert (found.operations, len(system.sent)) == (3, 4)
    assert "CPU of a command ms" in found.extra


@pytest.mark.parametrize("case", CASES)
def test_a_system_has_a_case_or_says_why_not(case: str) -> None:
    for name, kind in SYSTEMS.items():
        assert kind.name == name
        assert kind.cannot(case, 1) is None or len(str(kind.cannot(case, 1))) > 10
    assert SYSTEMS["helmr"].cannot(case, 100_000) is None


def test_what_only_an_api_can_make_is_not_made_a_hundred_thousand_times() -> None:
    assert "takes too long" in str(SYSTEMS["dbos-postgres"].cannot("h", 100_000))
    assert SYSTEMS["dbos-postgres"].cannot("h", 1_000) is None
    assert SYSTEMS["restate"].cannot("d-parked", 1) == "does not park"


def test_servers_and_load_are_pinned_to_cores_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("one core")
    monkeypatch.setattr(Server, "cores", None)
    try:
        pin()
        program = "import os, time; print(sorted(os.sched_getaffinity(0)), flush=True)"
        server = Server(
            [sys.executable, "-c", program], tmp_path / "log", environment=os.environ, cwd=tmp_path
        )
        server.process.wait(30)
        said = (tmp_path / "log").read_text()
        assert json.loads(said) == [min(before)]
        assert os.sched_getaffinity(0) == {max(before)}
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.allows_blocking
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_case_of_a_real_system_in_small(name: str, tmp_path: Path) -> None:
    """As `make bench` runs it, in a process of its own."""
    try:
        SYSTEMS[name].check()
    except Missing as missing:
        pytest.skip(str(missing))
    command = [sys.executable, "-m", "tests.programs.benchmarks", "--quick", "--systems", name]
    done = subprocess.run(
        [*command, f"--out={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "bench.json").read_text())
    missing_cases = {one["case"] for one in found["cannot"]}
    assert missing_cases | {one["case"] for one in found["summaries"]} == set(CASES)
    assert all(one["done"] == one["wanted"] > 0 for one in found["summaries"])


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.allows_blocking
@pytest.mark.timeout(120)
async def test_a_real_helmr_does_a_small_hot_case(tmp_path: Path) -> None:
    system = Helmr()
    try:
        await system.start(tmp_path)
        # As many as processor time, which is told by the hundredth of a second, can't miss.
        small = replace(OPTIONS, sizes=replace(OPTIONS.sizes, hot_answers=30))
        found = await CASES["a"].run(system, 1, small)
        assert found.operations == 30
        assert found.server_cpu_s > 0
        assert found.pss_bytes > 0
        assert system.settings()["hosts"].isdecimal()
    finally:
        await system.stop()
