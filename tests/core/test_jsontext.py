"""The codec of stored values: exact, strict, bounded."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import SchemaMismatch
from helmr_runtime.core import checkpoint, jsontext
from tests.core.builder import Story, picture

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


def nested(depth: int, *, inner: Any = None) -> Any:
    value = inner
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal types all the way down (1, 1.0 and True are three things)."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    return bool(one == other)


@given(json_values)
def test_what_is_encoded_is_decoded_exactly(value: Any):
    assert same(jsontext.decode(jsontext.encode(value)), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (2**53 + 1, "9007199254740993"),
        (-0.0, "-0.0"),
        ("é\u2028", '"é\u2028"'),
        ({"b": 1, "a": [True, None]}, '{"b":1,"a":[true,null]}'),
        ("\x1b]52;", '"\\u001b]52;"'),
    ],
)
def test_the_text_is_compact_and_says_exactly_what_was_meant(value: Any, text: str):
    assert jsontext.encode(value) == text


NOT_JSON = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "infinity inside": [float("-inf")],
    "surrogate": "\ud800",
    "surrogate key": {"\udfff": 1},
    "set": {1, 2},
    "bytes": b"bytes",
    "object": object(),
    "tuple key": {("a", "b"): 1},
    "deep": nested(100_000),
    "too many digits": 10**5000,
}


@pytest.mark.parametrize("what", NOT_JSON)
def test_what_is_not_json_is_refused(what: str):
    with pytest.raises(SchemaMismatch):
        jsontext.encode(NOT_JSON[what])


def test_a_value_that_holds_itself_is_refused():
    value: list[Any] = []
    value.append(value)
    with pytest.raises(SchemaMismatch):
        jsontext.encode(value)


def test_depth_is_bounded_and_brackets_in_strings_do_not_count():
    jsontext.encode(nested(64))
    with pytest.raises(SchemaMismatch):
        jsontext.encode(nested(65))
    jsontext.encode(nested(64, inner='[[[{{{"\\' * 100))
    jsontext.encode([nested(40), nested(40), '"[' * 500])


@given(json_values)
def test_depth_is_that_of_the_value(value: Any):
    def depth(found: Any) -> int:
        if isinstance(found, list):
            return 1 + max(map(depth, found), default=0)
        if isinstance(found, dict):
            return 1 + max(map(depth, found.values()), default=0)
        return 0

    text = jsontext.encode(value)
    deep = depth(value)
    jsontext.encode(value, depth_max=deep)
    if deep:
        with pytest.raises(SchemaMismatch):
            jsontext.encode(value, depth_max=deep - 1)
    assert json.loads(text) == value


def test_a_megabyte_of_brackets_is_measured_quickly():
    """Deciding encodes on the actor's loop: a slow measure would delay every answer."""
    value: list[Any] = [[] for _ in range(500_000)]
    started = time.perf_counter()
    jsontext.encode(value)
    assert time.perf_counter() - started < 2
    started = time.perf_counter()
    jsontext.encode('"\\' * 500_000)
    assert time.perf_counter() - started < 1


def test_the_same_data_is_the_same_with_other_key_order_only():
    one = jsontext.same_data_hash({"a": 1, "b": [1, 2]})
    assert one == jsontext.same_data_hash({"b": [1, 2], "a": 1})
    others = [{"a": 1.0, "b": [1, 2]}, {"a": 1, "b": [2, 1]}, {"a": True, "b": [1, 2]}]
    assert one not in map(jsontext.same_data_hash, others)


def test_a_value_of_the_deepest_nesting_is_stored_and_checkpointed_wherever_it_stands():
    deep = nested(64)
    story = Story().execute()
    story.open_step(1)
    story.end_step(1, deep)
    story.append(2, deep)
    story.send(deep)
    story.send(deep, stream="chat")
    story.open_wait(3)
    story.state.metadata = {"deep": nested(60)}
    story.run.payload = deep
    assert picture(story.reload()) == picture(story.state)
    assert checkpoint.save(story.state, {})
    story.succeed(deep)
