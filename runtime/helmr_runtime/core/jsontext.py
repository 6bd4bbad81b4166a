"""The one JSON codec for stored values: compact text, integers exact, 1.0 stays 1.0.

Source: RFC 8785 is not for stored values (it turns 1.0 into 1 and refuses 2**53+1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from helmr.errors import SchemaMismatch
from helmr.wire.jsonio import same_data_hash as same_data_hash

DEPTH_MAX = 64
"""Deepest nesting of any stored value; json's parser and every reader recurse."""

BODY_DEPTH_MAX = DEPTH_MAX + 8
"""Deepest nesting of an entry's body, which holds such values."""


_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
)
"""Encoder without a check for cycles: a cyclic value still ends in a RecursionError."""


def encode(value: Any, *, depth_max: int | None = DEPTH_MAX) -> str:
    """Compact JSON text of a JSON value.

    Args:
        value: What to encode.
        depth_max: Deepest nesting; None if all nested values have been encoded before.

    Raises:
        SchemaMismatch: NaN, an infinity, a lone surrogate, a non-JSON type, or nesting over `depth_max`.
    """
    try:
        text = _ENCODER.encode(value)
        text.encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:
        raise SchemaMismatch(f"not a JSON value: {error}") from error
    if depth_max is not None and _is_deeper(text, depth_max):
        raise SchemaMismatch(f"nested deeper than {depth_max} levels")
    return text


def decode(text: str) -> Any:
    """The value of text that `encode` made."""
    return json.loads(text)


NUMBER_EXACT_MAX = 2**53
"""Up to here every integer is a float of its own."""


def by_value(value: Any) -> Any:
    """Return the value with each number in one form, since JSON has one type of number: 1.0 becomes 1."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= NUMBER_EXACT_MAX:
        return int(value)
    if isinstance(value, Mapping):
        return {name: by_value(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [by_value(one) for one in value]
    return value


def is_same_data(one: Any, other: Any) -> bool:
    """True if both are the same data by S-41."""
    return same_data_hash(by_value(one)) == same_data_hash(by_value(other))


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[\[\]{}]")


def _is_deeper(text: str, depth_max: int) -> bool:
    """True if JSON text nests deeper; nearly free for text with few brackets."""
    if text.count("[") + text.count("{") <= depth_max:
        return False
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > depth_max:
            return True
    return False
