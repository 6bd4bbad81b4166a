"""Task code that blocks, spins or ends its process delays nobody but itself (own thread; S-3, S-34)."""

from __future__ import annotations

import time

import pytest

from tests.stack.live import LiveRuntime, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240), pytest.mark.allows_blocking]


@pytest.mark.long  # one process: tests/process/test_in_process.py
def test_blocked_and_spinning_code_answers_at_once_and_leaves_nothing_behind(
    shared: LiveRuntime,
) -> None:
    live = shared
    spinning = live.begin("spins")
    until(lambda: live.marked("spins-began"), within_s=20, what="spins")
    blocked = live.begin("blocks", 12.0)  # longer than both sends may take
    until(lambda: live.marked("blocks-began"), within_s=20, what="blocks")
    for session_id in (blocked, spinning):
        began = time.monotonic()
        receipt = live.client.sessions.open(session_id).input("messages").send("hello")
        assert receipt.outcome == "buffered"
        assert time.monotonic() - began < 5
    spinner = until(lambda: live.holder(spinning), within_s=10, what="it is held")
    live.client.sessions.open(spinning).cancel()
    until(
        lambda: spinner["name"] not in {one["name"] for one in live.hosts()},
        within_s=30,
        what="the host with the spinning code is gone",
    )
    later = live.begin("approve", {"name": "later"})
    wait = live.waiting(later)
    live.client.waits.answer(wait.id, {"decision": "reject"})
    assert live.ended(later).result == "reject"
    assert live.ended(blocked).result == "hello"


@pytest.mark.long  # tests/directory/test_crashes.py, tests/core/test_crashes.py
def test_code_that_ends_its_process_is_blocked_at_the_third_crash(shared: LiveRuntime) -> None:
    """One after the other: a crash that two of them might have caused would count for neither."""
    at_once = shared.begin("exits")
    _is_blocked(shared, at_once)
    assert shared.marked("exits") == 3
    after_input = shared.begin("exits_after_input")
    shared.waiting(after_input)
    receipt = shared.client.sessions.open(after_input).input("messages").send("go")
    assert receipt.outcome == "fulfilled"
    _is_blocked(shared, after_input)


def _is_blocked(live: LiveRuntime, session_id: str) -> None:
    run = live.ended(session_id)
    assert run.status == "blocked"
    assert run.error.code == "actor_died"
    died = [e for e in live.transcript(session_id) if e.kind == "run.actor_died"]
    assert [e.body["count"] for e in died if e.body["attributed"]][-1] == 3
