"""Steps: tries, backoff, keys, giving up (S-16, S-32, S-33)."""

from __future__ import annotations

from helmr.models import RunStatus
from helmr_runtime.core.decide import ops
from helmr_runtime.core.entries import EntryKind, from_iso, iso
from helmr_runtime.core.run import step_key
from tests.core.builder import Story, journal_ops, of_kind, picture, seconds


def running() -> Story:
    return Story().execute()


def backoff(story: Story, op: int) -> None:
    """A long backoff with nothing else open becomes a timer."""
    retry_at = from_iso(story.run.tries[op][1])
    story.write(ops.open_backoff(story.run, op, story.new("wait"), retry_at))


def test_a_step_is_retried_so_often_and_only_the_last_failure_reaches_the_task():
    story = running()
    ask = story.open_step(1, retries=3, backoff_s=2.0)
    delays = []
    for _ in range(3):
        entry = story.fail_try(1, ask)
        assert entry.kind is EntryKind.STEP_TRY_FAILED
        delays.append((from_iso(entry.body["retry_at"]) - story.now).total_seconds())
    assert delays == [2, 4, 8]
    assert story.run.open_steps == {1}
    last = story.fail_try(1, ask)
    assert last.kind is EntryKind.STEP_FAILED
    assert last.body["tries"] == 4
    assert story.run.open_steps == set()


def test_tries_survive_a_crash():
    story = running()
    ask = story.open_step(1, retries=2)
    story.fail_try(1, ask)
    for state in (story.refold(), story.reload()):
        assert state.run is not None
        assert ops.tries_of(state.run, 1) == 1


def test_an_exception_that_is_not_retried_fails_the_step():
    story = running()
    ask = story.open_step(1, retries=3)
    assert story.fail_try(1, ask, may_retry=False).kind is EntryKind.STEP_FAILED


def test_the_longest_backoff_is_bounded():
    story = running()
    ask = story.open_step(1, retries=1000, backoff_s=10.0**8)
    for _ in range(999):
        story.fail_try(1, ask)
    entry = story.fail_try(1, ask)
    assert from_iso(entry.body["retry_at"]) - story.now == seconds(ops.STEP_BACKOFF_MAX_S)


def test_step_keys_are_stable_over_attempts_and_differ_between_ops_runs_and_sessions():
    key = step_key("ses_1", "run_1", 1)
    assert key == step_key("ses_1", "run_1", 1)
    others = {("ses_1", "run_1", 2), ("ses_1", "run_2", 1), ("ses_2", "run_1", 1)}
    assert len({key, *(step_key(*other) for other in others)}) == 4
    story = Story(retries=1).execute()
    ask = story.open_step(1)
    story.fail_try(1, ask)
    story.fail(failed_op=1)
    story.execute()
    story.open_step(1)
    first, second = (e.body for e in of_kind(story, EntryKind.STEP_STARTED))
    assert first["step_key"] == second["step_key"]
    assert (first["attempt"], second["attempt"]) == (1, 2)


def test_a_backoff_that_parks_is_a_timer_of_the_run_and_not_an_op_of_the_code():
    story = running()
    ask = story.open_step(1, retries=1, backoff_s=600)
    story.fail_try(1, ask)
    backoff(story, 1)
    assert story.state.activity.value == "waiting"
    assert story.wait.is_backoff
    story.now += seconds(600)
    story.deadline()
    assert story.state.activity.value == "running"
    assert story.run.open_steps == {1}
    assert journal_ops(story) == [(1, "step.started"), (1, "step.try_failed")]


def test_a_wait_of_the_code_supersedes_a_backoff():
    story = running()
    ask = story.open_step(1, retries=1, backoff_s=600)
    story.fail_try(1, ask)
    backoff(story, 1)
    entries = story.open_wait(2)
    assert [e.kind for e in entries] == [EntryKind.WAIT_CANCELLED, EntryKind.WAIT_OPENED]
    assert entries[0].body["reason"] == "superseded"
    assert story.wait.op == 2
    assert story.run.open_steps == {1}
    assert picture(story.refold()) == picture(story.state)


def test_a_run_cancelled_in_a_backoff_ends_with_nothing_open():
    story = running()
    ask = story.open_step(1, retries=1, backoff_s=600)
    story.fail_try(1, ask)
    backoff(story, 1)
    story.cancel_run()
    assert story.state.wait is None
    assert story.run.open_steps == set()


def test_a_step_given_up_is_abandoned_once():
    story = running()
    story.open_step(1)
    story.give_up(1)
    story.give_up(1)
    [abandoned] = of_kind(story, EntryKind.STEP_ABANDONED)
    assert abandoned.body["reason"] == "task"
    assert story.run.open_steps == set()


def test_a_step_given_up_in_its_backoff_takes_the_timer_with_it():
    story = running()
    ask = story.open_step(1, retries=1, backoff_s=600)
    story.fail_try(1, ask)
    backoff(story, 1)
    story.give_up(1)
    assert story.state.wait is None
    assert story.run.status is RunStatus.RUNNING


def test_a_wait_given_up_is_cancelled_by_the_task_and_the_run_goes_on():
    story = running()
    story.open_wait(1)
    story.give_up(1)
    [cancelled] = of_kind(story, EntryKind.WAIT_CANCELLED)
    assert cancelled.body["reason"] == "task"
    assert cancelled.principal.type == "task"
    assert story.run.status is RunStatus.RUNNING


def test_outputs_are_numbered_per_stream_over_runs():
    story = running()
    assert story.append(1, "a").body["stream_seq"] == 1
    assert story.append(2, "b", "log").body["stream_seq"] == 1
    story.succeed()
    story.start_run()
    story.execute()
    assert story.append(1, "c").body["stream_seq"] == 2


def test_peek_records_what_the_code_saw_and_consumes_nothing():
    story = running()
    story.send("a")
    story.send("b")
    assert story.peek(1).body["record_seqs"] == [1, 2]
    assert story.state.unconsumed_count == 2


def test_a_clock_read_is_an_entry():
    story = running()
    [entry] = story.write(ops.read_clock(story.run, 1, story.now))
    assert entry.body == {"now": iso(story.now)}
