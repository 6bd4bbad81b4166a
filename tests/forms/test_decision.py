"""Decisions are made by people: none comes with a form, a declined call has no arguments, an empty text is meant."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel

from helmr.approvals import approval_schema
from helmr.person.forms import Blank, build, fill, first_cells, form_of


class Decision(BaseModel):
    decision: Literal["approve", "reject"]
    amount: int = 0


class Defaulted(BaseModel):
    decision: Literal["approve", "reject"] = "approve"


class Optional(BaseModel):
    approved: bool | None = None


class Verdict(BaseModel):
    approved: bool


class Other(BaseModel):
    priority: Literal["low", "high"]
    sure: bool


@pytest.mark.parametrize(
    ("schema", "initial", "suggested"),
    [
        (Decision.model_json_schema(), {"decision": "approve", "amount": 3}, "approve"),
        (Defaulted.model_json_schema(), {}, "approve"),
        (Verdict.model_json_schema(), {"approved": True}, "yes"),
        ({"enum": ["approve", "reject"]}, "reject", "reject"),
        ({"type": "boolean"}, True, "yes"),
    ],
)
def test_a_decision_that_came_with_the_form_is_suggested_and_not_chosen(
    schema: Any, initial: Any, suggested: str
) -> None:
    form = form_of(schema, initial=initial)
    assert form.decision is not None
    assert (form.decision.suggested, form.decision.required) == (suggested, True)
    cells = first_cells(form)
    assert cells[form.decision.key] is Blank.NOT_SENT
    assert list(build(form, cells).problems) == [form.decision.key]
    if "amount" in cells:
        assert cells["amount"] == "3", "what is not a decision is kept"


def test_what_a_person_answered_is_a_choice_that_was_made() -> None:
    given = {"decision": "reject", "amount": 3}
    form = form_of(Decision.model_json_schema(), initial=given, is_answered=True)
    assert build(form, first_cells(form)).data == given


def test_other_choices_keep_what_the_form_begins_with() -> None:
    given = {"priority": "high", "sure": True}
    form = form_of(Other.model_json_schema(), initial=given)
    assert form.decision is None
    assert build(form, first_cells(form)).data == given
    left = form_of(Optional.model_json_schema())
    assert build(left, first_cells(left)).data == {}, "one that may be left out may be"


def test_a_declined_call_has_no_arguments() -> None:
    asked = {"customer": "ada", "cents": 4200}
    form = form_of(approval_schema("refund"), initial={"arguments": asked})
    assert form.decision is not None
    assert form.decision.suggested == "", "who asks leave suggests nothing"
    cells = {**first_cells(form), "arguments.cents": "lots", "reason": "too much"}
    assert build(form, {**cells, "decision": 0}).problems == {
        "arguments.cents": "not a whole number"
    }
    declined = build(form, {**cells, "decision": 1})
    assert (declined.data, declined.problems) == (
        {"decision": "decline", "reason": "too much"},
        {},
    )


def test_a_needed_text_is_empty_only_if_that_is_meant() -> None:
    class Letter(BaseModel):
        text: str
        note: str | None = None

    form = form_of(Letter.model_json_schema())
    cells = first_cells(form)
    assert build(form, cells).problems == {"text": "needed"}
    assert build(form, {**cells, "text": Blank.EMPTY}).data == {"text": ""}
    assert build(form, {**cells, "text": "x", "note": ""}).data == {"text": "x", "note": ""}
    filled = fill(form, {"text": ""})
    assert filled is not None
    assert filled["text"] is Blank.EMPTY
    begun = form_of(Letter.model_json_schema(), initial={"text": ""})
    assert build(begun, first_cells(begun)).data == {"text": ""}, "the question itself said so"
    needed = form_of({"type": "string", "minLength": 1})
    assert build(needed, {"$": Blank.EMPTY}).problems == {"$": "needed"}


def test_json_that_lacks_what_is_needed_is_shown_in_fields_all_the_same() -> None:
    form = form_of(Decision.model_json_schema())
    cells = fill(form, {"amount": 3})
    assert cells is not None
    assert build(form, cells).problems == {"decision": "choose approve or reject"}
    assert fill(form, {"amount": "3"}) is None
