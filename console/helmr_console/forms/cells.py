"""What was typed into a form, as JSON, and JSON as what would have been typed.

A cell is the content of one field: a text, the number of a choice, several of them, or a `Blank`. "Not sent",
null and empty are three different answers.
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
from helmr.errors import BadDuration
from helmr_console.forms.model import Choice, Field, Form, Kind, Missing

JSON_DEPTH_MAX = 64
"""What the gateway takes."""


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


_OMIT = object()


def first_cells(form: Form) -> Cells:
    """A fresh form: nothing chosen; optional fields not sent; long required texts empty."""
    return {item.key: _first(item) for item in form.leaves()}


def is_drafted(item: Field) -> bool:
    """Whether a field may be kept on disk and shown again."""
    return item.kind is not Kind.SECRET


def build(form: Form, cells: Mapping[str, Cell]) -> Built:
    """The JSON that these cells say."""
    problems: dict[str, str] = {}
    data = _value(form.root, cells, problems)
    return Built(None if data is _OMIT else data, problems)


def fill(form: Form, data: Any) -> Cells | None:
    """Cells that build exactly this JSON; None if the form can't show it."""
    cells = {item.key: _absent(item) for item in form.leaves()}
    if not _pour(form.root, data, cells):
        return None
    built = build(form, cells)
    return cells if not built.problems and _same(built.data, data) else None


def carry(old: Form, cells: Mapping[str, Cell], new: Form) -> tuple[Cells, list[str]]:
    """Take over what was typed where name and kind match; also the labels of what could not be taken over."""
    result, dropped = first_cells(new), []
    places = {item.key: item for item in new.leaves()}
    for item in old.leaves():
        cell = cells.get(item.key, _first(item))
        if cell == _first(item):
            continue
        place = places.get(item.key)
        if place is not None and place.kind is item.kind and place.choices == item.choices:
            result[item.key] = cell
        else:
            dropped.append(item.label)
    return result, dropped


def redacted(form: Form, data: Any) -> Any:
    """The JSON with secrets replaced by dots, for review and copy."""
    hidden = {item.path for item in form.leaves() if item.kind is Kind.SECRET}
    return _redact(data, (), hidden)


def parse_json(text: str) -> Any:
    """Strict JSON: no NaN, no duplicate keys, no lone surrogates, bounded depth.

    Raises:
        ValueError: One sentence that says where and why.
    """
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        text.encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("holds half a surrogate pair") from error
    if _depth(value) > JSON_DEPTH_MAX:
        raise ValueError(f"nested more than {JSON_DEPTH_MAX} deep")
    if _has_surrogate(value):
        raise ValueError("holds half a surrogate pair")
    return value


def pretty(value: Any) -> str:
    """JSON for reading."""
    return json.dumps(value, indent=2, ensure_ascii=False)


# --- cells to JSON ------------------------------------------------------------------------------


def _value(item: Field, cells: Mapping[str, Cell], problems: dict[str, str]) -> Any:
    if item.kind is Kind.GROUP:
        return _group(item, cells, problems)
    cell = cells.get(item.key, _first(item))
    if item.kind is Kind.CONST:
        return item.choices[0].value
    if cell is Blank.NOT_SENT:
        if item.required:
            problems[item.key] = "needed"
        return _OMIT
    if cell is Blank.NULL:
        if not item.nullable:
            problems[item.key] = "may not be null"
        return None
    if item.kind is Kind.UNION:
        return _union(item, cell, cells, problems)
    try:
        return _leaf(item, cell)
    except _Refused as refusal:
        problems[item.key] = str(refusal)
        return None


def _group(item: Field, cells: Mapping[str, Cell], problems: dict[str, str]) -> Any:
    inner: dict[str, str] = {}
    data = _object(item.children, cells, inner)
    # An optional group nobody touched is not sent, so its needed fields are not missed.
    untouched = all(cells.get(leaf.key, _first(leaf)) == _first(leaf) for leaf in _below(item))
    if untouched and item.path and not item.required:
        return _OMIT
    problems.update(inner)
    return data


def _union(item: Field, cell: Cell, cells: Mapping[str, Cell], problems: dict[str, str]) -> Any:
    if not isinstance(cell, int) or not 0 <= cell < len(item.variants):
        problems[item.key] = "choose one"
        return None
    variant = item.variants[cell]
    return {item.tag_name: variant.tag, **_object(variant.fields, cells, problems)}


def _object(
    fields: tuple[Field, ...], cells: Mapping[str, Cell], problems: dict[str, str]
) -> dict[str, Any]:
    values = ((child.path[-1], _value(child, cells, problems)) for child in fields)
    return {name: value for name, value in values if value is not _OMIT}


def _leaf(item: Field, cell: Cell) -> Any:
    if item.kind in (Kind.CHOICE, Kind.PICK, Kind.BOOL):
        if not isinstance(cell, int) or not 0 <= cell < len(item.choices):
            raise _Refused("choose one")
        return item.choices[cell].value
    if item.kind is Kind.MULTI:
        return _several(item, cell)
    text = cell if isinstance(cell, str) else ""
    if item.kind in (Kind.INTEGER, Kind.NUMBER):
        return _a_number(item, text)
    if item.kind is Kind.JSON:
        try:
            return parse_json(text)
        except ValueError as error:
            raise _Refused(str(error) if text.strip() else "needed") from error
    if item.kind in _MOMENTS:
        return _moment(item, text)
    return _text(item, text)


def _several(item: Field, cell: Cell) -> list[Any]:
    picked = cell if isinstance(cell, tuple) else ()
    low, high = item.length_min or 0, item.length_max
    if len(picked) < low:
        raise _Refused(f"at least {low}")
    if high is not None and len(picked) > high:
        raise _Refused(f"at most {high}")
    return [item.choices[index].value for index in sorted(picked)]


_INTEGER = re.compile(r"-?\d{1,400}")
_NUMBER = re.compile(r"-?\d{1,400}(\.\d{1,400})?([eE][-+]?\d{1,4})?")


def _a_number(item: Field, text: str) -> int | float:
    text = text.strip()
    if not text:
        raise _Refused("needed")
    shape = _INTEGER if item.kind is Kind.INTEGER else _NUMBER
    if not shape.fullmatch(text):
        raise _Refused(f"not a {item.kind.value}")
    value: int | float = int(text) if _INTEGER.fullmatch(text) else float(text)
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
    text = text.strip()
    if not text:
        raise _Refused("needed")
    try:
        if item.kind is Kind.DATE:
            return date.fromisoformat(text).isoformat()
        if item.kind is Kind.TIME:
            return time.fromisoformat(text).isoformat()
        if item.kind is Kind.DATETIME:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise _Refused("add a zone: …Z or …+02:00")
            return moment.isoformat().replace("+00:00", "Z")
    except ValueError as error:
        raise _Refused(f"write it like {_MOMENTS[item.kind]}") from error
    if text.startswith("P"):
        return text
    try:
        return f"PT{durations.seconds(text, allow_zero=True):g}S"
    except BadDuration as error:
        raise _Refused(f"write it like {_MOMENTS[item.kind]}") from error


_MOMENTS = {
    Kind.DATE: "2026-11-24",
    Kind.TIME: "14:30:00",
    Kind.DATETIME: "2026-11-24T14:30:00Z",
    Kind.DURATION: "1h30m",
}


def complaint(item: Field, cell: Cell) -> str:
    """What is wrong with what was typed so far and can't be mended by typing on; empty if it may become right."""
    if not isinstance(cell, str) or not cell.strip():
        return ""
    if item.kind in (Kind.INTEGER, Kind.NUMBER):
        return _number_complaint(item, cell.strip())
    if item.kind in (Kind.TEXT, Kind.LONG) and item.length_max is not None:
        over = len(cell) - item.length_max
        return f"{over} characters too long" if over > 0 else ""
    return ""


_BEGUN = re.compile(r"-?(\d{1,400}(\.\d{0,400}([eE][-+]?\d{0,4})?|[eE][-+]?\d{0,4})?)?")


def _number_complaint(item: Field, text: str) -> str:
    shape = re.compile(r"-?\d{0,400}") if item.kind is Kind.INTEGER else _BEGUN
    if not shape.fullmatch(text):
        return f"not a {item.kind.value}"
    if not _NUMBER.fullmatch(text):
        return ""
    value = float(text)
    if item.maximum is not None and 0 <= value > item.maximum:
        return f"at most {item.maximum:g}"
    if item.minimum is not None and 0 > value < item.minimum:
        return f"at least {item.minimum:g}"
    return ""


def default_text(item: Field, cell: Cell) -> str:
    """`: goodwill` for a field that is not sent and has a default; empty for others."""
    if cell is not Blank.NOT_SENT or item.required or item.default in (Missing.DEFAULT, None):
        return ""
    value = item.default
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f": {text}" if text not in ("", "{}", "[]") else ""


def example(kind: Kind) -> str:
    """How a date, time or duration is written; empty for other kinds."""
    return _MOMENTS.get(kind, "")


# --- JSON to cells ------------------------------------------------------------------------------


def _pour(item: Field, data: Any, cells: Cells) -> bool:
    if item.kind is Kind.GROUP:
        return _pour_object(item.children, data, cells)
    if data is None and item.nullable:
        cells[item.key] = Blank.NULL
        return True
    if item.kind is Kind.UNION:
        if not isinstance(data, dict):
            return False
        for index, variant in enumerate(item.variants):
            if _same(variant.tag, data.get(item.tag_name)):
                cells[item.key] = index
                rest = {key: value for key, value in data.items() if key != item.tag_name}
                return _pour_object(variant.fields, rest, cells)
        return False
    cell = _cell(item, data)
    if cell is None:
        return False
    cells[item.key] = cell
    return True


def _pour_object(fields: tuple[Field, ...], data: Any, cells: Cells) -> bool:
    if not isinstance(data, dict) or set(data) - {child.path[-1] for child in fields}:
        return False
    return all(
        _pour(child, data[child.path[-1]], cells) for child in fields if child.path[-1] in data
    )


def _cell(item: Field, data: Any) -> Cell | None:
    if item.kind in (Kind.CHOICE, Kind.PICK, Kind.BOOL, Kind.CONST):
        return _index(item.choices, data)
    if item.kind is Kind.MULTI:
        found = [_index(item.choices, part) for part in data] if isinstance(data, list) else [None]
        return None if None in found else tuple(index for index in found if index is not None)
    if item.kind is Kind.JSON:
        return pretty(data)
    if item.kind in (Kind.INTEGER, Kind.NUMBER):
        plain = isinstance(data, int | float) and not isinstance(data, bool)
        return json.dumps(data) if plain else None
    return data if isinstance(data, str) else None


def _index(choices: tuple[Choice, ...], value: Any) -> int | None:
    return next((i for i, choice in enumerate(choices) if _same(choice.value, value)), None)


# --- helpers ------------------------------------------------------------------------------------


def _first(item: Field) -> Cell:
    if item.required and item.kind in (Kind.LONG, Kind.TEXT) and not item.nullable:
        return ""
    if item.kind is Kind.BOOL and item.required and item.default is not Missing.DEFAULT:
        return 0 if item.default is True else 1
    if item.kind is Kind.MULTI and item.required:
        return ()
    return Blank.NOT_SENT


def _absent(item: Field) -> Cell:
    return Blank.NOT_SENT if not item.required else _first(item)


def _below(item: Field) -> list[Field]:
    found: list[Field] = []
    for child in item.children:
        found += _below(child) if child.kind is Kind.GROUP else [child]
    return found


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _redact(data: Any, path: tuple[str, ...], hidden: set[tuple[str, ...]]) -> Any:
    if path in hidden:
        return "••••••"
    if isinstance(data, dict):
        return {key: _redact(value, (*path, key), hidden) for key, value in data.items()}
    return data


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level:
        depth += 1
        level = [
            child
            for part in level
            if isinstance(part, dict | list)
            for child in (part.values() if isinstance(part, dict) else part)
        ]
    return depth


def _has_surrogate(value: Any) -> bool:
    return bool(re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)))
