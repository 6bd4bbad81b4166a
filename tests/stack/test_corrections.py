"""Corrections over processes that are killed, and over what release 0.1.0 has left."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from helmr.errors import Unavailable
from helmr.models import RewindPreview, RunInfo
from helmr.wire import ids
from helmr_runtime.faults import Point, arm
from tests.fixtures.earlier import Earlier
from tests.stack.live import LiveRuntime, until

pytestmark = [pytest.mark.timeout(180), pytest.mark.allows_blocking]

YES, NO = {"decision": "approve"}, {"decision": "reject"}
ALONE = (
    pytest.param(Point.LEDGER_BEFORE_WRITE, marks=pytest.mark.long, id="before_write"),
    pytest.param(Point.LEDGER_WRITTEN, id="written"),
)
"""Where one process that is everything dies, with an amendment not stored yet, or just stored."""
PASSED = tuple(
    point for point in Point if point not in (Point.LEDGER_TIMING_OUT, Point.SESSION_CHILD_STARTED)
)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[LiveRuntime]:
    """A runtime in one process."""
    one = LiveRuntime(tmp_path, in_process=True, linger="300ms")
    yield one
    one.stop()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRuntime]:
    runtime = LiveRuntime(tmp_path_factory.mktemp("corrections"), linger="1s")
    try:
        yield runtime.start()
    finally:
        runtime.stop()


def answered(live: LiveRuntime, name: str) -> tuple[str, str]:
    """A session whose run has ended with the wrong answer, and the wait."""
    session_id = live.begin("approve", {"name": name})
    wait = live.waiting(session_id)
    live.client.waits.answer(wait.id, YES)
    assert live.ended(session_id).result == "approve"
    return session_id, wait.id


def decided(live: LiveRuntime, session_id: str, decision: str) -> bool:
    """The run has ended with that decision."""
    return bool(live.ended(session_id).result["decision"] == decision)


def amend(live: LiveRuntime, wait_id: str, seen: RewindPreview, operation_id: str) -> RunInfo:
    return live.client.waits.amend(
        wait_id, NO, preview=seen, reason="misread", operation_id=operation_id
    )


def amended(live: LiveRuntime, session_id: str, name: str) -> None:
    """Exactly one amendment, whatever died: what was done before it was done once."""
    until(lambda: live.ended(session_id).result == "reject", within_s=60, what="it ends otherwise")
    kinds = [entry.kind for entry in live.transcript(session_id)]
    assert kinds.count("run.rewound") == 1
    assert kinds.count("input.accepted") == 2
    assert live.marked(f"{name}-before") == 1
    assert live.marked(f"{name}-after") >= 2
    keys = {
        entry.body["step_key"]
        for entry in live.transcript(session_id)
        if entry.kind == "step.started"
    }
    assert (
        len(keys) == 3
    )  # the step before, and the one behind under two keys, however often it was tried


@pytest.mark.long  # tests/session/test_corrections.py
@pytest.mark.parametrize("point", ALONE)
def test_a_process_that_dies_over_an_amendment_has_done_it_or_not(
    alone: LiveRuntime, point: Point
) -> None:
    alone.start()
    session_id, wait_id = answered(alone, "one")
    seen = alone.client.waits.preview_amend(wait_id)
    operation_id = ids.new_id(ids.OPERATION)
    arm(alone.faults, point)
    with pytest.raises(Unavailable):
        amend(alone, wait_id, seen, operation_id)
    assert alone._process is not None
    alone._process.wait(30)
    alone._process = None
    alone._forget_client()
    alone.start()
    assert amend(alone, wait_id, seen, operation_id).attempt == 2
    amended(alone, session_id, "one")


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.transports
@pytest.mark.parametrize("is_parked", [False, True], ids=["hot", "parked"])
@pytest.mark.parametrize("point", PASSED, ids=lambda point: point.value)
def test_whoever_dies_over_an_amendment_it_is_done_once(
    live: LiveRuntime, point: Point, is_parked: bool
) -> None:
    name = f"{point.value.replace('.', '-')}-{is_parked}"
    session_id, wait_id = answered(live, name)
    if is_parked:
        until(lambda: live.holder(session_id) is None, within_s=30, what="parked")
    seen = live.client.waits.preview_amend(wait_id)
    arm(live.faults, point)
    amend(live, wait_id, seen, ids.new_id(ids.OPERATION))
    amended(live, session_id, name)
    (live.faults / point.value).unlink(missing_ok=True)
    until(lambda: live.client.health().ready, within_s=60, what="all are there again")


def test_what_0_1_0_left_waiting_is_forked_answered_and_amended(tmp_path: Path) -> None:
    earlier = Earlier("ledger_0_1_0")
    live = LiveRuntime(tmp_path, tasks=earlier.tasks, in_process=True, linger="300ms")
    earlier.unpack(live.data_dir)
    try:
        live.start()
        for prefix in ("plain", "sealed"):
            made = earlier.made[prefix]
            session_id, wait_id = made["sessions"]["review"], made["waits"]["review"]
            other = live.client.sessions.open(session_id).fork(
                wait_id=wait_id, reason="what if", answer=NO
            )
            forked = live.ended(other.id).result
            live.client.waits.answer(wait_id, YES)
            first = live.ended(session_id).result
            assert (forked["decision"], first["decision"]) == ("reject", "approve")
            assert forked["drawn"] == first["drawn"]
            seen = live.client.waits.preview_amend(wait_id)
            assert [one.name for one in seen.steps] == ["publish"]
            live.client.waits.amend(wait_id, NO, preview=seen, reason="misread")
            until(
                partial(decided, live, session_id, "reject"),
                within_s=30,
                what="it ends otherwise",
            )
            assert live.ended(session_id).result == forked
            names = [f"{step}-{prefix}-review" for step in ("prepare", "publish")]
            assert [live.marked(name) for name in names] == [0, 3]
    finally:
        live.stop()
