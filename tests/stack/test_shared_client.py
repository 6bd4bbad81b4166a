"""Two hundred sessions of one host use one HTTP client of a module's globals at once, over a park."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stack import host_tasks
from tests.stack.host_tasks import REQUESTS
from tests.stack.live import LiveRuntime, until

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.timeout(240),
    pytest.mark.allows_blocking,
]
SESSIONS = 200


def test_two_hundred_sessions_share_a_client_over_a_park(
    make_runtime: Callable[..., LiveRuntime],
) -> None:
    live = make_runtime(tasks=Path(host_tasks.__file__), sessions_per_host=SESSIONS, linger="1s")
    url = f"{live.credentials.url}/healthz"
    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(lambda _: live.begin("fetches", url), range(SESSIONS)))
    counts = live.client.health
    until(
        lambda: (
            counts().counts["waits_pending"] == SESSIONS and not counts().pool["sessions"]["live"]
        ),
        within_s=120,
        what="all wait and are parked",
    )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: live.client.sessions.open(one).input("go").send("on"), sessions))
    until(lambda: counts().counts["sessions_idle"] == SESSIONS, within_s=120, what="all end")
    runs = list(live.client.runs.list())
    assert [run.error for run in runs if run.error is not None] == []
    assert [run.result for run in runs] == [[200] * 2 * REQUESTS] * SESSIONS
