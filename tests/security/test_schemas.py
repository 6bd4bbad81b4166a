"""JSON Schemas from outside: nothing is fetched, nothing runs away, problems read like sentences."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr.errors import BadSchema, SchemaMismatch
from helmr_runtime.security.schemas import PROBLEMS_MAX, DataSchema, SchemaProblem


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/schema"},
        {"$ref": "file:///etc/passwd"},
        {"$id": "https://example.com/", "$ref": "other"},
        {"properties": {"a": {"$ref": "//example.com/x"}}},
        {"$ref": "#/nowhere"},
        {"type": "nonsense"},
        {"minimum": "x"},
        {"pattern": "("},
        {"pattern": "(?=look)around"},
        {"pattern": r"(a)\1"},
        {"description": "x" * 70_000},
        7,
        "string",
        None,
    ],
    ids=range(14),
)
def test_a_schema_that_can_not_be_used_is_refused_at_once(schema):
    with pytest.raises(BadSchema, match="schema"):
        DataSchema(schema)


def test_no_pattern_takes_long():
    schema = DataSchema({"type": "string", "pattern": "^(a+)+$"})
    before = time.monotonic()
    assert schema.problems("a" * 100_000 + "!")
    assert time.monotonic() - before < 2


def test_a_schema_that_refers_to_itself_works():
    node = {"properties": {"next": {"$ref": "#"}, "n": {"type": "integer"}}}
    assert DataSchema(node).problems({"next": {"next": {"n": "x"}}}) == [
        SchemaProblem(("next", "next", "n"), "Must be a whole number.")
    ]


@pytest.mark.parametrize(
    ("schema", "data", "path", "message"),
    [
        ({"type": "integer"}, "x", (), "Must be a whole number."),
        ({"type": ["string", "null"]}, 1, (), "Must be empty or a text."),
        ({"required": ["a"]}, {}, ("a",), "Is needed."),
        ({"properties": {"b": {}}, "additionalProperties": False}, {"a": 1}, ("a",), "Is not known here."),
        ({"enum": ["a", 1]}, "b", (), 'Must be one of "a", 1.'),
        ({"const": "a"}, "b", (), 'Must be "a".'),
        ({"minLength": 1}, "", (), "Must have at least 1 character."),
        ({"maxLength": 2}, "abc", (), "Must have at most 2 characters."),
        ({"minimum": 3}, 2, (), "Must be 3 or more."),
        ({"maximum": 3}, 4, (), "Must be 3 or less."),
        ({"exclusiveMinimum": 3}, 3, (), "Must be more than 3."),
        ({"exclusiveMaximum": 3}, 3, (), "Must be less than 3."),
        ({"multipleOf": 0.5}, 0.3, (), "Must be a multiple of 0.5."),
        ({"minItems": 1}, [], (), "Must have at least 1 item."),
        ({"maxItems": 1}, [1, 2], (), "Must have at most 1 item."),
        ({"uniqueItems": True}, [1, 1], (), "Must not hold the same item twice."),
        ({"format": "date"}, "x", (), "Must be a date such as 2026-11-24."),
        ({"format": "ipv4"}, "x", (), "Must be of format ipv4."),
        ({"pattern": "^a"}, "b", (), "Must match the pattern ^a"),
        ({"items": {"type": "integer"}}, [1, "x"], (1,), "Must be a whole number."),
        ({"anyOf": [{"type": "integer"}, {"type": "boolean"}]}, "x", (), "Fits none of the forms it may have."),
        ({"oneOf": [{}, {"type": "string"}]}, "x", (), "Fits more than one of the forms it may have."),
        ({"properties": {"a": False}}, {"a": 1}, ("a",), "May not be given."),
        (
            {"anyOf": [{"properties": {"n": {"type": "integer"}}, "type": "object"}, {"type": "null"}]},
            {"n": "x"},
            ("n",),
            "Must be a whole number.",
        ),
    ],
)  # fmt: skip
def test_problems_name_the_place_and_what_is_wrong(schema, data, path, message):
    assert DataSchema(schema).problems(data) == [SchemaProblem(path, message)]


def test_the_error_names_the_failing_paths():
    schema = DataSchema({"properties": {"a": {"items": {"type": "string"}}}, "required": ["b"]})
    with pytest.raises(SchemaMismatch) as refused:
        schema.check({"a": [1]})
    assert sorted((error["path"], error["message"]) for error in refused.value.errors) == [
        ("a.0", "Must be a text."),
        ("b", "Is needed."),
    ]
    assert refused.value.status == 422
    schema.check({"a": ["x"], "b": None})


def test_the_list_of_problems_is_bounded():
    assert len(DataSchema({"items": {"type": "string"}}).problems([1] * 10_000)) == PROBLEMS_MAX


TEXTS = st.text(st.characters(codec="utf-8"))
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=15,
)


@given(JSON)
def test_any_data_can_be_asked(data):
    assert DataSchema(True).problems(data) == []
    assert DataSchema(False).problems(data) != []
