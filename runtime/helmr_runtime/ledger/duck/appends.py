"""What commits append to the database: entries, checkpoints and holdings, nothing updated; pruned sessions removed.

One statement for each table. Its cost is that of being read and planned, whatever it appends: a few rows as VALUES take
two thirds of what `unnest` takes, and two hundred eight times as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import duckdb

from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.duck.removing import Removal, remove
from helmr_runtime.ledger.duck.rows import Row, columns, entry_row, uuid_of

VALUES_MAX = 8
"""Up to so many rows VALUES is the cheaper form."""


class Table:
    """A table that is appended to.

    Args:
        name: Its name.
        types: Of its columns, in order.
    """

    def __init__(self, name: str, types: Sequence[str]) -> None:
        self._width = len(types)
        row = f"({', '.join('?' * self._width)})"
        self._by_count = [
            f"INSERT INTO {name} VALUES {', '.join([row] * count)}"
            for count in range(1, VALUES_MAX + 1)
        ]
        unnested = (f"unnest(${number}::{kind}[])" for number, kind in enumerate(types, start=1))
        self._any_count = f"INSERT INTO {name} SELECT {', '.join(unnested)}"

    def append(self, connection: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> None:
        """Append rows, at least one, in one statement."""
        if len(rows) <= VALUES_MAX:
            connection.execute(self._by_count[len(rows) - 1], list(chain.from_iterable(rows)))
        else:
            connection.execute(self._any_count, columns(rows, self._width))


ENTRY_TYPES = (
    *("BIGINT", "UUID", "INTEGER", "TIMESTAMPTZ", "VARCHAR"),
    *("UUID", "INTEGER", "VARCHAR", "VARCHAR", "BLOB"),
)
CHECKPOINT_TYPES = ("BIGINT", "UUID", "INTEGER", "VARCHAR")
ENTRIES = Table("entries", ENTRY_TYPES)
CHECKPOINTS = Table("checkpoints", CHECKPOINT_TYPES)
HOLDINGS = Table("holdings", ("UUID", "BIGINT", "VARCHAR"))


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
    """What one commit appends, and which sessions it removes. Entries have their feed offsets."""

    entries: list[Entry] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    holdings: list[LeaseRow] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)

    @property
    def head(self) -> tuple[int, bytes] | None:
        """Feed offset and hash of the last entry, if there is one."""
        if not self.entries:
            return None
        last = self.entries[-1]
        assert last.feed_offset is not None
        return last.feed_offset, last.hash

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
    return found


def append(connection: duckdb.DuckDBPyConnection, appends: Appends) -> None:
    """Append in the open transaction."""
    if appends.entries:
        ENTRIES.append(connection, entry_rows(appends.entries))
    if appends.checkpoints:
        CHECKPOINTS.append(connection, checkpoint_rows(appends.checkpoints))
    if appends.holdings:
        append_holdings(connection, appends.holdings)
    for removal in appends.removals:
        remove(connection, removal)


def entry_rows(entries: Sequence[Entry]) -> list[Row]:
    """Rows of `entries`."""
    return [entry_row(entry) for entry in entries]


def checkpoint_rows(checkpoints: Sequence[Checkpoint]) -> list[Row]:
    """Rows of `checkpoints`."""
    return [(c.feed_offset, uuid_of(c.session_id), c.seq, c.body) for c in checkpoints]


def append_holdings(connection: duckdb.DuckDBPyConnection, holdings: Sequence[LeaseRow]) -> None:
    """Append who holds what."""
    if holdings:
        rows = [(uuid_of(h.session_id), h.epoch, h.holder) for h in holdings]
        HOLDINGS.append(connection, rows)
