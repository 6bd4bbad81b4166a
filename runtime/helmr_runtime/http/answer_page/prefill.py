"""From a form that starts with a value to the texts that its controls show: the reverse of `decode`."""

from __future__ import annotations

import json
from typing import Any

from helmr.forms import Cell, Cells, Kind, first_cells
from helmr.forms.model import MISSING, Path
from helmr_runtime.http.answer_page.fields import JSON, TEXT, Form, Question


def first_values(form: Form) -> dict[str, list[str]]:
    """What the controls of a fresh page hold, by their names; empty for a form without an initial value."""
    if form.model.initial is MISSING:
        return {}
    values: dict[str, list[str]] = {}
    _fill(form.root, form.model.initial, first_cells(form.model), values)
    return values


def _fill(question: Question, initial: Any, cells: Cells, values: dict[str, list[str]]) -> None:
    """Fill in a question and those in it."""
    field, cell = question.field, cells.get(question.field.key)
    match question.control:
        case "group":
            if field.may_be_left_out and isinstance(_at(initial, question.where), dict):
                values[question.include_name] = ["1"]
            for each in question.inner:
                _fill(each, initial, cells, values)
        case "union" if field.takes_anything:
            _anything(question, cell, values)
        case "union":
            if isinstance(cell, int):
                values[question.variant_name] = [question.keys[cell]]
                _fill(question.inner[cell], initial, cells, values)
        case "rows":
            values[question.rows_name] = [",".join(str(number) for number in question.rows)]
            for each in question.inner:
                _fill(each, initial, cells, values)
        case "const":
            pass
        case "options" | "select":
            picked = cell if isinstance(cell, tuple) else (cell,) if isinstance(cell, int) else ()
            values[question.name] = [field.choices[index].text for index in picked]
        case _:
            if isinstance(cell, str) and cell and field.kind is not Kind.SECRET:
                values[question.name] = [cell]


def _at(initial: Any, where: Path) -> Any:
    """What the value holds at a place; None if it has no such place."""
    for part in where:
        if isinstance(part, int):
            initial = initial[part] if isinstance(initial, list) and part < len(initial) else None
        else:
            initial = initial.get(part) if isinstance(initial, dict) else None
    return initial


def _anything(question: Question, cell: Cell | None, values: dict[str, list[str]]) -> None:
    """What may be anything is shown as text if it is one, else as JSON."""
    if not isinstance(cell, str) or not cell:
        return
    content = json.loads(cell)
    is_text = isinstance(content, str)
    key = TEXT if is_text else JSON
    values[question.variant_name] = [key]
    values[question.inner[question.keys.index(key)].name] = [content if is_text else cell]
