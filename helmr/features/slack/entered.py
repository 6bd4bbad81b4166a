"""The controls of a form in a view: their names, and the cells that their state says.

Each field has a block of its own whose id is made of the field's key, so it stays the same when fields come and go:
Slack keeps what was entered in a block by that id. A field is read as the answer page reads it
(`helmr.person.forms.submitted`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from helmr.person.forms import MISSING, Blank, Cell, Cells, Field, Form, Kind, first_cells
from helmr.person.forms.model import json_text
from helmr.person.forms.submitted import blank_cell, typed_cell
from helmr.person.forms.tool_call import ARGUMENTS, is_call

VALUE, INCLUDE, VARIANT, WAY = "helmr.value", "helmr.include", "helmr.variant", "helmr.way"
"""Action ids: a value, a box that includes a group, the variant of a union, how a value of any type is read."""
TEXT, JSON = 0, 1
"""The ways to enter a value of any type: their places among the options."""
ID_CHARS: Final = 24

_PLACE: Final = re.compile(r"[0-9]{1,4}")

State = Mapping[str, Any]
"""`view.state.values` of a payload: by block id and action id."""


def block_id(field: Field, action: str = VALUE) -> str:
    """The block of a field's control."""
    return hashlib.sha256(f"{action} {field.key}".encode()).hexdigest()[:ID_CHARS]


def begun(form: Form) -> Cells:
    """The cells that a fresh view shows; none if the form has no initial value."""
    return {} if form.initial is MISSING else first_cells(form)


def is_always_sent(form: Form, field: Field) -> bool:
    """True if a group has no box that includes it: it must be sent, or holds the arguments of a call."""
    if not field.may_be_left_out:
        return True
    return field.path == (ARGUMENTS,) and is_call(form.schema, form.initial)


def is_whole_text(field: Field) -> bool:
    """True if the field's value is typed, not chosen or made of parts."""
    return field.kind not in (
        Kind.GROUP,
        Kind.UNION,
        Kind.ROWS,
        Kind.CONST,
        Kind.CHOICE,
        Kind.BOOL,
        Kind.MULTI,
    )


def cells_of(form: Form, state: State) -> Cells:
    """The cells of a view's state; a field without a control is left out."""
    reader = _StateReader(form, state)
    reader.read(form.root)
    return reader.cells


class _StateReader:
    """Reads the state of one view into cells."""

    def __init__(self, form: Form, state: State) -> None:
        self._form = form
        self._state = state
        self._first = first_cells(form)
        self.cells: Cells = {}

    def read(self, field: Field) -> None:
        """Fill the cells of a field and of the included ones inside it."""
        self.cells[field.key] = blank_cell(field)
        match field.kind:
            case Kind.GROUP:
                if is_always_sent(self._form, field) or self._places(field, INCLUDE) == (0,):
                    self.cells[field.key] = 0
                    for child in field.children:
                        self.read(child)
            case Kind.UNION:
                if (place := self._one(field, VARIANT)) is not None:
                    self.cells[field.key] = place
                    if place < len(field.variants):
                        self.read(field.variants[place].field)
            case Kind.CHOICE | Kind.BOOL:
                if (place := self._one(field)) is not None:
                    self.cells[field.key] = place
            case Kind.MULTI:
                places = self._places(field)
                if places or field.required:
                    self.cells[field.key] = places
            case Kind.ROWS | Kind.CONST:
                pass
            case _:
                self.cells[field.key] = self._typed(field)

    def _typed(self, field: Field) -> Cell:
        text = self._text(field)
        if not field.takes_anything:
            return typed_cell(field, text, self._first)
        if not text.strip():
            return blank_cell(field)
        return text if self._one(field, WAY) == JSON else json_text(text)

    def _control(self, field: Field, action: str = VALUE) -> Mapping[str, Any]:
        block = self._state.get(block_id(field, action))
        found = block.get(action) if isinstance(block, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def _text(self, field: Field) -> str:
        control = self._control(field)
        if isinstance(at := control.get("selected_date_time"), int):
            return spelt_moment(at)
        found = (control.get(name) for name in ("value", "selected_date", "selected_time"))
        text = next((one for one in found if isinstance(one, str)), "")
        return text.replace("\r\n", "\n")

    def _one(self, field: Field, action: str = VALUE) -> int | None:
        places = self._places(field, action)
        return places[0] if places else None

    def _places(self, field: Field, action: str = VALUE) -> tuple[int, ...]:
        control = self._control(field, action)
        chosen = control.get("selected_options") or [control.get("selected_option")]
        found = [_place(one) for one in chosen] if isinstance(chosen, list) else []
        return tuple(sorted({one for one in found if one is not None}))


def _place(option: Any) -> int | None:
    value = option.get("value") if isinstance(option, Mapping) else None
    return int(value) if isinstance(value, str) and _PLACE.fullmatch(value) else None


def spelt_moment(at: int) -> str:
    """The JSON text of a moment that Slack's picker gives in seconds; a time that no date has is empty."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""


def is_left_out(cells: Mapping[str, Cell], field: Field) -> bool:
    """True if nothing of a field is entered."""
    return isinstance(cells.get(field.key, Blank.NOT_SENT), Blank)
