"""A thousand sessions in two hosts: one of them kills its host each time, an operator kills another host."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.stack import host_tasks
from tests.stack.live import LiveRuntime, kill, until

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.allows_blocking,
]
SESSIONS = 1000


def test_the_hostile_one_is_blocked_and_nobody_else_pays(
    make_runtime: Callable[..., LiveRuntime],
) -> None:
    live = make_runtime(tasks=Path(host_tasks.__file__), hosts=2, sessions_per_host=600)
    client = live.client
    until(lambda: all(one["pid"] for one in live.hosts()), within_s=60, what="both hosts")
    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(lambda _: live.begin("agent", 8.0), range(SESSIONS)))
        hostile = live.begin("deadly")
        until(
            lambda: client.health().counts["waits_pending"] == SESSIONS + 1,
            within_s=90,
            what="all wait",
        )
        for session_id in [*sessions[:-1], hostile, sessions[-1]]:
            pool.submit(lambda one: client.sessions.open(one).input("go").send("on"), session_id)
    run = live.ended(hostile, within_s=90)
    assert run.error is not None
    assert (run.status, run.error.code) == ("blocked", "actor_died")
    fullest = max(live.hosts(), key=lambda one: int(one["sessions"]))
    kill(fullest["pid"])
    until(
        lambda: client.health().counts["sessions_idle"] == SESSIONS,
        within_s=120,
        what="all others end",
    )
    ends = {
        one["status"]: one["n"]
        for one in client.query("SELECT status, count(*) AS n FROM runs GROUP BY status")
    }
    assert ends == {"succeeded": SESSIONS, "blocked": 1}
    blamed = client.query("SELECT DISTINCT session_id FROM entries WHERE kind = 'run.actor_died'")
    assert [one["session_id"] for one in blamed] == [hostile]
    assert not [one for one in live.hosts() if "-own-" in one["name"]]
