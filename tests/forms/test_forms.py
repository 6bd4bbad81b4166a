"""Every schema gives a form, and a form builds exactly the JSON that was meant."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from helmr.errors import BadJson
from helmr.person.forms import (
    Blank,
    Cell,
    Cells,
    Kind,
    build,
    carry,
    fill,
    first_cells,
    form_of,
    present,
    redacted,
)
from helmr.person.forms.model import FIELDS_MAX, json_text
from helmr.wire.jsonio import loads
from helmr_console.widgets.form import SchemaForm
from helmr_runtime.http.answer_page import build_form


class Decision(BaseModel):
    decision: Literal["approve", "reject", "edit"]
    note: str | None = Field(default=None, max_length=500)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str = Field(max_length=80)
    zip: str = Field(pattern=r"^\d{5}$")


class Card(BaseModel):
    kind: Literal["card"]
    number: SecretStr


class Bank(BaseModel):
    kind: Literal["bank"]
    iban: str = Field(max_length=34)


class Everything(BaseModel):
    size: int = Field(ge=1, le=10, json_schema_extra={"unit": "EUR"})
    ratio: float | None = None
    sure: bool
    colours: list[Colour] = Field(default_factory=list, max_length=1)
    day: date
    pause: timedelta = timedelta(0)
    address: Address
    pay: Annotated[Card | Bank, Field(discriminator="kind")]
    amount: Decimal
    extra: dict[str, Any] = {}


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


def schema(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


def kinds(kind: Any) -> dict[str, Kind]:
    return {leaf.key: leaf.kind for leaf in form_of(schema(kind)).leaves()}


def test_the_approval_of_the_design() -> None:
    form = form_of(schema(Decision))
    decision, note = form.root.children
    assert (decision.kind, [x.label for x in decision.choices], decision.required) == (
        Kind.CHOICE,
        ["approve", "reject", "edit"],
        True,
    )
    assert (note.kind, note.required, note.nullable, note.length_max) == (
        Kind.LONG,
        False,
        True,
        500,
    )
    assert build(form, first_cells(form)).problems == {"decision": "choose approve, reject or edit"}
    assert build(form, {**first_cells(form), "decision": 0}).data == {"decision": "approve"}


def test_not_sent_null_and_empty_are_three_answers() -> None:
    form = form_of(schema(Decision))
    answers = [
        build(form, {"decision": 1, "note": note}).data
        for note in (Blank.NOT_SENT, Blank.NULL, "", "null")
    ]
    assert answers == [
        {"decision": "reject"},
        {"decision": "reject", "note": None},
        {"decision": "reject", "note": ""},
        {"decision": "reject", "note": "null"},
    ]


def test_each_type_has_its_widget() -> None:
    assert kinds(Everything) == {
        "size": Kind.INTEGER,
        "ratio": Kind.NUMBER,
        "sure": Kind.BOOL,
        "colours": Kind.MULTI,
        "day": Kind.DATE,
        "pause": Kind.DURATION,
        "address.street": Kind.TEXT,
        "address.zip": Kind.TEXT,
        "pay": Kind.UNION,
        "pay.number@card": Kind.SECRET,
        "pay.iban@bank": Kind.TEXT,
        "amount": Kind.TEXT,
        "extra": Kind.JSON,
    }


def test_a_filled_form_is_what_pydantic_takes() -> None:
    form = form_of(schema(Everything))
    typed: Cells = {
        **first_cells(form),
        "size": "3",
        "sure": 0,
        "day": "2026-11-24",
        "pause": "1h30m",
        "address.street": "Main St",
        "address.zip": "12345",
        "pay": 1,
        "pay.iban@bank": "DE89",
        "amount": "12.30",
    }
    built = build(form, typed)
    assert built.problems == {}
    value = Everything.model_validate(built.data)
    assert (value.pause, value.amount, value.pay.kind) == (
        timedelta(minutes=90),
        Decimal("12.30"),
        "bank",
    )
    assert fill(form, built.data) is not None


@pytest.mark.parametrize(
    ("key", "cell", "says"),
    [
        ("size", "11", "at most 10"),
        ("size", "1.5", "not a whole number"),
        ("size", "", "needed"),
        ("day", "24.11.2026", "2026-11-24"),
        ("pause", "soon", "1h30m"),
        ("colours", (0, 1), "at most 1"),
        ("extra", '{"a": NaN}', "NaN"),
        ("extra", '{"a": 1, "a": 2}', "twice"),
        ("pay", Blank.NOT_SENT, "needed"),
    ],
)
def test_a_wrong_cell_says_what_to_write(key: str, cell: Cell, says: str) -> None:
    form = form_of(schema(Everything))
    assert says in build(form, {**first_cells(form), key: cell}).problems[key]


def test_what_has_no_widget_is_json() -> None:
    assert form_of(None).root.kind is Kind.JSON
    assert form_of(True).root.kind is Kind.JSON
    assert kinds(dict[str, int]) == {"$": Kind.JSON}
    assert kinds(Tree) == {"name": Kind.TEXT, "children": Kind.ROWS}
    assert kinds(int | str) == {"$": Kind.UNION, "$@0": Kind.INTEGER, "$@1": Kind.LONG}
    assert kinds(str) == {"$": Kind.LONG}
    assert kinds(Literal["a", "b"]) == {"$": Kind.CHOICE}
    assert form_of({"$ref": "#/$defs/gone"}).root.kind is Kind.JSON
    assert form_of({"allOf": [{"$ref": "#"}]}).root.kind is Kind.JSON


def test_an_optional_group_left_alone_is_not_sent() -> None:
    class Order(BaseModel):
        address: Address | None = None

    form = form_of(schema(Order))
    assert build(form, first_cells(form)).data == {}
    half = {**first_cells(form), "address.street": "Main St"}
    assert build(form, half).problems == {"address.zip": "needed"}
    whole = build(form, {**half, "address.zip": "1"})
    assert whole.problems == {}  # the zip's shape is the schema's to judge
    assert whole.data == {"address": {"street": "Main St", "zip": "1"}}


def test_a_changed_schema_keeps_what_matches_and_names_the_rest() -> None:
    class Newer(BaseModel):
        decision: Literal["approve", "reject"]
        note: str | None = Field(default=None, max_length=500)

    old, new = form_of(schema(Decision)), form_of(schema(Newer))
    kept, dropped = carry(old, {"decision": 2, "note": "fix it"}, new)
    assert kept == {"decision": Blank.NOT_SENT, "note": "fix it"}
    assert dropped == ["decision"]


def test_secrets_are_never_shown() -> None:
    form = form_of(schema(Card))
    assert redacted(form, {"kind": "card", "number": "4111"}) == {
        "kind": "card",
        "number": "••••••",
    }


@pytest.mark.parametrize(
    "text", ["", "{", "[1,]", "NaN", '"\\ud800"', '{"a":1,"a":1}', "[" * 70 + "]" * 70, "[" * 9999]
)
def test_json_is_read_strictly(text: str) -> None:
    with pytest.raises(BadJson, match=r".+"):
        loads(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=5)
    ),
    max_leaves=20,
)
WORDS = st.sampled_from(
    [
        "type",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "properties",
        "items",
        "$ref",
        "required",
        "format",
        "pattern",
        "maxLength",
        "minimum",
        "discriminator",
        "$defs",
        "title",
        "default",
    ]
)


@given(
    st.dictionaries(
        WORDS,
        JSON | st.sampled_from(["string", "object", "array", "#", "#/$defs/a"]),
        max_size=6,
    ),
    JSON,
)
def test_no_schema_breaks_the_form(odd: dict[str, Any], data: Any) -> None:
    form = form_of(odd)
    built = build(form, first_cells(form))
    assert isinstance(dict(built.problems), dict)
    filled = fill(form, data)
    if filled is not None:
        assert json_text(build(form, filled).data) == json_text(data)


ADDRESS = {
    "type": "object",
    "title": "Address",
    "properties": {"street": {"type": "string"}, "no": {"type": "integer"}},
    "required": ["street"],
}
SCHEMAS: list[Any] = [
    None,
    False,
    {},
    schema(Everything),
    schema(Decision),
    schema(Tree),
    {"type": "array", "items": schema(Decision), "minItems": 2},
    schema(int | str),
    schema(list[str] | None),
    schema(dict[str, int]),
    {"enum": list(range(40))},
    {"enum": ["only"]},
    {"oneOf": [{"const": 1, "title": "One"}, {"const": 2}]},
    {"type": ["integer", "boolean", "null"]},
    {"properties": {"a.b": {"type": "string"}, "a": ADDRESS, "": {"type": "null"}}},
    {"properties": {"to": {"anyOf": [ADDRESS, {"type": "string"}, {"const": "nobody"}]}}},
    {"properties": {f"p{n}": {"type": "string"} for n in range(FIELDS_MAX)}},
    {"$ref": "#"},
]


@pytest.mark.parametrize("given_schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_console_and_answer_page_ask_the_same(given_schema: Any) -> None:
    page, form = build_form(given_schema), form_of(given_schema)
    assert page.model == form
    drawn = SchemaForm(form)
    list(drawn.widgets_of(form.root))
    halves = {inner.id for each in page.walk() if each.field.takes_anything for inner in each.inner}
    asked = [
        each.field
        for each in page.walk()
        if each.control != "group" and each.id not in halves and each.field.name != "kind"
    ]
    there = present(form.root, first_cells(form))
    assert [leaf.key for leaf in asked] == [leaf.key for leaf in there]
    assert drawn.cells() == first_cells(form)


def test_no_two_fields_share_a_key() -> None:
    odd = ["a.b", "a", "@", "", ".", "~1", "$", "a/b"]
    inner = {"type": "object", "properties": {name: {"type": "string"} for name in odd}}
    both = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    form = form_of({"properties": {**dict.fromkeys(odd, inner), "u": both}})
    keys = [leaf.key for leaf in form.leaves()]
    assert len(keys) == len(set(keys)) == len(odd) ** 2 + 3


@pytest.mark.parametrize(
    ("given_schema", "data"),
    [
        (schema(int | str), 3),
        (schema(int | str), "3"),
        (schema(list[str] | None), ["a", "b"]),
        (schema(list[int]), [1, 2]),
        ({"type": ["integer", "boolean"]}, True),
        ({"properties": {"to": {"anyOf": [ADDRESS, {"type": "string"}]}}}, {"to": {"street": "a"}}),
        (
            {"properties": {"to": {"anyOf": [ADDRESS, {"type": "null"}]}}, "required": ["to"]},
            {"to": None},
        ),
    ],
)
def test_what_a_form_can_show_comes_back_as_it_was(given_schema: Any, data: Any) -> None:
    form = form_of(given_schema)
    filled = fill(form, data)
    assert filled is not None
    assert json_text(build(form, filled).data) == json_text(data)


def test_a_form_begins_with_what_fits_of_its_initial_value() -> None:
    given = {"decision": "reject", "note": "as said", "gone": 1}
    form = form_of(schema(Decision), initial=given)
    assert first_cells(form) == {"decision": Blank.NOT_SENT, "note": "as said"}
    answered = form_of(schema(Decision), initial=given, is_answered=True)
    assert first_cells(answered) == {"decision": 1, "note": "as said"}
    assert first_cells(form_of(schema(Decision), initial=None)) == first_cells(
        form_of(schema(Decision))
    )


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (None, "it takes anything"),
        (False, "nothing fits it"),
        ({"$ref": "#"}, "it refers to itself"),
        ({"$ref": "https://example.com/schema"}, "it refers to what is not here"),
        (
            {"type": "array", "items": {"type": "object"}},
            "of its items: it says nothing of its fields",
        ),
        ({"type": "array", "prefixItems": [{}]}, "it is a list whose places differ"),
        ({"type": "object"}, "it says nothing of its fields"),
        ({"enum": []}, "it has no choices, or more than 500"),
        ({"anyOf": [ADDRESS], "minProperties": 1}, "it has rules that fields can't show"),
    ],
)
def test_what_is_entered_as_json_says_why(odd: Any, why: str) -> None:
    root = form_of(odd).root
    assert (root.kind, root.reason) == (Kind.JSON, why)


def test_a_title_is_a_label_where_its_author_put_it_and_not_where_a_class_did() -> None:
    odd = {
        "properties": {
            "home": {"$ref": "#/$defs/Address"},
            "work": {"$ref": "#/$defs/Address", "title": "Where you work"},
            "due_day": {"type": "string", "title": "Due Day"},
        },
        "$defs": {"Address": ADDRESS},
    }
    labels = [child.label for child in form_of(odd).root.children]
    assert labels == ["home", "Where you work", "due_day"]
    page = build_form(odd).root
    assert [each.label for each in page.inner] == ["Home", "Where you work", "Due day"]


class Shipment(BaseModel):
    """Texts that take one line by their names, their bounds or their patterns, and others."""

    street: str
    billing_city: str
    firstName: str  # noqa: N815 - as programs in other languages name it
    sku: str = Field(max_length=500)
    code: str = Field(max_length=8)
    note: str
    name_of_why: str
    zip: str = Field(pattern="^[0-9]{5}$")


def test_a_text_takes_one_line_by_its_bound_or_else_by_its_name() -> None:
    short = {name for name, kind in kinds(Shipment).items() if kind is Kind.TEXT}
    assert short == {"street", "billing_city", "firstName", "code", "zip"}
    begun = form_of(Shipment.model_json_schema(), initial={"street": "Ring 1\nBerlin", "note": "x"})
    assert {one.name for one in begun.leaves() if one.kind is Kind.LONG} >= {"street", "note"}
