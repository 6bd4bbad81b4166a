"""Sessions whose async steps share one client of a module's globals end well, few and two hundred, over parks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ordinary.conftest import WITHIN_S, Stand
from tests.ordinary.stand_in import http_server
from tests.stack.live import LiveRuntime, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.allows_blocking,
]

ROUNDS = 3
REQUESTS = 4
"""Of each session in each round, at once."""


@pytest.mark.parametrize(
    ("task", "answer", "count"),
    [
        ("share-httpx", "hello", 16),
        pytest.param("share-httpx", "hello", 50, marks=pytest.mark.long),
        pytest.param("share-openai", "hello yourself", 50, marks=pytest.mark.long),
    ],
)
def test_sessions_share_a_client_over_parks_in_three_rounds(
    stand: Stand, task: str, answer: str, count: int
) -> None:
    share(stand.live, stand.places, count, task, answer)


@pytest.mark.ray
@pytest.mark.long
def test_two_hundred_sessions_share_a_client_at_once(tmp_path: Path) -> None:
    live = LiveRuntime(
        tmp_path, modules=["tests.ordinary.clients"], sessions_per_host=200, linger="300ms"
    )
    with http_server() as http:
        try:
            live.start()
            share(
                live, {"http": http, "postgres": "", "mcp_server": ""}, 200, "share-httpx", "hello"
            )
        finally:
            live.stop()


def share(live: LiveRuntime, places: dict[str, Any], count: int, task: str, answer: str) -> None:
    """All wait, park and go on together, in each round."""
    processes = len(live.pids())
    ids = [live.begin(task, places) for _ in range(count)]
    for _ in range(ROUNDS):
        waiting = {live.waiting(session_id, within_s=WITHIN_S).id for session_id in ids}
        assert len(waiting) == count
        assert len(live.pids()) <= processes + 2, "processes grow with sessions"
        until(
            lambda: not live.live_sessions(),
            within_s=WITHIN_S,
            what="all are parked",
        )
        for session_id in ids:
            live.client.sessions.open(session_id).input("go-on").send("on")
    ended = [live.ended(session_id, within_s=WITHIN_S) for session_id in ids]
    good = [run for run in ended if run.result == [answer] * REQUESTS * (ROUNDS + 1)]
    assert len(good) == count, [run for run in ended if run not in good][:1]
