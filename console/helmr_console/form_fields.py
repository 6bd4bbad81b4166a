"""The texts of a form's field, and how its JSON is checked before it is sent. Pure.

Text out of the schema is session data. The server decides; checking here only spares a round trip. Patterns run in
pydantic's engine, which is linear; Python's can take seconds on a hostile one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import SchemaError, best_match
from pydantic_core import SchemaError as CoreSchemaError
from pydantic_core import SchemaValidator, core_schema
from pydantic_core import ValidationError as CoreValidationError
from referencing.exceptions import Unresolvable

from helmr.forms import MISSING, Blank, Cell, Field, Kind, Schema, alone, example, takes_empty
from helmr.forms.model import LISTS
from helmr.forms.questions import is_picked

CHOICES_SHOWN = 12

_PICKED = "enter opens the list, typing finds in it, enter picks"
_TAKES = {
    Kind.CHOICE: "arrows move between the choices, space chooses; so do 1 to 9 and a first letter",
    Kind.BOOL: "y or n; or arrows move between yes and no, space chooses; nothing is chosen until you do",
    Kind.MULTI: "arrows move, space chooses or takes back; so do 1 to 9 and a first letter",
    Kind.UNION: "arrows and space choose which fields follow below",
    Kind.TEXT: "one line of text; F4 opens it in $EDITOR",
    Kind.LONG: "lines of text; tab leaves it, F4 opens it in $EDITOR",
    Kind.SECRET: "hidden while it is typed; never kept as a draft, never shown in the review",
    Kind.INTEGER: "a whole number",
    Kind.NUMBER: "a number; a point before the decimals",
    Kind.DATE: "a date",
    Kind.TIME: "a time of day",
    Kind.DATETIME: "a date and time with its zone",
    Kind.DURATION: "a span of time",
    Kind.LINES: "a list, each line one of its items; tab leaves it, F4 opens it in $EDITOR",
    Kind.ROWS: "enter on the last line adds a row; in a row ^o adds one behind it, ^g takes it away, ^up ^down move it",
    Kind.JSON: "any JSON that fits its schema; tab leaves it, F4 opens it in $EDITOR",
    Kind.CONST: "always the same; there is nothing to enter",
}


def about(field: Field) -> Iterator[str]:
    """What an operator asks of a field, a line each."""
    if field.description:
        yield field.description
    yield _PICKED if is_picked(field) else _TAKES.get(field.kind, field.kind.value)
    if field.is_table:
        yield "tab goes from cell to cell, up and down to the row above or below"
    if field.reason:
        yield f"JSON because {field.reason}"
    if example(field.kind):
        yield f"written like {example(field.kind)}"
    if field.range_text():
        yield field.range_text()
    is_list = field.kind in LISTS
    if (field.length_min or field.length_max is not None) and not is_list:
        low, high = field.length_min or 0, field.length_max
        yield f"{low} to {high} characters" if high is not None else f"at least {low} characters"
    if field.suggested:
        yield f"suggested: {field.suggested}; choose it if you agree"
    if field.pattern:
        yield f"must match {field.pattern}"
    if field.choices:
        names = [choice.label for choice in field.choices[:CHOICES_SHOWN]]
        more = len(field.choices) - len(names)
        yield f"one of: {', '.join(names)}{f', … {more} more' if more else ''}"
    yield from _blank(field)


def _blank(field: Field) -> Iterator[str]:
    if field.required and not field.nullable:
        yield "required: the answer is not sent without it"
        if takes_empty(field):
            yield "^n sends it empty, if that is what is meant"
        return
    states = [] if field.required else ["not sent"]
    if field.kind in (Kind.TEXT, Kind.LONG, Kind.SECRET, Kind.LINES, Kind.ROWS):
        states.append("empty")
    if field.nullable:
        states.append("null")
    if len(states) > 1:
        yield f"^n goes through {', '.join(states)}: {len(states)} different answers"
    elif not field.required:
        yield "optional: not sent unless you fill it; ^n takes it back"


def complaint(field: Field, cell: Cell) -> str:
    """What is wrong with what was typed so far and can't be mended by typing on; empty if it may become right."""
    if not isinstance(cell, str) or not cell.strip():
        return ""
    if field.kind in (Kind.INTEGER, Kind.NUMBER):
        return _number_complaint(field, cell.strip())
    if field.kind in (Kind.TEXT, Kind.LONG) and field.length_max is not None:
        over = len(cell) - field.length_max
        return f"{over} characters too long" if over > 0 else ""
    return ""


_BEGUN = {
    Kind.INTEGER: re.compile(r"[+-]?[0-9]{0,400}"),
    Kind.NUMBER: re.compile(
        r"[+-]?[0-9]{0,400}(\.[0-9]{0,400})?(?<=[0-9.])([eE][+-]?[0-9]{0,4})?|[+-]"
    ),
}


def _number_complaint(field: Field, text: str) -> str:
    if not _BEGUN[field.kind].fullmatch(text):
        return f"not a {field.kind.value}"
    try:
        value = float(text)
    except ValueError:
        return ""
    if field.maximum is not None and 0 <= value > field.maximum:
        return f"at most {field.maximum:g}"
    if field.minimum is not None and 0 > value < field.minimum:
        return f"at least {field.minimum:g}"
    return ""


def default_text(field: Field, cell: Cell) -> str:
    """`: goodwill` for a field that is not sent and has a default; empty for others."""
    if cell is not Blank.NOT_SENT or field.required or field.default in (MISSING, None):
        return ""
    value = field.default
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f": {text}" if text not in ("", "{}", "[]") else ""


PROBLEMS_MAX = 50
PATTERN_MAX = 120


def problems(schema: Schema | bool, data: Any) -> dict[str, str]:
    """What is wrong, by path (`a.b.0`; `$` is the whole); empty when the data fits or can't be judged here."""
    found: dict[str, str] = {}
    try:
        for error in _Validator(schema).iter_errors(data):
            leaf = _deepest(error)
            found.setdefault(_path(leaf), _sentence(leaf))
            if len(found) >= PROBLEMS_MAX:
                break
    except (SchemaError, Unresolvable, RecursionError):
        return {}
    return found


def problem(field: Field, cell: Cell, root: Schema | bool) -> str:
    """What is wrong with this cell of this field, looked at alone; empty if nothing is.

    Args:
        root: The schema of the whole form, where `$ref` is looked up.
    """
    built = alone(field, cell)
    if field.key in built.problems:
        return built.problems[field.key]
    if isinstance(cell, Blank) or field.kind in (Kind.UNION, Kind.ROWS):
        return ""  # what is in it is judged at its own place
    named = root if isinstance(root, Mapping) else {}
    known = {word: named[word] for word in ("$defs", "definitions") if word in named}
    return next(iter(problems({**known, **field.schema}, built.data).values()), "")


def _pattern(
    validator: Any, pattern: str, instance: Any, schema: Schema
) -> Iterator[ValidationError]:
    if not isinstance(instance, str):
        return
    try:
        SchemaValidator(core_schema.str_schema(pattern=pattern)).validate_python(instance)
    except CoreSchemaError:
        return
    except CoreValidationError:
        yield ValidationError(f"must match {pattern[:PATTERN_MAX]}")


_Validator: Any = validators.extend(Draft202012Validator, {"pattern": _pattern})


def _deepest(error: ValidationError) -> ValidationError:
    """Inside "none of these fits" the alternative that was meant."""
    if not error.context:
        return error
    found = best_match([error])
    return found if isinstance(found, ValidationError) else error


def _path(error: ValidationError) -> str:
    parts = [str(part) for part in error.absolute_path]
    missing = _missing(error)
    return ".".join([*parts, missing] if missing else parts) or "$"


def _missing(error: ValidationError) -> str:
    if error.validator != "required" or not isinstance(error.instance, Mapping):
        return ""
    names = error.validator_value if isinstance(error.validator_value, list) else []
    return next((str(name) for name in names if f"'{name}'" in error.message[:300]), "")


def _sentence(error: ValidationError) -> str:
    if error.validator == "required":
        return "needed"
    if error.validator == "enum" and isinstance(error.validator_value, list):
        return f"one of {', '.join(str(value) for value in error.validator_value[:8])}"
    if error.validator == "type":
        return f"must be {error.validator_value}"
    if error.validator == "additionalProperties":
        return "holds a field that is not in the schema"
    return str(error.message)[:200]
