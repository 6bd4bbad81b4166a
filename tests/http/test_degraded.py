"""Degraded states, provoked in a runtime: told by `/readyz` in words and names, and over when it is mended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helmr import step, task
from helmr.errors import StoreUnavailable
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import SystemClock
from helmr_runtime.ports import Pulse, SessionReleased
from helmr_runtime.process.gateway import GatewayActor
from helmr_runtime.replay import steps
from helmr_runtime.service import health
from helmr_runtime.session.host import HostActor
from tests.http.scrape import scrape
from tests.service.stack import REGISTRY, Stack, until
from tests.small_disk import fill, small_disk

RELEASE = threading.Event()


@step
async def stands_still() -> None:
    """Blocks the loop of all async steps."""
    while not RELEASE.is_set():
        sum(range(10_000))  # what sleeps on a loop fails the test; what computes blocks it as well


@task(id="blocking")
async def blocking(payload: int) -> None:
    """Blocks in an async step."""
    await stands_still()


@task(id="keeps")
async def keeps(payload: str) -> int:
    """Has its payload stored."""
    return len(payload)


async def told(stack: Stack) -> list[str]:
    """The states that `/readyz` names."""
    found: list[str] = (await stack.http.get("/readyz")).json()["degraded"]
    return found


async def until_told(stack: Stack, *states: str) -> None:
    async def is_told() -> bool:
        return await told(stack) == list(states)

    await until(is_told)


async def test_nothing_is_wrong_with_a_fresh_runtime(stack: Stack) -> None:
    assert await told(stack) == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MB."""
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.mark.allows_blocking
async def test_a_disk_that_fills_is_low_then_fails_the_ledger_and_both_are_over_with_room(
    disk: Path,
) -> None:
    stack = Stack(disk, registry=Registry([keeps], modules=[__name__], code_hash="code-k"))
    stack.service = stack.make_service(commit_timeout_s=0.5)
    stack.gateway = GatewayActor(stack.service, stack.settings())
    try:
        await stack.start()
        assert await told(stack) == []
        ballast = fill(disk, but_bytes=1024**2)
        health = (await stack.http.get("/readyz")).json()
        assert health["ready"], "it still takes what comes"
        assert health["degraded"] == ["disk_low"]
        assert "the disk of the data directory has" in health["warnings"][0]
        assert (await scrape(stack))["helmr_degraded", {"state": "disk_low"}] == 1

        async def fails() -> bool:
            body = {"task": "keeps", "payload": "x" * 200_000}
            await stack.http.post("/v1/sessions", json=body)
            return "ledger_failing" in await told(stack)

        await until(fails)
        refused = await stack.http.get("/readyz")
        assert refused.status_code == 503
        assert refused.json()["degraded"] == ["disk_low", "ledger_failing", "not_ready"]
        assert any(reason.startswith("ledger: ") for reason in refused.json()["reasons"])
        assert (await scrape(stack))["helmr_ledger_failing"] == 1
        ballast.unlink()
        await until_told(stack)
    finally:
        (disk / "ballast").unlink(missing_ok=True)
        await stack.stop()


async def test_runs_that_are_blocked_for_missing_code(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = await stack.started()
    session_id, run_id = started["session"]["id"], started["run"]["id"]
    review = REGISTRY.tasks["review"]
    monkeypatch.delitem(REGISTRY.tasks, "review")
    await parked(stack, session_id)
    answer = {"data": {"decision": "approve"}}
    await stack.http.post(f"/v1/waits/{started['session']['wait']['id']}/answer", json=answer)
    await stack.run_until(run_id, "blocked")
    health = (await stack.http.get("/readyz")).json()
    assert health["degraded"] == ["code_missing"]
    assert "1 run is blocked because of this code (task_missing)" in health["warnings"][0]
    monkeypatch.setitem(REGISTRY.tasks, "review", review)
    await parked(stack, session_id)
    await stack.http.post(f"/v1/runs/{run_id}/retry")
    await stack.run_until(run_id, "succeeded")
    assert await told(stack) == []


async def parked(stack: Stack, session_id: str) -> None:
    """Have the session given up by its host, which found its task when it took it."""
    (host,) = stack.hosts.values()

    async def is_released() -> bool:
        if session_id not in host.slots:
            return True
        return isinstance(await host.release(session_id, "evict"), SessionReleased)

    await until(is_released)


async def test_a_step_that_blocks_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BLOCKED_S", 0.2)
    RELEASE.clear()
    stack = Stack(tmp_path, registry=Registry([blocking], modules=[__name__], code_hash="code-b"))
    try:
        await stack.start()
        await stack.http.post("/v1/sessions", json={"task": "blocking", "payload": 1})
        await until_told(stack, "loop_blocked")
        (warning,) = (await stack.http.get("/readyz")).json()["warnings"]
        assert "the loop of all async steps is held by step stands_still" in warning
        assert "test_degraded.py" in warning
        RELEASE.set()
        await until_told(stack)
    finally:
        RELEASE.set()
        await stack.stop()


async def test_a_host_that_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(tmp_path, ping_every_s=0.05, silent_s=0.2)
    speaks, ping = asyncio.Event(), HostActor.ping

    async def silent(self: HostActor) -> Pulse:
        await speaks.wait()
        return await ping(self)

    try:
        await stack.start()
        monkeypatch.setattr(HostActor, "ping", silent)
        await until_told(stack, "host_silent")
        speaks.set()
        await until_told(stack)
    finally:
        await stack.stop()


async def test_sessions_that_cannot_be_resumed(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def adopt(self: HostActor, *args: Any, **kwargs: Any) -> Any:
        raise StoreUnavailable("the file of this session can't be read")

    real = HostActor.adopt
    monkeypatch.setattr(HostActor, "adopt", adopt)
    await stack.http.post("/v1/sessions", json={"task": "return", "payload": 1})
    await until_told(stack, "resumes_failing")
    assert (await scrape(stack))["helmr_queue_failing_runs"] == 1
    monkeypatch.setattr(HostActor, "adopt", real)
    await until_told(stack)


async def test_room_that_is_less_than_was_asked_for(stack: Stack) -> None:
    assert stack.directory is not None
    await stack.directory.set_room(1, why="threads were left behind")
    await until_told(stack, "room_reduced")
    await stack.directory.set_room(2, why=None)
    await until_told(stack)


async def test_a_host_that_retires(stack: Stack) -> None:
    await stack.started()
    next(iter(stack.hosts.values())).retire("code that was cut off did not end")
    await until_told(stack, "host_retiring")


async def test_a_clock_that_is_set(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await told(stack) == []
    real = SystemClock.now
    ahead = timedelta(hours=2)

    def now(_: SystemClock) -> datetime:
        return real() + ahead

    monkeypatch.setattr(SystemClock, "now", now)
    health = (await stack.http.get("/readyz")).json()
    assert "clock_stepped" in health["degraded"]
    assert any("was set forward by 7200 s" in warning for warning in health["warnings"])
    assert (await scrape(stack))["helmr_clock_steps_total"] == 1


async def test_a_queue_that_is_old(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "QUEUE_OLD_S", 0.1)
    assert stack.directory is not None
    await stack.directory.set_room(0, why=None)
    await stack.http.post("/v1/sessions", json={"task": "return", "payload": 1})
    await until_told(stack, "queue_old")
    await stack.directory.set_room(2, why=None)
    await until_told(stack)
