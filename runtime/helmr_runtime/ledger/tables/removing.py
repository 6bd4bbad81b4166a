"""Taking whole sessions out of the tables (S-69)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import duckdb

from helmr_runtime.ledger.tables.rows import uuid_of

_PROJECTED = (
    *("sessions", "runs", "waits", "tokens", "public_tokens"),
    *("chains", "send_keys", "operations"),
)
"""The tables that say of a row whose it is. Rows of the system stream stay, whatever they are about."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Sessions that are to go, and between which feed offsets all their entries stand."""

    sessions: tuple[str, ...]
    first_offset: int
    last_offset: int


def remove(connection: duckdb.DuckDBPyConnection, removal: Removal) -> None:
    """Remove their entries, checkpoints and rows, in the open transaction."""
    gone = [uuid_of(session) for session in removal.sessions]
    for table in ("entries", "checkpoints"):
        connection.execute(
            f"DELETE FROM {table} WHERE feed_offset BETWEEN $1 AND $2 "  # noqa: S608 - names of our own
            "AND session IN (SELECT unnest($3::UUID[]))",
            [removal.first_offset, removal.last_offset, gone],
        )
    remove_rows(connection, gone)


def remove_rows(connection: duckdb.DuckDBPyConnection, gone: Sequence[UUID]) -> None:
    """Remove what the tables beside entries and checkpoints hold of these sessions, in the open transaction."""
    for table in _PROJECTED:
        connection.execute(
            f"DELETE FROM {table} WHERE session IN (SELECT unnest($1::UUID[]))",  # noqa: S608 - the same
            [list(gone)],
        )
