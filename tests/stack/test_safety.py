"""Nobody is skipped, and what is done is what was approved, in one process and with Ray (S-125)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.live import LiveRuntime

pytestmark = [pytest.mark.timeout(240), pytest.mark.allows_blocking]

TASKS = Path(__file__).with_name("safety_tasks.py")


@pytest.fixture(
    params=["in_process", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.transports])]
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
    one = LiveRuntime(tmp_path_factory.mktemp("alone"), tasks=TASKS, in_process=True)
    try:
        yield one.start()
    finally:
        one.stop()


def test_an_approval_whose_await_was_forgotten_stops_the_run(live: LiveRuntime):
    run = live.ended(live.begin("skips-its-approval", "otters"))
    assert run.status == "failed"
    assert run.error.code == "not_awaited"
    assert run.error.message == "approval.wait() at safety_tasks.py:22 was made and never awaited"
    assert live.marked("mails") == 0
