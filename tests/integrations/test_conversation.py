"""What a stream's records make of a conversation: pure, whatever its items are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import DataError
from helmr.integrations.conversation import (
    ADD,
    PARTS,
    New,
    difference,
    folded,
    records_of,
)
from helmr.models import RECORD_BYTES_MAX

lists = st.lists(st.integers(0, 6), max_size=12)


@given(old=lists, new=lists)
def test_what_differs_makes_the_new_of_the_old(old: list[int], new: list[int]) -> None:
    parts = difference(old, new)
    stored = [{ADD: one.items} if isinstance(one, New) else one for one in parts]
    assert folded([{ADD: old}, {PARTS: stored}], "turns") == new


def test_what_is_added_and_what_is_left_out_is_said_by_its_place() -> None:
    old = [1, 2, 3, 4, 5]
    assert difference(old, [1, 2, 3, 4, 5]) == [[0, 5]]
    assert difference(old, [1, 2, 3, 4, 5, 6, 7]) == [[0, 5], New([6, 7])]
    assert difference(old, [9, 4, 5]) == [New([9]), [3, 5]]
    assert difference(old, [1, 2, 4, 5]) == [[0, 2], [3, 5]]
    assert difference(old, [1, 2, 3]) == [[0, 3]]
    assert difference(old, []) == []


@pytest.mark.parametrize("text", ["a", '"', "\\", "ä", "\U0001f9a6", "\x01"])
def test_a_change_that_one_record_can_not_hold_is_cut_and_put_together(text: str) -> None:
    change = {ADD: [{"said": text * RECORD_BYTES_MAX}]}
    records = records_of(change)
    assert len(records) > 1
    for record in records:
        assert len(json.dumps(record, ensure_ascii=False).encode()) <= RECORD_BYTES_MAX
    assert folded(records, "turns") == change[ADD]


def test_pieces_without_their_last_change_nothing() -> None:
    first = {ADD: [{"said": "hello"}]}
    cut = records_of({ADD: [{"said": "x" * RECORD_BYTES_MAX}]})
    small = records_of({ADD: ["y"]})
    assert folded([first, *cut[:-1]], "turns") == first[ADD]
    assert folded([first, *cut[:-1], *small], "turns") == [*first[ADD], "y"]
    assert folded([first, *cut[:-1], *cut], "turns") == [
        *first[ADD],
        {"said": "x" * RECORD_BYTES_MAX},
    ]


@pytest.mark.parametrize(
    "record", ["hello", 3, None, {"said": "hello"}, {PARTS: [[1]]}, {PARTS: 1}]
)
def test_a_stream_that_holds_something_else_is_refused_by_its_name(record: Any) -> None:
    with pytest.raises(DataError, match="stream turns does not hold a conversation"):
        folded([record], "turns")
