"""Every way into the product against the naive model: the harness, MCP, one process, and runtimes over HTTP and Ray."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helmr import embedded
from helmr.client import AsyncClient
from tests.programs.model import script
from tests.programs.model.doors import through_client, through_harness
from tests.programs.model.driver import SEEDS as RAY_SEEDS
from tests.programs.model.mcp_door import TOOLS, McpDoor
from tests.stack.live import LiveRuntime, kill
from tests.stack.test_contract import from_a_driver

pytestmark = pytest.mark.allows_blocking

LINGER_S = 0.01
"""A session parks as soon as it waits, so that nearly every command finds it on disk."""

KILLS_MAX = 6


def test_the_harness_does_what_the_contract_says() -> None:
    assert through_harness(range(15)) == []


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_harness_does_so_for_long() -> None:
    assert through_harness(range(100, 500)) == []


@pytest.mark.long  # tests/features/mcp/test_calls.py; the harness: the test above
def test_tools_of_mcp_do_what_the_contract_says() -> None:
    called: Counter[str] = Counter()

    class Counted(McpDoor):
        async def tool(self, name: str, *given: Any, **more: Any) -> dict[str, Any]:
            called[name] += 1
            return await super().tool(name, *given, **more)

    assert through_harness(range(600, 612), way=Counted) == []
    assert set(TOOLS) <= set(called)
    assert set(called) - set(TOOLS)  # those of tasks


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_tools_of_mcp_do_so_for_long() -> None:
    assert through_harness(range(700, 900), way=McpDoor) == []


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[embedded.Embedded]:
    """A runtime on a thread of this process."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with embedded.start(script.__name__, in_process=True, linger_s=LINGER_S) as runtime:
        yield runtime


@pytest.mark.long  # the harness does: the test above
def test_one_process_does_what_the_contract_says(in_process: embedded.Embedded) -> None:
    assert through_client(in_process.async_client, range(4)) == []


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_one_process_does_so_for_long(in_process: embedded.Embedded) -> None:
    assert through_client(in_process.async_client, range(100, 160)) == []


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveRuntime]:
    """A runtime of processes."""
    runtime = LiveRuntime(tmp_path, tasks=Path(script.__file__), linger=f"{LINGER_S}s")
    try:
        yield runtime.start()
    finally:
        runtime.stop()


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_http_does_what_the_contract_says_also_when_hosts_die(live: LiveRuntime) -> None:
    """Between its processes calls are frames on sockets."""
    killed: list[int] = []

    async def die(session_id: str, how: str) -> None:
        holder = await asyncio.to_thread(live.holder, session_id)
        if how == "kill" and holder is not None and len(killed) < KILLS_MAX:
            killed.append(holder["pid"])
            kill(holder["pid"])

    found = live.credentials
    differ = through_client(
        lambda: AsyncClient(url=found.url, key=found.key), range(200, 220), nothing=die
    )
    assert differ == []
    assert killed


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_ray_jobs_meet_what_the_contract_says(live: LiveRuntime, tmp_path: Path) -> None:
    said = from_a_driver(live, "tests.programs.model.driver", tmp_path)
    assert said["differ"] == []
    assert said["sequences"] == len(RAY_SEEDS)
    assert said["found_by"] == ["the Ray cluster of this process"]
