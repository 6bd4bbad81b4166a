"""What was entered into a form, as JSON, and JSON as what would have been entered.

A cell is the content of one field: a text, the number of a choice or variant, several of them, or a `Blank`. "Not
sent", null and empty are three different answers. A group has a cell only where it is asked for as a whole: 0 sends it
as it is, a `Blank` sends that; without a cell, one that may be left out is, as long as nothing in it was touched.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from enum import Enum
from typing import Any

from helmr import durations
from helmr.errors import BadDuration, BadJson
from helmr.forms.model import MISSING, Field, Form, Kind, json_text
from helmr.jsonio import loads

LINES_MAX = 10_000


class Blank(Enum):
    """A field without a value. No text, so that the typed text "null" differs from null."""

    NOT_SENT = "not sent"
    NULL = "null"


Cell = Blank | str | int | tuple[int, ...]
Cells = dict[str, Cell]


@dataclass(frozen=True, slots=True)
class Built:
    """The JSON of a form. `problems` by field key; with any, `data` is not to be sent."""

    data: Any = None
    problems: Mapping[str, str] = field(default_factory=dict)


class _Refused(Exception):
    """A cell that holds no value of its field; the text says why."""


def first_cells(form: Form) -> Cells:
    """How a form begins: with what fits of its initial value, else nothing chosen or sent, required texts empty."""
    cells = {item.key: _first(item) for item in form.leaves()}
    if form.initial is not MISSING:
        _pour(form.root, form.initial, cells)
    return cells


def build(form: Form, cells: Mapping[str, Cell]) -> Built:
    """The JSON that these cells say; data is None if nothing is sent."""
    problems: dict[str, str] = {}
    data = _value(form.root, cells, problems)
    return Built(None if data is MISSING else data, problems)


def problem(item: Field, cell: Cell) -> str:
    """What is wrong with this cell of this field, looked at alone; empty if nothing is."""
    problems: dict[str, str] = {}
    _value(item, {item.key: cell}, problems)
    return next(iter(problems.values()), "")


def fill(form: Form, data: Any) -> Cells | None:
    """Cells that build exactly this JSON; None if the form can't show it."""
    cells = {item.key: _first(item) for item in form.leaves()}
    if not _pour(form.root, data, cells):
        return None
    return cells if _says(form.root, cells, data) else None


def carry(old: Form, cells: Mapping[str, Cell], new: Form) -> tuple[Cells, list[str]]:
    """Take over what was typed where name and kind match; also the labels of what could not be taken over."""
    result, dropped = first_cells(new), []
    begun, places = first_cells(old), {item.key: item for item in new.leaves()}
    for item in old.leaves():
        cell = cells.get(item.key, begun[item.key])
        if cell == begun[item.key]:
            continue
        place = places.get(item.key)
        if place is not None and place.kind is item.kind and place.choices == item.choices:
            result[item.key] = cell
        else:
            dropped.append(item.label)
    return result, dropped


def redacted(form: Form, data: Any) -> Any:
    """The JSON with secrets replaced by dots, for review and copy."""
    return _redact(data, (), {item.path for item in form.leaves() if item.kind is Kind.SECRET})


def pretty(value: Any) -> str:
    """JSON for reading."""
    return json.dumps(value, indent=2, ensure_ascii=False)


# --- cells to JSON ------------------------------------------------------------------------------


def _value(item: Field, cells: Mapping[str, Cell], problems: dict[str, str]) -> Any:
    if item.kind is Kind.CONST:
        return item.choices[0].value
    cell = cells.get(item.key, MISSING if item.kind is Kind.GROUP else _first(item))
    if cell is Blank.NOT_SENT:
        if item.required:
            problems[item.key] = "needed"
        return MISSING
    if cell is Blank.NULL:
        if not item.nullable:
            problems[item.key] = "may not be null"
        return None
    if item.kind is Kind.GROUP:
        return _group(item, cells, problems, is_asked=cell is not MISSING)
    try:
        if item.kind is Kind.UNION:
            return _value(item.variants[_index(cell, item.variants)].field, cells, problems)
        return _leaf(item, cell)
    except _Refused as refusal:
        problems[item.key] = str(refusal)
        return None


def _group(
    item: Field, cells: Mapping[str, Cell], problems: dict[str, str], *, is_asked: bool
) -> Any:
    is_untouched = all(cells.get(leaf.key, _first(leaf)) == _first(leaf) for leaf in item.leaves())
    if is_untouched and not is_asked and item.path and item.may_be_left_out:
        # So its needed fields are not missed.
        return None if item.required else MISSING
    values = ((child.name, _value(child, cells, problems)) for child in item.children)
    return {name: value for name, value in values if value is not MISSING}


def _index(cell: Any, among: tuple[Any, ...]) -> int:
    if not isinstance(cell, int) or not 0 <= cell < len(among):
        raise _Refused("choose one")
    return cell


def _leaf(item: Field, cell: Any) -> Any:
    if item.kind in (Kind.CHOICE, Kind.BOOL):
        return item.choices[_index(cell, item.choices)].value
    if item.kind is Kind.MULTI:
        picked = sorted(cell) if isinstance(cell, tuple) else []
        return _counted(item, [item.choices[_index(place, item.choices)].value for place in picked])
    text = cell if isinstance(cell, str) else ""
    if item.kind in (Kind.TEXT, Kind.LONG, Kind.SECRET):
        return _text(item, text)
    if item.item is not None:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) > LINES_MAX:
            raise _Refused(f"more than {LINES_MAX} lines")
        return _counted(item, [_leaf(item.item, line.strip()) for line in lines])
    if not text.strip():
        raise _Refused("needed")
    if item.kind in (Kind.INTEGER, Kind.NUMBER):
        return _number(item, text.strip())
    if item.kind is Kind.JSON:
        try:
            return loads(text)
        except BadJson as error:
            raise _Refused(error.message) from error
    return _moment(item, text.strip())


def _counted(item: Field, values: list[Any]) -> list[Any]:
    if len(values) < (item.length_min or 0):
        raise _Refused(f"at least {item.length_min}")
    if item.length_max is not None and len(values) > item.length_max:
        raise _Refused(f"at most {item.length_max}")
    return values


_INTEGER = re.compile(r"[+-]?[0-9]{1,400}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,400}(\.[0-9]{0,400})?|\.[0-9]{1,400})([eE][+-]?[0-9]{1,4})?")


def _number(item: Field, text: str) -> int | float:
    is_whole = _INTEGER.fullmatch(text)
    if not is_whole and (item.kind is Kind.INTEGER or not _NUMBER.fullmatch(text)):
        raise _Refused(f"not a {item.kind.value}")
    value: int | float = int(text) if is_whole else float(text)
    if not isinstance(value, int) and not math.isfinite(value):
        raise _Refused("too large")
    if item.minimum is not None and value < item.minimum:
        raise _Refused(f"at least {item.minimum:g}")
    if item.maximum is not None and value > item.maximum:
        raise _Refused(f"at most {item.maximum:g}")
    return value


def _text(item: Field, text: str) -> str:
    if item.length_min and len(text) < item.length_min:
        raise _Refused("needed" if not text else f"at least {item.length_min} characters")
    if item.length_max is not None and len(text) > item.length_max:
        raise _Refused(f"{len(text) - item.length_max} characters too long")
    return text


def _moment(item: Field, text: str) -> str:
    try:
        if item.kind is Kind.DATE:
            return date.fromisoformat(text).isoformat()
        if item.kind is Kind.TIME:
            return time.fromisoformat(text).isoformat().replace("+00:00", "Z")
        if item.kind is Kind.DATETIME:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise _Refused("add a zone: …Z or …+02:00")
            return moment.isoformat().replace("+00:00", "Z")
        if text.startswith("P"):
            return text
        return f"PT{durations.seconds(text, allow_zero=True):g}S"
    except (ValueError, BadDuration) as error:
        raise _Refused(f"write it like {example(item.kind)}") from error


def example(kind: Kind) -> str:
    """How a date, time or duration is written; empty for other kinds."""
    return _EXAMPLES.get(kind, "")


_EXAMPLES = {
    Kind.DATE: "2026-11-24",
    Kind.TIME: "14:30:00",
    Kind.DATETIME: "2026-11-24T14:30:00Z",
    Kind.DURATION: "1h30m",
}


# --- JSON to cells ------------------------------------------------------------------------------


def _pour(item: Field, data: Any, cells: Cells) -> bool:
    """Put the data into the cells; False if not all of it went in."""
    if item.kind is Kind.GROUP:
        if not isinstance(data, dict):
            # Without a cell of its own a group left alone is null only where it must be something.
            return data is None and item.nullable and item.required and bool(item.path)
        poured = [
            _pour(child, data[child.name], cells) for child in item.children if child.name in data
        ]
        return all(poured) and set(data) <= {child.name for child in item.children}
    if data is None and item.nullable:
        cells[item.key] = Blank.NULL
        return True
    if item.kind is Kind.UNION:
        for index, variant in enumerate(item.variants):
            inner = {leaf.key: _first(leaf) for leaf in variant.field.leaves()}
            if _pour(variant.field, data, inner) and _says(variant.field, inner, data):
                cells.update({**inner, item.key: index})
                return True
        return False
    cell = _cell(item, data)
    if cell is not None:
        cells[item.key] = cell
    return cell is not None


def _cell(item: Field, data: Any) -> Cell | None:
    if item.kind in (Kind.CHOICE, Kind.BOOL, Kind.CONST):
        return _places(item, [data])[0]
    if item.kind is Kind.MULTI:
        found = _places(item, data) if isinstance(data, list) else [None]
        return None if None in found else tuple(index for index in found if index is not None)
    if item.kind is Kind.JSON:
        return pretty(data)
    if item.kind in (Kind.INTEGER, Kind.NUMBER):
        is_number = isinstance(data, int | float) and not isinstance(data, bool)
        return json.dumps(data) if is_number else None
    if item.item is not None:
        lines = [_cell(item.item, part) for part in data] if isinstance(data, list) else [None]
        return None if None in lines else "\n".join(str(line) for line in lines)
    return data if isinstance(data, str) else None


def _places(item: Field, values: list[Any]) -> list[int | None]:
    places = {choice.text: index for index, choice in enumerate(item.choices)}
    return [places.get(json_text(value)) for value in values]


def _says(item: Field, cells: Cells, data: Any) -> bool:
    problems: dict[str, str] = {}
    built = _value(item, cells, problems)
    return not problems and built is not MISSING and json_text(built) == json_text(data)


# --- helpers ------------------------------------------------------------------------------------


def _first(item: Field) -> Cell:
    if not item.required or item.nullable:
        return Blank.NOT_SENT
    if item.kind in (Kind.LONG, Kind.TEXT, Kind.LINES):
        return ""
    if item.kind is Kind.BOOL and item.default is not MISSING:
        return 0 if item.default is True else 1
    return () if item.kind is Kind.MULTI else Blank.NOT_SENT


def _redact(data: Any, path: tuple[str, ...], hidden: set[tuple[str, ...]]) -> Any:
    if path in hidden:
        return "••••••"
    if isinstance(data, dict):
        return {key: _redact(value, (*path, key), hidden) for key, value in data.items()}
    return data
