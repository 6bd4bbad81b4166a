"""What is said of a field: help, what it takes, what is wrong so far. Text out of the schema is session data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from helmr.forms import MISSING, Blank, Cell, Field, Kind, example, takes_empty
from helmr.forms.model import LISTS

CHOICES_SHOWN = 12
RADIO_MAX = 5
"""Choices that stand side by side; more become a list to pick from."""

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


def is_picked(field: Field) -> bool:
    """Whether a value is picked from a list that opens."""
    return field.kind is Kind.CHOICE and len(field.choices) > RADIO_MAX


def about(field: Field) -> Iterator[str]:
    """What an operator asks of a field, a line each."""
    if field.description:
        yield field.description
    yield _PICKED if is_picked(field) else _TAKES.get(field.kind, field.kind.value)
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
