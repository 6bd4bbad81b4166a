"""Nobody is skipped, and what is done is what was approved, in one process and with Ray (S-125, S-126)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.live import LiveRuntime, kill, until

pytestmark = [pytest.mark.timeout(240), pytest.mark.allows_blocking]

TASKS = Path(__file__).with_name("safety_tasks.py")


@pytest.fixture(
    params=[
        "in_process",
        pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.transports, pytest.mark.long]),
    ]
)
def live(request: pytest.FixtureRequest) -> LiveRuntime:
    """A runtime of either form; both serve several tests."""
    found: LiveRuntime = request.getfixturevalue(
        "alone" if request.param == "in_process" else "shared"
    )
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRuntime]:
    """One in a process of its own."""
    one = LiveRuntime(
        tmp_path_factory.mktemp("alone"),
        tasks=TASKS,
        in_process=True,
        linger="0.1s",
        environ={"PYTHONHASHSEED": ""},
    )
    try:
        yield one.start()
    finally:
        one.stop()


def is_alone(live: LiveRuntime, session_id: str) -> bool:
    """Its host is the runtime's one process."""
    held = live.holder(session_id)
    return held is None or held["pid"] in (None, live.pids()[0])


def kill_host(live: LiveRuntime, session_id: str) -> None:
    """Kill the process that holds a session, and return when the session is elsewhere or nowhere."""
    held = live.holder(session_id)
    assert held is not None
    kill(held["pid"])
    until(lambda: live.holder(session_id) != held, within_s=30, what="gone")


def out_of_memory(live: LiveRuntime, session_id: str) -> None:
    """Return when the session's code is gone: in one process it parks, a host with Ray is killed."""
    if is_alone(live, session_id):
        until(lambda: live.holder(session_id) is None, within_s=30, what="parked")
    else:
        kill_host(live, session_id)


def test_an_approval_whose_await_was_forgotten_stops_the_run(live: LiveRuntime):
    run = live.ended(live.begin("skips-its-approval", "otters"))
    assert run.status == "failed"
    assert run.error.code == "not_awaited"
    assert run.error.message == "approval.wait() at safety_tasks.py:23 was made and never awaited"
    assert live.marked("mails") == 0


def test_an_approval_whose_text_drifted_stops_the_run(live: LiveRuntime):
    session_id = live.begin("drifts-from-its-approval", "otters")
    wait = live.waiting(session_id)
    out_of_memory(live, session_id)
    live.client.waits.answer(wait.id, True)
    run = live.ended(session_id)
    assert run.status == "blocked"
    assert run.error.code == "nondeterminism"
    assert f'the journal has wait input approval with subject "{wait.subject}"' in run.error.message
    assert live.marked("mails") == 0


@pytest.mark.long  # tests/sdk/test_hash_seed.py
def test_a_set_of_texts_has_the_same_order_after_a_restart_and_in_another_host(live: LiveRuntime):
    for _ in range(2):
        session_id = live.begin("goes-through-a-set")
        wait = live.waiting(session_id)
        if is_alone(live, session_id):
            live.stop()
            live.start()
        else:
            kill_host(live, session_id)
        live.client.waits.answer(wait.id, True)
        run = live.ended(session_id)
        assert run.status == "succeeded", run.error
