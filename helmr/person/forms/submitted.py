"""A form that is filled in and sent as a whole: its labels, hints and problems, and the cells of what was entered.

The answer page and forms in chats say and read the same. Labels and hints are texts out of a schema; the face makes
them safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from helmr.person.forms.model import MISSING, Field, Kind, plain
from helmr.person.forms.values import NEEDED, Blank, Cell, example

LABEL_CHARS_MAX: Final = 120
HINT_CHARS_MAX: Final = 600

_KIND_HINTS: Final = {
    Kind.DATETIME: f"Date and time, such as {example(Kind.DATETIME)}.",
    Kind.TIME: f"A time, such as {example(Kind.TIME)}.",
    Kind.DURATION: f"A span of time, such as {example(Kind.DURATION)}.",
    Kind.LINES: "One per line.",
}
_SENTENCES: Final = {
    "choose one": "Please choose one.",
    "not a whole number": "Please enter a whole number, in digits only.",
    "not a number": "Please enter a number, with a point for decimals.",
}


def in_words(name: str) -> str:
    """A property's name as words: `line_2` is `Line 2`."""
    spaced = name.replace("_", " ").strip()
    return spaced[:1].upper() + spaced[1:]


def label_text(field: Field) -> str:
    """The label of a field; a mere property name is spelled as words."""
    label = "Your answer" if field.label == "answer" and not field.path else field.label
    return in_words(label) if label == field.name else label


def hint_text(field: Field, clean: Callable[[str, int], str], *, picks: bool = False) -> str:
    """The description, and the bounds that a person must keep.

    Args:
        field: The field.
        clean: Makes a text safe for the face and cuts it at a number of characters.
        picks: Its date or time is picked, not typed, so the way to write it is left out.
    """
    unit = clean(f" {field.unit}".rstrip(), LABEL_CHARS_MAX)
    low, high, unit = field.minimum, field.maximum, f" {unit}" if unit else ""
    parts = [clean(field.description, HINT_CHARS_MAX)]
    if low is not None and high is not None:
        parts.append(f"From {low} to {high}{unit}.")
    elif low is not None:
        parts.append(f"{low}{unit} or more.")
    elif high is not None:
        parts.append(f"{high}{unit} or less.")
    if field.length_max is not None and field.kind in (Kind.TEXT, Kind.LONG, Kind.SECRET):
        parts.append(f"At most {field.length_max} characters.")
    if not field.required and field.default not in (MISSING, None, "", [], {}):
        parts.append(f"If left out: {clean(plain(field.default), LABEL_CHARS_MAX)}.")
    if field.pattern and not field.description:
        parts.append(f"Must match {clean(field.pattern, LABEL_CHARS_MAX)}")
    if field.suggested:
        parts.append(f"Suggested: {clean(field.suggested, LABEL_CHARS_MAX)}.")
    parts.append("" if picks else _KIND_HINTS.get(field.kind, ""))
    found = [part for part in parts if part]
    # A description may lack its full stop.
    stopped = [part if part[-1] in ".!?:;…" else f"{part}." for part in found[:-1]]
    return " ".join([*stopped, *found[-1:]])


def sentence(field: Field, text: str) -> str:
    """The sentence that says a problem of a field (`values.build`)."""
    if text == NEEDED or field.is_decision:
        is_choice = field.kind in (Kind.BOOL, Kind.CHOICE, Kind.UNION)
        return "Please choose one." if is_choice else "Please fill this in."
    if text.endswith("."):
        return text
    if field.kind is Kind.JSON:
        return f"Can't be read as JSON: {text}."
    said = f"is {text}" if text[0].isdigit() else text
    return _SENTENCES.get(text) or f"{said[0].upper()}{said[1:]}."


def blank_cell(field: Field) -> Blank:
    """The cell of a field that is left empty: one that must be sent and may be null is null."""
    return Blank.NULL if field.required and field.nullable else Blank.NOT_SENT


def typed_cell(field: Field, text: str, first: Mapping[str, Cell]) -> Cell:
    """The cell of a field into which this was typed.

    Args:
        field: The field.
        text: What was typed; empty for nothing.
        first: The form's first cells: an empty text that stood there stays one.
    """
    if text.strip() or (field.kind is Kind.LINES and field.required):
        is_free = field.kind is Kind.TEXT and not (field.format or field.pattern)
        as_typed = is_free or field.kind in (Kind.LONG, Kind.SECRET)
        return text if as_typed else text.strip()
    return Blank.EMPTY if first.get(field.key) is Blank.EMPTY else blank_cell(field)
