"""Texts for a form's fields, and checks of its JSON before it is sent. Pure.

Text from the schema is session data. The server decides; the check here, by the server's own validator, only saves a
round trip. Its patterns are linear, and bounded where they look around; Python's can take seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jsonschema_rs import (
    Draft202012Validator,
    FancyRegexOptions,
    ReferencingError,
    ValidationError,
    ValidationErrorKind,
)

from helmr.person.forms import (
    MISSING,
    Blank,
    Cell,
    Field,
    Kind,
    Schema,
    alone,
    example,
    takes_empty,
)
from helmr.person.forms.model import LISTS
from helmr.person.forms.questions import is_picked

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
    """Yield the facts about a field for its help, one a line."""
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
    """Return a problem of the text so far that more typing can't fix; empty if it may become valid."""
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
BACKTRACKS_MAX = 10_000
"""Backtracking limit of a pattern that looks around; above it only the server judges."""


def problems(schema: Schema | bool, data: Any) -> dict[str, str]:
    """Return problems by path (`a.b.0`; `$` is the whole); empty when the data fits or can't be judged here."""
    found: dict[str, str] = {}
    try:
        validator = Draft202012Validator(
            schema if isinstance(schema, bool) else dict(schema),
            retriever=_refuse,
            pattern_options=FancyRegexOptions(backtrack_limit=BACKTRACKS_MAX),
        )
        for error in validator.iter_errors(data):
            leaf = _meant(error)
            if not isinstance(leaf.kind, ValidationErrorKind.BacktrackLimitExceeded):
                found.setdefault(_path(leaf), _sentence(leaf.kind, leaf.message))
            if len(found) >= PROBLEMS_MAX:
                break
    except (ValidationError, ReferencingError, ValueError, RecursionError):
        return {}  # no schema, a reference elsewhere, or data nested too deeply
    return found


def problem(field: Field, cell: Cell, root: Schema | bool) -> str:
    """Return the problem of one cell of a field, judged alone; empty if it has none.

    Args:
        root: The schema of the whole form, in which `$ref` is resolved.
    """
    built = alone(field, cell)
    if field.key in built.problems:
        return built.problems[field.key]
    if isinstance(cell, Blank) or field.kind in (Kind.UNION, Kind.ROWS):
        return ""  # its parts are judged at their own places
    named = root if isinstance(root, Mapping) else {}
    known = {word: named[word] for word in ("$defs", "definitions") if word in named}
    return next(iter(problems({**known, **field.schema}, built.data).values()), "")


def _refuse(uri: str, /) -> Any:
    raise ValueError(f"references are not fetched: {uri[:100]}")


def _meant(error: ValidationError) -> ValidationError:
    """Replace "none of these fits" by the error of the alternative that was likely meant: the deepest match."""
    kind = error.kind
    if not isinstance(kind, ValidationErrorKind.AnyOf | ValidationErrorKind.OneOfNotValid):
        return error
    branches = [branch for branch in kind.context if branch]
    if not branches:
        return error
    base = len(error.instance_path)
    return _meant(max(branches, key=lambda branch: _nearness(branch, base))[0])


def _nearness(branch: Sequence[ValidationError], base: int) -> tuple[bool, int]:
    """Rank of an alternative's match: type and tag fit first, then the depth of its first error."""
    depths = [(one.kind, len(one.instance_path) - base) for one in branch]
    is_another = any(
        (isinstance(kind, ValidationErrorKind.Type) and depth == 0)
        or (isinstance(kind, ValidationErrorKind.Constant) and depth <= 1)
        for kind, depth in depths
    )
    return not is_another, min(depth for _, depth in depths)


def _path(error: ValidationError) -> str:
    parts = [str(part) for part in error.instance_path]
    if isinstance(error.kind, ValidationErrorKind.Required):
        parts.append(error.kind.property)
    return ".".join(parts) or "$"


def _sentence(kind: ValidationErrorKind, message: str) -> str:
    match kind:
        case ValidationErrorKind.Required():
            return "needed"
        case ValidationErrorKind.Enum() if isinstance(kind.options, list):
            return f"one of {', '.join(str(value) for value in kind.options[:8])}"
        case ValidationErrorKind.Type():
            return f"must be {' or '.join(kind.types)}"
        case ValidationErrorKind.Pattern():
            return f"must match {kind.pattern[:PATTERN_MAX]}"
        case ValidationErrorKind.AdditionalProperties():
            return "holds a field that is not in the schema"
        case _:
            return message[:200]
