"""Starting, ending, cancelling, closing and continuing (S-1…S-8)."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.errors import RunActive, RunNotFound, SessionTerminal
from helmr.models import Activity, RunStatus, SessionStatus
from helmr_runtime.core.decide import lifecycle
from helmr_runtime.core.entries import RUNTIME, EntryKind
from tests.core.builder import ALICE, Story, of_kind, seconds


def running(**policy: Any) -> Story:
    return Story(**policy).execute()


def test_starting_creates_session_and_first_run():
    story = Story()
    assert story.kinds == ["session.created", "run.created"]
    assert story.state.status is SessionStatus.OPEN
    assert story.state.activity is Activity.QUEUED
    assert (story.run.attempt, story.run.payload) == (1, {"n": 1})


def test_activity_follows_the_newest_run():
    story = Story()
    seen = [story.state.activity]
    story.execute()
    seen.append(story.state.activity)
    story.open_wait(1)
    seen.append(story.state.activity)
    story.send()
    story.block()
    seen.append(story.state.activity)
    story.cancel_run()
    seen.append(story.state.activity)
    assert [a.value for a in seen] == ["queued", "running", "waiting", "blocked", "idle"]


def test_the_first_execution_starts_and_later_ones_resume():
    story = running()
    story.open_wait(1)
    story.is_hot = False
    story.send()
    story.execute()
    assert story.kinds[2] == "run.started"
    assert story.kinds[-1] == "run.resumed"


def test_executing_while_a_wait_is_pending_leaves_the_run_waiting():
    story = running()
    story.open_wait(1)
    story.execute()
    assert story.run.status is RunStatus.WAITING


def test_a_runs_end_leaves_its_session_open():
    story = running()
    story.succeed({"status": "posted"})
    assert story.run.status is RunStatus.SUCCEEDED
    assert story.state.status is SessionStatus.OPEN


def test_after_run_close_closes_the_session_and_names_the_run():
    story = running(after_run="close")
    story.succeed()
    assert story.state.status is SessionStatus.CLOSED
    assert story.entries[-1].body["by_run"] == "run_1"
    with pytest.raises(SessionTerminal):
        story.send()


@pytest.mark.parametrize("end", ["fail", "cancel_run"])
def test_after_run_close_closes_also_after_a_failure_or_cancel(end: str):
    story = running(after_run="close")
    getattr(story, end)()
    assert story.state.status is SessionStatus.CLOSED


def test_after_run_close_wins_over_on_idle_input_run():
    story = running(after_run="close", on_idle_input="run")
    story.send()
    story.succeed()
    assert story.state.status is SessionStatus.CLOSED
    assert story.state.active_run is None


def test_the_next_run_takes_the_newest_payload_unless_it_is_given():
    story = running()
    story.succeed()
    story.start_run(payload={"n": 2}, payload_given=True)
    assert story.run.payload == {"n": 2}
    story.execute()
    story.succeed()
    story.start_run()
    assert story.run.payload == {"n": 2}
    story.execute()
    story.succeed()
    story.start_run(payload=None, payload_given=True)
    assert story.run.payload is None


@pytest.mark.parametrize("where", ["queued", "running", "waiting", "blocked"])
def test_no_run_starts_while_one_is_active(where: str):
    story = Story()
    if where != "queued":
        story.execute()
    if where == "waiting":
        story.open_wait(1)
    if where == "blocked":
        story.block()
    with pytest.raises(RunActive) as caught:
        story.start_run()
    assert caught.value.facts["run_id"] == "run_1"


def test_no_run_starts_in_a_final_session():
    story = running()
    story.succeed()
    story.close()
    with pytest.raises(SessionTerminal):
        story.start_run()


# --- cancelling -------------------------------------------------------------------------------------


def test_cancelling_a_run_cancels_its_wait_and_abandons_its_steps():
    story = running()
    story.open_step(1)
    story.open_step(2)
    story.open_wait(3)
    before = len(story.entries)
    reply = story.cancel_run()
    assert reply == {"run_id": "run_1", "status": "cancelled"}
    assert [e.kind for e in story.entries[before:]] == [
        EntryKind.WAIT_CANCELLED,
        EntryKind.STEP_ABANDONED,
        EntryKind.STEP_ABANDONED,
        EntryKind.RUN_CANCELLED,
    ]
    assert story.state.wait is None
    assert not story.run.open_steps
    assert story.state.status is SessionStatus.OPEN
    assert story.entries[-1].principal == ALICE
    assert story.entries[before].principal == ALICE, "she ended the wait"


@pytest.mark.parametrize("end", ["cancel_run", "succeed", "fail"])
def test_cancelling_an_ended_run_changes_nothing_and_says_how_it_ended(end: str):
    story = running()
    getattr(story, end)()
    before = story.state.seq
    status = {"cancel_run": "cancelled", "succeed": "succeeded", "fail": "failed"}[end]
    assert story.cancel_run()["status"] == status
    assert story.state.seq == before


def test_cancelling_a_run_of_another_session_is_not_found():
    with pytest.raises(RunNotFound):
        running().cancel_run("run_elsewhere")


def test_cancelling_a_blocked_run_ends_it():
    story = running()
    story.open_wait(1)
    story.block()
    story.cancel_run()
    assert story.run.status is RunStatus.CANCELLED
    assert story.state.wait is None


def test_cancelling_a_session_cancels_all_that_is_open_in_it():
    story = running()
    story.open_step(1)
    story.open_wait(2)
    assert story.cancel_session() == {"session_id": "ses_1", "status": "cancelled"}
    assert story.run.status is RunStatus.CANCELLED
    assert story.state.status is SessionStatus.CANCELLED
    assert story.state.wait is None


@pytest.mark.parametrize("end", ["succeed", "fail"])
def test_a_wait_that_a_runs_own_end_cancels_was_ended_by_the_runtime(end: str):
    story = running()
    story.open_wait(1)
    getattr(story, end)()
    [cancelled] = [e for e in story.entries if e.kind is EntryKind.WAIT_CANCELLED]
    assert cancelled.principal == RUNTIME


def test_cancelling_a_final_session_changes_nothing():
    story = running()
    story.succeed()
    story.close()
    before = story.state.seq
    assert story.cancel_session()["status"] == "closed"
    assert story.state.seq == before


def test_cancelling_a_session_starts_no_run_for_buffered_input():
    story = running(on_idle_input="run")
    story.send()
    story.cancel_session()
    assert story.state.active_run is None


def test_cancelling_a_run_starts_the_next_for_buffered_input():
    story = running(on_idle_input="run")
    story.send()
    story.cancel_run()
    assert story.run.id != "run_1"
    assert story.run.status is RunStatus.QUEUED


# --- closing ----------------------------------------------------------------------------------------


def test_closing_an_idle_session():
    story = running()
    story.succeed()
    assert story.close() == {"session_id": "ses_1", "status": "closed"}
    before = story.state.seq
    assert story.close()["status"] == "closed"
    assert story.state.seq == before


@pytest.mark.parametrize("end_input", [False, True])
def test_closing_with_a_running_run_is_refused(end_input: bool):
    story = running()
    story.open_step(1)
    with pytest.raises(RunActive):
        story.close(end_input=end_input)


@pytest.mark.parametrize("kind", ["timer", "token"])
def test_end_input_needs_a_wait_on_input(kind: str):
    story = running()
    story.open_wait(1, kind=kind, timeout_s=60)
    with pytest.raises(RunActive):
        story.close(end_input=True)


def test_end_input_cancels_the_wait_and_the_run_goes_on():
    story = running()
    story.open_wait(1)
    with pytest.raises(RunActive):
        story.close()
    story.close(end_input=True)
    cancelled = of_kind(story, EntryKind.WAIT_CANCELLED)[0]
    assert cancelled.body["reason"] == "input_ended"
    assert story.run.status is RunStatus.RUNNING
    assert story.state.status is SessionStatus.CLOSED


def test_after_end_input_further_waits_are_cancelled_at_once_but_buffered_input_is_still_taken():
    story = running()
    story.send("kept", stream="chat")
    story.open_wait(1)
    story.close(end_input=True)
    story.open_wait(2, "chat")
    assert story.kinds[-1] == "wait.fulfilled"
    story.open_wait(3, "chat")
    assert story.kinds[-1] == "wait.cancelled"
    assert story.entries[-1].body["reason"] == "input_ended"
    assert story.run.status is RunStatus.RUNNING


def test_after_end_input_a_timer_still_waits():
    story = running()
    story.open_wait(1)
    story.close(end_input=True)
    story.open_wait(2, kind="timer", timeout_s=5)
    assert story.run.status is RunStatus.WAITING
    story.now += seconds(5)
    story.deadline()
    story.succeed()
    assert story.state.status is SessionStatus.CLOSED


# --- continuing -------------------------------------------------------------------------------------


def test_continue_as_ends_this_run_and_queues_the_next_in_one_decision():
    story = running(after_run="close")
    story.send("kept")
    story.open_step(1)
    story.write(*lifecycle.run_continued(story.run, {"n": 2}, "run_2"))
    succeeded = of_kind(story, EntryKind.RUN_SUCCEEDED)[0]
    assert succeeded.body == {"result": None, "continued_by": "run_2"}
    assert story.kinds[-3:] == ["step.abandoned", "run.succeeded", "run.created"]
    assert story.entries[-1].body["started_by"] == {"type": "run", "id": "run_1"}
    assert story.state.status is SessionStatus.OPEN
    assert (story.run.id, story.run.payload, story.run.op_max) == ("run_2", {"n": 2}, 0)
    assert story.run.journal == []
    assert story.state.unconsumed_count == 1


def test_a_new_run_forgets_the_last_ones_journal_and_taken_records():
    story = running()
    story.open_wait(1)
    story.send()
    story.succeed()
    story.start_run()
    assert story.run.journal == []
    assert story.state.taken == {}
