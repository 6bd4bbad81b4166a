"""Escalations of real runtimes that are killed, stopped and started again: each escalation step fires once (S-82)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helmr.models import AnswerMode, EntryInfo
from helmr_runtime.faults import Point, arm
from tests.stack.live import LiveRuntime, until

pytestmark = pytest.mark.allows_blocking

TASKS = Path(__file__).with_name("escalation_tasks.py")
HANG_S = 120.0
FIRED = ["wait.reminded", "wait.assigned", "wait.reminded"]
LINGERS = {"live": "600s", "parked": "0s"}


@pytest.fixture(
    params=["in-process", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.long])]
)
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LiveRuntime]:
    """Not started; its sessions park at once."""
    one = LiveRuntime(tmp_path, tasks=TASKS, in_process=request.param == "in-process", linger="0s")
    yield one
    one.stop()


@pytest.fixture(params=[pytest.param("live", marks=pytest.mark.long), "parked"])
def alone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LiveRuntime]:
    """In one process, of which each kill is one of everything."""
    one = LiveRuntime(tmp_path, tasks=TASKS, in_process=True, linger=LINGERS[request.param])
    yield one.start()
    one.stop()


def begin(live: LiveRuntime, **escalation_steps: float) -> str:
    return live.begin("asks", escalation_steps)


def escalation_of(live: LiveRuntime, session_id: str) -> list[EntryInfo]:
    """What escalation steps have written, but for the default."""
    found = live.client.sessions.open(session_id).transcript()
    return [e for e in found if "escalation_step" in e.body]


def fired(live: LiveRuntime, session_id: str, count: int) -> None:
    until(
        lambda: len(escalation_of(live, session_id)) >= count,
        within_s=HANG_S,
        what=f"{count} escalation_steps",
    )


def died(live: LiveRuntime) -> None:
    """Return when an armed fault has killed the one process; then start it again."""
    assert live._process is not None
    live._process.wait(HANG_S)
    live._process = None
    live._forget_client()
    live.start()


def check(live: LiveRuntime, session_id: str, escalation_steps: dict[str, float]) -> None:
    """Each escalation step once, none before its time, and the default answered behind them.

    Times count from when the wait was decided; a busy machine writes that down milliseconds later.
    """
    transcript = list(live.client.sessions.open(session_id).transcript())
    opened = next(e for e in transcript if e.kind == "wait.opened")
    since = datetime.fromisoformat(opened.body["counted_at"])
    made = [e for e in transcript if "escalation_step" in e.body]
    assert [e.body["escalation_step"] for e in made] == [0, 1, 2]
    assert [str(e.kind) for e in made] == FIRED
    for entry in made:
        after_s = opened.body["escalation"][entry.body["escalation_step"]]["after_s"]
        assert entry.recorded_at - since >= timedelta(seconds=after_s)
    answers = [e for e in transcript if e.kind == "wait.fulfilled"]
    assert [e.body["mode"] for e in answers] == ["default"]
    records = [e for e in transcript if e.kind == "input.accepted"]
    assert [(e.body["data"], e.body["mode"]) for e in records] == [(False, "default")]
    assert records[0].recorded_at - since >= timedelta(seconds=escalation_steps["default"])


def second_question(live: LiveRuntime, session_id: str) -> Any:
    """The wait behind the one with the escalation, once the default has answered that."""

    def ask() -> Any:
        found = live.client.waits.list(session_id=session_id)
        return next((one for one in found if one.subject == "and now?"), None)

    return until(ask, within_s=HANG_S, what="the default answers")


@pytest.mark.timeout(300)
def test_escalation_steps_fire_once_each_over_kills_around_their_writes(alone: LiveRuntime) -> None:
    escalation_steps = {"remind": 2.0, "assign": 3.0, "again": 4.0, "default": 8.0}
    for point in (Point.LEDGER_BEFORE_WRITE, Point.LEDGER_WRITTEN):
        session_id = begin(alone, **escalation_steps)
        alone.waiting(session_id)
        arm(alone.faults, point)
        died(alone)
        second_question(alone, session_id)
        check(alone, session_id, escalation_steps)


@pytest.mark.long  # tests/ledger/test_escalations.py
@pytest.mark.timeout(300)
def test_a_runtime_that_was_down_over_two_escalation_steps_fires_both_once(
    live: LiveRuntime,
) -> None:
    live.start()
    escalation_steps = {"remind": 1.0, "assign": 6.0, "again": 7.0, "default": 8.0}
    session_id = begin(live, **escalation_steps)
    fired(live, session_id, 1)
    opened_at = live.waiting(session_id).opened_at
    live.kill_all()
    # Nobody is there to ask: the time of the two escalation steps has to pass.
    passed_at = opened_at + timedelta(seconds=escalation_steps["again"])
    time.sleep(max(0.0, passed_at.timestamp() - time.time()))
    live.start()
    fired(live, session_id, 3)
    answered = second_question(live, session_id)
    check(live, session_id, escalation_steps)
    live.client.waits.answer(answered.id, True)
    until(
        lambda: live.client.runs.get(answered.run_id).status == "succeeded",
        within_s=HANG_S,
        what="the run ends",
    )
    assert live.client.runs.get(answered.run_id).result == [False, True]


@pytest.mark.long  # tests/ledger/test_escalations.py
@pytest.mark.timeout(300)
def test_an_answer_that_was_accepted_before_the_default_stands_over_a_kill(
    alone: LiveRuntime,
) -> None:
    escalation_steps = {"remind": 600.0, "assign": 600.0, "again": 600.0, "default": 10.0}
    session_id = begin(alone, **escalation_steps)
    wait = alone.waiting(session_id)
    assert wait.default_at is not None
    alone.client.waits.answer(wait.id, True)
    alone.kill_all()
    time.sleep(max(0.0, wait.default_at.timestamp() - time.time()))
    alone.start()
    second_question(alone, session_id)
    done = alone.client.waits.get(wait.id)
    assert done.mode is AnswerMode.PROGRAM
    records = alone.client.sessions.open(session_id).transcript()
    assert [e.body["data"] for e in records if e.kind == "input.accepted"] == [True]
