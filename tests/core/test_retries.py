"""Attempts: what a retry sets aside and what it keeps (S-5)."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.errors import RunNotRetryable, SessionChanged, SessionTerminal
from helmr.models import RunStatus
from helmr_runtime.core.decide.lifecycle import BACKOFF_MAX_S
from helmr_runtime.core.entries import EntryKind, from_iso
from helmr_runtime.replay.replay_log import GivenUp, make_replay_log
from tests.core.builder import Story, journal_ops, of_kind, picture, seconds


def running(**policy: Any) -> Story:
    return Story(**policy).execute()


def journal_op_numbers(story: Story) -> set[int | None]:
    return {op for op, _ in journal_ops(story)}


def test_without_a_policy_an_exception_fails_the_run():
    story = running()
    story.fail()
    assert story.run.status is RunStatus.FAILED
    assert of_kind(story, EntryKind.RUN_FAILED)[0].body["error"]["type"] == "ValueError"


def test_the_policy_retries_with_backoff_then_the_run_has_failed():
    story = running(retries=2, backoff_s=10)
    story.fail()
    assert story.run.status is RunStatus.QUEUED
    assert story.run.attempt == 2
    assert story.run.retry_at == story.now + seconds(10)
    story.now += seconds(10)
    story.execute()
    assert getattr(story.run, "retry_at") is None  # noqa: B009 - mypy holds on to its old type
    assert story.kinds[-1] == "run.started"
    story.fail()
    assert story.run.retry_at == story.now + seconds(20)
    story.execute()
    story.fail()
    assert story.run.status is RunStatus.FAILED
    assert story.run.attempt == 3


def test_backoff_has_an_upper_bound_also_for_a_thousand_attempts():
    story = running(retries=1000, backoff_s=86_400.0 * 3660)
    for _ in range(1000):
        story.fail()
        retry_at = from_iso(story.entries[-1].body["retry_at"])
        assert retry_at - story.context.now == seconds(BACKOFF_MAX_S)
    story.fail()
    assert story.run.status is RunStatus.FAILED


def test_an_exception_that_may_not_be_retried_fails_at_once():
    story = running(retries=5)
    story.fail(may_retry=False)
    assert story.run.status is RunStatus.FAILED


def test_the_failed_op_and_ops_opened_after_its_outcome_are_set_aside():
    story = running(retries=1)
    story.open_step(1, "first")
    story.end_step(1, "kept")
    ask = story.open_step(2, "second")
    story.fail_try(2, ask)
    story.append(3, "cleanup")
    story.fail(failed_op=2)
    assert journal_op_numbers(story) == {1}
    assert EntryKind.STEP_FAILED.value in story.kinds  # the transcript keeps it
    assert story.state.output_seqs == {"progress": 1}


def test_without_a_failed_op_nothing_is_set_aside():
    story = running(retries=1)
    story.open_step(1)
    story.end_step(1)
    story.fail()
    assert journal_ops(story) == [(1, "step.started"), (1, "step.succeeded")]


def test_records_that_set_aside_waits_consumed_stay_consumed():
    story = running(retries=1)
    ask = story.open_step(1)
    story.fail_try(1, ask)
    story.send("taken")
    story.open_wait(2)
    story.fail(failed_op=1)
    assert journal_op_numbers(story) == set()
    assert story.state.unconsumed_count == 0
    story.execute()
    story.open_wait(2)
    assert story.run.status is RunStatus.WAITING


def test_a_timed_out_wait_that_ended_the_attempt_is_opened_again():
    story = running(retries=1)
    story.open_wait(1, timeout_s=60)
    story.now += seconds(60)
    story.deadline()
    story.fail(failed_op=1)
    assert journal_ops(story) == []
    story.execute()
    story.open_wait(1, timeout_s=60)
    assert story.wait.deadline_at == story.now + seconds(60)


def test_a_concurrent_step_that_ended_before_or_after_the_failure_is_kept():
    """gather(failing, quick, slow): what others did is recorded once and never computed again (S-32)."""
    story = running(retries=1)
    failing = story.open_step(1, "failing")
    story.open_step(2, "quick")
    story.open_step(3, "slow")
    story.end_step(2, "quick value")
    story.fail_try(1, failing)
    story.end_step(3, "slow value")
    story.fail(failed_op=1)
    assert journal_op_numbers(story) == {2, 3}
    assert make_replay_log(story.state, {}).unfinished == frozenset()


def test_a_step_opened_after_a_concurrent_success_but_before_the_failure_is_kept():
    story = running(retries=1)
    failing = story.open_step(1, "failing")
    story.open_step(2)
    story.end_step(2)
    story.open_step(3)
    story.end_step(3)
    story.fail_try(1, failing)
    story.open_step(4)
    story.end_step(4)
    story.fail(failed_op=1)
    assert journal_op_numbers(story) == {2, 3}


def test_a_concurrent_step_still_running_at_the_failure_runs_again():
    """gather(failing, running): the other was abandoned by the run's end and has no outcome."""
    story = running(retries=1)
    failing = story.open_step(1, "failing")
    story.open_step(2, "running")
    story.fail_try(1, failing)
    story.fail(failed_op=1)
    replay_log = make_replay_log(story.state, {})
    # Asked anew with the same number, or asked again and still open: never recorded as open and not running.
    assert 2 not in replay_log.opened or 2 in story.run.open_steps
    story.execute()
    story.open_step(1, "failing")
    story.open_step(2, "running")
    story.end_step(1)
    story.end_step(2)
    assert picture(story.refold()) == picture(story.state)


def test_a_step_running_when_the_task_itself_raised_runs_again():
    story = running(retries=1)
    story.open_step(1, "running")
    story.fail()
    assert 1 not in make_replay_log(story.state, {}).opened or 1 in story.run.open_steps


def test_an_op_given_up_because_of_the_failure_is_set_aside():
    """TaskGroup: the failure cancels the siblings; the next attempt does not fail, so it cancels nothing."""
    story = running(retries=1)
    failing = story.open_step(1, "failing")
    story.open_step(2, "sibling")
    story.open_wait(3)
    story.fail_try(1, failing)
    story.give_up(2)
    story.give_up(3)
    story.fail(failed_op=1)
    assert not [
        line for line in make_replay_log(story.state, {}).lines if isinstance(line, GivenUp)
    ]
    assert journal_op_numbers(story) == set()


def test_an_op_given_up_before_the_failure_stays_given_up():
    story = running(retries=1)
    story.open_wait(1)
    story.give_up(1)
    ask = story.open_step(2)
    story.fail_try(2, ask)
    story.fail(failed_op=2)
    assert journal_ops(story) == [(1, "wait.opened"), (1, "wait.cancelled")]


def test_a_pending_wait_at_the_failure_is_cancelled_and_opened_again():
    story = running(retries=1)
    failing = story.open_step(1, "failing")
    story.open_wait(2)
    story.fail_try(1, failing)
    story.fail(failed_op=1)
    assert of_kind(story, EntryKind.WAIT_CANCELLED)[0].body["reason"] == "run_end"
    assert journal_ops(story) == []
    assert story.run.status is RunStatus.QUEUED


# --- operators --------------------------------------------------------------------------------------


def test_an_operator_retries_a_failed_run_with_its_failed_op_set_aside():
    story = running()
    story.open_step(1)
    story.end_step(1)
    ask = story.open_step(2)
    story.fail_try(2, ask)
    story.fail(failed_op=2)
    assert story.retry() == {"run_id": "run_1", "attempt": 2}
    assert story.run.status is RunStatus.QUEUED
    assert journal_op_numbers(story) == {1}
    story.execute()
    assert story.kinds[-1] == "run.started"


def test_an_operator_retries_a_blocked_run_with_nothing_set_aside():
    story = running()
    story.open_step(1)
    story.end_step(1)
    story.open_step(2)
    story.block()
    story.retry()
    assert journal_op_numbers(story) == {1, 2}
    assert story.run.open_steps == {2}
    assert story.run.status is RunStatus.QUEUED


def test_a_blocked_run_that_waits_goes_on_waiting_after_a_retry():
    story = running()
    story.open_wait(1)
    story.block()
    story.retry()
    assert story.run.status is RunStatus.WAITING
    assert story.send()["outcome"] == "fulfilled"


@pytest.mark.parametrize("status", ["queued", "running", "waiting", "succeeded", "cancelled"])
def test_only_failed_or_blocked_runs_are_retried(status: str):
    story = Story()
    if status != "queued":
        story.execute()
    if status == "waiting":
        story.open_wait(1)
    if status == "succeeded":
        story.succeed()
    if status == "cancelled":
        story.cancel_run()
    assert story.run.status.value == status
    with pytest.raises(RunNotRetryable):
        story.retry()


def test_only_the_newest_run_is_retried():
    story = running()
    story.fail()
    story.start_run()
    with pytest.raises(RunNotRetryable):
        story.retry("run_1")


def test_a_run_of_a_final_session_is_not_retried():
    story = running()
    story.fail()
    story.close()
    with pytest.raises(SessionTerminal):
        story.retry()


def test_a_retry_of_an_attempt_that_is_over_changes_nothing():
    story = running()
    story.fail()
    assert story.retry(attempt=1) == {"run_id": "run_1", "attempt": 2}
    story.execute()
    story.fail()
    before = story.state.seq
    with pytest.raises(SessionChanged, match="is at attempt 2, and was seen at attempt 1"):
        story.retry(attempt=1)
    assert story.state.seq == before
    assert story.retry(attempt=2)["attempt"] == 3


def test_a_cancel_of_an_attempt_that_is_over_changes_nothing():
    story = running()
    story.fail()
    story.retry()
    with pytest.raises(SessionChanged):
        story.cancel_run(attempt=1)
    assert story.run.is_active
    story.cancel_run(attempt=2)
    assert not story.run.is_active


def test_a_close_of_a_run_or_attempt_that_is_over_changes_nothing():
    story = running()
    story.fail()
    story.retry()
    story.execute()
    story.fail()
    for run_id, attempt in (("run_0", 2), ("run_1", 1)):
        with pytest.raises(SessionChanged):
            story.close(run_id=run_id, attempt=attempt)
    assert story.state.status == "open"
    story.close(run_id="run_1", attempt=2)
    assert story.state.status == "closed"


def test_a_second_retry_sets_aside_the_newest_failure():
    story = running()
    ask = story.open_step(1, "flaky")
    story.fail_try(1, ask)
    story.fail(failed_op=1)
    story.retry()
    story.execute()
    story.open_step(1, "flaky")
    story.end_step(1)
    ask = story.open_step(2, "worse")
    story.fail_try(2, ask)
    story.fail(failed_op=2)
    story.retry()
    assert journal_op_numbers(story) == {1}
    assert story.run.attempt == 3


@pytest.mark.parametrize("reload_first", [False, True])
def test_a_retry_decides_the_same_after_a_checkpoint(reload_first: bool):
    story = running()
    failing = story.open_step(1, "failing")
    story.open_step(2)
    story.end_step(2)
    story.fail_try(1, failing)
    story.fail(failed_op=1)
    if reload_first:
        story.state = story.reload()
    story.retry()
    assert journal_op_numbers(story) == {2}


def test_ops_given_up_as_the_task_itself_raised_are_asked_anew():
    """A bug in one branch of a TaskGroup cancels the others; with the bug fixed, nothing cancels them."""
    story = running()
    story.open_step(1)
    story.end_step(1)
    story.open_wait(2)
    story.give_up(2)
    story.fail()
    story.retry()
    assert journal_op_numbers(story) == {1}


def test_a_blocked_runs_given_up_ops_are_kept():
    story = running()
    story.open_wait(1)
    story.give_up(1)
    story.block()
    story.retry()
    assert journal_op_numbers(story) == {1}
