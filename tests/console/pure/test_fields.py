"""What the console says of a field, and how it judges an answer before it is sent."""

from __future__ import annotations

from typing import Any

import pytest

from helmr.person.forms import Blank, Cell, form_of
from helmr_console.form_fields import about, problem, problems

DECISION = {
    "type": "object",
    "properties": {
        "decision": {"enum": ["approve", "reject", "edit"]},
        "note": {"anyOf": [{"type": "string", "maxLength": 500}, {"type": "null"}]},
        "zip": {"type": "string", "pattern": r"^\d{5}$"},
    },
    "required": ["decision"],
}


def test_local_check_names_the_path() -> None:
    said = problems(DECISION, {"decision": "maybe", "note": 5})
    assert said["decision"] == "one of approve, reject, edit"
    assert "note" in said
    assert problems(DECISION, {}) == {"decision": "needed"}
    zipped = {"decision": "edit", "zip": ""}
    assert problems(DECISION, zipped) == {"zip": r"must match ^\d{5}$"}


@pytest.mark.timeout(5)
def test_a_hostile_pattern_costs_no_time() -> None:
    hostile = {"type": "string", "pattern": "^(a+)+$"}
    assert problems(hostile, "a" * 5_000 + "b") == {"$": "must match ^(a+)+$"}
    assert problems({"type": "string", "pattern": "("}, "x") == {}


def test_the_alternative_that_was_meant_says_what_is_wrong() -> None:
    """Of another type, or with another tag, an alternative was not meant."""
    note = {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 3}]}
    assert "longer than 3" in problems(note, "abcd")["$"]
    tagged = {
        "oneOf": [
            {"properties": {"by": {"const": "card"}, "cents": {"minimum": 1}}, "required": ["by"]},
            {
                "properties": {
                    "by": {"const": "wire"},
                    "to": {"type": "object", "required": ["iban"]},
                }
            },
        ]
    }
    assert problems(tagged, {"by": "wire", "to": {}}) == {"to.iban": "needed"}
    assert problems({"type": ["string", "null"]}, 5) == {"$": "must be null or string"}


@pytest.mark.timeout(5)
def test_what_cannot_be_judged_here_is_left_to_the_server() -> None:
    elsewhere = {"$ref": "http://127.0.0.1:1/schema.json"}
    assert problems(elsewhere, 5) == {}
    assert problems({"type": "nonsense"}, 5) == {}
    deep: list[object] = []
    for _ in range(2_000):
        deep = [deep]
    assert problems({"type": "object"}, deep) in ({}, {"$": "must be object"})
    assert problems({"type": "integer", "maximum": 5}, 10**30).keys() == {"$"}
    around = {"type": "string", "pattern": r"^(?=(a+)+$)(?!b).*c$"}
    assert problems(around, "a" * 40 + "b") in ({}, {"$": f"must match {around['pattern']}"})


def test_help_for_a_field_says_what_it_takes() -> None:
    schema = {
        "type": "object",
        "required": ["size", "decision"],
        "properties": {
            "decision": {"enum": ["approve", "reject"], "description": "What to do."},
            "size": {"type": "integer", "minimum": 1, "maximum": 10},
            "day": {"type": "string", "format": "date"},
            "note": {"anyOf": [{"type": "string", "maxLength": 80}, {"type": "null"}]},
        },
    }
    told = {leaf.label: "; ".join(about(leaf)) for leaf in form_of(schema).leaves()}
    assert told["decision"].startswith(
        "What to do.; arrows move between the choices, space chooses"
    )
    assert "one of: approve, reject; required" in told["decision"]
    assert "a whole number; 1 to 10; required" in told["size"]
    assert "written like 2" in told["day"]
    assert "optional: not sent unless you fill it" in told["day"]
    assert "0 to 80 characters" in told["note"]
    assert "^n goes through not sent, empty, null: 3 different answers" in told["note"]


@pytest.mark.parametrize(
    ("schema", "cell", "says"),
    [
        ({"type": "integer", "minimum": 10}, "1", "at least 10"),
        ({"type": "integer", "minimum": 10}, "15", ""),
        ({"type": "integer", "multipleOf": 5}, "7", "multiple"),
        ({"type": "string", "pattern": "^[A-Z]", "maxLength": 5}, "a", "must match"),
        ({"type": "string", "minLength": 3}, "ab", "at least 3"),
        ({"type": "string", "format": "date"}, "2026-1", "write it like"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, "1", "at least 2"),
        ({"type": "array", "items": {"properties": {"a": {}}}, "minItems": 1}, (), "at least 1"),
        ({"type": "array", "items": {"$ref": "#/$defs/t"}, "$defs": {"t": {}}}, "[", "JSON"),
        ({"$defs": {"t": {"type": "object"}}, "$ref": "#/$defs/t"}, "[]", "must be object"),
        ({"type": ["string", "null"]}, Blank.NULL, ""),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 0, ""),
    ],
)
def test_a_field_alone_is_judged_by_what_it_takes_and_by_its_schema(
    schema: dict[str, Any], cell: Cell, says: str
) -> None:
    found = problem(form_of(schema).root, cell, schema)
    assert says in found
    assert bool(says) == bool(found)
