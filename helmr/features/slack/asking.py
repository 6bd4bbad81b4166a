"""Draws the fields of a form as blocks of a view, and says which forms a view can ask, and which a single press.

A box or a choice that other fields depend on reports itself (`dispatch_action`), and the view is drawn again. What a
view can't ask opens the page: secrets, which have no place in Slack; lists of rows; texts longer than its inputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from helmr.features.slack import limits, texts
from helmr.features.slack.entered import (
    INCLUDE,
    JSON,
    TEXT,
    VALUE,
    VARIANT,
    WAY,
    begun,
    block_id,
    is_always_sent,
    is_left_out,
    is_whole_text,
    spelt_moment,
)
from helmr.person.forms import Blank, Cell, Cells, Field, Form, Kind, build, moments, tool_call
from helmr.person.forms.model import Path, every_field
from helmr.person.forms.submitted import (
    HINT_CHARS_MAX,
    LABEL_CHARS_MAX,
    hint_text,
    in_words,
    label_text,
)

FORM_BLOCKS_MAX: Final = 80
"""Blocks of fields in a view, which also has the question."""
RADIOS_MAX: Final = 8
"""More choices than this become a list that opens, as on the page."""

_ONE_LINE: Final = (
    Kind.TEXT,
    Kind.INTEGER,
    Kind.NUMBER,
    Kind.DATE,
    Kind.TIME,
    Kind.DATETIME,
    Kind.DURATION,
)
_PLAIN_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")


def first_choice(form: Form) -> Field | None:
    """The choice whose press is a whole answer: everything else is left out, or is the call that the card shows.

    None if a press alone can't answer, or would send what the person has not seen.
    """
    parts = form.root.children if form.root.kind is Kind.GROUP else (form.root,)
    needed = [one for one in parts if not one.may_be_left_out and one.kind is not Kind.CONST]
    if form.root.may_be_left_out or len(needed) != 1:
        return None
    asked = needed[0]
    if asked.kind not in (Kind.CHOICE, Kind.BOOL):
        return None
    cells = begun(form)
    others = (leaf for one in parts if one is not asked for leaf in one.leaves())
    if tool_call(form) is None and not all(
        is_left_out(cells, one) or one.kind is Kind.CONST for one in others
    ):
        return None
    answers = (build(form, pressed(form, asked, place)) for place in range(len(asked.choices)))
    return asked if not any(one.problems for one in answers) else None


def pressed(form: Form, asked: Field, place: int) -> Cells:
    """The cells of an answer by the press of one choice."""
    cells = begun(form)
    sent = {one.key: 0 for one in form.root.children if one.kind is Kind.GROUP}
    always = {
        one.key
        for one in form.root.children
        if one.kind is Kind.GROUP and is_always_sent(form, one)
    }
    included = {key: cell for key, cell in sent.items() if key in always}
    return {**_blanks(form), **cells, **included, asked.key: place}


def _blanks(form: Form) -> Cells:
    """A required field that may be null is null when nothing is entered."""
    parts = form.root.children if form.root.kind is Kind.GROUP else ()
    return {
        one.key: Blank.NULL
        for one in parts
        if one.required and one.nullable and one.kind is not Kind.GROUP
    }


def can_show(form: Form) -> str:
    """Explain why a view can't ask for all that the form needs; empty if it can."""
    cells = begun(form)
    for field in every_field(form.root):
        if field.kind is Kind.SECRET:
            return "it asks for a secret, which has no place in Slack"
        if field.kind is Kind.ROWS and not _may_miss(field, cells):
            return f"its list {texts.line(label_text(field))[:60]!r} does not fit into Slack's form"
        if is_whole_text(field) and not _fits(field, cells):
            return "it has a text that is too long for Slack's form"
    if _most_blocks(form, form.root) > FORM_BLOCKS_MAX:
        return "it has more fields than Slack's form takes"
    return ""


def missed(form: Form) -> list[str]:
    """The labels of fields that a view does not ask, all of which may be left out."""
    return [label_text(one) for one in every_field(form.root) if one.kind is Kind.ROWS]


def _may_miss(field: Field, cells: Mapping[str, Cell]) -> bool:
    return field.may_be_left_out and is_left_out(cells, field)


def _fits(field: Field, cells: Mapping[str, Cell]) -> bool:
    cell = cells.get(field.key, "")
    length = len(cell) if isinstance(cell, str) else 0
    return max(length, field.length_min or 0) <= limits.INPUT_CHARS_MAX


def _most_blocks(form: Form, field: Field) -> int:
    """Count the blocks of a field with everything in it shown; of a union, of its longest variant."""
    if field.kind is Kind.UNION:
        return 1 + max((_most_blocks(form, one.field) for one in field.variants), default=0)
    inner = sum(_most_blocks(form, one) for one in field.children)
    return inner + (2 if field.takes_anything else 1)


def field_blocks(form: Form, cells: Mapping[str, Cell]) -> list[dict[str, Any]]:
    """The blocks of a form's fields.

    Args:
        form: A form that a view can show.
        cells: What they show; what is entered in a block that stays, Slack keeps.
    """
    drawn = _FieldDrawer(form, cells)
    is_frame = form.root.kind is Kind.GROUP and is_always_sent(form, form.root)
    shown = form.root.children if is_frame else (form.root,)
    return [block for one in shown for block in drawn.blocks(one)]


class _FieldDrawer:
    """Draws the fields of one view."""

    def __init__(self, form: Form, cells: Mapping[str, Cell]) -> None:
        self._form = form
        self._cells = cells
        self._begun = begun(form)

    def blocks(self, field: Field, label: str = "") -> Iterator[dict[str, Any]]:
        """Yield the blocks of a field, and of the shown ones inside it."""
        match field.kind:
            case Kind.GROUP:
                yield from self._group(field, label)
            case Kind.UNION:
                yield from self._union(field)
            case Kind.CONST | Kind.ROWS:
                return
            case _:
                if field.takes_anything:
                    yield self._way(field)
                yield self._input(field, self._element(field), VALUE, label=label)

    def _group(self, field: Field, label: str) -> Iterator[dict[str, Any]]:
        if is_always_sent(self._form, field):
            name = texts.line(label or label_text(field))[:LABEL_CHARS_MAX] or "(no name)"
            yield texts.rich(texts.section(texts.said(name, bold=True)))
        else:
            box: dict[str, Any] = {
                "type": "checkboxes",
                "action_id": INCLUDE,
                "options": _options(["Fill this in"]),
            }
            if self._is_included(field):
                box["initial_options"] = box["options"]
            yield self._input(field, box, INCLUDE, is_optional=True)
            if not self._is_included(field):
                return
        for child in field.children:
            yield from self.blocks(child)

    def _is_included(self, field: Field) -> bool:
        """True if a group is filled in: its box says so, or its initial value has it."""
        cell = self._cells.get(field.key)
        if cell is not None:
            return cell == 0
        return isinstance(_at(self._form.initial, field.path), Mapping)

    def _union(self, field: Field) -> Iterator[dict[str, Any]]:
        names = [in_words(one.label) for one in field.variants]
        cell = self._cells.get(field.key)
        chosen = cell if isinstance(cell, int) and cell < len(names) else None
        yield self._input(field, _select(names, VARIANT, chosen), VARIANT)
        if chosen is None:
            return
        inner = field.variants[chosen].field
        if inner.kind is Kind.GROUP:
            for child in inner.children:
                yield from self.blocks(child)
        else:
            yield from self.blocks(inner, names[chosen])

    def _way(self, field: Field) -> dict[str, Any]:
        radios: dict[str, Any] = {
            "type": "radio_buttons",
            "action_id": WAY,
            "options": _options(["As text", "As JSON"]),
        }
        radios["initial_option"] = radios["options"][JSON if self._begun_text(field) else TEXT]
        return {
            "type": "input",
            "block_id": block_id(field, WAY),
            "label": texts.plain_text("How it is read", LABEL_CHARS_MAX),
            "optional": True,
            "element": radios,
        }

    def _begun_text(self, field: Field) -> str:
        cell = self._begun.get(field.key)
        return cell if isinstance(cell, str) else ""

    def _input(
        self,
        field: Field,
        element: dict[str, Any],
        action: str,
        *,
        label: str = "",
        is_optional: bool = False,
    ) -> dict[str, Any]:
        block = {
            "type": "input",
            "block_id": block_id(field, action),
            "label": texts.plain_text(label or label_text(field), LABEL_CHARS_MAX),
            "optional": is_optional or self._may_stay_empty(field),
            "element": element,
        }
        picks = element["type"] in ("datepicker", "timepicker", "datetimepicker")
        if hint := hint_text(field, _clean, picks=picks):
            block["hint"] = texts.plain_text(hint, limits.HINT_CHARS_MAX)
        if action in (INCLUDE, VARIANT):
            block["dispatch_action"] = True
        return block

    def _may_stay_empty(self, field: Field) -> bool:
        is_empty = self._begun.get(field.key) is Blank.EMPTY
        is_list = field.kind in (Kind.MULTI, Kind.LINES) and not field.length_min
        return field.may_be_left_out or is_empty or is_list

    def _element(self, field: Field) -> dict[str, Any]:
        cell = self._cells.get(field.key)
        names = choice_names(field)
        match field.kind:
            case Kind.CHOICE | Kind.BOOL:
                chosen = cell if isinstance(cell, int) and cell < len(names) else None
                if len(names) <= RADIOS_MAX:
                    return _radios(names, chosen)
                return _select(names, VALUE, chosen)
            case Kind.MULTI:
                places = (
                    [one for one in cell if one < len(names)] if isinstance(cell, tuple) else []
                )
                return _several(names, places, field)
            case _:
                text = cell if isinstance(cell, str) else ""
                return self._picker(field, text) or _typed(field, text)

    def _picker(self, field: Field, text: str) -> dict[str, Any] | None:
        """A picker, if what the form begins with can be picked: else it would be sent in another spelling."""
        first = self._begun_text(field)
        if field.kind not in _PICKED or (first and _picked(field.kind, first) is None):
            return None
        kind, name = _PICKED[field.kind]
        element = {"type": kind, "action_id": VALUE}
        if (value := _picked(field.kind, text)) is not None:
            element[name] = value
        return element


def _at(value: Any, path: Path) -> Any:
    """The part of a value at a place that is in no list; None if it has no such place."""
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


_PICKED: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.DATE: ("datepicker", "initial_date"),
    Kind.TIME: ("timepicker", "initial_time"),
    Kind.DATETIME: ("datetimepicker", "initial_date_time"),
}


def _picked(kind: Kind, text: str) -> Any:
    """The value of a picker that gives back exactly this text of JSON; None if none does."""
    try:
        if kind is Kind.DATE:
            return text if moments.written("date", text) == text else None
        if kind is Kind.TIME:
            return text[:5] if moments.written("time", text[:5]) == text else None
        at = int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return None
    is_minute = at % 60 == 0 and len(str(at)) == 10
    return at if is_minute and spelt_moment(at) == text else None


def _typed(field: Field, text: str) -> dict[str, Any]:
    element: dict[str, Any] = {"type": "plain_text_input", "action_id": VALUE}
    if field.kind in (Kind.INTEGER, Kind.NUMBER) and (not text or _PLAIN_NUMBER.fullmatch(text)):
        is_decimal = field.kind is Kind.NUMBER
        element = {"type": "number_input", "action_id": VALUE, "is_decimal_allowed": is_decimal}
    else:
        most = field.length_max if field.kind in (Kind.TEXT, Kind.LONG) else None
        element["multiline"] = field.kind not in _ONE_LINE
        element["max_length"] = max(1, min(most or limits.INPUT_CHARS_MAX, limits.INPUT_CHARS_MAX))
    if text:
        element["initial_value"] = text[: limits.INPUT_CHARS_MAX]
    return element


def choice_names(field: Field) -> list[str]:
    """The names of a field's choices."""
    spell = in_words if field.kind is Kind.BOOL else str
    return [spell(one.label) for one in field.choices]


def _options(names: Sequence[str]) -> list[dict[str, Any]]:
    """The options by their places; names that are alike once cut have their number."""
    cut = [texts.plain_text(one, limits.OPTION_CHARS_MAX)["text"] for one in names]
    if len(set(cut)) < len(cut):
        cut = [f"{place}. {one}" for place, one in enumerate(names, start=1)]
    return [
        {"text": texts.plain_text(one, limits.OPTION_CHARS_MAX), "value": str(place)}
        for place, one in enumerate(cut)
    ]


def _listed(options: list[dict[str, Any]]) -> dict[str, Any]:
    """The options of a list that opens, in groups where Slack takes no longer list."""
    most = limits.OPTIONS_MAX
    if len(options) <= most:
        return {"options": options}
    parts = [options[at : at + most] for at in range(0, len(options), most)]
    names = [f"{at * most + 1} to {at * most + len(part)}" for at, part in enumerate(parts)]
    return {
        "option_groups": [
            {"label": texts.plain_text(name, limits.OPTION_CHARS_MAX), "options": part}
            for name, part in zip(names, parts, strict=True)
        ]
    }


def _radios(names: Sequence[str], chosen: int | None) -> dict[str, Any]:
    options = _options(names)
    element = {"type": "radio_buttons", "action_id": VALUE, "options": options}
    return element if chosen is None else {**element, "initial_option": options[chosen]}


def _select(names: Sequence[str], action: str, chosen: int | None) -> dict[str, Any]:
    options = _options(names)
    element = {"type": "static_select", "action_id": action, **_listed(options)}
    return element if chosen is None else {**element, "initial_option": options[chosen]}


def _several(names: Sequence[str], places: Sequence[int], field: Field) -> dict[str, Any]:
    options = _options(names)
    element: dict[str, Any]
    if len(options) <= limits.FEW_OPTIONS_MAX:
        element = {"type": "checkboxes", "action_id": VALUE, "options": options}
    else:
        element = {"type": "multi_static_select", "action_id": VALUE, **_listed(options)}
        if field.length_max:
            element["max_selected_items"] = field.length_max
    return {**element, "initial_options": [options[one] for one in places]} if places else element


def _clean(text: object, most: int = HINT_CHARS_MAX) -> str:
    return texts.cut(texts.line(text), most, "…") if isinstance(text, str) else ""
