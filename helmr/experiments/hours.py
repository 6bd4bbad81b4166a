"""When an operator is at work: hours of the day on days of the week, in a time zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from helmr.errors import UsageError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAYS_MAX = 40_000
"""Days that are looked through for a delay's end: a century."""


@dataclass(frozen=True)
class WorkingHours:
    """Hours of work on the clock of a place; time changes count as they do on the wall there.

    Args:
        start: When work begins, `HH:MM`.
        end: When it ends, `HH:MM`, later than `start`; `24:00` is midnight.
        days: Days of the week, of `mon tue wed thu fri sat sun`.
        zone: IANA name of the time zone.

    Raises:
        UsageError: One of them is no such thing.
    """

    start: str = "09:00"
    end: str = "17:00"
    days: tuple[str, ...] = DAYS[:5]
    zone: str = "UTC"
    _start: timedelta = field(init=False, repr=False)
    _end: timedelta = field(init=False, repr=False)
    _zone: ZoneInfo = field(init=False, repr=False)
    _weekdays: frozenset[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        begins, ends = _of_day(self.start, "start"), _of_day(self.end, "end")
        if begins >= ends:
            raise UsageError(
                f"working hours end at {self.end}, not after they begin at {self.start}",
                hint="For a night shift give two operators one part each.",
            )
        unknown = [day for day in self.days if day not in DAYS]
        if unknown or not self.days:
            raise UsageError(
                f"working days {unknown or 'are missing'}", hint=f"Days are: {' '.join(DAYS)}."
            )
        try:
            zone = ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise UsageError(
                f"no time zone {self.zone!r}", hint='Write it like "Europe/Berlin" or "UTC".'
            ) from error
        object.__setattr__(self, "_start", begins)
        object.__setattr__(self, "_end", ends)
        object.__setattr__(self, "_zone", zone)
        object.__setattr__(self, "_weekdays", frozenset(DAYS.index(day) for day in self.days))

    def is_open(self, moment: datetime) -> bool:
        """True if somebody is at work then."""
        return self.next_open(moment) <= moment

    def next_open(self, moment: datetime) -> datetime:
        """`moment` if somebody is at work then, else when work begins next; UTC."""
        return max(moment, next(self._shifts(moment))[0])

    def after(self, moment: datetime, worked_s: float) -> datetime:
        """When `worked_s` seconds of working time have passed since `moment`; UTC.

        Raises:
            UsageError: Not within a century.
        """
        left = timedelta(seconds=worked_s)
        for begins, ends in self._shifts(moment):
            begins = max(begins, moment)
            if begins + left <= ends:
                return begins + left
            left -= ends - begins
        raise UsageError(f"{worked_s:.0f} s of working time do not end within a century")

    def _shifts(self, moment: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Shifts that end after `moment`, in order; UTC."""
        day = moment.astimezone(self._zone).date() - timedelta(days=1)
        for _ in range(_DAYS_MAX):
            if day.weekday() in self._weekdays:
                begins, ends = self._at(day, self._start), self._at(day, self._end)
                if moment < ends and begins < ends:
                    yield begins, ends
            day += timedelta(days=1)

    def _at(self, day: date, of_day: timedelta) -> datetime:
        # Added to the naive date: 09:00 on the wall stays 09:00 when the clocks change.
        wall = datetime.combine(day, time()) + of_day
        return wall.replace(tzinfo=self._zone).astimezone(UTC)


def _of_day(text: str, name: str) -> timedelta:
    hours, colon, minutes = text.partition(":")
    if colon and hours.isdecimal() and minutes.isdecimal() and len(minutes) == 2:
        found = timedelta(hours=int(hours), minutes=int(minutes))
        if int(minutes) < 60 and found <= timedelta(days=1):
            return found
    raise UsageError(f"{name} of working hours: {text!r} is no time of day like 09:00")
