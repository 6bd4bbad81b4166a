"""A form asked line by line builds what the same cells build, and says why a line is refused."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from helmr.person.forms import Blank, form_of
from helmr.person.forms import Field as FormField
from helmr.person.forms.questions import Offer, Questions, kept_text, keys, labels, place_of


class Decision(BaseModel):
    decision: Literal["approve", "reject", "edit"]
    note: str | None = Field(default=None, max_length=20)


class Card(BaseModel):
    kind: Literal["card"]
    number: str


class Bank(BaseModel):
    kind: Literal["bank"]
    iban: str


class Street(BaseModel):
    street: str
    number: int = Field(ge=1, le=99)


class Line(BaseModel):
    sku: str
    qty: int


class Order(BaseModel):
    sure: bool
    colours: list[Literal["red", "green", "blue"]]
    names: list[str] = Field(max_length=2)
    day: date
    to: Street
    items: list[Line]
    pay: Annotated[Card | Bank, Field(discriminator="kind")]
    remark: str | None = None
    gift: Street | None = None
    count: int | None = None


def questions(schema: Any, **given: Any) -> Questions:
    return Questions(form_of(TypeAdapter(schema).json_schema(), **given))


def asked(one: Questions, *lines: str) -> list[str]:
    """What was said to each of these lines."""
    return [one.take(line) for line in lines]


def test_a_choice_by_its_letter_and_an_empty_line_for_what_may_be_left_out() -> None:
    one = questions(Decision)
    assert asked(one, "r", "") == ["", ""]
    assert one.current is None
    assert one.built().data == {"decision": "reject"}


def test_the_one_field_that_may_be_left_out_is_asked_and_judged() -> None:
    one = questions(Decision)
    assert asked(one, "1", "much too long for this note", "short") == [
        "",
        "7 characters too long",
        "",
    ]
    assert one.built().data == {"decision": "approve", "note": "short"}


def test_a_nested_order_with_lists_a_union_and_what_is_left_out() -> None:
    one = questions(Order)
    lines = ["y", "red, 3", "Ada", "Bo", "", "2026-11-24", "Elm", "11"]
    lines += ["y", "A11", "3", "y", "B22", "1", "", "bank", "CH93", "n", ""]
    assert asked(one, *lines) == [""] * len(lines)
    assert one.current is None
    assert one.built().data == {
        "sure": True,
        "colours": ["red", "blue"],
        "names": ["Ada", "Bo"],
        "day": "2026-11-24",
        "to": {"street": "Elm", "number": 11},
        "items": [{"sku": "A11", "qty": 3}, {"sku": "B22", "qty": 1}],
        "pay": {"kind": "bank", "iban": "CH93"},
    }


def test_the_rows_of_a_long_table_are_gone_through_only_if_someone_wants_to() -> None:
    rows = [{"sku": f"S{number}", "qty": number} for number in range(1, 61)]
    form = form_of(TypeAdapter(list[Line]).json_schema(), initial=rows)
    one = Questions(form)
    assert isinstance(one.current, Offer)
    assert one.current.label == "The 60 rows of answer"
    assert one.is_begun(one.current)
    assert asked(one, "", "") == ["", ""]
    assert (one.current, one.built().data) == (None, rows)
    one = Questions(form)
    assert asked(one, "y", "", "7") == ["", "", ""]
    assert one.built().data == [{"sku": "S1", "qty": 7}, *rows[1:]]


class Pair(BaseModel):
    lines: list[Line] = Field(min_length=1, max_length=2)
    flags: list[bool] | None = None


def test_rows_are_asked_one_after_the_other_and_say_which_they_are() -> None:
    one = questions(Pair)
    assert isinstance(one.current, FormField)
    assert one.current.label == "lines 1 sku"
    assert asked(one, "A11", "3", "y") == ["", "", ""]
    assert getattr(one.current, "label", "") == "lines 2 sku"
    assert asked(one, "B22", "1") == ["", ""]
    assert one.take("y") == "at most 2; e at the question edits the whole answer"
    assert one.take("perhaps") == "y adds a row, - takes the last one away, Enter goes on"
    assert asked(one, "-", "-") == ["", ""]
    assert one.take("") == "at least 1"
    assert asked(one, "y", "C33", "9", "", "y", "n", "") == [""] * 7
    assert one.current is None
    assert one.built().data == {"lines": [{"sku": "C33", "qty": 9}], "flags": [False]}
    assert "lines.#1.sku" not in one.cells


def test_rows_that_were_entered_before_are_kept_by_empty_lines() -> None:
    first = questions(Pair)
    asked(first, "A11", "3", "y", "B22", "1", "", "")
    again = Questions(first.form, first.cells)
    assert asked(again, "", "", "", "", "", "") == [""] * 6
    assert again.current is None
    assert again.built().data == first.built().data


def test_what_may_be_left_out_is_filled_if_somebody_wants_to() -> None:
    class More(BaseModel):
        remark: str | None = None
        gift: Street | None = None
        count: int | None = None

    one = questions(More)
    seen = []
    for line in ("y", "Oak", "7", "y", "for Bo", "3"):
        assert one.current is not None
        seen.append(one.current.label)
        assert one.take(line) == ""
    assert one.built().data == {
        "gift": {"street": "Oak", "number": 7},
        "remark": "for Bo",
        "count": 3,
    }
    assert seen[1:3] == ["street", "number"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x", "y fills them, an empty line leaves them as they are"),
        ("maybe", "y fills them, an empty line leaves them as they are"),
    ],
)
def test_an_offer_takes_yes_or_no(line: str, why: str) -> None:
    class Two(BaseModel):
        a: str | None = None
        b: str | None = None

    one = questions(Two)
    assert isinstance(one.current, Offer)
    assert one.take(line) == why
    assert one.take("n") == ""
    assert one.built().data == {}


def test_a_needed_text_is_not_sent_empty_by_an_accidental_enter() -> None:
    one = questions(str)
    assert one.take("").startswith("needed")
    assert one.take("  indented") == ""
    assert one.built().data == "  indented"


def test_a_list_that_is_too_long_begins_again_and_its_items_are_judged() -> None:
    one = questions(Annotated[list[int], Field(max_length=2)])
    assert asked(one, "1", "x", "2", "3", "") == [
        "",
        "not a whole number",
        "",
        "",
        "at most 2; begin the list again",
    ]
    assert asked(one, "4", "") == ["", ""]
    assert one.built().data == [4]


def test_what_a_form_begins_with_is_kept_by_an_empty_line() -> None:
    one = questions(Decision, initial={"decision": "edit", "note": "as asked"})
    assert asked(one, "", "3", "") == ["choose approve, reject or edit", "", ""]
    assert one.built().data == {"decision": "edit", "note": "as asked"}


def test_a_needed_value_that_may_be_null_is_null_by_an_empty_line() -> None:
    class Needed(BaseModel):
        reason: str | None

    one = questions(Needed)
    assert one.current is not None
    assert one.take("") == ""
    assert one.built().data == {"reason": None}


def test_letters_and_digits_name_the_same_choices() -> None:
    names = ("approve", "approve later", "reject", "???")
    assert keys(names) == {"a": 0, "p": 1, "r": 2}
    assert keys(names, {"a", "p"}) == {"r": 0, "o": 1, "e": 2}
    for said, place in (("1", 0), ("p", 1), ("REJECT", 2), ("rej", 2), ("4", 3), ("???", 3)):
        assert place_of(names, said) == place, said
    for said in ("", "0", "5", "99999", "app", "x", "²", "-1"):
        assert place_of(names, said) is None, said


@given(st.lists(st.text(max_size=6), min_size=1, max_size=40, unique_by=str.lower), st.text())
def test_every_choice_has_its_digit_and_no_letter_two_choices(names: list[str], said: str) -> None:
    assert [place_of(names, str(place + 1)) for place in range(len(names))] == [*range(len(names))]
    letters = keys(names, "esq")
    assert len(set(letters.values())) == len(letters)
    assert not set(letters) & set("esq")
    place = place_of(names, said)
    assert place is None or 0 <= place < len(names)


@given(st.lists(st.text(max_size=12), max_size=40))
def test_whatever_is_typed_every_line_is_taken_or_refused_with_words(lines: list[str]) -> None:
    one = questions(Order)
    for line in lines:
        before = one.current
        if before is None:
            break
        why = one.take(line)
        assert why == "" or one.current is before
        assert "\n" not in why
    if one.current is None:
        assert not one.built().problems


def test_what_an_empty_line_says_is_told() -> None:
    order = questions(Order).form
    by_name = {one.name: one for one in order.leaves()}
    assert kept_text(by_name["sure"], 1) == labels(by_name["sure"])[1]
    assert kept_text(by_name["colours"], (0, 2)) == "red, blue"
    assert kept_text(by_name["items"], (4, 1)) == "2 rows"
    assert kept_text(by_name["remark"], Blank.NOT_SENT) == "left out"
    assert kept_text(by_name["day"], Blank.NOT_SENT) == ""
