"""Permits of limits: never too many, in turn among keys, none lost (S-119)."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr.errors import BadDefinition, UsageError
from helmr.limits import Limit, read_limits
from helmr_runtime.core.limits import Ask, Permits, RecentCount, burst_of, rate_of, slack_s
from tests.budget import examples

OPENAI = Limit("openai", per=200, within="1m")
EIGHT = Limit("openai", at_once=8)


def test_what_is_bounded_by_nothing_or_by_what_cannot_be_is_refused() -> None:
    for said in (
        {},
        {"per": 200},
        {"within": "1m"},
        {"at_once": 0},
        {"at_once": True},
        {"per": 5, "within": "0.5s"},
        {"per": 5, "within": "2d"},
        {"per": 5, "within": "soon"},
        {"unlimited": True, "at_once": 5},
    ):
        with pytest.raises(BadDefinition, match="limit 'openai'"):
            Limit("openai", **said)
    with pytest.raises(BadDefinition, match="its name"):
        Limit("open ai", at_once=1)


def test_a_table_is_read_and_says_what_is_wrong_with_it() -> None:
    found = read_limits(
        {"openai": {"at_once": 8, "per": 200, "within": "1m"}, "free": {"unlimited": True}}, "f"
    )
    assert found["openai"].within_s == 60.0
    assert found["free"].unlimited
    assert read_limits({k: v.to_json() for k, v in found.items()}, "f")["openai"].per == 200
    tables: list[Any] = [
        3,
        {"openai": 3},
        {"openai": {"at_most": 3}},
        {"openai": {"unlimited": 1}},
        {"": {}},
    ]
    for table in tables:
        with pytest.raises(UsageError, match=r"^f: "):
            read_limits(table, "f")


def test_no_more_than_at_once_are_held_and_what_comes_back_is_given_again() -> None:
    permits = Permits(EIGHT, 0.0)
    for number in range(10):
        permits.ask(Ask(f"t{number}", "one"))
    first = permits.give(0.0)
    assert first == [f"t{n}" for n in range(8)]
    assert permits.give(99.0) == []
    assert permits.next_s(99.0) is None
    permits.withdraw("t3")
    assert permits.give(99.0) == ["t8"]
    assert permits.places() == {"t9": 1}


def test_keys_take_turns_and_within_one_who_came_first_is_first() -> None:
    permits = Permits(Limit("x", at_once=100), 0.0)
    for number in range(5):
        permits.ask(Ask(f"large{number}", "large"))
    permits.ask(Ask("small0", "small"))
    permits.ask(Ask("small1", "small"))
    assert permits.places()["small1"] == 4
    assert permits.counts() == {"large": 5, "small": 2}
    given = permits.give(0.0)
    assert given == ["large0", "small0", "large1", "small1", "large2", "large3", "large4"]


def test_what_goes_on_comes_before_what_begins() -> None:
    permits = Permits(Limit("x", at_once=1), 0.0)
    permits.ask(Ask("new", "a"))
    permits.ask(Ask("going on", "b", goes_on=True))
    assert permits.give(0.0) == ["going on"]
    assert permits.places() == {"new": 1}


def test_a_ticket_out_of_memory_keeps_its_place_and_holds_no_one_up() -> None:
    permits = Permits(Limit("x", at_once=1), 0.0)
    for name in ("first", "second", "third"):
        permits.ask(Ask(name, "one"))
    permits.leave("first")
    assert permits.ahead()[0] == "first"
    assert permits.give(0.0) == ["second"]
    permits.come_back("first", "first again")
    permits.withdraw("second")
    assert permits.give(0.0) == ["first again"]
    permits.leave("third")
    permits.withdraw("first again")
    assert permits.give(0.0) == []
    assert permits.places() == {"third": 1}


def test_a_permit_that_was_not_used_is_asked_for_again_before_all() -> None:
    permits = Permits(Limit("x", at_once=1), 0.0)
    for name in ("first", "second"):
        permits.ask(Ask(name, name))
    assert permits.give(0.0) == ["first"]
    permits.leave("first")
    assert list(permits.places()) == ["first", "second"]
    permits.come_back("first", "first again")
    assert permits.give(0.0) == ["first again"]
    permits.is_held("theirs")
    permits.leave("theirs")  # what it asked is not known: it asks again
    assert permits.places() == {"second": 1}


def test_a_bucket_is_empty_at_first_and_a_pause_brings_a_hundredth() -> None:
    permits = Permits(OPENAI, 1000.0)
    for number in range(500):
        permits.ask(Ask(f"t{number}", "one"))
    assert permits.give(1000.0) == []
    at_s = permits.next_s(1000.0)
    assert at_s is not None
    assert 1000.0 < at_s < 1000.5
    assert len(permits.give(at_s + 1e-6)) == 1
    assert len(permits.give(5000.0)) == burst_of(OPENAI) == 2
    assert permits.give(4000.0) == []  # the clock was set back


def test_what_a_limit_allows_is_nearly_all_given() -> None:
    for limit in (OPENAI, Limit("x", per=1, within="1s"), Limit("x", per=10_000, within="1h")):
        assert limit.per is not None
        assert rate_of(limit) * limit.within_s >= 0.96 * limit.per


def test_a_closed_limit_gives_none_until_then() -> None:
    permits = Permits(EIGHT, 0.0)
    permits.ask(Ask("t", "one"))
    permits.close(30.0)
    permits.close(20.0)
    assert permits.give(29.9) == []
    assert permits.next_s(0.0) == 30.0
    assert permits.give(30.0) == ["t"]


def test_what_another_has_given_counts() -> None:
    permits = Permits(Limit("x", at_once=2), 0.0)
    permits.is_held("theirs")
    for name in ("a", "b"):
        permits.ask(Ask(name, name))
    assert permits.give(0.0) == ["a"]
    permits.withdraw("theirs")
    assert permits.give(0.0) == ["b"]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("end"), st.integers(0, 20)),
        st.tuples(st.just("pass"), st.floats(0.001, 3.0)),
        st.tuples(st.just("leave"), st.integers(0, 20)),
        st.tuples(st.just("back"), st.integers(0, 20)),
        st.tuples(st.just("close"), st.floats(0.1, 2.0)),
        st.tuples(st.just("restart")),
    ),
    max_size=120,
)


@given(
    at_once=st.integers(1, 4) | st.none(),
    per=st.integers(1, 60),
    within_s=st.integers(1, 8),
    events=EVENTS,
    late=st.floats(0.0, 0.999),
)
@settings(max_examples=examples(400))
def test_never_too_many_and_none_is_lost(
    at_once: int | None, per: int, within_s: int, events: list[tuple[Any, ...]], late: float
) -> None:
    """Whatever happens in whatever order, over restarts too: the bounds hold, and at rest nothing waits in vain."""
    limit = Limit("x", at_once=at_once, per=per, within=within_s)
    permits, now_s, number = Permits(limit, 0.0), 0.0, 0
    began: deque[float] = deque()
    holding: list[str] = []
    waiting: dict[str, bool] = {}
    for event in (*events, *[("pass", 0.5)] * 20):
        match event:
            case ("ask", key, goes_on):
                number += 1
                permits.ask(Ask(f"t{number}", f"k{key}", goes_on))
                waiting[f"t{number}"] = True
            case ("end", place) if holding:
                permits.withdraw(holding.pop(place % len(holding)))
            case ("pass", passed_s):
                now_s += passed_s
            case ("leave", place) if waiting:
                ticket = list(waiting)[place % len(waiting)]
                permits.leave(ticket)
                waiting[ticket] = False
            case ("back", place) if waiting:
                ticket = list(waiting)[place % len(waiting)]
                if not waiting.pop(ticket):
                    permits.come_back(ticket, f"{ticket}'")
                waiting[ticket if ticket in permits else f"{ticket}'"] = True
            case ("close", for_s):
                permits.close(now_s + for_s)
            case ("restart",):
                asks = list(permits._asks.values())
                permits = Permits(limit, now_s)
                for ticket in holding:
                    permits.is_held(ticket)
                for ask in asks:
                    permits.ask(ask)
            case _:
                pass  # there is nothing that it could happen to
        for ticket in permits.give(now_s):
            assert waiting.pop(ticket), "it was out of memory"
            holding.append(ticket)
            began.append(now_s + late * slack_s(limit))
        assert at_once is None or len(holding) <= at_once
        assert (permits.begun(now_s) or 0) <= per
        assert set(permits.places()) == set(waiting)
        ready = [ticket for ticket, is_ready in waiting.items() if is_ready]
        is_full = at_once is not None and len(holding) >= at_once
        assert bool(permits.next_s(now_s)) == (bool(ready) and not is_full)
    times = sorted(began)
    for first, at_s in enumerate(times):
        assert sum(at_s <= one < at_s + within_s for one in times[first:]) <= per


def test_what_happened_lately_is_counted_and_forgotten() -> None:
    recent = RecentCount(60.0)
    for at_s in (100.0, 100.5, 130.0):
        recent.add(at_s)
    assert [recent.count(at_s) for at_s in (130.0, 158.0, 170.0, 300.0)] == [3, 3, 1, 0]
    recent.add(300.0)
    assert recent.count(200.0) == 0, "the clock was set back"


@given(times=st.lists(st.floats(0, 20), max_size=30), more_s=st.floats(0, 10))
@settings(max_examples=examples(80))
def test_a_recent_count_is_short_by_a_fiftieth_of_the_time_at_most(
    times: list[float], more_s: float
) -> None:
    recent, now_s = RecentCount(5.0), 0.0
    for at_s in sorted(times):
        recent.add(at_s)
        now_s = at_s
    now_s += more_s
    ages_s = [now_s - at_s for at_s in times]
    assert recent.count(now_s) <= sum(age_s <= 5.0 for age_s in ages_s)
    assert recent.count(now_s) >= sum(age_s < 4.9 - 1e-6 for age_s in ages_s)


@given(small=st.integers(1, 10), large=st.integers(50, 300))
@settings(max_examples=examples(80))
def test_a_small_key_has_its_share_of_what_is_given(small: int, large: int) -> None:
    permits = Permits(Limit("x", at_once=8), 0.0)
    for number in range(large):
        permits.ask(Ask(f"large {number}", "large"))
    held = deque(permits.give(0.0))
    for number in range(small):
        permits.ask(Ask(f"small {number}", "small"))
    given: Counter[str] = Counter()
    while given["small"] < small:
        permits.withdraw(held.popleft())
        for ticket in permits.give(0.0):
            held.append(ticket)
            given[ticket.split()[0]] += 1
    assert given["large"] <= given["small"]
