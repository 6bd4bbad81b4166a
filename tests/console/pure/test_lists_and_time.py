"""The list stays still, the countdown is the server's, the picture's age is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.models import EntryInfo, WaitInfo, WaitKind, WaitStatus
from helmr.person.filters import WAIT_FIELDS, parse, wait_facts
from helmr.person.review.queue import KeyedList, anchor
from helmr.person.review.words import (
    NextEnd,
    Urgency,
    due,
    next_end,
    of_wait,
    size,
    span,
    wait_over,
)
from helmr_console.clock import BACKOFF_S, Freshness, LinkState, ServerClock, backoff_s
from helmr_console.safe import in_ascii
from helmr_console.screens.areas import counted
from helmr_console.store import Store
from helmr_console.views import wait_row
from tests.console.pure.test_effects import WAIT

NOW = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)


class Hands:
    def __init__(self) -> None:
        self.at, self.mono = NOW, 100.0

    def wall(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.mono

    async def sleep(self, seconds: float) -> None:
        self.mono += seconds


@pytest.mark.parametrize(
    ("left_s", "text", "urgency"),
    [
        (0, "ending", Urgency.OVER),
        (-5, "ending", Urgency.OVER),
        (8, "00:08", Urgency.NOW),
        (59.9, "00:59", Urgency.NOW),
        (60, "01:00", Urgency.SOON),
        (599, "09:59", Urgency.SOON),
        (600, "10m", Urgency.LATER),
        (3 * 3600 + 310, "3h 05m", Urgency.LATER),
        (5 * 86400 + 7200, "5d 2h", Urgency.LATER),
        (400 * 86400, "400d", Urgency.LATER),
        (3650 * 86400, "3650d", Urgency.LATER),
    ],
)
def test_due_column(left_s: float, text: str, urgency: Urgency) -> None:
    found = due(NOW + timedelta(seconds=left_s), NOW)
    assert (found.text, found.urgency) == (text, urgency)
    assert len(found.text) <= 7


def test_an_error_that_is_met_again_and_again_is_counted() -> None:
    errors = ["refused", "gone", *["refused"] * 5, "late"]
    assert counted(errors) == [("gone", 1), ("refused", 6), ("late", 1)]


def test_no_deadline_is_said() -> None:
    assert due(None, NOW).text == "none"
    assert in_ascii(due(None, NOW).sign()).isascii()


def test_a_wrong_clock_here_moves_no_deadline() -> None:
    hands = Hands()
    clock = ServerClock(hands)
    clock.set(NOW + timedelta(hours=3))
    hands.mono += 10
    hands.at -= timedelta(days=1)
    assert clock.now() == NOW + timedelta(hours=3, seconds=10)
    assert clock.skew_s == 3 * 3600


def test_rows_change_only_by_a_merge_and_the_cursor_stays_on_its_row() -> None:
    rows = KeyedList(shown=list("abcd"), target=list("abcd"))
    assert rows.offer(["z", "a", "c", "d"]).text() == "1 new, 1 gone"
    assert rows.shown == list("abcd")
    assert rows.gone() == {"b"}
    merged = rows.merge("c")
    assert (merged.cursor, merged.keys) == ("c", ("z", "a", "c", "d"))
    assert not rows.pending()


def test_a_gone_row_hands_the_cursor_to_the_next_below() -> None:
    assert anchor("abcd", "acd", "b") == "c"
    assert anchor("abcd", "ab", "d") == "b"
    assert anchor("ab", "", "a") is None


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.sets(st.sampled_from("abcdefghij")))
def test_the_cursor_never_jumps_while_its_row_lives(before: list[str], after: set[str]) -> None:
    rows = KeyedList(shown=before)
    rows.offer(sorted(after))
    for key in before:
        if key in after:
            assert anchor(before, sorted(after), key) == key
    assert rows.shown == before


def test_stale_backs_off_and_comes_back() -> None:
    fresh = Freshness()
    assert fresh.link(0) is LinkState.CONNECTING
    fresh = fresh.heard(10)
    assert fresh.text(11) == "live 1s"
    assert fresh.writable(11)
    assert fresh.link(30) is LinkState.STALE, "a half-open link is stale without an error"
    for attempt, base in enumerate([*BACKOFF_S, 10.0], start=1):
        fresh = fresh.failed(20, "refused", 0.5)
        assert fresh.attempt == attempt
        assert fresh.next_try_s == pytest.approx(20 + base)
    assert not fresh.writable(20)
    assert fresh.heard(40).link(41) is LinkState.LIVE


@given(st.integers(-3, 1000), st.floats(0, 1))
def test_backoff_is_bounded(attempt: int, jitter: float) -> None:
    assert 0.7 <= backoff_s(attempt, jitter) <= 12.5


def test_spans_and_sizes() -> None:
    assert [span(s) for s in (5, 61, 3700, 90_000)] == ["5s", "1m", "1h 01m", "1d 1h"]
    assert [size(n) for n in (5, 4_200, 1_300_000)] == ["5 B", "4.2 kB", "1.3 MB"]


def test_waits_that_ended_while_nobody_listened_leave_the_list() -> None:
    """A list that is read again lacks them: each one ends, and the reading goes on."""
    store = Store(ServerClock(Hands()))
    store.put_waits([_wait(number) for number in range(4)], cut=False)
    store.put_waits([_wait(3)], cut=False)
    assert list(store.waits) == ["wait_3"]
    assert sorted(store.ended) == ["wait_0", "wait_1", "wait_2"]


def _wait(number: int) -> WaitInfo:
    return WaitInfo(
        id=f"wait_{number}",
        session_id="ses_1",
        run_id="run_1",
        task="publish",
        kind=WaitKind.INPUT,
        stream="approval",
        status=WaitStatus.PENDING,
        opened_at=NOW,
    )


@pytest.mark.parametrize(
    ("value", "then"),
    [
        ("reject", "reject"),
        (False, "false"),
        ({"decision": "decline", "reason": "late", "n": 3}, "decline"),
        ({"approved": False}, "false"),
        ({"a": 1, "b": [2]}, '{"a": 1, "b": [2]}'),
        ("\x1b[2J" + "x" * 99, "␛[2Jxxx"),
    ],
)
def test_a_wait_counts_down_to_what_ends_it_first_and_says_what_is_then_said(
    value: Any, then: str
) -> None:
    escalation = [
        {"do": "remind", "after_s": 60},
        {"do": "default", "after_s": 180, "value": value},
    ]
    parts = {**WAIT, "deadline_at": NOW + timedelta(minutes=10), "escalation": escalation}
    escalating = WaitInfo.model_validate({**parts, "default_at": NOW + timedelta(minutes=3)})
    end = next_end(escalating)
    assert end is not None
    assert (end.at, end.is_default) == (NOW + timedelta(minutes=3), True)
    assert end.then.startswith(then)
    assert of_wait(escalating, NOW).full_text == f"03:00 then {end.then}"
    assert of_wait(escalating, NOW).urgency is Urgency.SOON
    # Without its default it is the deadline's; without either nothing ends it.
    plain = WaitInfo.model_validate(parts)
    assert (of_wait(plain, NOW).full_text, next_end(plain)) == (
        "10m",
        NextEnd(NOW + timedelta(minutes=10), "no answer", is_default=False),
    )
    assert next_end(WaitInfo.model_validate(WAIT)) is None


def test_votes_come_by_the_feed_and_the_row_says_how_many_agree() -> None:
    store = Store(ServerClock(Hands()))
    wait = WaitInfo.model_validate({**WAIT, "subject": "Refund?", "approvals": 2})
    store.put_waits([wait], cut=False)

    def row() -> str:
        cell = wait_row(store.inbox()[0], NOW, gone=False)[4]
        return f"{cell.text}  {cell.rest}"

    def apply(kind: str, seq: int, **body: object) -> WaitInfo:
        entry = {"session_id": "ses_1", "seq": seq, "feed_offset": seq, "kind": kind}
        by = {"principal": {"type": "person", "id": "ada"}, "recorded_at": NOW}
        told = {"wait_id": wait.id, "need": 2, **body}
        store.apply(EntryInfo.model_validate({**entry, **by, "body": told}))
        return store.inbox()[0]

    assert row() == "Refund?  0 of 2"
    apply("wait.voted", 7, person={"id": "ada"}, data=5, proposal="a", have=1, voters={})
    bo = {"person": {"id": "bo"}, "data": 3, "proposal": "b"}
    found = apply("wait.voted", 8, **bo, have=1, voters={"ada": 7})
    assert row() == "Refund?  1 of 2"
    assert [(one.person, one.data) for one in found.votes] == [("ada", 5), ("bo", 3)]
    found = apply("wait.vote_withdrawn", 9, person="ada", have=1, voters={"bo": 8})
    assert (found.voters, [one.person for one in found.votes]) == (["bo"], ["bo"])
    apply("wait.vote_withdrawn", 10, person="bo", have=0, voters={})
    assert row() == "Refund?  0 of 2"
    acting = {**bo, "delegation": {"id": "dlg_1", "delegator": "Cy"}}
    found = apply("wait.voted", 10, **acting, have=1, voters={})
    assert (found.voters, [one.label for one in found.votes]) == (["bo", "cy"], ["bo for Cy"])
    apply("wait.vote_withdrawn", 10, person="cy", have=0, voters={})
    apply("wait.voted", 11, person={}, have=1, voters={})
    assert row() == "Refund?  0 of 2", "what can't be read changes nothing"


def test_a_row_says_what_its_escalation_will_say_and_filters_and_order_go_by_it() -> None:
    store = Store(ServerClock(Hands()))
    parts = {**WAIT, "subject": "Refund?", "escalation": [{"do": "default", "value": "no"}]}
    escalating = WaitInfo.model_validate(
        {
            **parts,
            "id": "wait_2",
            "deadline_at": NOW + timedelta(days=1),
            "default_at": NOW + timedelta(seconds=30),
        }
    )
    due_first = WaitInfo.model_validate({**WAIT, "deadline_at": NOW + timedelta(minutes=5)})
    store.put_waits([due_first, escalating], cut=False)
    assert store.inbox() == [escalating, due_first]
    row = wait_row(escalating, NOW, gone=False)
    assert [cell.text for cell in row[1:3]] == ["!", "00:30"]
    assert (row[4].text, row[4].rest) == ("Refund?", "then no")
    assert parse("due<1m", WAIT_FIELDS).matches(wait_facts(escalating, NOW), NOW)
    late = NOW + timedelta(minutes=1)
    assert wait_over(escalating, late) == "its escalation's default answers it now"
