"""An answer as people read it: its texts as texts, line by line, in place of JSON with `\\n` in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

LONG_MIN = 60
"""Characters of a text that is read better as a text."""
_INDENT = "  "


def spelled(data: Any) -> str:
    """The answer in lines; empty where no text in it is long or has several lines, since JSON is read as well then."""
    return "\n".join(_lines(data)) if _has_long(data) else ""


def _has_long(data: Any) -> bool:
    if isinstance(data, str):
        return len(data) >= LONG_MIN or "\n" in data
    if isinstance(data, dict):
        return any(_has_long(one) for one in data.values())
    return isinstance(data, list) and any(_has_long(one) for one in data)


def _lines(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield from data.split("\n")
    elif isinstance(data, dict) and data:
        for name, one in data.items():
            yield from _named(f"{name}:", one)
    elif isinstance(data, list) and data:
        for one in data:
            yield from _named("-", one)
    else:
        yield json.dumps(data, ensure_ascii=False)


def _named(name: str, data: Any) -> Iterator[str]:
    """On one line if it is short; a short text in its quotes, so that it is not taken for a number or yes."""
    if _has_long(data) or (isinstance(data, dict | list) and data):
        yield name
        yield from (f"{_INDENT}{line}" for line in _lines(data))
    else:
        yield f"{name} {json.dumps(data, ensure_ascii=False)}"
