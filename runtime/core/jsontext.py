"""The one JSON codec for stored values: compact text, integers exact, 1.0 stays 1.0.

Source: RFC 8785 is not for stored values (it turns 1.0 into 1 and refuses 2**53+1).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from helmr.errors import SchemaMismatch

DEPTH_MAX = 64
"""Deepest nesting of any stored value; json's parser and every reader recurse."""


def encode(value: Any) -> str:
    """Compact JSON text of a JSON value.

    Raises:
        SchemaMismatch: NaN, an infinity, a lone surrogate, a non-JSON type, or nesting over 64.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:
        raise SchemaMismatch(f"not a JSON value: {error}") from error
    if _depth(text) > DEPTH_MAX:
        raise SchemaMismatch(f"nested deeper than {DEPTH_MAX} levels")
    return text


def decode(text: str) -> Any:
    """The value of text that `encode` made."""
    return json.loads(text)


def same_data_hash(value: Any) -> str:
    """Hex SHA-256 of the sorted-key text: equal for what S-26 and S-41 call the same data."""
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
    )
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _depth(text: str) -> int:
    depth = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest
