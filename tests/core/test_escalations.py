"""Escalations: what fires when, once, in which order, and what it is decided before (S-82)."""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any

import pytest

from helmr import escalation
from helmr.errors import WaitResolved, WaitTimedOut
from helmr.escalation import escalation_json
from helmr.wait_details import WaitDetails
from helmr.wait_options import JSON
from helmr_runtime.core.checkpoint import difference
from helmr_runtime.core.commands import AssignWait
from helmr_runtime.core.entries import RUNTIME, Entry, EntryKind
from helmr_runtime.core.run import Escalation
from tests.core.builder import ALICE, T0, Story, of_kind, seconds

HOUR = 3600.0
STEPS = (
    escalation.remind("1h"),
    escalation.assign("2h", to="lead"),
    escalation.remind("30m", from_="assigned"),
    escalation.default("4h", "no"),
)


def asked(
    *escalation_steps: Any, kind: str = "input", timeout_s: float | None = None, **said: Any
) -> Story:
    """A session that waits with that escalation."""
    story = Story().execute()
    details = WaitDetails(
        escalation=escalation_json(escalation_steps or STEPS, JSON, timeout_s), **said
    )
    story.open_wait(1, kind=kind, timeout_s=timeout_s, details=details)
    return story


def after(story: Story, hours: float) -> Story:
    story.now = T0 + seconds(hours * HOUR)
    return story


def escalate(story: Story, hours: float) -> list[tuple[str, int | None]]:
    """What the clock's word makes at that time: kind and escalation step."""
    known = len(story.entries)
    after(story, hours).deadline()
    return [(e.kind.value, e.body.get("escalation_step")) for e in story.entries[known:]]


def assign(story: Story, assignee: str | None) -> None:
    story.do(AssignWait(principal=ALICE, wait_id=story.wait.id, assignee=assignee))


def told(entry: Entry) -> tuple[int | None, str | None]:
    return entry.body.get("next_escalation"), entry.body.get("next_escalation_at")


def hour_of(moment: datetime | None) -> float | None:
    return None if moment is None else (moment - T0).total_seconds() / HOUR


def test_each_escalation_step_fires_once_at_its_time_and_the_default_answers() -> None:
    story = asked()
    assert hour_of(story.wait.due_at) == 1
    assert escalate(story, 0.999) == []
    assert escalate(story, 1) == [("wait.reminded", 0)]
    assert escalate(story, 1) == []
    assert escalate(story, 2) == [("wait.assigned", 1)]
    assert story.wait.assignee == "lead"
    assert escalate(story, 2.5) == [("wait.reminded", 2)]
    assert escalate(story, 4) == [("input.accepted", None), ("wait.fulfilled", None)]
    record, fulfilled = story.entries[-2:]
    assert record.body["data"] == "no"
    assert (record.principal, record.body["mode"], record.body["outcome"]) == (
        RUNTIME,
        "default",
        "fulfilled",
    )
    assert record.body["record_id"] == fulfilled.body["record_id"]
    assert record.body["stream_seq"] == fulfilled.body["record_seq"] == 1
    assert (fulfilled.body["mode"], fulfilled.body["answer"]) == ("default", True)
    assert story.run.wait is None


def test_what_was_missed_comes_in_its_order_but_for_what_an_assignment_begins() -> None:
    story = asked()
    assert escalate(story, 3) == [("wait.reminded", 0), ("wait.assigned", 1)]
    assert hour_of(story.wait.due_at) == 3.5  # the lead has the time from now
    assert escalate(story, 9) == [
        ("wait.reminded", 2),
        ("input.accepted", None),
        ("wait.fulfilled", None),
    ]


def test_an_entry_says_what_is_next_and_the_state_agrees() -> None:
    story = asked()
    opened = of_kind(story, EntryKind.WAIT_OPENED)[0]
    assert told(opened) == (0, "2030-01-01T01:00:00.000000Z")
    assert opened.body["default_at"] == "2030-01-01T04:00:00.000000Z"
    escalate(story, 1)
    assert told(story.entries[-1]) == (1, "2030-01-01T02:00:00.000000Z")
    escalate(story, 2)
    assert told(story.entries[-1]) == (2, "2030-01-01T02:30:00.000000Z")
    assert hour_of(story.wait.due_at) == 2.5


def test_escalation_steps_of_the_newest_assignment_count_from_it_and_sleep_without_one() -> None:
    story = asked(
        escalation.remind("1h", from_="assigned"), escalation.default("2h", 0, from_="assigned")
    )
    assert story.wait.due_at is None
    assert "next_escalation" not in story.entries[-1].body
    after(story, 5)
    assign(story, "ada")
    assert hour_of(story.wait.due_at) == 6
    after(story, 5.5)
    assign(story, "grace")
    assert hour_of(story.wait.due_at) == 6.5
    assign(story, None)
    assert story.wait.due_at is None
    assign(story, "ada")
    assert escalate(story, 6.5) == [("wait.reminded", 0)]
    assert hour_of(story.wait.default_at) == 7.5


def test_whom_a_wait_concerns_when_it_opens_is_its_first_assignment() -> None:
    story = asked(escalation.remind("1h", from_="assigned"), assignee="ada")
    assert hour_of(story.wait.due_at) == 1


def test_of_two_at_once_the_first_that_is_written_comes_first() -> None:
    story = asked(escalation.assign("1h", to="b"), escalation.assign("1h", to="c"), assignee="a")
    assert escalate(story, 1) == [("wait.assigned", 0), ("wait.assigned", 1)]
    assert [e.body["from_assignee"] for e in of_kind(story, EntryKind.WAIT_ASSIGNED)] == ["a", "b"]
    assert story.wait.assignee == "c"


def test_nothing_fires_at_or_after_the_deadline() -> None:
    story = asked(escalation.remind("1h"), escalation.remind("2h"), timeout_s=2 * HOUR)
    assert escalate(story, 9) == [("wait.reminded", 0), ("wait.timed_out", None)]


def test_an_answer_at_the_instant_of_the_default_or_later_is_told_so_and_not_stored() -> None:
    for hours in (4, 7):
        story = after(asked(), hours)
        with pytest.raises(WaitResolved, match="default"):
            story.answer("yes")
        assert [e.body["data"] for e in of_kind(story, EntryKind.INPUT_ACCEPTED)] == ["no"]


def test_a_default_never_beats_an_answer_accepted_before_it() -> None:
    story = after(asked(), 3.999999)
    wait_id = story.wait.id
    story.answer("yes")
    after(story, 5).deadline(wait_id)
    assert [e.body["data"] for e in of_kind(story, EntryKind.INPUT_ACCEPTED)] == ["yes"]
    assert [e.body["mode"] for e in of_kind(story, EntryKind.WAIT_FULFILLED)] == ["program"]


def test_a_send_behind_the_default_is_the_next_record_and_waits_for_the_next_wait() -> None:
    story = after(asked(), 4)
    assert story.send("late")["outcome"] == "buffered"
    records = of_kind(story, EntryKind.INPUT_ACCEPTED)
    assert [(e.body["data"], e.body["stream_seq"]) for e in records] == [("no", 1), ("late", 2)]
    other = after(asked(), 4)
    other.send("hello", stream="chat")
    last = of_kind(other, EntryKind.INPUT_ACCEPTED)[-1]
    assert (last.body["stream"], last.body["stream_seq"]) == ("chat", 1)


def test_an_escalation_step_that_is_due_is_written_before_the_answer_that_comes_then() -> None:
    story = after(asked(), 1)
    story.answer("yes")
    assert story.kinds[-3:] == ["wait.reminded", "input.accepted", "wait.fulfilled"]


def test_an_assignment_is_decided_behind_the_escalation_steps_that_are_due() -> None:
    story = after(asked(), 2)
    assign(story, "grace")
    made = of_kind(story, EntryKind.WAIT_ASSIGNED)
    assert [(e.body.get("escalation_step"), e.body.get("from_assignee")) for e in made] == [
        (1, None),
        (None, "lead"),
    ]
    assert hour_of(story.wait.due_at) == 2.5
    late = after(asked(), 4)
    with pytest.raises(WaitResolved, match="default"):
        assign(late, "grace")


def test_behind_a_late_assignment_an_answer_is_taken_until_the_default_that_counts_from_it() -> (
    None
):
    escalation_steps = (
        escalation.assign("1h", to="lead"),
        escalation.default("2h", "no", from_="assigned"),
    )
    story = asked(*escalation_steps, assignee="ada")
    assert hour_of(story.wait.default_at) == 3  # in time the lead has two hours from the first on
    after(story, 2.5)  # and the clock is late: ada's two hours are over, the lead's have not begun
    assert story.answer("yes")["outcome"] == "fulfilled"
    late = asked(*escalation_steps, assignee="ada")
    assert escalate(late, 2.5) == [("wait.assigned", 0)]
    assert hour_of(late.wait.default_at) == 4.5
    assert escalate(late, 5) == [("input.accepted", None), ("wait.fulfilled", None)]


def test_the_default_of_a_token_wait_answers_the_wait_and_leaves_the_token() -> None:
    story = asked(kind="token")
    escalate(story, 5)
    last = story.entries[-1]
    assert last.kind is EntryKind.WAIT_FULFILLED
    assert (last.body["data"], last.body["mode"], last.body["token_id"]) == (
        "no",
        "default",
        "tok_1",
    )
    assert not [kind for kind in story.kinds if kind.startswith(("token.", "input."))]


def test_a_token_that_was_completed_before_the_default_wins_however_late_it_is_heard_of() -> None:
    story = after(asked(kind="token"), 9)
    story.token_ended(ended_at=T0 + seconds(4 * HOUR - 0.000001))
    assert story.kinds[-3:] == ["wait.reminded", "wait.assigned", "wait.fulfilled"]
    assert story.entries[-1].body["data"] == {"ok": True}
    story = after(asked(kind="token"), 9)
    story.token_ended(ended_at=T0 + seconds(4 * HOUR))
    assert (story.entries[-1].body["data"], story.entries[-1].body["mode"]) == ("no", "default")


def test_a_checkpoint_keeps_which_escalation_steps_fired_and_whom_it_was_assigned_to() -> None:
    story = asked()
    escalate(story, 1)
    assign(story, "grace")
    for state in (story.reload(), story.refold()):
        assert difference(story.state, state) is None
        assert state.wait == story.wait
    story.park()
    assert escalate(story, 2) == [("wait.reminded", 2), ("wait.assigned", 1)]
    story.park()
    assert hour_of(story.wait.default_at) == 4


def test_what_comes_when_a_default_was_due_is_not_late_for_a_wait_before() -> None:
    story = Story().execute()
    story.open_wait(1, timeout_s=60)
    after(story, 1).deadline()
    details = WaitDetails(escalation=escalation_json([escalation.default("1h", "no")], JSON, None))
    story.open_wait(2, details=details)
    after(story, 3)  # nobody has looked at the clock
    assert story.send("yes")["outcome"] == "buffered"


def test_an_escalation_of_before_they_were_escalated_is_only_shown() -> None:
    opened = {
        "wait_id": "wait_1",
        "kind": "input",
        "escalation": [{"do": "remind", "after_s": 1.0}],
    }
    assert Escalation.of(opened) is None


def test_the_escalation_steps_that_are_left_end_with_the_wait() -> None:
    story = asked()
    story.give_up(1)
    assert story.run.wait is None
    story.deadline("wait_0001")
    assert not set(story.kinds) & {"wait.reminded", "wait.assigned"}


@pytest.mark.parametrize("kind", ["input", "token"])
def test_at_the_same_instant_as_an_answer_each_escalation_step_fires_at_most_once_and_one_answers(
    kind: str,
) -> None:
    """1,000 seeds: an answer, the clock, a park and an assignment in any order around the instants of escalation
    steps."""
    for seed in range(1_000):
        chance = random.Random(seed)
        story = asked(kind=kind, timeout_s=5 * HOUR if chance.random() < 0.3 else None)
        wait_id, accepted_at, default_at = story.wait.id, None, 4.0
        for hours in sorted(
            chance.choice((1, 2, 2.5, 4, 5)) + chance.choice((-1e-6, 0, 1e-6)) for _ in range(6)
        ):
            if after(story, hours).run.wait is None:
                break
            match chance.randrange(4):
                case 0:
                    story.deadline(wait_id)
                case 1 if kind == "input":
                    try:
                        story.answer("yes")
                        accepted_at = hours
                    except (WaitResolved, WaitTimedOut):
                        assert hours >= default_at
                case 1:
                    story.token_ended(data="yes")
                    accepted_at = hours if hours < default_at else None
                case 2:
                    story.park()
                case _ if hours < default_at:
                    assign(story, chance.choice(("ada", "grace", None)))
        escalation_steps = [
            e.body["escalation_step"] for e in story.entries if "escalation_step" in e.body
        ]
        assert len(escalation_steps) == len(set(escalation_steps)), seed
        ends = of_kind(story, EntryKind.WAIT_FULFILLED)
        assert len(ends) <= 1, seed
        assert not of_kind(story, EntryKind.WAIT_TIMED_OUT), seed
        if ends:
            is_default = ends[0].body["mode"] == "default" if "mode" in ends[0].body else False
            assert is_default == (accepted_at is None), seed
            assert hour_of(ends[0].recorded_at) >= (default_at if is_default else 0), seed  # type: ignore[operator]
        assert difference(story.state, story.refold()) is None, seed
