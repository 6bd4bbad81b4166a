"""Answers to one wait, and the ends of tokens (S-11, S-14, S-18, S-40, S-41)."""

from __future__ import annotations

import pytest

from helmr.errors import BadRequest, TooLarge, WaitResolved
from helmr.models import RECORD_BYTES_MAX, RunStatus
from helmr_runtime.core.commands import TokenEnded
from helmr_runtime.core.entries import EntryKind, Principal, iso
from tests.core.builder import ALICE, Story, of_kind, seconds

CALLBACK = Principal("callback", "tok_1")


def running() -> Story:
    return Story().execute()


# --- answers ----------------------------------------------------------------------------------------


def test_an_answer_fulfils_exactly_its_wait_with_its_correlation_id():
    story = running()
    story.open_wait(1, correlation_id="X")
    wait_id = story.wait.id
    receipt = story.answer({"ok": True})
    assert receipt["outcome"] == "fulfilled"
    assert receipt["wait_id"] == wait_id
    assert of_kind(story, EntryKind.INPUT_ACCEPTED)[0].body["correlation_id"] == "X"
    assert story.state.unconsumed_count == 0


def test_the_second_answer_is_told_that_the_wait_is_resolved_and_leaves_nothing():
    story = running()
    story.open_wait(1)
    wait_id = story.wait.id
    story.answer("first")
    story.open_wait(2)
    before = story.state.seq
    with pytest.raises(WaitResolved) as caught:
        story.answer("second", wait_id)
    assert caught.value.status == 409
    assert story.state.seq == before
    assert story.wait.op == 2


def test_an_answer_after_the_session_was_cancelled_is_refused():
    story = running()
    story.open_wait(1)
    wait_id = story.wait.id
    story.cancel_session()
    with pytest.raises(WaitResolved):
        story.answer("x", wait_id)


def test_a_timer_is_not_answered():
    story = running()
    story.open_wait(1, kind="timer", timeout_s=60)
    with pytest.raises(BadRequest):
        story.answer()


def test_an_answer_has_the_limit_of_a_record():
    story = running()
    story.open_wait(1)
    with pytest.raises(TooLarge):
        story.answer("x" * RECORD_BYTES_MAX)
    assert story.state.wait is not None


def test_an_answer_takes_its_place_in_the_streams_sequence():
    story = running()
    story.send("other", correlation_id="Y")
    story.open_wait(1, correlation_id="X")
    assert story.answer("x")["seq"] == 2


# --- tokens -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("completed", EntryKind.WAIT_FULFILLED),
        ("expired", EntryKind.WAIT_TIMED_OUT),
        ("cancelled", EntryKind.WAIT_CANCELLED),
    ],
)
@pytest.mark.parametrize("is_before", [False, True])
def test_a_tokens_end_resolves_its_wait_also_if_it_ended_before(
    status: str, kind: EntryKind, is_before: bool
):
    story = running()
    if is_before:
        ended = TokenEnded(
            principal=ALICE,
            wait_id="wait_x",
            token_id="tok_1",
            status=status,
            data={"ok": True},
            ended_at=story.now - seconds(60),
            ended_by=CALLBACK,
        )
        story.open_wait(1, kind="token", timeout_s=5, token_ended=ended)
    else:
        story.open_wait(1, kind="token")
        story.token_ended(status, ended_by=CALLBACK)
    last = story.entries[-1]
    assert last.kind is kind
    assert last.principal == CALLBACK
    assert last.body["token_id"] == "tok_1"
    assert story.run.status is RunStatus.RUNNING
    if status == "completed":
        assert last.body["data"] == {"ok": True}
    if status == "cancelled":
        assert last.body["reason"] == "token_cancelled"


def test_a_completion_of_null_is_a_completion():
    story = running()
    story.open_wait(1, kind="token")
    story.token_ended(data=None)
    assert story.entries[-1].kind is EntryKind.WAIT_FULFILLED
    assert story.entries[-1].body["data"] is None


def test_a_delivery_for_a_wait_that_is_over_does_nothing():
    story = running()
    story.open_wait(1, kind="token")
    story.token_ended()
    before = story.state.seq
    story.open_wait(2)
    story.token_ended(wait_id="wait_0001")
    assert story.state.seq == before + 1


def test_a_completion_before_the_deadline_fulfils_however_late_it_is_heard():
    story = running()
    story.open_wait(1, kind="token", timeout_s=60)
    completed_at = story.now + seconds(59)
    story.now += seconds(3600)
    story.token_ended(ended_at=completed_at)
    assert story.entries[-1].kind is EntryKind.WAIT_FULFILLED
    assert story.entries[-1].body["completed_at"] == iso(completed_at)


@pytest.mark.parametrize("after_s", [0, 5])
def test_a_completion_at_or_after_the_deadline_times_the_wait_out(after_s: int):
    """The delivery may overtake the deadline: what counts is when the token was completed (S-14)."""
    story = running()
    story.open_wait(1, kind="token", timeout_s=60)
    story.now += seconds(60 + after_s)
    story.token_ended(ended_at=story.now)
    assert story.entries[-1].kind is EntryKind.WAIT_TIMED_OUT
    assert "data" not in story.entries[-1].body


def test_a_send_never_times_a_token_wait_out():
    story = running()
    story.open_wait(1, kind="token", timeout_s=60)
    story.now += seconds(60)
    assert story.send()["outcome"] == "buffered"
    assert story.state.wait is not None


def test_a_token_wait_of_a_blocked_run_is_resolved_and_the_run_stays_blocked():
    story = running()
    story.open_wait(1, kind="token")
    story.block()
    story.token_ended()
    assert story.state.wait is None
    assert story.run.status is RunStatus.BLOCKED
