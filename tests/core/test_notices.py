"""A target's outbox, without a clock: order, what is passed by, what a restart brings back (S-84)."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from helmr.models.system import EventName
from helmr_runtime.core import notices
from helmr_runtime.core.entries import iso
from helmr_runtime.core.notices import (
    NoticeEvent,
    NoticePace,
    Outbox,
    Position,
    due_soon,
    event_of,
    ranges,
)

T0 = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def event(offset: int, session: str = "ses_a", at: datetime = T0) -> NoticeEvent:
    return NoticeEvent(
        name=EventName.WAIT_OPENED,
        session_id=session,
        at=at,
        wait_id=f"wait_{offset}",
        offset=offset,
        seq=offset,
    )


def outbox(position: Position | None = None) -> Outbox:
    start = position or Position(0, T0)
    return Outbox(start.offset, start.soon_at)


def offsets(events: list[NoticeEvent]) -> list[int | None]:
    return [one.offset for one in events]


def test_events_of_a_session_go_one_by_one_and_those_of_others_beside_them() -> None:
    box = outbox()
    for one in (event(1), event(2), event(3, "ses_b")):
        box.add(one, T0)
    first = box.due(T0)
    assert offsets(first) == [1, 3]
    assert box.due(T0) == []
    box.took(first[0], T0)
    assert offsets(box.due(T0)) == [2]


def test_the_position_is_before_everything_that_is_not_taken() -> None:
    box = outbox()
    box.add(event(4), T0)
    box.add(event(6, "ses_b"), T0)
    box.read_offset = 9
    four, six = box.due(T0)
    box.took(six, T0)
    assert box.position().offset == 3
    box.took(four, T0)
    assert box.position() == Position(9, T0)


def test_an_event_that_is_not_taken_in_ten_minutes_is_passed_by_and_tried_apart() -> None:
    box = outbox()
    box.add(event(1), T0)
    box.add(event(2, at=T0), T0 + 5 * MINUTE)
    box.read_offset = 2
    now, tried = T0, []
    while now < T0 + 10 * MINUTE:
        for one in box.due(now):
            tried.append(one.offset)
            box.failed(one, now, "it answered 500")
        now += SECOND
    assert set(tried) == {1}, "the next of its session waits for it"
    assert box.late == 0
    assert box.due(now) == [], "the next goes when it is stored that this one was passed by"
    box.stored(dict(box.passed))
    assert offsets(box.due(now + MINUTE)) == [2]
    assert box.late == 1
    assert box.position() == Position(1, T0, ((1, 1),))
    assert box.is_late(event(1))


def test_what_is_passed_by_while_a_position_is_being_stored_is_not_stored_by_it() -> None:
    box = outbox()
    box.add(event(1), T0)
    box.add(event(2), T0 + MINUTE)
    box.add(event(3), T0 + 5 * MINUTE)
    now = T0 + 10 * MINUTE
    assert box.due(now) == []
    position, passed = box.position(), dict(box.passed)
    assert position.late == ((1, 1),)
    now += MINUTE
    box.due(now)
    box.stored(passed)
    assert box.position().late == ((1, 1), (2, 2))
    assert 3 not in offsets(box.due(now)), "no stored position says that 2 was passed by"
    box.stored(dict(box.passed))
    assert 3 in offsets(box.due(now))


def test_a_target_that_is_back_gets_at_once_what_it_has_missed() -> None:
    box = outbox()
    for number in range(1, 4):
        box.add(event(number, f"ses_{number}"), T0)
    now = T0
    while box.late < 3:
        for one in box.due(now):
            box.failed(one, now, "down")
        now += SECOND
    assert box.failing_since == T0
    box.add(event(9, "ses_9"), now)
    now += 2 * MINUTE
    (new,) = box.due(now)
    assert new.offset == 9
    box.took(new, now)
    got = []
    while box.late:
        (one,) = box.due(now)
        got.append(one.offset)
        box.took(one, now)
    assert got == [1, 2, 3]
    assert (box.failing_since, box.last_error, box.queued) == (None, None, 0)


def test_a_target_that_is_down_is_asked_with_one_event_now_and_then() -> None:
    box = outbox()
    for number in range(1, 101):
        box.add(event(number, f"ses_{number}"), T0)
    now, tries = T0, 0
    while now < T0 + 9 * MINUTE:
        found = box.due(now)
        tries += len(found)
        for one in found:
            box.failed(one, now, "down")
        now += SECOND
    assert tries < 30, "eight at first, then with growing pauses, at most a minute"
    assert box.next_at() is not None


def test_what_is_late_is_given_up_after_three_days_and_when_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    box = outbox()
    box.add_late(event(1), T0)
    assert box.due(T0 + timedelta(days=2, hours=23)) != []
    box.failed(event(1), T0 + timedelta(days=2, hours=23), "down")
    assert box.due(T0 + timedelta(days=3)) == []
    assert (box.late, box.given_up) == (0, 1)
    monkeypatch.setattr(notices, "LATE_MAX", 2)
    for number in range(2, 6):
        box.add_late(event(number, at=T0 + timedelta(days=3)), T0 + timedelta(days=3))
    assert (box.late, box.given_up) == (2, 3)
    assert box.position().late == ((4, 4), (5, 5))


def test_an_operator_can_have_everything_tried_now() -> None:
    box = outbox()
    box.add(event(1), T0)
    for _ in range(4):
        box.failed(event(1), T0, "down")
    assert box.due(T0 + SECOND) == []
    assert box.hurry(T0 + SECOND) == 1
    assert offsets(box.due(T0 + SECOND)) == [1]


def test_what_could_not_be_tried_counts_against_nobody() -> None:
    box = outbox()
    box.add(event(1), T0)
    (one,) = box.due(T0)
    box.postponed(one, T0)
    assert (box.failing_since, box.due(T0)) == (None, [])
    assert box.next_at() == T0 + SECOND
    assert offsets(box.due(T0 + SECOND)) == [1]


def test_an_entry_that_a_fork_has_copied_tells_nothing() -> None:
    entry = {
        "kind": "wait.opened",
        "session_id": "ses_a",
        "seq": 3,
        "feed_offset": 7,
        "run_id": "run_1",
        "recorded_at": iso(T0),
        "body": {"wait_id": "wait_1"},
    }
    found = event_of(entry)
    assert found is not None
    assert (found.name, found.id, found.offset) == (EventName.WAIT_OPENED, "ses_a-3", 7)
    assert event_of({**entry, "body": {"wait_id": "wait_1", "copied_from": 3}}) is None
    assert event_of({**entry, "kind": "step.started"}) is None


def wait(*, opened: timedelta, deadline: timedelta | None) -> dict[str, str | None]:
    return {
        "id": "wait_1",
        "session_id": "ses_a",
        "run_id": "run_1",
        "opened_at": iso(T0 + opened),
        "deadline_at": iso(T0 + deadline) if deadline is not None else None,
        "default_at": None,
    }


@pytest.mark.parametrize(
    ("opened", "deadline", "is_told"),
    [
        (-60, 90, True),
        (-60, 60, False),  # its moment is the last look's
        (-60, 91, False),  # its moment is yet to come
        (-60, None, False),
        (25, 90, True),
        (30, 90, False),  # it had no more time than that when it opened
    ],
)
def test_a_wait_is_due_soon_once(opened: int, deadline: int | None, is_told: bool) -> None:
    asked = wait(
        opened=timedelta(seconds=opened),
        deadline=timedelta(seconds=deadline) if deadline is not None else None,
    )
    found = due_soon(asked, lead=MINUTE, after=T0, until=T0 + 30 * SECOND)
    assert (found is not None) is is_told
    if found is not None:
        assert (found.id, found.at) == ("wait_1-due", T0 + 30 * SECOND)


@pytest.mark.parametrize("deadline", [None, 3600 * SECOND], ids=["none", "later"])
def test_a_wait_is_due_soon_before_its_escalations_default_answers(
    deadline: timedelta | None,
) -> None:
    asked = wait(opened=-MINUTE, deadline=deadline) | {"default_at": iso(T0 + 90 * SECOND)}
    found = due_soon(asked, lead=MINUTE, after=T0, until=T0 + MINUTE)
    assert found is not None
    assert found.at == T0 + 30 * SECOND


def test_a_wait_that_is_due_soon_is_told_again_after_a_restart_until_it_is_taken() -> None:
    box = outbox()
    found = due_soon(
        wait(opened=-MINUTE, deadline=90 * SECOND), lead=MINUTE, after=T0, until=T0 + MINUTE
    )
    assert found is not None
    box.add(found, T0 + MINUTE)
    box.soon_at = T0 + MINUTE
    assert box.position().soon_at < found.at
    box.took(found, T0 + MINUTE)
    assert box.position().soon_at == T0 + MINUTE


def test_ranges_hold_all_offsets_and_are_few() -> None:
    assert ranges([]) == ()
    assert ranges([1, 2, 9]) == ((1, 1), (2, 2), (9, 9))
    assert ranges([1, 2, 9, 11], most=2) == ((1, 2), (9, 11))
    rand = random.Random(7)
    for _ in range(200):
        given = sorted(rand.sample(range(1_000), rand.randint(1, 60)))
        found = ranges(given, most=10)
        assert len(found) <= 10
        assert all(any(first <= one <= last for first, last in found) for one in given)


def test_a_position_survives_its_entry() -> None:
    position = Position(12, T0, ((1, 3), (7, 7)))
    assert Position.from_json(position.to_json()) == position


def test_over_kills_every_event_arrives_and_in_order_per_session() -> None:
    """Random targets that fail and processes that die: 300 histories of 40 events each."""
    for seed in range(300):
        rand = random.Random(seed)
        events = [event(number, f"ses_{rand.randint(1, 4)}") for number in range(1, 41)]
        got: list[NoticeEvent] = []
        late: set[int | None] = set()
        now, box, stored = T0, outbox(), Position(0, T0)
        writing = None
        box.pace = NoticePace(late_first=MINUTE)
        for _ in range(5_000):
            now += timedelta(seconds=rand.choice((0, 1, 5, 300)))
            if rand.random() < 0.03:  # killed: what is stored is all that is left
                box = Outbox(stored.offset, stored.soon_at, pace=box.pace)
                writing = None
                for first, last in stored.late:
                    for one in events[first - 1 : last]:
                        box.add_late(one, now)
            if box.read_offset < len(events) and not box.is_full:
                box.add(events[box.read_offset], now)
                box.read_offset += 1
            for one in box.due(now):
                if rand.random() < 0.4:
                    box.failed(one, now, "no")
                    continue
                if box.is_late(one):
                    late.add(one.offset)
                got.append(one)
                box.took(one, now)
            if writing is None:
                writing = box.position(), dict(box.passed)
            elif rand.random() < 0.5:  # to store it has taken this long
                stored, passed = writing
                box.stored(passed)
                writing = None
            if stored == Position(len(events), T0):
                break
        assert {one.offset for one in got} == {one.offset for one in events}, seed
        assert box.given_up == 0
        for session in {one.session_id for one in events}:
            firsts = dict.fromkeys(
                one.offset for one in got if one.session_id == session and one.offset not in late
            )
            assert list(firsts) == sorted(firsts, key=lambda one: one or 0), (seed, session)
