"""One grammar for durations (S-16)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import BadDuration
from helmr.wire.durations import TEN_YEARS_S, seconds, spell

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("500ms", 0.5),
        ("1.5h", 5400),
        (" 10S ", 10),
        ("1d12h", 129_600),
        (10, 10),
        (0.25, 0.25),
        (timedelta(minutes=2), 120),
    ],
)
def test_what_is_a_duration(text: Any, expected: float):
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "10",
        "s",
        "-5s",
        "5 s",
        "5s 10",
        "1h 30m",
        "5x",
        "5s5",
        "1..5s",
        ".5s",
        "1e3s",
        "infs",
        "nan",
        "five minutes",
        "1h30",
        0,
        -1,
        "0s",
        float("nan"),
        float("inf"),
        float("-inf"),
        True,
        None,
        [],
        b"5s",
        10**400,
        timedelta(0),
        timedelta(seconds=-1),
        "11000000000000s",
        "9" * 10_000 + "s",
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) or value < 10**9 else "huge",
)
def test_what_is_none(text: Any):
    with pytest.raises(BadDuration) as caught:
        seconds(text)
    assert caught.value.hint


def test_the_longest_timeout_is_ten_years_and_zero_only_where_it_is_allowed():
    assert seconds("3650d") == 3650 * 86_400
    assert seconds(TEN_YEARS_S) == TEN_YEARS_S
    with pytest.raises(BadDuration, match="longer"):
        seconds(TEN_YEARS_S + 1)
    with pytest.raises(BadDuration):
        seconds("2h", maximum_s=3600)
    assert seconds(0, allow_zero=True) == 0
    assert seconds("0s", allow_zero=True) == 0


@given(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(sorted(UNITS))), min_size=1, max_size=5)
)
def test_the_parts_of_a_text_add_up(parts: list[tuple[int, str]]):
    text = "".join(f"{number}{unit}" for number, unit in parts)
    expected = sum(number * UNITS[unit] for number, unit in parts)
    if expected == 0 or expected > TEN_YEARS_S:
        with pytest.raises(BadDuration):
            seconds(text)
    else:
        assert seconds(text) == pytest.approx(expected)


@given(st.text() | st.floats() | st.integers() | st.timedeltas())
def test_anything_is_a_positive_finite_number_or_a_bad_duration(value: Any):
    try:
        found = seconds(value)
    except BadDuration:
        return
    assert 0 < found <= TEN_YEARS_S


@given(st.floats(0, TEN_YEARS_S))
def test_every_duration_can_be_spelt_and_without_its_space_read_again(value: float):
    text = spell(value)
    assert text
    assert len(text.split()) <= 2
    again = seconds(text.replace(" ", ""), allow_zero=True)
    assert again == pytest.approx(value, rel=0.05, abs=0.06)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (0.2, "0.2s"),
        (9.97, "10s"),
        (45, "45s"),
        (59.6, "1m"),
        (5400, "1h 30m"),
        (3600, "1h"),
        (86_400 * 7, "7d"),
        (90_061, "1d 1h"),
        # A moment after a wait of seven days was opened it ends in seven days.
        (86_400 * 7 - 0.9, "7d"),
        (86_400 * 7 - 1_790, "7d"),
        (86_400 * 7 - 1_810, "6d 23h"),
        (86_399.6, "1d"),
        (86_400 - 45, "23h 59m"),
        (86_400 - 15, "1d"),
        (3600 - 15, "59m 45s"),
        (7200 - 20, "2h"),
        (7200 - 40, "1h 59m"),
    ],
)
def test_durations_for_people(value: float, text: str):
    assert spell(value) == text
