"""Rows of a SQL result in the engine's JSON, read into the values of a `helmr.wire.query.QueryResult`.

Where pyarrow is not installed, a result leaves the ledger as `{columns, shapes, truncated, elapsed_s, rows}`: texts of
the engine, made outside of Python's lock. A shape describes how to read a column: the id of an engine type, or a list
of such an id and the shapes below it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from helmr.errors import BadQuery
from helmr.models import QueryAnswer
from helmr.wire.query import json_value

Shape = str | Sequence[Any]
"""`"date"`, `["list", shape]`, `["map", shape, shape]`, `["tuple", shape, …]`, `["struct", {name: shape}]`,
and the same for a union."""

_Read = Callable[[Any], Any]

_BYTE = re.compile(r"\\x([0-9A-F]{2})")


def is_rows(content: bytes) -> bool:
    """True for rows in the engine's JSON, False for an Arrow stream, which begins with 0xFFFFFFFF."""
    return content.startswith(b"{")


def content_of(facts: Mapping[str, Any], rows: Iterable[Sequence[str]]) -> bytes:
    """Put facts and rows together. A row is one or more texts of JSON lists, to be concatenated."""
    texts = ",".join(f"[{','.join(text[1:-1] for text in row)}]" for row in rows)
    return f'{json.dumps(facts)[:-1]}, "rows": [{texts}]}}'.encode()


def answer_of(content: bytes) -> QueryAnswer:
    """Read the engine's rows.

    Raises:
        BadQuery: A date is not in the years 1 to 9999.
    """
    found: Mapping[str, Any] = json.loads(content)
    readers = [_reader(shape) for shape in found["shapes"]]
    try:
        rows = [
            [
                None if value is None else read(value)
                for read, value in zip(readers, row, strict=True)
            ]
            for row in found["rows"]
        ]
    except ValueError as error:
        raise BadQuery(
            "a date that is infinite or not in the years 1 to 9999 has no JSON",
            hint="Cast it to VARCHAR.",
        ) from error
    return QueryAnswer(
        columns=found["columns"],
        rows=rows,
        truncated=found["truncated"],
        elapsed_s=found["elapsed_s"],
    )


def _reader(shape: Shape) -> _Read:
    """Return the reader of a value that is not null."""
    match shape:
        case str():
            return _LEAVES.get(shape) or (_moment if shape.startswith("timestamp") else _as_it_is)
        case ["list" | "array", inner]:
            item = _nullable(inner)
            return lambda value: [item(one) for one in value]
        case ["map", key, value]:
            read_key, read_value = _nullable(key), _nullable(value)
            return lambda entries: [
                [read_key(entry["key"]), read_value(entry["value"])] for entry in entries
            ]
        case ["tuple", *inners]:
            parts = [(f"element{place}", _nullable(one)) for place, one in enumerate(inners, 1)]
            return lambda value: {
                name: read(one) for (name, read), one in zip(parts, value, strict=True)
            }
        case ["struct", inners]:
            members = {name: _nullable(one) for name, one in inners.items()}
            return lambda value: {name: members[name](one) for name, one in value.items()}
        case ["union", inners]:
            members = {name: _nullable(one) for name, one in inners.items()}
            return lambda value: next(members[tag](one) for tag, one in value.items())
        case _:
            raise AssertionError(shape)


def _nullable(shape: Shape) -> _Read:
    read = _reader(shape)
    return lambda value: None if value is None else read(value)


def _as_it_is(value: Any) -> Any:
    return value


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _moment(text: str) -> Any:
    return json_value(datetime.fromisoformat(text))


def _day(text: str) -> str:
    return date.fromisoformat(text).isoformat()


def _time(text: str) -> str:
    whole, _, fraction = text.partition(".")
    microseconds = fraction[:6].ljust(6, "0")
    return f"{whole}.{microseconds}" if int(microseconds) else whole


def _hex(text: str) -> str:
    """`a\\xAB` as `61ab`: the engine escapes the backslash too."""
    return _BYTE.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1").hex()


_LEAVES: dict[str, _Read] = {
    "float": _number,
    "double": _number,
    "decimal": lambda text: json_value(Decimal(text)),
    "date": _day,
    "time": _time,
    "time_ns": _time,
    "blob": _hex,
}
