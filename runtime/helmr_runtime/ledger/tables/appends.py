"""Commits append entries, checkpoints and holdings, and remove pruned sessions (S-69); they update nothing.

There is one statement for each table. Its cost is to be parsed and planned, whatever it appends: VALUES are cheaper
than a `BatchStatement` for a few rows, and cost eight times as much for two hundred.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from uuid import UUID

import duckdb

from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.tables.engine import BatchStatement, Row, entry_row, uuid_of

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
            f"DELETE FROM {table} WHERE feed_offset BETWEEN $1 AND $2 "
            "AND session IN (SELECT unnest($3::UUID[]))",
            [removal.first_offset, removal.last_offset, gone],
        )
    remove_rows(connection, gone)


def remove_rows(connection: duckdb.DuckDBPyConnection, gone: Sequence[UUID]) -> None:
    """Remove what the tables beside entries and checkpoints hold of these sessions, in the open transaction."""
    for table in _PROJECTED:
        connection.execute(
            f"DELETE FROM {table} WHERE session IN (SELECT unnest($1::UUID[]))",
            [list(gone)],
        )


VALUES_MAX = 8
"""Up to so many rows VALUES is the cheaper form."""


class Table(BatchStatement):
    """A table that is appended to.

    Args:
        name: Its name.
        columns: As `BatchStatement`'s.
    """

    def __init__(self, name: str, columns: str) -> None:
        super().__init__(f"INSERT INTO {name} {{rows}}", columns)
        row = f"({', '.join('?' for _ in columns.split(','))})"
        self._by_count = [
            f"INSERT INTO {name} VALUES {', '.join([row] * count)}"
            for count in range(1, VALUES_MAX + 1)
        ]

    def execute(self, connection: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> None:
        """Append rows, if there are any, in one statement."""
        if 0 < len(rows) <= VALUES_MAX:
            connection.execute(self._by_count[len(rows) - 1], list(chain.from_iterable(rows)))
        else:
            super().execute(connection, rows)


ENTRY_COLUMNS = (
    "feed_offset BIGINT, session UUID, seq INTEGER, recorded_at TIMESTAMPTZ, kind VARCHAR, run UUID, op INTEGER, "
    "principal VARCHAR, body VARCHAR, hash BLOB"
)
ENTRIES = Table("entries", ENTRY_COLUMNS)
CHECKPOINT_COLUMNS = "feed_offset BIGINT, session UUID, seq INTEGER, body VARCHAR"
CHECKPOINTS = Table("checkpoints", CHECKPOINT_COLUMNS)
HOLDINGS = Table("holdings", "session UUID, epoch BIGINT, holder VARCHAR")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A row of `checkpoints`: the state at the entry that `feed_offset` names."""

    feed_offset: int
    session_id: str
    seq: int
    body: str


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A row of `holdings`: from now on the session has this epoch and holder."""

    session_id: str
    epoch: int
    holder: str | None


@dataclass(slots=True)
class Appends:
    """The rows that one commit appends, and its removals. Entries have their feed offsets."""

    entries: list[Entry] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    holdings: list[LeaseRow] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Nothing."""
        return not (self.entries or self.checkpoints or self.holdings or self.removals)


def joined(parts: Iterable[Appends]) -> Appends:
    """All of them, in order."""
    found = Appends()
    for part in parts:
        found.entries += part.entries
        found.checkpoints += part.checkpoints
        found.holdings += part.holdings
        found.removals += part.removals
    return found


def append(connection: duckdb.DuckDBPyConnection, appends: Appends) -> None:
    """Append in the open transaction."""
    ENTRIES.execute(connection, entry_rows(appends.entries))
    CHECKPOINTS.execute(connection, checkpoint_rows(appends.checkpoints))
    HOLDINGS.execute(connection, holding_rows(appends.holdings))
    for removal in appends.removals:
        remove(connection, removal)


def entry_rows(entries: Sequence[Entry]) -> list[Row]:
    """Rows of `entries`."""
    return [entry_row(entry) for entry in entries]


def checkpoint_rows(checkpoints: Sequence[Checkpoint]) -> list[Row]:
    """Rows of `checkpoints`."""
    return [(c.feed_offset, uuid_of(c.session_id), c.seq, c.body) for c in checkpoints]


def holding_rows(holdings: Sequence[LeaseRow]) -> list[Row]:
    """Rows of `holdings`."""
    return [(uuid_of(h.session_id), h.epoch, h.holder) for h in holdings]
