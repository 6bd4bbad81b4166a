"""Two hundred sessions run beside answers, which keep their pace: a minute of each on a real runtime (`make perf`)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helmr.client import AsyncClient
from tests.stack import running_tasks
from tests.stack.live import LiveRuntime
from tests.stack.test_query_load import RATE_PER_S, answers, percentile, settle

RUNNING = 200
FOR_S = 60.0
STEPS = 40
"""Of two seconds: more than are needed for a minute, and for the starts before it."""


@pytest.mark.parametrize("room", [500, 50], ids=["with-room", "without-room"])
@pytest.mark.perf
@pytest.mark.ray
@pytest.mark.allows_blocking
@pytest.mark.timeout(600)
async def test_the_p99_of_answers_at_most_doubles_beside_two_hundred_running_sessions(
    room: int, make_runtime: Callable[..., LiveRuntime], capsys: pytest.CaptureFixture[str]
) -> None:
    live = make_runtime(tasks=Path(running_tasks.__file__), sessions_per_host=room)
    sessions = [live.begin("takes") for _ in range(3)]
    for session in sessions:
        live.waiting(session)
    found = live.credentials
    async with AsyncClient(url=found.url, key=found.key) as client:
        await settle(client, sessions)
        alone = await answers(client, sessions, FOR_S)
        await asyncio.gather(*(client.sessions.start("thinks", STEPS) for _ in range(RUNNING)))
        beside = await answers(client, sessions, FOR_S)
        counts = (await client.health()).counts
        assert counts["sessions_running"] == min(RUNNING, room)
        assert counts["sessions_running"] + counts["sessions_queued"] >= RUNNING
    with capsys.disabled():
        for name, took in (("alone", alone), (f"beside {RUNNING} that run", beside)):
            p50, p99 = (1000 * percentile(took, share) for share in (0.5, 0.99))
            sys.stdout.write(f"\n{name}: {len(took)} answers, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    assert len(alone) == len(beside) == FOR_S * RATE_PER_S
    assert percentile(beside, 0.99) <= 2 * percentile(alone, 0.99)
