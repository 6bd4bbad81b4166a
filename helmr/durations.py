"""Durations: one grammar everywhere.

`"90s"`, `"30m"`, `"1h30m"`, `"7d"`, `"500ms"`, `"2w"`, a number of seconds, or a `timedelta`.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta

from helmr.errors import BadDuration

Duration = str | int | float | timedelta
"""What every `timeout=` takes."""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d|w)")
_HINT = 'Write it like "90s", "30m", "1h30m" or "7d", as seconds, or as a timedelta.'

TEN_YEARS_S = 10 * 366 * 86_400.0
"""The longest timeout (S-16)."""


def seconds(value: Duration, *, maximum_s: float = TEN_YEARS_S, allow_zero: bool = False) -> float:
    """The duration in seconds.

    Raises:
        BadDuration: Not a duration, not positive, or over `maximum_s`.
    """
    result = _parse(value)
    if not math.isfinite(result) or result < 0 or (result == 0 and not allow_zero):
        raise BadDuration(f"{value!r} is not a positive duration", hint=_HINT)
    if result > maximum_s:
        raise BadDuration(f"{value!r} is longer than {spell(maximum_s)}", hint="Use a shorter one.")
    return result


def _parse(value: Duration) -> float:
    if isinstance(value, bool):
        raise BadDuration(f"{value!r} is not a duration", hint=_HINT)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError as error:
            raise BadDuration("the duration is too large a number", hint=_HINT) from error
    if not isinstance(value, str):
        raise BadDuration(f"{type(value).__name__} is not a duration", hint=_HINT)
    text = value.strip().lower()
    total, position = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != position:
            break
        total += float(part[1]) * _UNITS_S[part[2]]
        position = part.end()
    if position != len(text) or not text:
        raise BadDuration(f"{value[:80]!r} is not a duration", hint=_HINT)
    return total


def spell(duration_s: float) -> str:
    """A duration for people, two units at most, the smaller one rounded: `1h 30m`, `45s`, `0.2s`."""
    if duration_s < 10:
        return f"{duration_s:.1f}".rstrip("0").rstrip(".") + "s"
    rest = round(duration_s)
    for largest_s, smaller_s in ((86_400, 3600), (3600, 60)):
        if rest >= largest_s:
            rest = round(duration_s / smaller_s) * smaller_s
            break
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
        if len(parts) == 2 or (parts and unit == "s"):
            break
    return " ".join(parts) or "0s"
