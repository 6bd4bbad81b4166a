"""One transaction of the ledger: entries, checkpoints and holdings appended, nothing updated.

One `INSERT … SELECT unnest(…)` per table: as fast as VALUES for one row and eight times faster for two hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb

from helmr_runtime.core.entries import Entry
from helmr_runtime.ledger.duck.rows import columns, entry_row, uuid_of

_ENTRIES = """
INSERT INTO entries SELECT unnest($1::BIGINT[]), unnest($2::UUID[]), unnest($3::INTEGER[]),
    unnest($4::TIMESTAMPTZ[]), unnest($5::VARCHAR[]), unnest($6::UUID[]), unnest($7::INTEGER[]),
    unnest($8::VARCHAR[]), unnest($9::VARCHAR[]), unnest($10::BLOB[])
"""
_CHECKPOINTS = """
INSERT INTO checkpoints SELECT unnest($1::BIGINT[]), unnest($2::UUID[]), unnest($3::INTEGER[]),
    unnest($4::VARCHAR[])
"""
_HOLDINGS = """
INSERT INTO holdings SELECT unnest($1::UUID[]), unnest($2::BIGINT[]), unnest($3::VARCHAR[])
"""


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
    """What one transaction appends. Entries have their feed offsets."""

    entries: list[Entry] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    holdings: list[LeaseRow] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Nothing to write."""
        return not (self.entries or self.checkpoints or self.holdings)


def append(connection: duckdb.DuckDBPyConnection, appends: Appends) -> None:
    """Append inside the open transaction."""
    if appends.entries:
        connection.execute(_ENTRIES, columns(map(entry_row, appends.entries), 10))
    if appends.checkpoints:
        rows = [(c.feed_offset, uuid_of(c.session_id), c.seq, c.body) for c in appends.checkpoints]
        connection.execute(_CHECKPOINTS, columns(rows, 4))
    if appends.holdings:
        append_holdings(connection, appends.holdings)


def append_holdings(connection: duckdb.DuckDBPyConnection, holdings: Sequence[LeaseRow]) -> None:
    """Append who holds what."""
    rows = [(uuid_of(h.session_id), h.epoch, h.holder) for h in holdings]
    connection.execute(_HOLDINGS, columns(rows, 3))
