"""Chunks of a real host that is killed in the middle of a step: told, and emitted again (S-90)."""

from __future__ import annotations

import pytest

from helmr.models import ChunkInfo, ChunksEnd
from tests.stack.live import LiveRuntime, kill, until

pytestmark = [
    pytest.mark.transports,
    pytest.mark.ray,
    pytest.mark.timeout(120),
    pytest.mark.allows_blocking,
]


@pytest.mark.long  # tests/http/test_chunks.py
def test_a_step_whose_host_is_killed_ends_as_died_and_emits_again(shared: LiveRuntime) -> None:
    live = shared
    session_id = live.begin("emits_numbers", "numbers")
    live.waiting(session_id)
    session = live.client.sessions.open(session_id)
    host = until(lambda: live.holder(session_id), within_s=10, what="it is held")
    session.input("messages").send("go")
    until(lambda: live.marked("numbers"), within_s=20, what="the step runs")
    lives: list[list[int]] = [[]]
    ends: list[ChunksEnd] = []
    for one in session.output("numbers").follow_chunks():
        if isinstance(one, ChunkInfo):
            assert one.lost == 0
            lives[-1].append(one.data)
            if len(lives) == 1 and len(lives[0]) == 50:
                kill(host["pid"])
        elif isinstance(one, ChunksEnd):
            ends.append(one)
            if one.outcome == "succeeded":
                break
            lives.append([])
    first, second = lives
    assert len(first) >= 50
    assert first == list(range(first[0], first[0] + len(first)))
    assert second == list(range(10))
    assert [(end.op, end.outcome) for end in ends] == [(2, "died"), (2, "succeeded")]
    assert live.ended(session_id).result == "numbers"
    assert "output.appended" not in {entry.kind for entry in live.transcript(session_id)}
