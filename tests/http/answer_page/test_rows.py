"""Lists of objects on the answer page: rows by a button, and nothing is answered by it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from helmr.person.forms import ROWS_MAX
from helmr_runtime.http.answer_page import (
    AnswerPage,
    PageForm,
    PageState,
    asks_for_rows,
    build_form,
    decode_form,
    first_of_row,
    first_values,
    render_page,
    with_action,
)
from tests.budget import examples
from tests.http.answer_page.pages import NOW
from tests.http.answer_page.test_page import Document


class Card(BaseModel):
    kind: Literal["card"]
    digits: str = Field(max_length=4)


class Bank(BaseModel):
    kind: Literal["bank"]
    iban: str = Field(max_length=34)


class Line(BaseModel):
    sku: str
    quantity: int = Field(ge=1)
    flags: list[bool] = []
    pay: Annotated[Card | Bank, Field(discriminator="kind")] | None = None


class Order(BaseModel):
    lines: list[Line] = Field(min_length=1, max_length=3)


SCHEMA = Order.model_json_schema()
ADD = "add - r/lines"


def press(values: dict[str, list[str]], button: str) -> tuple[PageForm, dict[str, list[str]], str]:
    """The page after a button of a list: its form, what its controls hold, the row that is new."""
    given = {**values, "do": [button]}
    assert asks_for_rows(given)
    changed, new = with_action(build_form(SCHEMA, values=values), given)
    return build_form(SCHEMA, values=changed), changed, new


def page(form: PageForm, values: Any, **changes: Any) -> Document:
    shown = AnswerPage(
        state=PageState.OPEN, now=NOW, form=form, nonce="n", values=values, **changes
    )
    return Document(render_page(shown))


def test_a_list_begins_with_the_rows_it_needs_and_grows_by_a_button() -> None:
    form = build_form(SCHEMA)
    buttons = [one["value"] for one in page(form, {}).all("button") if "value" in one]
    assert buttons == ["add - r/lines/#0/flags", "remove 0 r/lines", ADD]
    typed = {"r/lines": ["0"], "f/lines/#0/sku": ["A11"], "f/lines/#0/quantity": ["3"]}
    form, values, new = press(typed, ADD)
    shown = page(form, values, focus=first_of_row(form, new))
    assert values["r/lines"] == ["0,1"]
    assert [one["name"] for one in shown.all("input") if "autofocus" in one] == ["f/lines/#1/sku"]
    assert "Lines 2" in shown.text


def test_a_row_taken_away_leaves_the_others_as_they_were() -> None:
    typed = {
        "r/lines": ["0,1"],
        "f/lines/#0/sku": ["A11"],
        "f/lines/#1/sku": ["B22"],
        "f/lines/#1/quantity": ["2"],
    }
    form, values, _ = press(typed, "remove 0 r/lines")
    assert decode_form(form, values).value == {"lines": [{"sku": "B22", "quantity": 2}]}


def test_a_list_that_is_full_stays_as_it_is_and_so_does_one_that_is_not_there() -> None:
    typed = {"r/lines": ["0,1,2"]}
    assert press(typed, ADD)[1]["r/lines"] == ["0,1,2"]
    for odd in ("add - r/gone", "remove 7 r/lines", "burn - r/lines", ""):
        assert press(typed, odd)[1]["r/lines"] == ["0,1,2"]


def test_what_is_wrong_in_a_row_is_said_there_by_its_place() -> None:
    values = {"r/lines": ["4,2"], "f/lines/#4/sku": ["A"], "f/lines/#4/quantity": ["1"]}
    form = build_form(SCHEMA, values=values)
    problems = decode_form(form, values).problems
    assert {problem.path for problem in problems} == {
        ("lines", 1, "sku"),
        ("lines", 1, "quantity"),
    }
    shown = page(form, values, problems=problems)
    wrong = [one["name"] for one in shown.all("input", "textarea") if "aria-invalid" in one]
    assert wrong == ["f/lines/#2/sku", "f/lines/#2/quantity"]


def test_enter_in_a_line_sends_and_presses_no_button_of_a_list() -> None:
    first = page(build_form(SCHEMA), {}).all("button")[0]
    assert "name" not in first
    assert first["class"] == "visually-hidden"


def test_a_recorded_list_is_shown_row_by_row_with_the_words_of_its_questions() -> None:
    answer = {"lines": [{"sku": "A11", "quantity": 3}, {"sku": "B22", "quantity": 1}]}
    shown = AnswerPage(state=PageState.RECORDED, now=NOW, form=build_form(SCHEMA), answer=answer)
    text = " ".join(Document(render_page(shown)).text.split())
    assert "Lines 1 SkuA11 Quantity3 2 SkuB22 Quantity1" in text


def test_hostile_row_numbers_are_bounded() -> None:
    many = ",".join(str(number) for number in range(10_000))
    form = build_form({"type": "array", "items": {"properties": {"a": {}}}}, values={"r": [many]})
    assert len(form.root.inner) == ROWS_MAX
    for odd in ("-1", "x", "\u0663", "9" * 400, ",,,", "1,1,1"):
        assert len(build_form(SCHEMA, values={"r/lines": [odd]}).root.inner[0].rows) <= 1


LINES = st.fixed_dictionaries(
    {"sku": st.text(alphabet="ab12", min_size=1, max_size=5), "quantity": st.integers(1, 99)},
    optional={
        "flags": st.lists(st.booleans(), min_size=1, max_size=3),
        "pay": st.fixed_dictionaries({"kind": st.just("bank"), "iban": st.just("CH93")}),
    },
)


@given(st.lists(LINES, min_size=1, max_size=3))
@settings(deadline=None, max_examples=examples(50))
def test_a_page_that_starts_with_rows_and_is_sent_as_it_is_says_them(lines: list[Any]) -> None:
    value = {"lines": lines}
    values = first_values(build_form(SCHEMA, initial=value))
    assert decode_form(build_form(SCHEMA, values=values), values).value == value
