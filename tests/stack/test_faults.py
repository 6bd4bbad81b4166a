"""Each process killed at each named point: what the caller saw, and what was found after.

The rows are those of docs/faults.md; a row that differs fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helmr.models import SendReceipt
from helmr_runtime.faults import Point, arm
from tests.stack.live import LiveRuntime, kill, until

pytestmark = [
    pytest.mark.transports,
    pytest.mark.ray,
    pytest.mark.timeout(180),
    pytest.mark.allows_blocking,
]

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
YES = {"decision": "approve"}

PARKED = frozenset(
    {
        Point.SESSION_LOADED,
        Point.DIRECTORY_BEFORE_ADOPT,
        Point.DIRECTORY_ADOPTED,
        Point.LEDGER_TIMING_OUT,
    }
)
"""Points that only a parked session passes."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRuntime]:
    runtime = LiveRuntime(tmp_path_factory.mktemp("faults"), linger="1s")
    try:
        yield runtime.start()
    finally:
        runtime.stop()


FIRST = frozenset(
    {
        Point.SESSION_COMMITTED,
        Point.LEDGER_BEFORE_WRITE,
        Point.LEDGER_WRITTEN,
        Point.DIRECTORY_ADOPTED,
        Point.GATEWAY_AFTER_CALL,
    }
)
"""Each process; the long run has all points, and the simulation has them in each run (`tests/programs/simulation`)."""
ANSWERED = [
    pytest.param(point, marks=[pytest.mark.long] * (point not in FIRST), id=point.value)
    for point in Point
    if point is not Point.SESSION_CHILD_STARTED
]
"""What an answer passes; the other a start of a child does (`test_children.py`)."""


@pytest.mark.parametrize("point", ANSWERED)
def test_killed_at_a_point_nothing_is_lost_and_nothing_happens_twice(
    live: LiveRuntime, point: Point
) -> None:
    name = point.value.replace(".", "-")
    timeout = "4s" if point is Point.LEDGER_TIMING_OUT else "1h"
    session_id = live.begin("approve", {"name": name, "timeout": timeout})
    wait = live.waiting(session_id)
    if point in PARKED:
        until(lambda: live.holder(session_id) is None, within_s=30, what="parked")
    arm(live.faults, point)
    saw = _trigger(live, point, session_id, wait.id)
    armed = live.faults / point.value
    until(lambda: not armed.exists(), within_s=30, what=f"{point.value} was passed")
    run = live.ended(session_id)
    kinds = [entry.kind for entry in live.transcript(session_id)]
    ends = sum(kinds.count(f"wait.{end}") for end in ("fulfilled", "timed_out", "cancelled"))
    after = _times(live.marked(f"{name}-after"))
    if point is Point.SESSION_COMMITTED:
        after = (
            "at least once"  # the step that the answer set off was running when its process died
        )
    found = (
        f"run {run.status.value}: {run.result}; wait resolved {_times(ends)}; "
        f"steps ran {_times(live.marked(f'{name}-before'))} and {after}"
    )
    row = f"| {point.value} | {point.value.split('.')[0]} | {saw} | {found} |"
    assert row in PAGE.read_text().splitlines()


def _trigger(live: LiveRuntime, point: Point, session_id: str, wait_id: str) -> str:
    """Make the point be passed, and say what the person who answers saw."""
    if point is Point.LEDGER_TIMING_OUT:
        return "no call"
    if point is Point.DIRECTORY_ABANDONING:
        holder = until(lambda: live.holder(session_id), within_s=10, what="it is held")
        kill(holder["pid"])
        _passed(live, point)
    if point in (Point.SESSION_PARKING, Point.SESSION_PARKED):
        _passed(live, point)
    receipt = live.client.waits.answer(wait_id, YES)
    assert isinstance(receipt, SendReceipt)
    again = "a repeated receipt" if receipt.duplicate else "the receipt"
    return f"{again}: {receipt.outcome.value}"


def _passed(live: LiveRuntime, point: Point) -> None:
    until(lambda: not (live.faults / point.value).exists(), within_s=30, what=f"{point} was passed")


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
