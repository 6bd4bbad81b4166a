"""An answer as people read it: long texts as texts, everything else as JSON says it."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.person.forms.template import spelled

LETTER = "Dear Ada,\n\nit left this morning.\n"


@pytest.mark.parametrize("data", [None, 3, "short", {"note": "short", "n": 1}, [], {}, ["a", "b"]])
def test_what_json_says_as_well_is_left_to_it(data: Any) -> None:
    assert spelled(data) == ""


def test_a_text_is_shown_as_it_is() -> None:
    assert spelled(LETTER) == LETTER


def test_around_a_text_short_values_stay_json_so_that_none_is_taken_for_another() -> None:
    data = {
        "decision": "true",
        "count": 3,
        "letter": LETTER,
        "to": {"name": "Ada", "lines": ["x" * 60]},
        "none": None,
        "empty": {},
    }
    assert spelled(data).split("\n") == [
        'decision: "true"',
        "count: 3",
        "letter:",
        "  Dear Ada,",
        "  ",
        "  it left this morning.",
        "  ",
        "to:",
        '  name: "Ada"',
        "  lines:",
        "    -",
        f"      {'x' * 60}",
        "none: null",
        "empty: {}",
    ]
