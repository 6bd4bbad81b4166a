"""Reads JSON from outside, and accepts only text that means the same to every reader.

Python's parser takes the last of two equal keys, NaN, lone surrogates and numbers that become
infinite, and ends in RecursionError on deep nesting. Here each of these is a `BadJson` that says
what is wrong. Integers of up to 4,300 digits stay exact.

The caller bounds the size before it calls; time is linear in it.

Source: RFC 8259; RFC 7493 (I-JSON) for unique keys and surrogates.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from itertools import accumulate
from typing import Any, NoReturn

from helmr.errors import BadJson

DEPTH_MAX = 64
"""Deepest nesting of arrays and objects; every later reader recurses."""

# A string, also one cut off by the end or a last backslash, so that no quote is tried twice.
_STRING = re.compile(r'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(sign for sign in range(256) if sign not in b"[]{}")
_STEP = {ord("["): 1, ord("]"): -1}
_SHALLOW = 2
"""Levels to count by removing them one at a time: fast, since a long text is seldom deep throughout."""

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def loads(text: bytes | str, *, depth_max: int = DEPTH_MAX) -> Any:
    """The value of strict JSON text.

    Raises:
        BadJson: Not UTF-8, not JSON, nested deeper than `depth_max`, a key twice in one object,
            NaN or an infinity, a number that has no finite value, or a lone surrogate.
    """
    decoded = text if isinstance(text, str) else _decoded(text)
    if decoded.startswith("\ufeff"):
        raise BadJson("the JSON text begins with a byte order mark")
    try:
        value = _DECODER.decode(decoded)
    except json.JSONDecodeError as error:
        raise BadJson(
            f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            line=error.lineno,
            column=error.colno,
        ) from None
    except ValueError as error:
        # Python refuses integers of more than 4,300 digits: reading them takes quadratic time.
        raise BadJson("a number has too many digits") from error
    except RecursionError:
        raise _too_deep(depth_max) from None
    _check_depth(decoded, depth_max)
    # Text that came as str can hold surrogates as they are; only these rare cases cost a walk.
    if isinstance(text, str) or _SURROGATE_ESCAPE.search(decoded) is not None:
        _check_surrogates(value)
    return value


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson(f"the JSON text is not UTF-8 (byte {error.start})") from None


def _check_depth(text: str, depth_max: int) -> None:
    """Refuse JSON text that is nested too deeply. Most texts have too few brackets for a look.

    The JSON parser runs first: it stops at the first wrong character, and at a depth of its own, so a megabyte of
    brackets or of an unfinished value costs next to nothing.
    """
    if text.count("[") + text.count("{") <= depth_max:
        return
    # Outside its strings JSON is ASCII.
    brackets = _STRING.sub("", text).encode("ascii").translate(_AS_SQUARE, _NO_BRACKETS)
    levels = 0
    while brackets and levels < _SHALLOW:
        brackets = brackets.replace(b"[]", b"")  # one level: whatever holds nothing
        levels += 1
    if levels + max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > depth_max:
        raise _too_deep(depth_max)


def _too_deep(depth_max: int) -> BadJson:
    return BadJson(f"the JSON text is nested deeper than {depth_max} levels")


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise BadJson("a string holds a lone surrogate, which is not a character") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise BadJson(f"the key {twice[:80]!r} appears twice in one object")
    return result


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadJson("a number is too large for a float")
    return number


def _no_constant(text: str) -> NoReturn:
    raise BadJson(f"{text} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant
)


def same_data_hash(value: Any) -> str:
    """Hex SHA-256 of the sorted-key text, in which 1.0 is not 1; `jsontext.by_value` makes one of them."""
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
    )
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
