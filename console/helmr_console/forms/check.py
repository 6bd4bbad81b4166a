"""Judge JSON by its schema before it is sent. The server is the judge; this only spares a round trip.

Patterns run in pydantic's engine, which is linear; Python's can take seconds on a hostile one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import SchemaError, best_match
from pydantic_core import SchemaError as CoreSchemaError
from pydantic_core import SchemaValidator, core_schema
from pydantic_core import ValidationError as CoreValidationError
from referencing.exceptions import Unresolvable

from helmr.forms import Blank, Cell, Field, Kind, Schema, alone

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
