"""Names in code use the words of the field, as prose does: classes, functions, attributes, arguments and modules."""

from __future__ import annotations

import pytest

from helmr import errors
from tests.programs.gauges.banned import KEPT, holds, in_sources


def test_names_of_the_packages_use_the_words_of_the_field() -> None:
    assert {name: (holds(name), places) for name, places in in_sources().items()} == {}


@pytest.mark.parametrize(
    "name", ["AskedAnew", "is_told", "_whoever_asks", "LADDER_MAX", "heldAnswer", "put_it_off"]
)
def test_a_word_that_we_do_not_use_is_found_in_a_name(name: str) -> None:
    assert holds(name)


@pytest.mark.parametrize("name", ["told", "renewed", "Answer", "deadline_at", "told_by"])
def test_other_names_are_left_alone(name: str) -> None:
    assert not holds(name)


def test_a_public_name_is_kept_beside_todays() -> None:
    assert {"AskAnew"} == KEPT
    assert errors.AskAnew is errors.NotAmendable
    assert errors.NotAmendable.code == "ask_anew"
    assert type(errors.error_from_code("ask_anew", "no", status=409)) is errors.NotAmendable
