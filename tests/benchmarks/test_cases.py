"""The cases against a system in memory, and one of them against a real Helmr."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.benchmarks.cases import CASES, MESSAGE, WARM_ANSWERS
from tests.benchmarks.options import parse
from tests.benchmarks.processes import Server, tree
from tests.benchmarks.systems import SYSTEMS
from tests.benchmarks.systems.base import Missing, System
from tests.benchmarks.systems.helmr import Helmr
from tests.benchmarks.systems.restate import Restate

OPTIONS = parse(["--quick"], systems=tuple(SYSTEMS), cases=tuple(CASES))


class InMemory(System):
    """Answers at once, and knows how it was used."""

    name = "memory"

    def __init__(self, *, hangs: int = 0) -> None:
        self._numbers = itertools.count()
        self._replies: dict[tuple[str, int], asyncio.Future[str]] = {}
        self.sent: list[tuple[str, int]] = []
        self.at_once = self.at_once_max = 0
        self.has_parked = False
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


def test_every_system_and_case_has_a_name_of_its_own() -> None:
    assert MESSAGE
    assert all(SYSTEMS[name].name == name for name in SYSTEMS)
    assert all(case.only is None or case.only <= set(SYSTEMS) for case in CASES.values())


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.allows_blocking
@pytest.mark.timeout(120)
async def test_a_real_helmr_does_a_small_hot_case(tmp_path: Path) -> None:
    system = Helmr()
    try:
        await system.start(tmp_path)
        small = replace(OPTIONS, sizes=replace(OPTIONS.sizes, hot_answers=3))
        found = await CASES["a"].run(system, 1, small)
        assert found.operations == 3
        assert found.server_cpu_s > 0
        assert found.pss_bytes > 0
        assert system.settings()["hosts"].isdecimal()
    finally:
        await system.stop()
