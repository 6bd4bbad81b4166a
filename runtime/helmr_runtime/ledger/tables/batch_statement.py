"""Statements that take many rows at once.

Few rows go in as a list for each column. To read those the engine holds the interpreter's lock, so that many rows would
hold everybody up: they go in as one JSON text, which it takes apart without.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import duckdb

from helmr_runtime.ledger.tables.rows import Row, micros_of

MANY = 64
"""From so many rows on a text costs less processor time than lists."""

AT_ONCE = 5_000
"""Rows in one text."""

_READ = {"TIMESTAMPTZ": "make_timestamptz({}::BIGINT)", "BLOB": "unhex({})", "VARCHAR": "{}"}
"""How a value of a type is made of its text, where that is not a cast."""


class BatchStatement:
    """A statement over rows.

    Args:
        text: With `{rows}` where the rows are selected.
        columns: Their names and types, as a table is declared.
    """

    def __init__(self, text: str, columns: str) -> None:
        declared = [column.split() for column in columns.split(",")]
        places = list(enumerate(declared, start=1))
        lists = ", ".join(f"unnest(${n}::{kind}[]) AS {name}" for n, (name, kind) in places)
        read = ", ".join(
            f"{_READ.get(kind, '{}::' + kind).format(f'r[{n}]')} AS {name}"
            for n, (name, kind) in places
        )
        self._of_lists = text.format(rows=f"SELECT {lists}")
        self._of_text = text.format(
            rows=f"SELECT {read} FROM (SELECT unnest(from_json($1, '[[\"varchar\"]]')) AS r)"  # noqa: S608 - names of our own
        )

    def execute(self, connection: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> None:
        """Run it over rows of that width; not at all over none.

        Raises:
            duckdb.Error: Something of it was refused.
        """
        if len(rows) >= MANY:
            for at in range(0, len(rows), AT_ONCE):
                text = json.dumps(rows[at : at + AT_ONCE], default=_plain)
                connection.execute(self._of_text, [text])
        elif rows:
            connection.execute(self._of_lists, [list(one) for one in zip(*rows, strict=True)])


def _plain(value: Any) -> Any:
    match value:
        case UUID():
            return value.hex
        case datetime():
            return micros_of(value)
        case _:
            return bytes(value).hex()
