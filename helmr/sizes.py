"""Sizes of memory: `"512MB"`, `"4GB"`, `"1.5GiB"`, or a number of bytes; and texts cut to a size."""

from __future__ import annotations

import re

from helmr.errors import UsageError

Size = str | int
"""What `host_memory=` takes."""

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
        UsageError: It is no size, or not positive.
    """
    found = _SIZE.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    result = int(float(found[1]) * _UNITS[found[2].lower()]) if found is not None else 0
    if not 0 < result <= _BYTES_MAX:
        raise UsageError(
            f"{str(value)[:80]!r} is no size of memory",
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
    """The beginning of a text, for a place that has no room for all of it, with a line that says how long it is."""
    encoded = text.encode()
    if len(encoded) <= bytes_max:
        return text
    kept = encoded[:bytes_max].decode(errors="ignore")
    return f"{kept}\n\n… ({spell_bytes(len(encoded))} in all)"
