"""Taking a run back, and giving a wait another answer: what is set aside, kept and ended (S-75…S-79)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from helmr.errors import (
    BadRequest,
    OpNotFound,
    RunNotRewindable,
    SessionChanged,
    SessionTerminal,
    WaitNotAmendable,
)
from helmr.models import REASON_MAX, RunStatus, SessionStatus
from helmr.wait_details import WaitDetails
from helmr_runtime.core.commands import AmendWait, OperationKey, RewindRun, TokenEnded, receipt_of
from helmr_runtime.core.corrections import Rewind, plan_amendment, plan_rewind
from helmr_runtime.core.entries import Entry, EntryKind
from tests.core.builder import ALICE, Story, journal_ops, of_kind, picture, seconds


def running(**policy: Any) -> Story:
    return Story(**policy).execute()


def preview(story: Story, to_op: int, **options: Any) -> Rewind:
    return plan_rewind(story.state, story.run, to_op, **options)


def rewind(
    story: Story, to_op: int, *, keep_answers: bool = True, **more: Any
) -> Mapping[str, Any]:
    """Look, then take back; every entry folds to the same state from the start."""
    seen = preview(story, to_op, keep_answers=keep_answers).hash
    reply = story.do(
        RewindRun(
            **{
                "principal": ALICE,
                "run_id": story.run.id,
                "to_op": to_op,
                "reason": "wrong",
                "seen": seen,
                "keep_answers": keep_answers,
                **more,
            }
        )
    )
    same_after_crash(story)
    return reply


def amend(story: Story, wait_id: str, data: Any, **more: Any) -> Mapping[str, Any]:
    seen = plan_amendment(story.state, story.run, wait_id).hash
    reply = story.do(
        AmendWait(
            **{
                "principal": ALICE,
                "run_id": story.run.id,
                "wait_id": wait_id,
                "record_id": story.new("rec"),
                "data": data,
                "reason": "wrong answer",
                "seen": seen,
                **more,
            }
        )
    )
    same_after_crash(story)
    return reply


def same_after_crash(story: Story) -> None:
    assert picture(story.refold()) == picture(story.state)
    assert picture(story.reload()) == picture(story.state)


def ask(story: Story, op: int, subject: str = "Pay?", **more: Any) -> list[Entry]:
    return story.open_wait(op, details=WaitDetails(subject=subject), **more)


def answered(story: Story, op: int, data: Any, subject: str = "Pay?") -> str:
    """A wait that a person answers; its id."""
    ask(story, op, subject)
    wait_id = story.wait.id
    story.answer(data, wait_id)
    return wait_id


def step(story: Story, op: int, name: str = "post") -> None:
    story.open_step(op, name)
    story.end_step(op, "done")


def pass_deadline(story: Story) -> None:
    story.now += seconds(10)
    story.deadline()


def taken(story: Story) -> Any:
    """What the newest fulfilled wait got."""
    body = of_kind(story, EntryKind.WAIT_FULFILLED)[-1].body
    return story.state.record(body["stream"], body["record_seq"]).data


def test_everything_from_the_op_on_is_set_aside_and_the_run_is_queued():
    story = running()
    step(story, 1)
    answered(story, 2, "yes")
    step(story, 3)
    reply = rewind(story, 2)
    assert reply == {"run_id": "run_1", "attempt": 2}
    assert {op for op, _ in journal_ops(story)} == {1}
    assert (story.run.status, story.run.attempt) == (RunStatus.QUEUED, 2)
    [entry] = of_kind(story, EntryKind.RUN_REWOUND)
    assert (entry.body["to_op"], entry.body["set_aside"]) == (2, [2, 3])
    assert entry.principal == ALICE
    assert receipt_of(entry) == reply


def test_a_pending_wait_and_running_steps_end_with_the_rewind():
    story = running()
    step(story, 1)
    story.open_step(2)
    ask(story, 3)
    wait_id = story.wait.id
    rewind(story, 2)
    [ended] = of_kind(story, EntryKind.WAIT_CANCELLED)
    assert (ended.body["wait_id"], ended.body["reason"]) == (wait_id, "rewound")
    [left] = of_kind(story, EntryKind.STEP_ABANDONED)
    assert (left.op, left.body["reason"]) == (2, "rewound")
    assert (story.state.wait, story.run.open_steps) == (None, set())


def test_a_step_before_the_op_that_still_runs_goes_on():
    story = running()
    story.open_step(1)
    step(story, 2)
    rewind(story, 2)
    assert story.run.open_steps == {1}
    assert {op for op, _ in journal_ops(story)} == {1}


def test_a_wait_that_an_older_branch_has_open_is_asked_anew():
    story = running()
    ask(story, 1)
    step(story, 2)
    rewind(story, 2)
    assert of_kind(story, EntryKind.RUN_REWOUND)[0].body["set_aside"] == [1, 2]
    assert (story.state.wait, story.run.status) == (None, RunStatus.QUEUED)


@pytest.mark.parametrize("end", ["succeed", "fail", "cancel_run", "blocked"])
def test_a_run_that_has_ended_is_taken_back(end: str):
    story = running()
    step(story, 1)
    step(story, 2)
    getattr(story, end)() if end != "blocked" else story.block()
    rewind(story, 2)
    assert story.run.status is RunStatus.QUEUED
    story.execute()
    step(story, 2)
    story.succeed()
    assert story.run.status is RunStatus.SUCCEEDED


def test_a_session_that_its_own_run_closed_is_opened():
    story = running(after_run="close")
    step(story, 1)
    story.succeed()
    assert story.state.status is SessionStatus.CLOSED
    rewind(story, 1)
    assert story.state.status is SessionStatus.OPEN
    story.execute()
    story.succeed()
    assert story.state.status is SessionStatus.CLOSED  # after_run acts again


def test_a_session_that_somebody_closed_or_cancelled_stays():
    for end in ("close", "cancel_session"):
        story = running()
        step(story, 1)
        story.succeed()
        getattr(story, end)()
        with pytest.raises(SessionTerminal):
            rewind(story, 1)


def test_only_the_newest_run_and_an_op_of_its_journal():
    story = running()
    step(story, 1)
    with pytest.raises(OpNotFound):
        rewind(story, 2)
    with pytest.raises(RunNotRewindable):
        rewind(story, 1, run_id="run_0")


@pytest.mark.parametrize("reason", ["", "  ", "x" * (REASON_MAX + 1)])
def test_a_reason_is_needed(reason: str):
    story = running()
    step(story, 1)
    before = len(story.entries)
    with pytest.raises(BadRequest):
        rewind(story, 1, reason=reason)
    assert len(story.entries) == before


def test_what_was_not_looked_at_is_not_done():
    story = running()
    step(story, 1)
    seen = preview(story, 1).hash
    step(story, 2)
    with pytest.raises(SessionChanged) as refused:
        rewind(story, 1, seen=seen)
    assert refused.value.facts["preview"]["hash"] == preview(story, 1).hash
    assert [step["op"] for step in refused.value.facts["preview"]["steps"]] == [1, 2]


# --- answers ------------------------------------------------------------------------------------


def test_answers_are_kept_for_waits_that_ask_the_same_in_order():
    story = running()
    first = answered(story, 1, "a")
    answered(story, 2, "b")
    answered(story, 3, "other", subject="Ship?")
    rewind(story, 1)
    assert story.state.unconsumed_count == 0
    story.execute()
    ask(story, 1, "Ship?")
    assert taken(story) == "other"
    ask(story, 2)
    assert taken(story) == "a"
    assert of_kind(story, EntryKind.WAIT_FULFILLED)[-1].body["kept_from"] == first
    ask(story, 3)
    assert taken(story) == "b"
    ask(story, 4)
    assert story.state.wait is not None
    same_after_crash(story)


def test_a_held_record_matches_no_other_question():
    story = running()
    answered(story, 1, "a")
    rewind(story, 1)
    story.execute()
    ask(story, 1, "Pay now?")
    assert story.state.wait is not None
    assert story.peek(2).body["record_seqs"] == []


def test_without_keeping_everything_is_asked_again():
    story = running()
    answered(story, 1, "a")
    plan = preview(story, 1, keep_answers=False)
    assert [one["op"] for one in plan.asked_again] == [1]
    rewind(story, 1, keep_answers=False)
    story.execute()
    ask(story, 1)
    assert story.state.wait is not None


def test_timeouts_are_not_kept():
    story = running()
    ask(story, 1, timeout_s=5.0)
    pass_deadline(story)
    rewind(story, 1)
    story.execute()
    ask(story, 1, timeout_s=5.0)
    assert story.wait.deadline_at is not None
    assert story.wait.deadline_at > story.now


def test_what_nothing_took_is_said_at_the_end():
    story = running()
    answered(story, 1, "a")
    rewind(story, 1)
    story.execute()
    end = story.succeed()[-1]
    assert [one["record_seq"] for one in end.body["kept_unused"]] == [1]
    assert story.state.unconsumed_count == 0


def test_a_wait_that_the_code_gives_up_does_not_free_a_held_record():
    story = running()
    answered(story, 1, "a")
    rewind(story, 1)
    story.execute()
    ask(story, 1)
    story.give_up(1)
    assert story.state.unconsumed_count == 0


def test_a_rewind_of_a_rewind_keeps_the_order():
    story = running()
    for op, data in enumerate("abc", start=1):
        answered(story, op, data)
    rewind(story, 1)
    story.execute()
    ask(story, 1)
    rewind(story, 1)
    story.execute()
    for op, data in enumerate("abc", start=1):
        ask(story, op)
        assert taken(story) == data


def test_a_retry_after_a_rewind_keeps_what_is_held():
    story = running()
    answered(story, 1, "a")
    rewind(story, 1)
    story.execute()
    step(story, 1)
    story.fail()
    story.retry()
    story.execute()
    ask(story, 2)
    assert taken(story) == "a"
    same_after_crash(story)


# --- step keys ----------------------------------------------------------------------------------


def key_of(story: Story) -> str:
    return str(of_kind(story, EntryKind.STEP_STARTED)[-1].body["step_key"])


def test_a_step_with_an_outcome_gets_a_new_key_and_one_that_was_open_keeps_its_own():
    story = running()
    step(story, 1)
    done = key_of(story)
    story.open_step(2)
    left = key_of(story)
    plan = preview(story, 1)
    first, second = plan.steps
    assert (first["state"], second["state"]) == ("succeeded", "running")
    assert (second["step_key"], second["new_key"]) == (left, left)
    rewind(story, 1)
    story.execute()
    step(story, 1)
    assert key_of(story) == first["new_key"] != done
    story.open_step(2)
    assert key_of(story) == left


def test_every_rewind_gives_another_key():
    story = running()
    keys = set()
    for _ in range(4):
        step(story, 1)
        keys.add(key_of(story))
        rewind(story, 1)
        story.execute()
    assert len(keys) == 4


# --- amendments ---------------------------------------------------------------------------------


def test_an_amended_wait_gets_the_new_answer_and_later_ones_keep_theirs():
    story = running()
    first = answered(story, 1, "a")
    step(story, 2)
    answered(story, 3, "b")
    amend(story, first, "A")
    [rewound] = of_kind(story, EntryKind.RUN_REWOUND)
    accepted = of_kind(story, EntryKind.INPUT_ACCEPTED)[-1]
    assert rewound.body["amended"]["amended_by"] == accepted.body["record_id"]
    assert accepted.body["amends"] == {
        "wait_id": first,
        "record_id": rewound.body["amended"]["record_id"],
    }
    assert story.state.unconsumed_count == 0
    story.execute()
    ask(story, 1)
    assert taken(story) == "A"
    ask(story, 2)
    assert taken(story) == "b"


def test_a_timed_out_wait_is_amended():
    story = running()
    ask(story, 1, timeout_s=5.0)
    wait_id = story.wait.id
    pass_deadline(story)
    amend(story, wait_id, "late but good")
    story.execute()
    ask(story, 1, timeout_s=5.0)
    assert taken(story) == "late but good"


def test_amending_twice_the_newest_counts():
    story = running()
    first = answered(story, 1, "a")
    amend(story, first, "b")
    story.execute()
    ask(story, 1)
    again = of_kind(story, EntryKind.WAIT_FULFILLED)[-1].body["wait_id"]
    amend(story, again, "c")
    story.execute()
    ask(story, 1)
    assert taken(story) == "c"
    assert story.run.held == []


def test_an_amended_token_wait_gets_its_answer_in_this_session_only():
    story = running()
    ask(story, 1, kind="token")
    wait = story.wait
    story.do(
        TokenEnded(
            principal=ALICE,
            wait_id=wait.id,
            token_id="tok_1",
            status="completed",
            data="theirs",
            ended_at=story.now,
            ended_by=ALICE,
        )
    )
    amend(story, wait.id, "ours")
    assert of_kind(story, EntryKind.INPUT_ACCEPTED) == []
    story.execute()
    ask(story, 1, kind="token")
    body = of_kind(story, EntryKind.WAIT_FULFILLED)[-1].body
    assert (body["data"], body["kept_from"]) == ("ours", wait.id)
    rewind(story, 1)  # and is kept as any other
    story.execute()
    ask(story, 1, kind="token")
    assert of_kind(story, EntryKind.WAIT_FULFILLED)[-1].body["data"] == "ours"


def test_what_has_no_answer_is_not_amended():
    story = running()
    ask(story, 1)
    with pytest.raises(WaitNotAmendable, match="no outcome"):
        amend(story, story.wait.id, "x")
    story.send("x")
    story.open_wait(2, kind="timer", timeout_s=5.0)
    timer = story.wait.id
    pass_deadline(story)
    with pytest.raises(WaitNotAmendable, match="timer"):
        amend(story, timer, "x")
    with pytest.raises(WaitNotAmendable, match="journal"):
        amend(story, "wait_none", "x")


def test_a_repeated_rewind_gets_its_first_receipt():
    story = running()
    step(story, 1)
    command = RewindRun(
        principal=ALICE,
        run_id="run_1",
        to_op=1,
        reason="once",
        seen=preview(story, 1).hash,
        operation=OperationKey(id="op_r", request_hash="r"),
    )
    first = dict(story.do(command))
    before = len(story.entries)
    assert story.do(replace(command)) == first
    assert len(story.entries) == before


def test_the_policys_retries_count_from_the_newest_rewind():
    story = running(retries=1)
    wait_id = answered(story, 1, "no")
    assert story.fail()[-1].kind is EntryKind.RUN_ATTEMPT_FAILED
    story.execute()
    assert story.fail()[-1].kind is EntryKind.RUN_FAILED
    amend(story, wait_id, "yes")
    story.execute()
    again = story.fail()[-1]
    assert (again.kind, again.body["next_attempt"]) == (EntryKind.RUN_ATTEMPT_FAILED, 4)
    story.execute()
    assert story.fail()[-1].kind is EntryKind.RUN_FAILED
