"""The decision of a form: approving or refusing is a choice that a person makes, never one that came with the form.

A decision is the choice that is the whole answer, or a field at the top of the form with one of the names in
`DECISIONS`. What the form begins with, or the schema's default, is shown as suggested and not chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from helmr.forms.model import DECISIONS, MISSING, Field, Kind, json_text

_ONE_OF = (Kind.CHOICE, Kind.BOOL)


def undecided(root: Field, initial: Any, *, suggests: bool) -> Field:
    """The form's outermost field with its decision marked as one that is still to be made.

    Args:
        root: As it was read.
        initial: JSON that the form starts with.
        suggests: Whether the form says what it began with. A tool that asks leave for its own call suggests nothing.
    """
    if root.kind in _ONE_OF:
        return _marked(root, initial, suggests=suggests)
    if root.kind is not Kind.GROUP:
        return root
    given = initial if isinstance(initial, Mapping) else {}
    parts = (
        _marked(child, given.get(child.name, MISSING), suggests=suggests)
        if child.name in DECISIONS and child.kind in _ONE_OF
        else child
        for child in root.children
    )
    return replace(root, children=tuple(parts))


def _marked(field: Field, initial: Any, *, suggests: bool) -> Field:
    labels = {choice.text: choice.label for choice in field.choices}
    default = _label(field.default, labels)
    # Left out, a task's own default would decide.
    is_needed = field.required or bool(default)
    suggested = _label(initial, labels) or default
    return replace(
        field,
        is_decision=True,
        suggested=suggested if suggests else "",
        required=is_needed,
        default=MISSING if is_needed else field.default,
    )


def _label(value: Any, labels: Mapping[str, str]) -> str:
    return "" if value is MISSING else labels.get(json_text(value), "")


def choose_text(field: Field) -> str:
    """The text where a decision is still to be made: `choose approve or decline`."""
    names = [choice.label for choice in field.choices]
    if len(names) > 4:
        return "choose one"
    return f"choose {', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "choose it"
