"""A query whose rows the engine itself writes as JSON texts, for a result that leaves without Arrow.

What JSON would change is cast first: decimals and JSON columns to texts, maps to lists of their entries.
`helmr_runtime.core.query_rows` reads the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from helmr.errors import BadQuery
from helmr_runtime.core.query_rows import Shape

COLUMNS_A_TEXT = 64
"""Columns that one JSON text of a row holds: the engine's time to bind a call grows faster than its arguments."""


def sql_alone(sql: str) -> str:
    """One statement without the semicolons and comments behind it."""
    text = sql.encode()
    ends = (
        place
        for place, kind in duckdb.tokenize(sql)
        if kind == duckdb.token_type.operator and text[place : place + 1] == b";"
    )
    return text[: next(ends, len(text))].decode()


def plain_query(sql: str, names: Sequence[str], kinds: Sequence[Any]) -> tuple[str, list[Shape]]:
    """The query with rows of JSON texts, each a list of values, and how the values of each column are read.

    Args:
        sql: One SELECT, without a semicolon.
        names: The names of its columns.
        kinds: Their engine types.

    Raises:
        BadQuery: A map is part of another value, which needs Arrow.
    """
    shapes, values = [], []
    for place, (name, kind) in enumerate(zip(names, kinds, strict=True), 1):
        shapes.append(_shape(kind))
        if kind.id == "map":
            value, target = f"map_entries(#{place})", _entries(kind, name)
        else:
            value, target = f"#{place}", _target(kind, name)
        values.append(f"CAST({value} AS {target})" if target != str(kind) else value)
    texts = ", ".join(
        f"json_array({', '.join(values[start : start + COLUMNS_A_TEXT])})::VARCHAR"
        for start in range(0, len(values), COLUMNS_A_TEXT)
    )
    # The line break ends a comment, with which the text may end.
    return f"SELECT {texts} FROM (\n{sql}\n)", shapes


def _children(kind: Any) -> list[tuple[str, Any]]:
    """Names and types of the parts of a nested type, without an array's size and a union's tag."""
    parts = [(name, child) for name, child in kind.children if not isinstance(child, int)]
    return parts[1:] if kind.id == "union" else parts


def _shape(kind: Any) -> Shape:
    match kind.id:
        case "list" | "array" | "map" | "tuple":
            return [kind.id, *(_shape(child) for _, child in _children(kind))]
        case "struct" | "union":
            return [kind.id, {name: _shape(child) for name, child in _children(kind)}]
        case _:
            return str(kind.id)


def _target(kind: Any, column: str) -> str:
    """The type with texts for what JSON would change."""
    match kind.id:
        case "decimal":
            return "VARCHAR"
        case "varchar":
            return "VARCHAR"  # a JSON column is one by another name
        case "list":
            return f"{_inner(kind, column)[0]}[]"
        case "array":
            size = next(size for name, size in kind.children if name == "size")
            return f"{_inner(kind, column)[0]}[{size}]"
        case "tuple":
            return f"TUPLE({', '.join(_inner(kind, column))})"
        case "struct" | "union":
            named = zip(_children(kind), _inner(kind, column), strict=True)
            return f"{kind.id.upper()}({', '.join(f'{_quoted(part[0])} {inner}' for part, inner in named)})"
        case "map":
            raise BadQuery(
                f"column {column!r} has a map inside another value, "
                "which leaves the ledger only where pyarrow is installed",
                hint="Cast it to VARCHAR, or install helmr[sql] where the runtime is.",
            )
        case _:
            return str(kind)


def _entries(kind: Any, column: str) -> str:
    key, value = _inner(kind, column)
    return f'STRUCT("key" {key}, "value" {value})[]'


def _inner(kind: Any, column: str) -> list[str]:
    return [_target(child, column) for _, child in _children(kind)]


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
