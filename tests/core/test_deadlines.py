"""A deadline is an instant: what is decided at or after it does not fulfil the wait (S-14)."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from helmr.errors import WaitResolved, WaitTimedOut
from helmr.models import RunStatus
from helmr_runtime.core.commands import Deadline
from helmr_runtime.core.entries import EntryKind, iso
from tests.core.builder import ALICE, T0, Story, of_kind, picture, seconds

MICROSECOND = seconds(0.000001)


def waiting(timeout_s: float | None = 60, **more: Any) -> Story:
    story = Story().execute()
    story.open_wait(1, timeout_s=timeout_s, **more)
    return story


def test_the_deadline_is_fixed_when_the_wait_opens():
    story = waiting()
    assert story.wait.deadline_at == T0 + seconds(60)
    assert of_kind(story, EntryKind.WAIT_OPENED)[0].body["deadline_at"] == iso(T0 + seconds(60))


def test_just_before_the_deadline_a_record_fulfils():
    story = waiting()
    story.now += seconds(60) - MICROSECOND
    assert story.send()["outcome"] == "fulfilled"


def test_at_the_deadline_the_wait_times_out_first_and_the_record_is_late():
    story = waiting()
    story.now += seconds(60)
    before = len(story.entries)
    receipt = story.send()
    assert receipt["outcome"] == "late"
    assert receipt["wait_id"] is None
    kinds = [entry.kind for entry in story.entries[before:]]
    assert kinds == [EntryKind.WAIT_TIMED_OUT, EntryKind.INPUT_ACCEPTED]
    assert story.state.unconsumed_count == 1


def test_a_record_for_another_correlation_also_times_the_due_wait_out():
    story = waiting(correlation_id="X")
    story.now += seconds(60)
    assert story.send(correlation_id="Y")["outcome"] == "buffered"
    assert story.state.wait is None


def test_a_deadline_command_before_it_is_due_says_when():
    story = waiting()
    story.now += seconds(59)
    reply = story.deadline()
    assert reply == {"status": "pending", "due_at": iso(T0 + seconds(60))}
    assert story.state.wait is not None


def test_a_deadline_command_at_the_deadline_times_out():
    story = waiting()
    story.now += seconds(60)
    assert story.deadline() == {"status": "timed_out"}
    assert story.run.status is RunStatus.RUNNING


def test_a_deadline_command_on_another_wait_does_nothing():
    story = waiting()
    old = story.wait.id
    story.send()
    story.open_wait(2, timeout_s=60)
    story.now += seconds(120)
    before = story.state.seq
    assert story.deadline(old) == {"status": "resolved"}
    assert story.state.seq == before


def test_a_wait_without_timeout_is_never_due():
    story = waiting(None)
    story.now += seconds(10**9)
    assert story.deadline()["status"] == "resolved"
    assert story.send()["outcome"] == "fulfilled"


def test_an_answer_at_the_deadline_is_refused_stores_nothing_of_it_and_times_the_wait_out():
    story = waiting()
    wait_id = story.wait.id
    story.now += seconds(60)
    with pytest.raises(WaitTimedOut) as caught:
        story.answer("late")
    assert caught.value.status == 410
    assert story.state.unconsumed_count == 0
    assert story.entries[-1].kind is EntryKind.WAIT_TIMED_OUT
    with pytest.raises(WaitResolved):
        story.answer("again", wait_id)


def test_a_timer_fires_as_fulfilled():
    story = Story().execute()
    story.open_wait(1, kind="timer", timeout_s=10)
    story.now += seconds(10)
    story.deadline()
    assert story.entries[-1].kind is EntryKind.WAIT_FULFILLED
    assert "record_id" not in story.entries[-1].body


def test_a_timer_in_the_past_fires_at_once():
    story = Story().execute()
    entries = story.open_wait(1, kind="timer", until=T0)
    assert [e.kind for e in entries] == [EntryKind.WAIT_OPENED, EntryKind.WAIT_FULFILLED]
    assert story.run.status is RunStatus.RUNNING


def test_a_due_timer_fires_before_a_record_is_accepted():
    story = Story().execute()
    story.open_wait(1, kind="timer", timeout_s=10)
    story.now += seconds(11)
    assert story.send()["outcome"] == "buffered"
    assert [e.kind for e in story.entries[-2:]] == [
        EntryKind.WAIT_FULFILLED,
        EntryKind.INPUT_ACCEPTED,
    ]


def test_a_parked_session_that_times_a_wait_out_queues_the_run():
    story = waiting()
    story.is_hot = False
    story.now += seconds(60)
    story.deadline()
    assert story.run.status is RunStatus.QUEUED


def test_now_is_never_before_the_last_entry():
    story = waiting()
    story.now -= seconds(3600)  # the clock was set back
    story.send()
    times = [entry.recorded_at for entry in story.entries]
    assert times == sorted(times)


@pytest.mark.parametrize("block", range(10))
def test_send_and_deadline_in_any_order_around_the_instant(block: int):
    """1,000 seeds: whoever decides first, one outcome, and every observer sees the same."""
    for seed in range(block * 100, block * 100 + 100):
        random = Random(seed)
        story = waiting(correlation_id=random.choice([None, "X"]))
        wait_id = story.wait.id
        deadline = T0 + seconds(60)
        assert story.wait.deadline_at == deadline
        moments = sorted(random.choice([-2, -1, 0, 1, 2]) for _ in range(3))
        actions = ["send", "deadline", random.choice(["send", "deadline", "answer"])]
        random.shuffle(actions)
        receipts = []
        for micros, action in zip(moments, actions, strict=True):
            story.now = deadline + micros * MICROSECOND
            if random.random() < 0.3:
                story.state = random.choice([story.refold, story.reload])()
            before = story.state.wait is not None
            if action == "send":
                receipts.append((story.now, before, story.send(correlation_id="X")))
            elif action == "deadline":
                story.do(Deadline(principal=ALICE, wait_id=wait_id))
            else:
                try:
                    receipts.append((story.now, before, story.answer("a", wait_id)))
                except WaitTimedOut:
                    assert story.now >= deadline
                except WaitResolved:
                    assert story.state.wait is None
        resolutions = [
            e
            for e in story.entries
            if e.kind in (EntryKind.WAIT_FULFILLED, EntryKind.WAIT_TIMED_OUT)
        ]
        assert len(resolutions) <= 1, seed
        for now, was_pending, receipt in receipts:
            is_fulfilled = receipt["outcome"] == "fulfilled"
            assert is_fulfilled == (was_pending and now < deadline), seed
            if is_fulfilled:
                assert resolutions[0].body["record_id"] == receipt["record_id"], seed
            if now >= deadline and was_pending:
                assert receipt["outcome"] == "late", seed
        assert picture(story.refold()) == picture(story.state), seed
