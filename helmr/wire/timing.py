"""Due times of schedules: cron expressions in a time zone, and intervals. Pure.

A cron expression that names its hours is due by the zone's wall clock. A time that a clock change skips is due once,
right after the gap, and a time that occurs twice is due only the first time. An expression whose hours begin with `*`
follows elapsed time instead, as cron does: every quarter of an hour stays every quarter of an hour.

An interval is due at whole multiples of itself since 1970-01-01T00:00Z, no matter when it was declared.

Invariants: S-93.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from helmr.errors import BadDefinition
from helmr.models import TIMING_TEXT_MAX, Missed, Overlap, Timing
from helmr.wire.durations import Duration, seconds

EVERY_MIN_S = 1.0

FIELDS = 5
"""Fields of a cron expression. With six, the library counts seconds and ignores clock changes."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_LOOK_BACK = timedelta(hours=1)
_CHANGE = timedelta(hours=26)
"""How far back to search for the clock change behind a gap: longer than any gap, shorter than the time between two."""


def timing(
    *,
    cron: str | None = None,
    every: Duration | None = None,
    zone: str = "UTC",
    missed: Missed = "latest",
    overlap: Overlap = "skip",
) -> Timing:
    """A checked `Timing`, by a cron expression or an interval.

    Raises:
        BadDefinition: Both or neither is given, one can't be read or is never due, the zone is unknown, or `missed`
            and `overlap` conflict.
        BadDuration: `every` is not a duration.
    """
    if (cron is None) == (every is None):
        raise BadDefinition(
            "a schedule has either a cron expression or an interval",
            hint='Like "0 3 * * mon-fri", or every="15m".',
        )
    if missed not in ("skip", "latest", "all"):
        raise BadDefinition(f"missed must be skip, latest or all, not {missed!r}")
    if overlap not in ("skip", "allow"):
        raise BadDefinition(f"overlap must be skip or allow, not {overlap!r}")
    if missed == "all" and overlap == "skip":
        raise BadDefinition(
            'missed="all" starts sessions beside each other, and overlap="skip" forbids that',
            hint='Give overlap="allow" too, or leave missed at "latest".',
        )
    every_s = seconds(every) if every is not None else None
    if every_s is not None and every_s < EVERY_MIN_S:
        raise BadDefinition(f"every={every!r} is less than a second")
    if every_s is not None and zone != "UTC":
        raise BadDefinition("an interval has no time zone", hint="Leave zone out.")
    made = Timing(cron=cron, every_s=every_s, zone=zone, missed=missed, overlap=overlap)
    if cron is not None:
        _check_cron(cron, zone)
    return made


def next_due(when: Timing, after: datetime) -> datetime | None:
    """Return the first due time after `after`, UTC; None if the calendar has none."""
    return next(_dues(when, after), None)


def newest_due(when: Timing, after: datetime, until: datetime, count: int = 1) -> list[datetime]:
    """Return the newest due times in (after, until], at most `count`, in order.

    It searches backwards in doubling steps, so a year of missed minutes costs no more than the last few.
    """
    back = _LOOK_BACK
    while True:
        start = max(after, until - back) if back < until - after else after
        found = list(takewhile(lambda at: at <= until, _dues(when, start)))
        if len(found) >= count or start == after:
            return found[-count:]
        back *= 2


def _dues(when: Timing, after: datetime) -> Iterator[datetime]:
    if when.every_s is not None:
        return _multiples(when.every_s, after)
    assert when.cron is not None
    return _cron_dues(when.cron, _zone(when.zone), after)


def _multiples(every_s: float, after: datetime) -> Iterator[datetime]:
    every = timedelta(seconds=every_s)
    due = _EPOCH + ((after - _EPOCH) // every + 1) * every
    while True:
        yield due
        try:
            due += every
        except OverflowError:
            return


def _cron_dues(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    dues = _by_elapsed_time if _follows_time(cron) else _by_wall_clock
    last = after
    for due in dues(cron, zone, after):
        if due > last:
            last = due
            yield due


def _by_wall_clock(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Yield each wall-clock time once: the first of two, and a skipped one right after its gap."""
    for wall in CronSim(cron, after.astimezone(zone).replace(tzinfo=None)):
        due = wall.replace(tzinfo=zone).astimezone(UTC)
        is_skipped = due.astimezone(zone).replace(tzinfo=None) != wall
        yield _change_between(zone, due - _CHANGE, due) if is_skipped else due


def _by_elapsed_time(cron: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Yield due times by a fixed offset until the next clock change, then by the new offset."""
    since = after
    while True:
        offset = _offset(since, zone)
        wall = (since + offset - _SECOND).replace(tzinfo=None)
        for local in CronSim(cron, wall):
            due = local.replace(tzinfo=UTC) - offset
            if _offset(due, zone) != offset:
                since = _change_between(zone, since, due)
                break
            yield due
            since = due
        else:
            return


def _change_between(zone: ZoneInfo, before: datetime, behind: datetime) -> datetime:
    """Return the first second of the new offset."""
    old = _offset(before, zone)
    while behind - before > _SECOND:
        middle = before + (behind - before) // 2
        before, behind = (middle, behind) if _offset(middle, zone) == old else (before, middle)
    return behind.replace(microsecond=0)


def _follows_time(cron: str) -> bool:
    """Return True when it is due by elapsed time: every hour, or every n hours."""
    return cron.split()[1].startswith("*")


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _check_cron(cron: str, zone: str) -> None:
    hint = "Five fields: minute, hour, day of month, month, day of week."
    if len(cron) > TIMING_TEXT_MAX or len(cron.split()) != FIELDS:
        raise BadDefinition(f"{cron[:80]!r} is not a cron expression", hint=hint)
    try:
        found = next(_cron_dues(cron, _zone(zone), datetime(2024, 1, 1, tzinfo=UTC)), None)
    except (CronSimError, ValueError, IndexError, AssertionError) as error:
        raise BadDefinition(f"{cron!r} is not a cron expression: {error}", hint=hint) from error
    if found is None:
        raise BadDefinition(f"{cron!r} is never due", hint="No such day is in the calendar.")


def load_zones(names: Iterable[str]) -> None:
    """Read these time zones' files now, so that this module reads none later. Unknown names are skipped."""
    for name in names:
        with suppress(BadDefinition):
            _zone(name)


@lru_cache(1024)  # more than there are
def _zone(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        BadDefinition: There is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadDefinition(
            f"{name[:80]!r} is not a time zone", hint='Like "Europe/Berlin" or "UTC".'
        ) from error
