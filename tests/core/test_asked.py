"""Hashes of what ops asked, and how two of them compare (S-126)."""

from __future__ import annotations

import pytest

from helmr_runtime.core.requests import (
    AskedHashes,
    Comparison,
    compare,
    data_text,
    differing,
    key_tag,
)

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
OLD = AskedHashes("aaa", {key_tag(KEY): KEY})
SAME_CODE = AskedHashes("aaa", {key_tag(KEY): KEY, key_tag(OTHER_KEY): OTHER_KEY})
NEW_CODE = AskedHashes("bbb", {key_tag(KEY): KEY})
NO_KEYS = AskedHashes("aaa")


@pytest.mark.parametrize(
    ("code", "parts", "expected"),
    [
        (SAME_CODE, ["Send?", 1], Comparison.SAME),
        (SAME_CODE, ["Send it?", 1], Comparison.DIFFERENT),
        (NEW_CODE, ["Send?", 1], Comparison.SAME),
        (NEW_CODE, ["Send it?", 1], Comparison.DRIFT),
        (NO_KEYS, ["Send it?", 1], Comparison.DIFFERENT),
        (AskedHashes(), ["Send it?", 1], Comparison.DRIFT),
    ],
)
def test_data_is_compared_by_code(code: AskedHashes, parts: object, expected: Comparison):
    assert compare(OLD.of_text(data_text(["Send?", 1])), code.of_text(data_text(parts))) is expected


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (SAME_CODE, "[1]", Comparison.SAME),
        (SAME_CODE, "[2]", Comparison.DIFFERENT),
        (NEW_CODE, "[2]", Comparison.DRIFT),
        (NO_KEYS, "[2]", Comparison.SAME),
        (AskedHashes("aaa", {key_tag(OTHER_KEY): OTHER_KEY}), "[2]", Comparison.SAME),
    ],
    ids=["same", "different", "other code", "no keys", "another key"],
)
def test_arguments_are_compared_by_the_key_of_what_is_recorded(
    code: AskedHashes, text: str, expected: Comparison
):
    recorded = OLD.of_arguments("[1]", None)
    assert compare(recorded, code.of_arguments(text, recorded)) is expected


def test_a_new_hash_takes_the_newest_key_and_says_nothing_of_what_it_hashes():
    made = SAME_CODE.of_arguments('["4711"]', None)
    assert made is not None
    code, tag, hashed = made.split(".")
    assert (code, tag) == ("aaa", key_tag(OTHER_KEY))
    assert len(hashed) == 16
    assert made != OLD.of_arguments('["4711"]', None)
    assert NO_KEYS.of_arguments('["4711"]', None) is None


def test_without_a_hash_on_either_side_an_op_passes():
    assert compare(None, OLD.of_text(data_text([1]))) is Comparison.SAME
    assert compare(OLD.of_text(data_text([1])), None) is Comparison.SAME


def test_keys_of_an_object_have_no_order():
    assert data_text([{"a": 1, "b": 2}]) == data_text([{"b": 2, "a": 1}])
    assert data_text([1]) != data_text([1.0])


def test_a_difference_is_shown_around_its_place():
    long = "x" * 500
    then, now = differing({"body": f"{long}a{long}"}, {"body": f"{long}b{long}"}) or ("", "")
    assert then.startswith("body …")
    assert "xa" in then
    assert "xb" in now
    assert len(now) < 120
    assert differing({"subject": None}, {"subject": "Hm?"}) == ("subject none", 'subject "Hm?"')
    assert differing({"subject": "a", "body": 1}, {"subject": "a"}) is None
