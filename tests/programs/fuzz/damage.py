"""Bytes, texts and JSON values that are nearly right: what finds more than noise does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30, 0.5, 1e308)
TEXTS = (
    *("", " ", "\x00", "\n", "null", "\ufeff", "\u2028", "\u202e", "e\u0301", "\U0001f600"),
    *("9" * 5_000, "a" * 300, "%00", "../", "${x}", "*", "None", "NaN", "-0", "1e999", "\u0661"),
)
BYTES = (b"\x00", b"\n", b"\r\n", b'"', b"\\", b"[", b"{", b"}", b"]", b":", b",", b"\xff", b"%")
"""Inserted as they are, and many times over."""
REPEATS = (1, 2, 70, 3_000)
LONE = "\ud800"
"""A surrogate without its partner: a `str` in Python, a character nowhere."""

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(NUMBERS)
    | st.sampled_from(TEXTS)
    | st.floats()
    | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(TEXTS) | st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
"""JSON values, with what parsers are apt to get wrong."""


@st.composite
def damaged(draw: DrawFn, samples: Sequence[bytes]) -> bytes:
    """One of these with a few changes: bytes set, put in, taken out, said twice, or the end cut off."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.sampled_from((0, 1, 2, 8, 100))))
        match draw(st.integers(0, 4)):
            case 0:
                data[begin:end] = draw(st.binary(max_size=8))
            case 1:
                data[begin:begin] = draw(st.sampled_from(BYTES)) * draw(st.sampled_from(REPEATS))
            case 2:
                del data[begin:end]
            case 3:
                data[begin:begin] = data[begin:end]
            case _:
                del data[begin:]
    return bytes(data)


def damaged_text(samples: Sequence[str]) -> SearchStrategy[str]:
    """The same of texts; what is no UTF-8 then has lone surrogates in it."""
    return damaged([one.encode() for one in samples]).map(
        lambda data: data.decode(errors="surrogateescape")
    )


@st.composite
def altered(draw: DrawFn, samples: Sequence[Any]) -> Any:
    """One of these JSON values with a few of its parts replaced, taken out or put in."""
    value = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, 3))):
        value = _altered(draw, value)
    return value


def _altered(draw: DrawFn, value: Any) -> Any:
    if draw(st.integers(0, 3)) == 0 or not value or not isinstance(value, (dict, list)):
        return draw(anything)
    if isinstance(value, list):
        place = draw(st.integers(0, len(value) - 1))
        return _parts(draw, value[:place], value[place], value[place + 1 :])
    name = draw(st.sampled_from(sorted(value)))
    changed = dict(value)
    match draw(st.integers(0, 4)):
        case 0:
            del changed[name]
        case 1:
            changed[draw(st.sampled_from(TEXTS))] = changed.pop(name)
        case _:
            changed[name] = _altered(draw, value[name])
    return changed


def _parts(draw: DrawFn, before: list[Any], one: Any, behind: list[Any]) -> list[Any]:
    match draw(st.integers(0, 4)):
        case 0:
            return before + behind
        case 1:
            return [*before, one, one, *behind]
        case _:
            return [*before, _altered(draw, one), *behind]


@st.composite
def one_altered(
    draw: DrawFn, values: Sequence[Any], write: Callable[[Sequence[Any]], bytes]
) -> bytes:
    """All these values, one of them altered, as the file that `write` makes: with every check of it right."""
    place = draw(st.integers(0, len(values) - 1))
    changed = draw(altered([values[place]]))
    return write([*values[:place], changed, *values[place + 1 :]])
