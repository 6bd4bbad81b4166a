"""What the tables' code asks of the engine: a connection that reads entries, and its errors in this system's words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from helmr.errors import DataError, HelmrError, MasterKeyMissing, PayloadDamaged, StoreUnavailable
from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.tables.rows import OpenBody, body_of, entry_of

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
        hint="Trying again mends nothing. Keep a copy of the data directory as it is, then try `helmr repair`, which "
        "keeps the old file too. Else go on with a backup, or with a copy that was made while the runtime was stopped.",
    )
