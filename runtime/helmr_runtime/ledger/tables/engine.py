"""What the tables' code asks of the engine: a connection that reads entries, statements of many rows, its errors.

Few rows go into a statement as a list for each column. To read those the engine holds the interpreter's lock, so that
many rows would hold up everything else: they go in as one JSON text, which it takes apart without.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb

from helmr.errors import DataError, HelmrError, MasterKeyMissing, PayloadDamaged, StoreUnavailable
from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.tables.rows import OpenBody, Row, body_of, entry_of, micros_of

Connection = duckdb.DuckDBPyConnection

ENGINE_ERROR = duckdb.Error
"""What a failing statement raises; translated by the ledger around the store."""

STORE_ERRORS = (duckdb.Error, OSError, StoreUnavailable)
"""Everything by which a write fails that may succeed later."""

_PASSING = (OSError, duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException)
"""Of the machine: its disk, its memory, its rights."""

_LASTING = (
    *("orrupt", "does not match", "not a valid", "Could not read enough bytes"),
    *("version number", "newer version", "older version"),
)
"""What input and output errors say that are about what stands in the file; the engine has no class for that."""


class Reader:
    """A connection for reading, which turns rows of `entry_rows` into entries with their bodies opened."""

    def __init__(self, connection: Connection, open_body: OpenBody) -> None:
        self._connection = connection
        self._open_body = open_body

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Connection:
        """Run a statement."""
        return self._connection.execute(statement, parameters)

    def entries(self, statement: str, parameters: Sequence[Any] = ()) -> list[Entry]:
        """The entries that a statement finds whose first columns are those of `entry_rows`.

        Raises:
            PayloadDamaged: A body is not what was written; names the entry.
            MasterKeyMissing: A body is sealed with a key that there is not.
        """
        rows = self._connection.execute(statement, parameters).fetchall()
        return [entry_of(row[:10], self._open_body) for row in rows]

    def readable_entries(
        self, statement: str, parameters: Sequence[Any] = ()
    ) -> tuple[list[Entry], dict[int, str]]:
        """As `entries`, but one that can't be opened has an empty body, and its feed offset a problem.

        For lists, which one bad entry must not take down; nothing is decided by what this returns.
        """
        found: list[Entry] = []
        problems: dict[int, str] = {}
        for row in self._connection.execute(statement, parameters).fetchall():
            try:
                found.append(entry_of(row[:10], self._open_body))
            except (PayloadDamaged, MasterKeyMissing) as error:
                problems[row[0]] = error.message
                found.append(entry_of((*row[:8], "{}", row[9]), in_the_clear))
        return found, problems

    def body_of(self, row: Sequence[Any]) -> dict[str, Any]:
        """The body of an entry, as `rows.body_of`."""
        return body_of(row, self._open_body)


def in_the_clear(stored: str, session_id: str, seq: int, kind: str) -> str:
    """Opens bodies that were never sealed."""
    return stored


def unopened(path: Path, error: Exception) -> HelmrError:
    """The error of a ledger that the engine, or the system, does not open."""
    said = str(error).splitlines()[0]
    of_file = said.replace(str(path), "")
    if isinstance(error, _PASSING) and not any(sign in of_file for sign in _LASTING):
        return StoreUnavailable(f"{path} can't be opened: {said}")
    return DataError(
        f"{path} can't be opened: {said}",
        hint="Trying again does not help. Keep a copy of the data directory as it is, then try `helmr repair`, which "
        "keeps the old file too. Else go on with a backup, or with a copy that was made while the runtime was stopped.",
    )


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
