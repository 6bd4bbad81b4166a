"""Dates, times and spans of time as text: one definition for forms, pages, console, command line and runtime.

A JSON value fits a schema's `format` if the types of tasks read it, which are pydantic's: RFC 3339 and ISO 8601, a time
of day without its zone and a duration with fractions too. A date and time needs its zone. Leap seconds fit nothing,
since no type of Python holds one. What a person types may be looser (`1430`, `1h30m`): `written` makes a fitting text
of it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import Final

from helmr.errors import BadDuration
from helmr.wire import durations

EXAMPLES: Final[Mapping[str, str]] = {
    "date": "2026-11-24",
    "time": "14:30:00",
    "date-time": "2026-11-24T14:30:00Z",
    "duration": "1h30m",
}
"""Examples as people write them; all but the duration are also JSON."""
DURATION_EXAMPLE: Final = "PT1H30M"
DAYS_MAX = 999_999_999
"""The longest duration that a task's type holds. Source: datetime.timedelta."""

_CLOCK = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
_ZONE = r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(rf"{_CLOCK}{_ZONE}?")
_DATETIME = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[Tt ]{_CLOCK}{_ZONE}")
_PARTS = ("Y", "M", "W", "D")
_DAYS = {"Y": 365, "M": 30, "W": 7, "D": 1}
_DURATION = re.compile(
    r"[+-]?P(?=[0-9T])(?P<Y>[0-9]{1,10}Y)?(?P<M>[0-9]{1,10}M)?(?P<W>[0-9]{1,10}W)?"
    r"(?P<D>[0-9]{1,10}(\.[0-9]{1,9})?D)?"
    r"(T(?=[0-9])(?P<h>[0-9]{1,10}(\.[0-9]{1,9})?H)?(?P<m>[0-9]{1,10}(\.[0-9]{1,9})?M)?"
    r"(?P<s>[0-9]{1,10}(\.[0-9]{1,9})?S)?)?"
)
_DAY_S = 86_400
_SECONDS = {"h": 3_600, "m": 60, "s": 1}
_UNCLEAR = re.compile(r"(^|[Tt ])[0-9]{2}(:?[0-9]{2})?[.,]")
"""`14.30`, which Python reads as a fraction of an hour, and who typed it meant as half past two."""


def is_date(text: str) -> bool:
    """True for a date that exists, such as `2026-11-24`."""
    return bool(_DATE.fullmatch(text)) and _reads(date.fromisoformat, text)


def is_time(text: str) -> bool:
    """True for a time such as `14:30`, with or without seconds and zone."""
    return bool(_TIME.fullmatch(text)) and _reads(time.fromisoformat, text)


def is_datetime(text: str) -> bool:
    """True for a moment with its zone, such as `2026-11-24T14:30:00Z`."""
    return bool(_DATETIME.fullmatch(text)) and _reads(datetime.fromisoformat, text)


def is_duration(text: str) -> bool:
    """True for a duration such as `PT1H30M`, up to the maximum of a task's type."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return False
    parts = {name: float(part[:-1]) for name, part in found.groupdict().items() if part}
    days = sum(parts.get(name, 0) * _DAYS[name] for name in _PARTS)
    seconds = sum(parts.get(name, 0) * each for name, each in _SECONDS.items())
    return days + seconds // _DAY_S <= DAYS_MAX


FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {
    "date": is_date,
    "time": is_time,
    "date-time": is_datetime,
    "duration": is_duration,
}
"""Checks of JSON texts, by the schema's format."""


def written(form: str, text: str) -> str:
    """The text of JSON that a person means who has typed this.

    Args:
        form: One of `FORMATS`.
        text: The text as typed.

    Raises:
        ValueError: It is none. A date and time that only lacks its zone says so.
    """
    try:
        return _READ[form](text)
    except BadDuration as error:
        raise ValueError(error.message) from error


class NoZone(ValueError):
    """A date and time without a zone is no moment."""


def _read_date(text: str) -> str:
    return date.fromisoformat(text).isoformat()


def _read_time(text: str) -> str:
    return _spelt(time.fromisoformat(_clear(text)))


def _read_datetime(text: str) -> str:
    moment = datetime.fromisoformat(_clear(text))
    if moment.tzinfo is None:
        raise NoZone(text)
    return _spelt(moment)


def _read_duration(text: str) -> str:
    if is_duration(text):
        return text
    seconds = f"{durations.seconds(text, allow_zero=True):.6f}"
    return f"PT{seconds.rstrip('0').rstrip('.')}S"


_READ: Mapping[str, Callable[[str], str]] = {
    "date": _read_date,
    "time": _read_time,
    "date-time": _read_datetime,
    "duration": _read_duration,
}


def _clear(text: str) -> str:
    if _UNCLEAR.search(text):
        raise ValueError(text)
    return text.upper()


def _spelt(moment: time | datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _reads(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text.upper())
    except ValueError:
        return False
    return True
