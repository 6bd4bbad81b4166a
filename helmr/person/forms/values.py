"""Turns cells of a form into JSON, and JSON into cells.

A cell is the content of one field: a text, the number of a choice or variant, several of them, or a `Blank`. "Not
sent", null and empty are three different answers. A list holds the ids of its rows in order; a row keeps its id and its
content when others are added, removed or moved. A group has a cell only where it is asked for as a whole: 0 sends it as
it is, a `Blank` sends that. Without a cell, an optional group is left out until something in it is touched.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from helmr.errors import BadJson
from helmr.person.forms import moments
from helmr.person.forms.model import (
    FIELDS_MAX,
    MISSING,
    ROW,
    Field,
    Form,
    Kind,
    Path,
    choose_text,
    json_text,
)
from helmr.person.forms.tool_call import root_asked
from helmr.wire.jsonio import loads

NEEDED = "needed"
"""Problem of a field without a value."""
LINES_MAX = 10_000
FIRST_ROWS_MAX = 5
"""Rows that a list with a lower bound starts with, at most."""


class Blank(Enum):
    """A field without a value. No text, so that the typed text "null" differs from null."""

    NOT_SENT = "not sent"
    NULL = "null"
    EMPTY = "sent empty"
    """An empty text, sent on purpose. The text "" in a required field means not typed yet."""


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
    """Return a form's first cells: what fits of its initial value, else nothing chosen, required texts empty."""
    cells: Cells = {}
    if form.initial is not MISSING:
        _pour(form.root, form.initial, cells)
    if form.decision is not None and not form.is_answered:
        cells.pop(form.decision.key, None)
    return with_rows(form, cells)


def with_rows(form: Form, cells: Mapping[str, Cell]) -> Cells:
    """Return these cells, with first cells for every other field, existing rows included."""
    return {**cells, **{item.key: _cell_of(item, cells) for item in present(form.root, cells)}}


def row_ids(item: Field, cell: Cell | None) -> tuple[int, ...]:
    """The rows of a list, each once; of a cell that holds none, none."""
    if item.kind is not Kind.ROWS or not isinstance(cell, tuple):
        return ()
    return tuple(dict.fromkeys(one for one in cell if one >= 0))[: item.rows_max]


def present(item: Field, cells: Mapping[str, Cell]) -> Iterator[Field]:
    """Every field in it that takes a value, also those of variants not chosen and of the rows that there are."""
    for leaf in item.leaves():
        yield leaf
        for number in row_ids(leaf, _cell_of(leaf, cells)):
            yield from present(leaf.row(number), cells)


def room(form: Form, item: Field, cells: Mapping[str, Cell]) -> str:
    """Explain why a list takes no further row; empty if it does."""
    count = len(row_ids(item, _cell_of(item, cells)))
    if item.length_max is not None and count >= item.length_max:
        return f"at most {item.length_max}"
    if count >= item.rows_max:
        return f"a form shows {item.rows_max} rows of this list"
    row = 0 if item.is_table else sum(1 for _ in item.row(0).leaves())
    if fields_shown(form.root, cells) + row > FIELDS_MAX:
        return f"a form shows {FIELDS_MAX} fields"
    return ""


def fields_shown(item: Field, cells: Mapping[str, Cell]) -> int:
    """Count the fields of an item; a table counts as one."""
    count = 0
    for leaf in item.leaves():
        count += 1
        if not leaf.is_table:
            rows = row_ids(leaf, _cell_of(leaf, cells))
            count += sum(fields_shown(leaf.row(number), cells) for number in rows)
    return count


def places(form: Form, cells: Mapping[str, Cell]) -> dict[Path, Field]:
    """The fields that take part, by where their values stand in the JSON: in lists by position, from 0.

    Of a union only the chosen variant takes part. An inner field stands for a place that it shares with an outer one.
    """
    return dict(_places_of(form.root, cells, ()))


def _places_of(item: Field, cells: Mapping[str, Cell], where: Path) -> Iterator[tuple[Path, Field]]:
    yield where, item
    cell = _cell_of(item, cells)
    if item.kind is Kind.UNION and isinstance(cell, int) and 0 <= cell < len(item.variants):
        yield from _places_of(item.variants[cell].field, cells, where)
    for position, number in enumerate(row_ids(item, cell)):
        yield from _places_of(item.row(number), cells, (*where, position))
    for child in item.children:
        yield from _places_of(child, cells, (*where, child.name))


def build(form: Form, cells: Mapping[str, Cell]) -> Built:
    """The JSON that these cells say; data is None if nothing is sent."""
    problems: dict[str, str] = {}
    data = _value(root_asked(form, cells), cells, problems)
    return Built(None if data is MISSING else data, problems)


def alone(item: Field, cell: Cell) -> Built:
    """The JSON that this cell of this field says, looked at alone: of a list of rows or a union, not what is in it."""
    problems: dict[str, str] = {}
    data = _value(item, {item.key: cell}, problems)
    return Built(None if data is MISSING else data, problems)


def problem(item: Field, cell: Cell) -> str:
    """Return the problem of this cell by itself; empty if it has none."""
    return alone(item, cell).problems.get(item.key, "")


def fill(form: Form, data: Any) -> Cells | None:
    """Cells that build exactly this JSON, which may still lack what is needed; None if the form can't show it."""
    cells: Cells = {}
    if not _pour(form.root, data, cells):
        return None
    problems: dict[str, str] = {}
    built = _value(form.root, cells, problems)
    if problems.keys() & cells.keys() or built is MISSING or json_text(built) != json_text(data):
        return None
    found = with_rows(form, cells)
    return found if fields_shown(form.root, found) <= FIELDS_MAX else None


def shows(item: Field, data: Any) -> bool:
    """True if the field can show exactly this JSON."""
    cells: Cells = {}
    if not _pour(item, data, cells) or not _says(item, cells, data):
        return False
    tables = [one for one in present(item, cells) if one.is_table and one.item is not None]
    inside = sum(
        len(row_ids(one, cells.get(one.key))) * len(one.item.children)
        for one in tables
        if one.item is not None
    )
    return len(cells) - inside <= FIELDS_MAX


def fitted(field: Field, initial: Any) -> Field:
    """The field as one that can show what it begins with, so that nothing of it gets lost.

    A list that can't show it as rows is JSON; a text of one line that has more is a long one.
    """
    if initial is MISSING or (initial is None and field.may_be_left_out):
        return field
    if field.kind is Kind.GROUP and isinstance(initial, Mapping):
        parts = (fitted(child, initial.get(child.name, MISSING)) for child in field.children)
        return replace(field, children=tuple(parts))
    if field.kind is Kind.TEXT and isinstance(initial, str) and "\n" in initial:
        return replace(field, kind=Kind.LONG)
    if field.kind is Kind.ROWS and not shows(field, initial):
        return replace(
            field, kind=Kind.JSON, item=None, reason="rows can't show what it begins with"
        )
    return field


def carry(old: Form, cells: Mapping[str, Cell], new: Form) -> tuple[Cells, list[str]]:
    """Take over what was typed where name and kind match; also the labels of what could not be taken over."""
    result, dropped = first_cells(new), []
    begun = first_cells(old)
    for item in present(old.root, cells):
        cell = cells.get(item.key, begun.get(item.key, first_cell(item)))
        if cell == begun.get(item.key, first_cell(item)):
            continue
        place = next((one for one in present(new.root, result) if one.key == item.key), None)
        if place is not None and place.kind is item.kind and place.choices == item.choices:
            result[item.key] = cell
        else:
            dropped.append(item.label)
    return with_rows(new, result), dropped


def revived(form: Form, cells: Mapping[str, Cell]) -> Cells:
    """Cells as they were kept, with lists that were JSON when they were entered as the rows that they are now.

    What no row can show of such a list is left out.
    """
    found = dict(cells)
    for item in form.leaves():
        kept = found.get(item.key)
        if item.kind is Kind.ROWS and isinstance(kept, str):
            del found[item.key]
            with suppress(BadJson):
                poured: Cells = {}
                if _pour(item, loads(kept), poured):
                    found |= poured
    return found


def redacted(form: Form, data: Any) -> Any:
    """The JSON with secrets replaced by dots, for review and copy."""
    hidden = {item.path for item in form.leaves(templates=True) if item.kind is Kind.SECRET}
    return _redact(data, (), hidden)


def pretty(value: Any) -> str:
    """JSON for reading."""
    return json.dumps(value, indent=2, ensure_ascii=False)


# --- cells to JSON ------------------------------------------------------------------------------


def _value(item: Field, cells: Mapping[str, Cell], problems: dict[str, str]) -> Any:
    if item.kind is Kind.CONST:
        return item.choices[0].value
    cell = cells.get(item.key, MISSING if item.kind is Kind.GROUP else first_cell(item))
    if cell is Blank.NOT_SENT:
        if item.required:
            problems[item.key] = choose_text(item) if item.is_decision else NEEDED
        return MISSING
    if cell is Blank.NULL:
        if not item.nullable:
            problems[item.key] = "may not be null"
        return None
    if cell is Blank.EMPTY:
        cell = ""
        if takes_empty(item):
            return cell
    if item.kind is Kind.GROUP:
        return _group(item, cells, problems, is_asked=cell is not MISSING)
    try:
        if item.kind is Kind.UNION:
            return _value(item.variants[_index(cell, item.variants)].field, cells, problems)
        if item.kind is Kind.ROWS:
            return _rows(item, cell, cells, problems)
        return _leaf(item, cell)
    except _Refused as refusal:
        problems[item.key] = str(refusal)
        return MISSING if str(refusal) == NEEDED else None


def _group(
    item: Field, cells: Mapping[str, Cell], problems: dict[str, str], *, is_asked: bool
) -> Any:
    is_untouched = all(_cell_of(one, cells) == first_cell(one) for one in present(item, cells))
    if is_untouched and not is_asked and item.path and item.may_be_left_out:
        # So its needed fields are not missed.
        return None if item.required else MISSING
    values = ((child.name, _value(child, cells, problems)) for child in item.children)
    return {name: value for name, value in values if value is not MISSING}


def _rows(item: Field, cell: Any, cells: Mapping[str, Cell], problems: dict[str, str]) -> list[Any]:
    if not isinstance(cell, tuple):
        raise _Refused("needs rows")
    values = (_value(item.row(number), cells, problems) for number in row_ids(item, cell))
    return _counted(item, [None if value is MISSING else value for value in values])


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
        raise _Refused(NEEDED)
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


def takes_empty(item: Field) -> bool:
    """True if an empty text can be an answer."""
    return item.kind in (Kind.TEXT, Kind.LONG, Kind.SECRET) and not item.length_min


def _text(item: Field, text: str) -> str:
    if item.required and not text:
        raise _Refused(NEEDED)
    if item.length_min and len(text) < item.length_min:
        raise _Refused(NEEDED if not text else f"at least {item.length_min} characters")
    if item.length_max is not None and len(text) > item.length_max:
        raise _Refused(f"{len(text) - item.length_max} characters too long")
    return text


def _moment(item: Field, text: str) -> str:
    try:
        return moments.written(_FORMATS[item.kind], text)
    except moments.NoZone as error:
        raise _Refused("add a zone: …Z or …+02:00") from error
    except ValueError as error:
        raise _Refused(f"write it like {example(item.kind)}") from error


def example(kind: Kind) -> str:
    """Return an example of a date, time or duration; empty for other kinds."""
    return moments.EXAMPLES[_FORMATS[kind]] if kind in _FORMATS else ""


_FORMATS = {
    Kind.DATE: "date",
    Kind.TIME: "time",
    Kind.DATETIME: "date-time",
    Kind.DURATION: "duration",
}


# --- JSON to cells ------------------------------------------------------------------------------


def _pour(item: Field, data: Any, cells: Cells) -> bool:
    """Put the data into the cells; False if some of it did not fit."""
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
    if item.kind is Kind.ROWS:
        if not isinstance(data, list) or len(data) > item.rows_max:
            return False
        cells[item.key] = tuple(range(len(data)))
        return all(_pour(item.row(number), part, cells) for number, part in enumerate(data))
    if item.kind is Kind.UNION:
        for index, variant in enumerate(item.variants):
            inner: Cells = {}
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
        if None in lines:
            return None
        return "\n".join("" if line is Blank.EMPTY else str(line) for line in lines)
    if data == "" and item.required and takes_empty(item):
        return Blank.EMPTY
    return data if isinstance(data, str) else None


def _places(item: Field, values: list[Any]) -> list[int | None]:
    places = {choice.text: index for index, choice in enumerate(item.choices)}
    return [places.get(json_text(value)) for value in values]


def _says(item: Field, cells: Cells, data: Any) -> bool:
    problems: dict[str, str] = {}
    built = _value(item, cells, problems)
    return not problems and built is not MISSING and json_text(built) == json_text(data)


# --- helpers ------------------------------------------------------------------------------------


def first_cell(item: Field) -> Cell:
    """Return the first cell of a field that has no initial value."""
    if not item.required or item.nullable:
        return Blank.NOT_SENT
    if item.kind in (Kind.LONG, Kind.TEXT, Kind.LINES):
        return ""
    if item.kind is Kind.BOOL and item.default is not MISSING:
        return 0 if item.default is True else 1
    if item.kind is Kind.ROWS:
        return tuple(range(min(item.length_min or 0, FIRST_ROWS_MAX)))
    return () if item.kind is Kind.MULTI else Blank.NOT_SENT


def _cell_of(item: Field, cells: Mapping[str, Cell]) -> Cell:
    return cells.get(item.key, first_cell(item))


def _redact(data: Any, path: Path, hidden: set[Path]) -> Any:
    if path in hidden:
        return "••••••"
    if isinstance(data, dict):
        return {key: _redact(value, (*path, key), hidden) for key, value in data.items()}
    if isinstance(data, list):
        return [_redact(value, (*path, ROW), hidden) for value in data]
    return data
