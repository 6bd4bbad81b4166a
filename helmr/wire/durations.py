"""Durations and sizes as people write and read them."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta

from helmr.errors import BadDuration, UsageError

Duration = str | int | float | timedelta
"""Values that every `timeout=` accepts."""

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
        raise BadDuration(_no_duration(value), hint=_HINT)
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


def _no_duration(value: object) -> str:
    if isinstance(value, datetime):
        return "a moment is not a duration: write `moment - ctx.now()`, or `timers.until(moment)` to sleep"
    return f"{type(value).__name__} is not a duration"


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


Size = str | int
"""Values that `host_memory=` accepts."""

_UNITS = {
    "": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]i?b|)", re.IGNORECASE)

_BYTES_MAX = 2**60


def size_bytes(value: Size) -> int:
    """The size in bytes.

    Raises:
        UsageError: It is not a size, or not positive.
    """
    found = _SIZE.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    result = int(float(found[1]) * _UNITS[found[2].lower()]) if found is not None else 0
    if not 0 < result <= _BYTES_MAX:
        raise UsageError(
            f"{str(value)[:80]!r} is not a memory size",
            hint='Write it like "512MB", "4GB" or "1.5GiB", or as a number of bytes.',
        )
    return result


def spell_bytes(size: int) -> str:
    """A size for people: `60 MB`, `1.5 GB`."""
    for name in ("GB", "MB", "kB"):
        unit = _UNITS[name.lower()]
        if size >= unit:
            amount = size / unit
            return f"{amount:.1f} {name}" if amount < 10 else f"{amount:.0f} {name}"
    return f"{size} bytes"


def cut_text(text: str, bytes_max: int) -> str:
    """Return the start of a text that is too long for its place, with a line that says how long the whole is."""
    encoded = text.encode()
    if len(encoded) <= bytes_max:
        return text
    kept = encoded[:bytes_max].decode(errors="ignore")
    return f"{kept}\n\n… ({spell_bytes(len(encoded))} in all)"
