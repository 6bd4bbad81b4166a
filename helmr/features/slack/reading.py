"""Turns a press into the answer's data by the form's rules, and problems into what a view shows at its blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from helmr.errors import SchemaMismatch
from helmr.features.slack import texts
from helmr.features.slack.asking import first_choice, pressed
from helmr.features.slack.entered import INCLUDE, VALUE, VARIANT, block_id, cells_of, is_always_sent
from helmr.features.slack.press import PressKind, SlackPress
from helmr.person.forms import Cells, Field, Form, Kind, build, places
from helmr.person.forms.model import Path
from helmr.person.forms.submitted import sentence
from helmr.person.forms.tool_call import ARGUMENTS, is_declined

PROBLEM_CHARS_MAX: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class PressedAnswer:
    """The data of an answer.

    Attributes:
        data: JSON; not to be sent with errors, or if it is stale.
        errors: Problems by the id of the view's block.
        is_stale: The form has changed since it was drawn: the person must see it again.
    """

    data: Any = None
    errors: Mapping[str, str] = field(default_factory=dict)
    is_stale: bool = False


def answer_of(press: SlackPress, form: Form) -> PressedAnswer:
    """Read the answer of a press of a choice, or of a view that was sent.

    Args:
        press: The press.
        form: The wait's form now.
    """
    if press.form_hash != form.schema_hash:
        return PressedAnswer(is_stale=True)
    if press.kind is PressKind.CHOICE:
        asked = first_choice(form)
        if asked is None or press.choice is None or not 0 <= press.choice < len(asked.choices):
            return PressedAnswer(is_stale=True)
        return PressedAnswer(data=build(form, pressed(form, asked, press.choice)).data)
    cells = cells_of(form, press.values)
    built = build(form, cells)
    without = ARGUMENTS if is_declined(form, cells) else None
    errors: dict[str, str] = {}
    for one in _taking_part(form, form.root, cells):
        if one.key in built.problems and one.path[:1] != (without,):
            block = _block(form, one, cells)
            errors.setdefault(block, _shown(sentence(one, built.problems[one.key])))
    return PressedAnswer(data=built.data, errors=errors)


def errors_of(error: SchemaMismatch, press: SlackPress, form: Form) -> dict[str, str]:
    """The problems of an answer that its schema refuses, by block id: at a field, or at the nearest around it."""
    cells = cells_of(form, press.values)
    by_place = {_dotted(where): one for where, one in places(form, cells).items()}
    errors: dict[str, str] = {}
    for one in error.errors:
        path, rest = str(one["path"]), ""
        while path and path not in by_place:
            path, _, last = path.rpartition(".")
            rest = f"{last}.{rest}" if rest else last
        text = f"{rest}: {one['message']}" if rest else str(one["message"])
        block = _block(form, by_place.get(path, form.root), cells)
        errors.setdefault(block, _shown(text))
    return errors


def errors_response(errors: Mapping[str, str]) -> dict[str, Any]:
    """The response to a view that was sent: it stays open and shows the problems."""
    return {"response_action": "errors", "errors": dict(errors)}


def _taking_part(form: Form, field: Field, cells: Cells) -> list[Field]:
    """A field and those inside it that are read, outer before inner."""
    found, cell = [field], cells.get(field.key)
    if field.kind is Kind.GROUP and cell == 0:
        inner = field.children
    elif field.kind is Kind.UNION and isinstance(cell, int) and cell < len(field.variants):
        inner = (field.variants[cell].field,)
    else:
        inner = ()
    for one in inner:
        found += _taking_part(form, one, cells)
    return found


def _block(form: Form, field: Field, cells: Cells) -> str:
    """The block that shows a problem of this field: its own, else the first one inside it, else the form's first."""
    shown = _own_block(form, field)
    if not shown:
        inner = (_own_block(form, one) for one in _taking_part(form, field, cells))
        shown = next((one for one in inner if one), "")
    if not shown:
        every = (_own_block(form, one) for one in _taking_part(form, form.root, cells))
        shown = next((one for one in every if one), "")
    return shown


def _own_block(form: Form, field: Field) -> str:
    match field.kind:
        case Kind.GROUP:
            return "" if is_always_sent(form, field) else block_id(field, INCLUDE)
        case Kind.UNION:
            return block_id(field, VARIANT)
        case Kind.CONST | Kind.ROWS:
            return ""
        case _:
            return block_id(field, VALUE)


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)


def _shown(text: str) -> str:
    return texts.cut(texts.line(text), PROBLEM_CHARS_MAX, "…")
