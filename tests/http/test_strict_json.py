"""Hostile JSON: what `helmr.wire.jsonio` refuses, what it keeps, and that neither takes long."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import BadJson
from helmr.wire.jsonio import loads

MEGABYTE = 1_310_720
QUICK_S = 5.0
"""A quadratic reader needs minutes for these texts; a linear one, on busy cores, less than this."""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{", "not JSON", id="cut"),
        pytest.param(b'{"a": 1} x', "not JSON", id="trailing"),
        pytest.param(b"{'a': 1}", "not JSON", id="single-quotes"),
        pytest.param(b'{"a": 1, "a": 2}', "'a' appears twice", id="key-twice"),
        pytest.param(
            b'[{"x": {"a": 1, "b": 2, "a": 1}}]', "'a' appears twice", id="key-twice-inside"
        ),
        pytest.param(b'{"\\u0061": 1, "a": 2}', "'a' appears twice", id="key-twice-escaped"),
        pytest.param(b"NaN", "NaN", id="nan"),
        pytest.param(b"[Infinity]", "Infinity", id="infinity"),
        pytest.param(b"[-Infinity]", "-Infinity", id="minus-infinity"),
        pytest.param(b"1e400", "too large", id="float-overflow"),
        pytest.param(b"-1e400", "too large", id="float-underflow"),
        pytest.param(b"9" * 5000, "too many digits", id="long-integer"),
        pytest.param(b'"\\ud800"', "surrogate", id="lone-high-surrogate"),
        pytest.param(b'"\\uDC00\\uD800"', "surrogate", id="surrogates-reversed"),
        pytest.param(b'{"\\ud800": 1}', "surrogate", id="lone-surrogate-key"),
        pytest.param(b'"\xed\xa0\x80"', "UTF-8", id="encoded-surrogate"),
        pytest.param(b'"\xff"', "UTF-8", id="not-utf8"),
        pytest.param('"\ud800"', "surrogate", id="surrogate-in-str"),
        pytest.param(b"\xef\xbb\xbf{}", "byte order mark", id="bom"),
        pytest.param("[]".encode("utf-16"), "UTF-8", id="utf-16"),
        pytest.param(b"[" * 65 + b"]" * 65, "deeper than 64", id="depth-65"),
        pytest.param(b"[" * 10_000, "deeper than 64", id="depth-10000-open"),
        pytest.param(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "deeper than 64", id="depth-10000"),
        pytest.param(b'"tab\there"', "not JSON", id="control-character"),
    ],
)
def test_hostile_text_is_refused_and_the_reason_said(text: bytes | str, said: str) -> None:
    with pytest.raises(BadJson) as caught:
        loads(text)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("text", "is_json"),
    [
        ("[]", True),
        ("[[]]", True),
        ("[][]", False),
        ('[{"a":[]},{}]', True),
        ('[["]]]]",[[]]]', False),
        ('{"a":{"b":{}},"c":[1,[2]]}', True),
        ("[[],[],[],[[]],[],{}]", True),
        ("[[],[],[],[[[]]],[],{}]", False),
    ],
)
def test_depth_is_counted_level_by_level(text: str, is_json: bool) -> None:
    deepest = 3
    if is_json:
        assert loads(text, depth_max=deepest) == json.loads(text)
    else:
        with pytest.raises(BadJson):
            loads(text, depth_max=deepest)


@given(
    st.recursive(
        st.none() | st.text(alphabet='[]{}"\\a'),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet="[]{}a"), inner),
        max_leaves=40,
    )
)
def test_depth_is_what_a_reader_would_recurse(value: object) -> None:
    def depth(part: object) -> int:
        inner: list[object] = []
        if isinstance(part, (list, dict)):
            inner = list(part.values()) if isinstance(part, dict) else part
            return 1 + max([depth(one) for one in inner], default=0)
        return 0

    deep = depth(value)
    assert loads(json.dumps(value), depth_max=max(deep, 1)) == value
    if deep > 1:
        with pytest.raises(BadJson, match="deeper"):
            loads(json.dumps(value), depth_max=deep - 1)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * MEGABYTE,
        b'["a",' * (MEGABYTE // 5),
        b'{"a":' * (MEGABYTE // 5),
        b'"' + b"a" * MEGABYTE,
    ],
    ids=["brackets", "lists", "objects", "a string"],
)
def test_what_never_ends_is_refused_in_a_fraction_of_what_reading_takes(text: bytes) -> None:
    def seconds(one: bytes) -> float:
        took = []
        for _ in range(5):
            began = time.perf_counter()
            with suppress(BadJson):
                loads(one)
            took.append(time.perf_counter() - began)
        return min(took)

    whole = b"[" + b'"a",' * (MEGABYTE // 4) + b"1]"
    assert seconds(text) < seconds(whole) / 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"null", None),
        (b"9007199254740993", 9007199254740993),
        (b"1" * 4000, int("1" * 4000)),
        (b"1.0", 1.0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        (b'"\\u0000"', "\x00"),
        (b"[" * 64 + b"]" * 64, None),
        (b'"' + b"[" * 1000 + b'"', "[" * 1000),
        (b'"\\"[[[' + b"[" * 100 + b'"', '"[[[' + "[" * 100),
        (b"[" + b"[]," * 1000 + b"[]]", [[]] * 1001),
    ],
    ids=lambda part: repr(part)[:30],
)
def test_what_is_json_is_read_exactly(text: bytes, value: object) -> None:
    read = loads(text)
    if value is not None:
        assert read == value
        assert type(read) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'"\\"' * (MEGABYTE // 3), id="escaped-quotes-cut-off"),
        pytest.param(b'"' + b'\\"' * (MEGABYTE // 2) + b"\\", id="ends-in-a-backslash"),
        pytest.param(b'"' * MEGABYTE, id="quotes"),
        pytest.param(b"[" + b"[]," * (MEGABYTE // 3), id="flat-brackets"),
        pytest.param(b"\\" * MEGABYTE, id="backslashes"),
        pytest.param(b"[" + b"9" * 4000 + b"]" * MEGABYTE, id="closing-brackets"),
    ],
)
def test_a_body_made_to_be_slow_is_not(text: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(BadJson):
        loads(text)
    assert time.monotonic() - began < QUICK_S


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
        ),
    )
)
def test_every_json_value_survives_both_spellings(value: object) -> None:
    assert loads(json.dumps(value)) == value
    assert loads(json.dumps(value, ensure_ascii=False).encode()) == value
