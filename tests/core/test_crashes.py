"""The crash of an actor with a run (S-3)."""

from __future__ import annotations

import pytest

from helmr.models import RunStatus
from helmr_runtime.core.decide import ops
from helmr_runtime.core.entries import EntryKind
from tests.core.builder import Story, of_kind


def running() -> Story:
    return Story().execute()


def test_the_third_crash_with_no_outcome_between_blocks_the_run():
    story = running()
    story.die()
    story.die()
    assert story.state.activity.value == "running"
    story.die()
    assert story.state.activity.value == "blocked"
    blocked = of_kind(story, EntryKind.RUN_BLOCKED)[0]
    assert blocked.body["code"] == "actor_died"
    assert "3 times" in blocked.body["message"]


@pytest.mark.parametrize("outcome", ["step", "step failed", "wait", "output", "clock", "deadline"])
def test_an_outcome_between_starts_the_count_again(outcome: str):
    story = running()
    story.die()
    story.die()
    if outcome == "step":
        story.open_step(1)
        story.end_step(1)
    elif outcome == "step failed":
        ask = story.open_step(1)
        story.fail_try(1, ask)
    elif outcome == "wait":
        story.open_wait(1)
        story.send()
    elif outcome == "deadline":
        story.open_wait(1, kind="timer", until=story.now)
    elif outcome == "output":
        story.append(1, "x")
    else:
        story.write(ops.read_clock(story.run, 1, story.now))
    assert story.run.crashes == 0
    assert not story.run.is_cautious
    story.die()
    assert story.run.status is not RunStatus.BLOCKED


def test_opening_an_op_or_accepting_input_is_no_outcome():
    story = running()
    story.die()
    story.die()
    story.send()
    story.open_step(1)
    story.die()
    assert story.run.status is RunStatus.BLOCKED


def test_a_crash_while_nothing_executed_is_recorded_and_not_counted():
    story = running()
    story.open_wait(1)
    for _ in range(5):
        [died] = story.die(executing=False)
        assert died.body["attributed"] is False
    assert story.run.status is RunStatus.WAITING
    assert story.run.crashes == 0
    assert story.run.is_cautious


def test_crashes_survive_crashes_and_checkpoints():
    story = running()
    story.die()
    story.state = story.reload()
    story.die()
    story.state = story.refold()
    story.die()
    assert story.run.status is RunStatus.BLOCKED


def test_a_retry_starts_the_count_again():
    story = running()
    for _ in range(3):
        story.die()
    story.retry()
    assert (story.run.crashes, story.run.is_cautious) == (0, False)
    story.die()
    assert story.run.status is RunStatus.QUEUED


def test_nothing_is_recorded_without_an_active_run_or_in_a_blocked_one():
    story = running()
    story.block()
    assert story.die() == []
    story.cancel_run()
    assert story.die() == []


def test_input_is_still_accepted_by_a_run_that_keeps_dying():
    story = running()
    story.open_wait(1)
    for _ in range(2):
        story.die()
    assert story.send()["outcome"] == "fulfilled"
