"""Leave for a tool's call: what its card says, for whatever a model asks and a person changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from helmr import Approval
from helmr.approvals import approval_schema
from helmr.person.forms import Form, build, first_cells, form_of, tool_call
from helmr.person.forms.tool_call import Argument, ToolCall, call_body, is_declined


class Money(BaseModel):
    cents: int
    currency: str = "EUR"


class Refund(BaseModel):
    customer: str
    amount: Money
    key: SecretStr | None = None


ASKED = {"customer": "ada", "amount": {"cents": 4200, "currency": "EUR"}}


def form(asked: Any, tool: str = "refund", schema: Any = None) -> Form:
    initial = {"decision": "approve", "arguments": asked}
    return form_of(approval_schema(tool, schema), initial=initial)


def card(asked: Any, tool: str = "refund", schema: Any = None) -> ToolCall:
    found = tool_call(form(asked, tool, schema))
    assert found is not None
    return found


def approve(**arguments: Any) -> dict[str, Any]:
    return {"decision": "approve", "arguments": arguments}


@pytest.mark.parametrize("schema", [None, Refund.model_json_schema()], ids=["open", "of the tool"])
def test_a_call_is_known_by_its_schema(schema: Any) -> None:
    found = card(ASKED, schema=schema)
    assert found.tool == "refund"
    rows = [(one.name, one.asked, one.now, one.is_changed) for one in found.arguments()]
    assert rows == [
        ("customer", "ada", "ada", False),
        ("amount.cents", "4200", "4200", False),
        ("amount.currency", "EUR", "EUR", False),
    ]


def test_what_was_changed_added_and_taken_out() -> None:
    answer = approve(customer="ada", amount={"cents": "4200"}, note="x")
    assert card(ASKED).changed(answer) == (
        Argument("amount.cents", "4200", "4200", True),  # a number before, a text now
        Argument("amount.currency", "EUR", None, True),
        Argument("note", None, "x", True),
    )
    assert card(ASKED).effect(answer) == "refund is called with 3 values changed"


@pytest.mark.parametrize(
    ("answer", "effect"),
    [
        (None, ""),
        ({"arguments": ASKED}, ""),
        ({"decision": "approve"}, "refund is called as it was asked for"),
        ({"decision": "approve", "arguments": None}, "refund is called as it was asked for"),
        (approve(**ASKED), "refund is called as it was asked for"),
        (approve(**{**ASKED, "customer": "bo"}), "refund is called with 1 value changed"),
        ({"decision": "decline"}, "refund is not called; the agent sees no reason"),
        (
            {"decision": "decline", "reason": "too much"},
            "refund is not called; the agent sees: too much",
        ),
    ],
)
def test_what_an_answer_does(answer: Any, effect: str) -> None:
    assert card(ASKED).effect(answer) == effect


def test_some_agents_let_people_respond_for_the_tool() -> None:
    schema = approval_schema("refund")
    decisions = ["approve", "respond", "decline"]
    schema["properties"]["decision"]["enum"] = decisions
    form = form_of(schema, initial={"arguments": ASKED})
    found = tool_call(form)
    assert found is not None
    assert [decision for decision, _ in found.outcomes()] == decisions
    given = {"decision": "respond", "reason": "paid by hand"}
    assert found.effect(given) == "refund is not called; the agent gets: paid by hand"
    assert found.effect({"decision": "respond"}).endswith("the agent gets an empty result")
    assert form.decision is not None
    assert is_declined(form, {form.decision.key: 1}), "its arguments are not asked for"
    assert not is_declined(form, {form.decision.key: 0})


def test_values_are_read_as_people_read_them() -> None:
    asked = {
        "to": ["ada", "bo"],
        "none": [],
        "empty": {},
        "sure": True,
        "nothing": None,
        "text": "",
        "items": [{"sku": "A1", "parts": [1, 2]}, [3]],
        "1": {"2": 0.5},
    }
    assert [(one.name, one.now) for one in card(asked).arguments()] == [
        ("to", "ada, bo"),
        ("none", "Nothing"),
        ("empty", "Nothing"),
        ("sure", "Yes"),
        ("nothing", "Nothing"),
        ("text", '""'),
        ("items.1.sku", "A1"),
        ("items.1.parts", "1, 2"),
        ("items.2", "3"),
        ("1.2", "0.5"),
    ]


def test_a_secret_is_not_told_and_its_change_is() -> None:
    class Login(BaseModel):
        user: str
        password: SecretStr

    found = card({"user": "ada", "password": "one"}, "log_in", Login.model_json_schema())
    rows = found.changed(approve(user="ada", password="two"))
    assert rows == (Argument("password", "••••••", "••••••", True),)


@pytest.mark.parametrize(
    ("schema", "initial"),
    [
        (Approval.model_json_schema(), {"decision": "approve", "arguments": ASKED}),
        (approval_schema("refund"), None),
        (approval_schema("refund"), {"decision": "approve"}),
        (approval_schema("refund"), {"arguments": [1]}),
        (approval_schema(""), {"arguments": ASKED}),
        (True, {"arguments": ASKED}),
        ({"properties": []}, {"arguments": ASKED}),
        ({"properties": {"decision": 1, "arguments": 2}}, {"arguments": ASKED}),
        (
            {"properties": {"decision": {"enum": ["a"]}, "arguments": {"title": "Arguments of x"}}},
            {"arguments": ASKED},
        ),
        (
            {"properties": {"decision": {"enum": ["approve", "decline"]}, "arguments": {}}},
            {"arguments": ASKED},
        ),
    ],
)
def test_what_is_no_leave_for_a_call_has_no_card(schema: Any, initial: Any) -> None:
    assert tool_call(form_of(schema, initial=initial)) is None


def test_a_body_that_says_only_the_call_is_told_by_the_card() -> None:
    found = card(ASKED)
    assert found.is_shown_by(call_body("refund", ASKED))
    assert found.is_shown_by(call_body("refund", {"text": "ä" * 30_000}))
    assert not found.is_shown_by(f"Mind the limit.\n\n{call_body('refund', ASKED)}")
    assert not found.is_shown_by(f"{call_body('refund', ASKED)}\n\nMind the limit.")
    assert not found.is_shown_by(call_body("other", ASKED))
    assert not found.is_shown_by(None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=6), st.text(min_size=1, max_size=20))
def test_whatever_a_model_asks_for_the_form_begins_with_it_and_says_nothing_else(
    asked: dict[str, Any], tool: str
) -> None:
    drawn = form(asked, tool)
    cells = first_cells(drawn)
    assert build(drawn, cells).problems == {"decision": "choose approve or decline"}
    built = build(drawn, {**cells, "decision": 0})
    assert not built.problems
    # Arguments of empty texts only are those of a form that nobody touched: left out, which says the same.
    said = {"decision": "approve", "arguments": asked, **built.data}
    assert json.dumps(said) == json.dumps({"decision": "approve", "arguments": asked})
    found = card(asked, tool)
    assert not found.changed(built.data)
    assert found.effect(built.data) == f"{tool} is called as it was asked for"
