"""What a person fills in is the JSON that comes out, for every schema that a form can ask."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr.person.forms import Field, Kind
from helmr.person.forms import fill as fill_cells
from helmr_runtime.http.answer_page import (
    AnswerPage,
    Decoded,
    PageState,
    all_problems,
    build_form,
    decode_form,
    first_values,
    render_page,
)
from helmr_runtime.http.answer_page.fields import Question
from helmr_runtime.security.schemas import DataSchema, SchemaProblem
from tests.budget import examples
from tests.http.answer_page.pages import NOW

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
VISIBLE = st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Z"])
WORDS = st.text(VISIBLE, min_size=1, max_size=20)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=40).filter(
    str.strip
)
FLOATS = st.floats(-1e9, 1e9).map(lambda number: round(number, 4))


def _const(schema: Any, strategy: Any) -> Any:
    return st.just((schema, strategy))


ENUMS = st.lists(
    st.one_of(WORDS, st.integers(-9, 9), st.booleans()), min_size=1, max_size=12, unique_by=repr
).map(lambda values: ({"enum": values}, st.sampled_from(values)))
MANY = st.lists(WORDS, min_size=1, max_size=6, unique=True).map(
    lambda values: (
        {"type": "array", "items": {"enum": values}},
        st.sets(st.sampled_from(values)).map(
            lambda some: [each for each in values if each in some]
        ),
    )
)
LEAVES = st.one_of(
    _const({"type": "string"}, TEXTS),
    _const({"type": "string", "maxLength": 20}, WORDS),
    _const({"type": "integer"}, st.integers(-(10**18), 10**18)),
    _const({"type": "number"}, FLOATS),
    _const({"type": "boolean"}, st.booleans()),
    _const({"type": "array", "items": {"type": "string"}}, st.lists(WORDS, max_size=4)),
    _const({"type": "array", "items": {"type": "integer"}}, st.lists(st.integers(), max_size=4)),
    _const(
        {"type": "object", "additionalProperties": {"type": "integer"}},
        st.dictionaries(NAMES, st.integers(), max_size=3),
    ),
    ENUMS,
    MANY,
)


def _nullable(made: Any) -> Any:
    schema, values = made
    return {"anyOf": [schema, {"type": "null"}]}, st.one_of(st.none(), values)


def _tagged(variants: Any) -> Any:
    """A discriminated union, as pydantic writes it."""
    schemas, values = [], []
    for index, (schema, strategy) in enumerate(variants):
        tag = {"const": f"kind{index}", "type": "string"}
        schemas.append(
            {
                "type": "object",
                "title": f"Kind {index}",
                "properties": {"kind": tag, "value": schema},
                "required": ["kind", "value"],
            }
        )
        values.append(
            strategy.map(lambda value, index=index: {"kind": f"kind{index}", "value": value})
        )
    return {"oneOf": schemas, "discriminator": {"propertyName": "kind"}}, st.one_of(values)


def _object(parts: Any) -> Any:
    properties = {name: schema for name, (schema, _, _) in parts.items()}
    required = [name for name, (_, _, needed) in parts.items() if needed]
    needed = {name: each for name, (_, each, is_needed) in parts.items() if is_needed}
    optional = {name: each for name, (_, each, is_needed) in parts.items() if not is_needed}
    schema = {"type": "object", "properties": properties, "required": required}
    return schema, st.fixed_dictionaries(needed, optional=optional)


def _objects(inner: Any) -> Any:
    part = st.tuples(inner, st.booleans()).map(lambda made: (*made[0], made[1]))
    return st.dictionaries(NAMES, part, min_size=1, max_size=4).map(_object)


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        _objects(inner), inner.map(_nullable), st.lists(inner, min_size=2, max_size=3).map(_tagged)
    ),
    max_leaves=8,
)

LEFT_OUT = object()
TYPED = ("line", "area", "number", "code", "select")
"""Controls that a browser sends whatever stands in them."""


def fill(question: Question, value: Any, into: dict[str, list[str]]) -> None:
    """Do what a person does who wants to say `value`."""
    field = question.field
    if question.control == "group":
        if field.may_be_left_out and value not in (None, LEFT_OUT):
            into[question.include_name] = ["1"]
        for child in question.inner if isinstance(value, dict) else ():
            fill(child, value.get(child.field.name, LEFT_OUT), into)
    elif question.control == "union":
        if value in (None, LEFT_OUT):
            into[question.variant_name] = [""]
            return
        inner = _meant(question, value)
        into[question.variant_name] = [question.keys[question.inner.index(inner)]]
        fill(inner, value, into)
    elif field.kind is Kind.MULTI:
        texts = {json.dumps(each.value): each.text for each in field.choices}
        into[question.name] = (
            [texts[json.dumps(each)] for each in value] if isinstance(value, list) else []
        )
    elif value is LEFT_OUT or field.kind is Kind.CONST:
        return
    elif value is None:
        into[question.name] = [""]
    elif field.kind is Kind.CHOICE:
        into[question.name] = [next(e.text for e in field.choices if _same(e.value, value))]
    elif field.kind is Kind.LINES:
        into[question.name] = ["\r\n".join(str(each) for each in value)]
    elif field.kind is Kind.BOOL:
        into[question.name] = ["true" if value else "false"]
    elif field.kind in (Kind.TEXT, Kind.LONG):
        into[question.name] = [value.replace("\n", "\r\n")]
    else:
        into[question.name] = [json.dumps(value)]


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one) == json.dumps(other)


def _meant(union: Question, value: Any) -> Question:
    return next(each for each in union.inner if _is_of(each.field, value))


def _is_of(field: Field, value: Any) -> bool:
    if field.kind is not Kind.GROUP:
        return True
    consts = [child for child in field.children if child.name == "kind"]
    return isinstance(value, dict) and all(value.get("kind") == c.choices[0].value for c in consts)


class Controls(HTMLParser):
    """The names of a document's form controls."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str | None] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("input", "select", "textarea"):
            self.names.add(dict(attrs)["name"])


def expected(question: Question, value: Any) -> Any:
    """The value as a form says it: null or an empty list that may be left out is left out."""
    if question.control == "group" and isinstance(value, dict):
        by_name = {child.field.name: child for child in question.inner}
        return {
            name: expected(by_name[name], each)
            for name, each in value.items()
            if by_name[name].field.required or each not in (None, [])
        }
    if question.control == "union" and value is not None:
        return expected(_meant(question, value), value)
    is_list = question.field.kind in (Kind.LINES, Kind.MULTI)
    return [] if is_list and value is None else value


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_a_filled_form_is_the_value_and_fits_the_schema(data):
    schema, values = data.draw(SCHEMAS)
    value = data.draw(values)
    form = build_form(schema)
    submitted: dict[str, list[str]] = {}
    fill(form.root, value, submitted)
    typed = [each.name for each in form.walk() if each.control in TYPED]
    assert len(typed) == len(set(typed)), "a browser sends them all, also of variants not chosen"
    decoded = decode_form(form, {**{name: [""] for name in typed}, **submitted})
    assert decoded.problems == ()
    assert decoded.value == expected(form.root, value)  # 3 and 3.0 are one number in JSON Schema
    assert DataSchema(schema).problems(decoded.value) == []


@settings(max_examples=examples(100), deadline=None)
@given(SCHEMAS)
def test_every_field_that_is_read_stands_on_the_page(made):
    form = build_form(made[0])
    page = AnswerPage(state=PageState.OPEN, now=NOW, form=form, nonce="n")
    names = Controls(render_page(page)).names
    for each in form.walk():
        if each.control == "union":
            assert each.variant_name in names
        elif each.control == "group":
            assert not each.field.may_be_left_out or each.include_name in names
        elif each.control != "const":
            assert each.name in names


@settings(max_examples=examples(200), deadline=None)
@given(SCHEMAS, st.data())
def test_any_submission_is_read_or_refused_by_a_sentence(made, data):
    form = build_form(made[0])
    names = [
        name for each in form.walk() for name in (each.name, each.include_name, each.variant_name)
    ]
    texts = st.lists(st.one_of(TEXTS, st.sampled_from(["", "1", "true", "0", "null"])), max_size=3)
    submitted = data.draw(st.dictionaries(st.one_of(st.sampled_from(names), NAMES), texts))
    decoded = decode_form(form, submitted)
    for problem in decoded.problems:
        assert re.fullmatch(r"[A-Z].*\.", problem.message, re.DOTALL)
    page = AnswerPage(
        state=PageState.OPEN,
        now=NOW,
        form=form,
        nonce="n",
        values=submitted,
        problems=decoded.problems or DataSchema(made[0]).problems(decoded.value),
    )
    assert render_page(page).count("<form") == 1


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=20,
)
KEYWORDS = st.sampled_from(
    [
        "type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref",
        "title", "description", "default", "format", "maxLength", "minimum", "maximum", "pattern",
        "$defs", "prefixItems", "discriminator", "not",
    ]
)  # fmt: skip
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "object", "array", "null", "#"])
WILD = st.recursive(
    st.one_of(JSON, TYPES, st.just("#/$defs/a")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(KEYWORDS, inner, max_size=5)
    ),
    max_leaves=25,
)


@settings(max_examples=examples(500), deadline=None)
@given(st.one_of(st.booleans(), st.dictionaries(KEYWORDS, WILD, max_size=6)))
def test_no_schema_breaks_the_page(schema):
    """Also one that is not JSON Schema at all: the form is the place of last resort."""
    form = build_form(schema)
    html = render_page(AnswerPage(state=PageState.OPEN, now=NOW, form=form, nonce="n"))
    assert "</html>" in html
    decode_form(form, {})


@pytest.mark.parametrize(
    ("schema", "submitted", "value"),
    [
        ({"type": "number"}, {"f": ["3"]}, 3),
        ({"type": "number"}, {"f": [" 3.50 "]}, 3.5),
        (
            {"type": "integer"},
            {"f": ["123456789012345678901234567890"]},
            123456789012345678901234567890,
        ),
        ({"type": ["string", "null"]}, {"f": [""]}, None),
        (True, {"v": ["text"], "f@/text": ["hello"], "f@/json": [""]}, "hello"),
        (True, {"v": ["json"], "f@/text": [""], "f@/json": ['{"a": 1}']}, {"a": 1}),
        ({"const": "ok"}, {}, "ok"),
        ({"oneOf": [{"const": 1, "title": "One"}, {"const": 2, "title": "Two"}]}, {"f": ["2"]}, 2),
        ({"type": "array", "items": {"type": "integer"}}, {"f": ["1\r\n\r\n 2 "]}, [1, 2]),
    ],
)
def test_small_forms(schema, submitted, value):
    decoded = decode_form(build_form(schema), submitted)
    assert (decoded.problems, decoded.value) == ((), value)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer"}, "1.0"),
        ({"type": "integer"}, "1e3"),
        ({"type": "integer"}, "٣"),
        ({"type": "integer"}, "1" * 5000),
        ({"type": "number"}, "nan"),
        ({"type": "number"}, "inf"),
        ({"type": "number"}, "1e999"),
        ({"type": "number"}, "1,5"),
        ({"type": "number"}, "1_000"),
        ({"type": "boolean"}, "maybe"),
        ({"enum": ["a", "c"]}, "a"),
        ({"enum": ["a", "c"]}, '"b"'),
        ({"type": "object"}, '{"a": 1, "a": 2}'),
        ({"type": "object"}, "NaN"),
        ({"type": "object"}, "[" * 100_000),
        ({"type": "string"}, "  \r\n "),
    ],
)
def test_what_can_not_be_meant_is_refused_at_its_field(schema, text):
    decoded = decode_form(build_form(schema), {"f": [text]})
    assert [problem.path for problem in decoded.problems] == [()]


def test_a_field_sent_twice_is_refused():
    decoded = decode_form(build_form({"type": "string"}), {"f": ["a", "b"]})
    assert decoded.problems


def test_a_schema_that_changed_gives_another_binding():
    one = build_form({"enum": ["approve", "reject"]})
    assert one.binding == build_form({"enum": ["approve", "reject"]}).binding
    assert one.binding != build_form({"enum": ["reject", "approve"]}).binding


@given(st.data())
@settings(max_examples=examples(150))
def test_a_form_that_starts_with_a_value_and_is_sent_as_it_is_says_that_value(data):
    schema, values = data.draw(SCHEMAS)
    value = data.draw(values)
    form = build_form(schema, initial=value)
    typed: dict[str, list[str]] = {}
    fill(form.root, value, typed)
    if fill_cells(form.model, value) is None or decode_form(form, typed).value != value:
        return  # no page can say it: that a list is null, say, and not empty
    begun = first_values(form)
    decision = next((each for each in form.walk() if each.field.is_decision), None)
    if decision is not None:
        assert not begun.get(decision.name), "chosen by nobody"
        begun |= {name: typed[name] for name in (decision.name,) if name in typed}
    assert decode_form(form, begun).value == value


def test_what_could_not_be_read_hides_only_what_is_said_of_its_own_place():
    at_rows = SchemaProblem(("rows", 1, "qty"), "Please fill this in.")
    schema_says = [
        SchemaProblem((), "Fits none of the forms it may have."),
        SchemaProblem(("rows",), "Must not hold the same item twice."),
        SchemaProblem(("rows", 1, "qty"), "Must be a whole number."),
        SchemaProblem(("rows", 1, "sku"), "Must have at least 3 characters."),
        SchemaProblem(("rows", 0, "qty"), "Must be 1 or more."),
        SchemaProblem(("note",), "Must have at most 5 characters."),
    ]
    found = all_problems(Decoded({}, (at_rows,)), schema_says)
    assert found == [at_rows, *schema_says[3:]]
    assert all_problems(Decoded({}), schema_says) == schema_says
