"""When schedules are due, also around clock changes, against a naive reading minute by minute (S-93)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from helmr.errors import BadDefinition, BadDuration
from helmr.models import Timing
from helmr.wire.durations import seconds
from helmr.wire.timing import newest_due, next_due, timing

MINUTE = timedelta(minutes=1)

CHANGES = {
    "Europe/Berlin": (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)),
    "America/New_York": (
        datetime(2026, 3, 8, 7, tzinfo=UTC),
        datetime(2026, 11, 1, 6, tzinfo=UTC),
    ),
    "Australia/Lord_Howe": (
        datetime(2026, 4, 4, 15, tzinfo=UTC),
        datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    ),
}
"""The instants of both clock changes of a year; that of Lord Howe is half an hour."""

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True)
class Field:
    """One field of an expression: its text, and the numbers that it means."""

    text: str
    numbers: frozenset[int]

    @property
    def is_star(self) -> bool:
        return self.text.startswith("*")


def random_field(
    draw: random.Random, low: int, high: int, star: float, *, to: int | None = None
) -> Field:
    """Values from `low` to `high`, mostly up to `to` only."""
    if draw.random() < star:
        step = draw.choice((1, 1, 2, 3, 5, 7, 15))
        text = "*" if step == 1 else f"*/{step}"
        return Field(text, frozenset(range(low, high + 1)[::step]))
    everything = range(low, (to or high) + 1)
    kind = draw.choice(("one", "list", "range", "stepped"))
    if kind == "one":
        one = draw.choice(everything)
        return Field(str(one), frozenset({one}))
    if kind == "list":
        several = draw.sample(everything, k=min(3, len(everything)))
        return Field(",".join(map(str, several)), frozenset(several))
    first, last = sorted(draw.sample(everything, k=2))
    step = 1 if kind == "range" else draw.choice((2, 3, 10))
    text = f"{first}-{last}" if step == 1 else f"{first}-{last}/{step}"
    return Field(text, frozenset(range(first, last + 1)[::step]))


@dataclass(frozen=True)
class Expression:
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    @classmethod
    def random(cls, draw: random.Random) -> Expression:
        weekday = random_field(draw, 0, 6, 0.7)
        if weekday.text.isdigit() and draw.random() < 0.5:
            weekday = Field(DAYS[int(weekday.text)], weekday.numbers)
        return cls(
            random_field(draw, 0, 59, 0.15),
            # Mostly at night, where the clocks change.
            random_field(draw, 0, 23, 0.25, to=draw.choice((4, 4, 23))),
            random_field(draw, 1, 31, 0.7, to=28),
            random_field(draw, 1, 12, 0.9),
            weekday,
        )

    @property
    def text(self) -> str:
        fields = (self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join(field.text for field in fields)

    def fits(self, wall: datetime) -> bool:
        if wall.minute not in self.minute.numbers or wall.hour not in self.hour.numbers:
            return False
        if wall.month not in self.month.numbers:
            return False
        by_day = wall.day in self.day.numbers
        by_weekday = wall.isoweekday() % 7 in self.weekday.numbers
        if self.day.is_star or self.weekday.is_star:
            return by_day and by_weekday
        return by_day or by_weekday


def naive_dues(
    expression: Expression, zone: ZoneInfo, start: datetime, end: datetime
) -> list[datetime]:
    """Every due time in (start, end], read off the clock minute by minute."""
    if expression.hour.is_star:
        minutes = (start + n * MINUTE for n in range(1, (end - start) // MINUTE + 1))
        return [at for at in minutes if expression.fits(at.astimezone(zone))]
    found: set[datetime] = set()
    wall = start.astimezone(zone).replace(tzinfo=None) - timedelta(hours=3)
    last = end.astimezone(zone).replace(tzinfo=None) + timedelta(hours=3)
    while wall <= last:
        if expression.fits(wall):
            real = wall
            while not exists(real, zone):
                real += MINUTE
            found.add(real.replace(tzinfo=zone).astimezone(UTC))
        wall += MINUTE
    return sorted(at for at in found if start < at <= end)


def exists(wall: datetime, zone: ZoneInfo) -> bool:
    there = wall.replace(tzinfo=zone)
    return there.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall


def dues(when: Timing, start: datetime, end: datetime) -> list[datetime]:
    """The same, each time asked for anew from the one before, as a runtime does."""
    found: list[datetime] = []
    due = next_due(when, start)
    while due is not None and due <= end:
        found.append(due)
        due = next_due(when, due)
    return found


def test_a_thousand_random_schedules_around_clock_changes_are_due_as_read_minute_by_minute() -> (
    None
):
    draw = random.Random(93)
    places = [(name, change) for name, pair in CHANGES.items() for change in pair]
    counted = 0
    for number in range(1_000):
        name, change = places[number % len(places)]
        zone = ZoneInfo(name)
        start = change - timedelta(hours=draw.randint(0, 30), minutes=draw.randint(0, 59))
        end = start + timedelta(hours=36)
        expression = Expression.random(draw)
        when = timing(cron=expression.text, zone=name)
        expected = naive_dues(expression, zone, start, end)
        assert dues(when, start, end) == expected, (expression.text, name, start)
        count = draw.choice((1, 3, 1_000))
        assert newest_due(when, start, end, count) == expected[-count:], (expression.text, name)
        counted += len(expected)
    assert counted > 5_000


def test_the_clock_changes_of_the_test_are_clock_changes() -> None:
    for name, pair in CHANGES.items():
        zone = ZoneInfo(name)
        for at in pair:
            before = (at - MINUTE).astimezone(zone).utcoffset()
            assert before != at.astimezone(zone).utcoffset(), (name, at)


@pytest.mark.parametrize(
    ("cron", "zone", "day", "expected"),
    [
        ("30 2 * * *", "Europe/Berlin", "03-28T12:00", ["29 03:00", "30 02:30"]),
        ("30 2 * * *", "Europe/Berlin", "10-24T12:00", ["25 02:30", "26 02:30"]),
        ("10,20 2 * * *", "Europe/Berlin", "03-28T12:00", ["29 03:00", "30 02:10"]),
        ("*/30 2 * * *", "Europe/Berlin", "03-28T12:00", ["29 03:00", "30 02:00"]),
        ("*/30 2 * * *", "Europe/Berlin", "10-24T12:00", ["25 02:00", "25 02:30", "26 02:00"]),
        ("15 2 * * *", "Australia/Lord_Howe", "10-03T01:00", ["04 02:30", "05 02:15"]),
        ("45 1 * * *", "Australia/Lord_Howe", "04-04T01:00", ["05 01:45", "06 01:45"]),
    ],
)
def test_a_skipped_time_comes_once_behind_the_gap_and_a_doubled_one_once(
    cron: str, zone: str, day: str, expected: list[str]
) -> None:
    when = timing(cron=cron, zone=zone)
    start = datetime.fromisoformat(f"2026-{day}Z")
    found = dues(when, start, start + timedelta(days=3))[: len(expected)]
    assert [at.astimezone(ZoneInfo(zone)).strftime("%d %H:%M") for at in found] == expected


@pytest.mark.parametrize("zone", list(CHANGES))
@pytest.mark.parametrize(
    ("given", "apart"),
    [
        ({"cron": "0 * * * *"}, "1h"),
        ({"cron": "*/15 * * * *"}, "15m"),
        ({"cron": "* * * * *"}, "1m"),
        ({"every": "15m"}, "15m"),
        ({"every": "1h"}, "1h"),
    ],
    ids=str,
)
def test_what_is_due_in_every_hour_comes_as_often_around_both_clock_changes(
    zone: str, given: dict[str, str], apart: str
) -> None:
    """No hour of the doubled two is silent, and none has it twice as often (S-93: by the time that passes)."""
    when = timing(**given, zone=zone if "cron" in given else "UTC")  # type: ignore[arg-type]
    between = timedelta(seconds=seconds(apart))
    for change in CHANGES[zone]:
        found = dues(when, change - timedelta(hours=3), change + timedelta(hours=3))
        gaps = {later - earlier for earlier, later in pairwise(found)}
        if zone == "Australia/Lord_Howe" and apart == "1h" and "cron" in given:
            # A full hour on the wall comes half an hour late, or early, once.
            assert gaps <= {timedelta(minutes=30), between, timedelta(minutes=90)}
        else:
            assert gaps == {between}


@pytest.mark.parametrize("zone", list(CHANGES))
def test_a_time_of_the_day_comes_once_on_each_day_of_a_year(zone: str) -> None:
    start = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for minute in range(0, 180, 15):
        when = timing(cron=f"{minute % 60} {minute // 60} * * *", zone=zone)
        found = dues(when, start, start + timedelta(days=365))
        days = [at.astimezone(ZoneInfo(zone)).date() for at in found]
        assert len(days) == 365
        assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))


def test_an_interval_is_due_at_whole_multiples_whoever_asks() -> None:
    when = timing(every="15m")
    start = datetime(2026, 1, 1, 10, 7, 12, 5, tzinfo=UTC)
    found = dues(when, start, start + timedelta(hours=1))
    assert [at.strftime("%H:%M:%S") for at in found] == [
        "10:15:00",
        "10:30:00",
        "10:45:00",
        "11:00:00",
    ]
    assert next_due(when, found[0]) == found[1]
    assert next_due(when, found[0] - timedelta(microseconds=1)) == found[0]


def test_a_year_of_missed_minutes_costs_no_more_than_the_newest() -> None:
    end = datetime(2026, 7, 1, tzinfo=UTC)
    start = end - timedelta(days=365)
    for when in (timing(cron="* * * * *"), timing(every="1s")):
        step = MINUTE if when.cron else timedelta(seconds=1)
        assert newest_due(when, start, end, 2) == [end - step, end]
    yearly = timing(cron="0 0 29 2 *")
    assert newest_due(yearly, start, end) == []
    assert next_due(yearly, end) == datetime(2028, 2, 29, tzinfo=UTC)


def test_what_can_never_be_due_or_read_is_refused_with_what_to_do() -> None:
    for cron in ("", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "@daily", "a b c d e"):
        with pytest.raises(BadDefinition):
            timing(cron=cron)
    for zone in ("Mars/Olympus", "", "../etc/passwd", "x" * 300):
        with pytest.raises(BadDefinition, match="time zone"):
            timing(cron="0 3 * * *", zone=zone)
    with pytest.raises(BadDefinition, match="either a cron expression"):
        timing()
    with pytest.raises(BadDefinition, match="either a cron expression"):
        timing(cron="0 3 * * *", every="1h")
    with pytest.raises(BadDefinition, match="less than a second"):
        timing(every="500ms")
    with pytest.raises(BadDefinition, match="no time zone"):
        timing(every="1h", zone="Europe/Berlin")
    with pytest.raises(BadDefinition, match="overlap"):
        timing(every="1h", missed="all")
    with pytest.raises(BadDuration):
        timing(every="soon")


def test_hostile_expressions_end_in_one_error() -> None:
    draw = random.Random(5)
    for _ in range(2_000):
        text = "".join(draw.choice("0123456789*/,-#LW? monjan\x00é") for _ in range(12))
        try:
            when = timing(cron=text)
        except BadDefinition:
            continue
        assert next_due(when, datetime(2026, 1, 1, tzinfo=UTC)) is not None
