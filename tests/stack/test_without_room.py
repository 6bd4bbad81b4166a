"""Sends where there is no room for code cost the same, whatever their session has done before (`make perf`)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from tests.stack import running_tasks
from tests.stack.live import LiveRuntime, until

TURNS = (0, 300, 1_000, 3_000)
SENDS = 100


def sent(live: LiveRuntime, session_id: str, count: int) -> list[float]:
    """Milliseconds of each of so many sends, one after the other."""
    messages = live.client.sessions.open(session_id).input("messages")
    took = []
    for number in range(count):
        began_s = time.perf_counter()
        messages.send(f"message {number} of some length")
        took.append(1000 * (time.perf_counter() - began_s))
    return took


@pytest.mark.perf
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_send_without_room_costs_at_most_twice_as_much_after_three_thousand_turns(
    make_runtime: Callable[..., LiveRuntime], capsys: pytest.CaptureFixture[str]
) -> None:
    live = make_runtime(tasks=Path(running_tasks.__file__), sessions_per_host=1)
    sessions = []
    for turns in TURNS:
        sessions.append(live.begin("takes"))
        live.waiting(sessions[-1])
        sent(live, sessions[-1], turns)
    live.begin("thinks", 300)
    until(
        lambda: live.client.health().pool["sessions"]["lingering"] == 0,
        within_s=30.0,
        what="one runs, and all others have parked for it",
    )
    took = [median(sent(live, session_id, SENDS)) for session_id in sessions]
    with capsys.disabled():
        for turns, found in zip(TURNS, took, strict=True):
            sys.stdout.write(f"\nafter {turns} turns: {found:.1f} ms")
    assert max(took) <= 2 * took[0]
