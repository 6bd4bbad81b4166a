"""Fifty sessions whose async steps share one client of a module's globals end well, over parks, in three rounds."""

from __future__ import annotations

import pytest

from tests.ordinary.conftest import WITHIN_S, Stand
from tests.stack.live import until

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.allows_blocking,
]

SESSIONS = 50
ROUNDS = 3
REQUESTS = 4
"""Of each session in each round, at once."""


@pytest.mark.parametrize(
    ("task", "answer"), [("share-httpx", "hello"), ("share-openai", "hello yourself")]
)
def test_fifty_sessions_share_a_client_over_parks_in_three_rounds(
    stand: Stand, task: str, answer: str
) -> None:
    live = stand.live
    ids = [live.begin(task, stand.places) for _ in range(SESSIONS)]
    for _ in range(ROUNDS):
        waiting = {live.waiting(session_id, within_s=WITHIN_S).id for session_id in ids}
        assert len(waiting) == SESSIONS
        until(
            lambda: not live.live_sessions(),
            within_s=WITHIN_S,
            what="all are parked",
        )
        for session_id in ids:
            live.client.sessions.open(session_id).input("go-on").send("on")
    ended = [live.ended(session_id, within_s=WITHIN_S) for session_id in ids]
    good = [run for run in ended if run.result == [answer] * REQUESTS * (ROUNDS + 1)]
    assert len(good) == SESSIONS, [run for run in ended if run not in good][:1]
