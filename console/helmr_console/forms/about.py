"""Help for one field of a form: what it is, what it takes, its keys. Text out of the schema is session data."""

from __future__ import annotations

from collections.abc import Iterator

from helmr_console.forms.cells import example
from helmr_console.forms.model import Field, Kind

CHOICES_SHOWN = 12

_TAKES = {
    Kind.CHOICE: "arrows move between the choices, space chooses; so do 1 to 9 and a first letter",
    Kind.BOOL: "y or n; or arrows move between yes and no, space chooses; nothing is chosen until you do",
    Kind.MULTI: "arrows move, space chooses or takes back; so do 1 to 9 and a first letter",
    Kind.UNION: "arrows and space choose which fields follow below",
    Kind.PICK: "enter opens the list, typing finds in it, enter picks",
    Kind.TEXT: "one line of text; F4 opens it in $EDITOR",
    Kind.LONG: "lines of text; tab leaves it, F4 opens it in $EDITOR",
    Kind.SECRET: "hidden while it is typed; never kept as a draft, never shown in the review",
    Kind.INTEGER: "a whole number",
    Kind.NUMBER: "a number; a point before the decimals",
    Kind.DATE: "a date",
    Kind.TIME: "a time of day",
    Kind.DATETIME: "a date and time with its zone",
    Kind.DURATION: "a span of time",
    Kind.JSON: "any JSON that fits its schema; tab leaves it, F4 opens it in $EDITOR",
    Kind.CONST: "always the same; there is nothing to enter",
}


def about(field: Field) -> Iterator[str]:
    """What an operator asks of a field, a line each."""
    if field.description:
        yield field.description
    yield _TAKES.get(field.kind, field.kind.value)
    if example(field.kind):
        yield f"written like {example(field.kind)}"
    if field.range_text():
        yield field.range_text()
    if field.length_min or field.length_max is not None:
        low, high = field.length_min or 0, field.length_max
        if field.kind is not Kind.MULTI:
            yield (
                f"{low} to {high} characters" if high is not None else f"at least {low} characters"
            )
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
        return
    states = [] if field.required else ["not sent"]
    if field.kind in (Kind.TEXT, Kind.LONG, Kind.SECRET):
        states.append("empty")
    if field.nullable:
        states.append("null")
    if len(states) > 1:
        yield f"^n goes through {', '.join(states)}: {len(states)} different answers"
    elif not field.required:
        yield "optional: not sent unless you fill it; ^n takes it back"
