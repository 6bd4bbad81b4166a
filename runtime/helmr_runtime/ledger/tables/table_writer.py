"""Writing a projection to the tables, in one transaction with `projected_offset`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from helmr_runtime.core.nouns import Changes, changed
from helmr_runtime.ledger.index.projection import Projection
from helmr_runtime.ledger.tables import engine
from helmr_runtime.ledger.tables.appends import remove_rows
from helmr_runtime.ledger.tables.engine import BatchStatement
from helmr_runtime.ledger.tables.table import RUNS, SESSIONS, WAITS
from helmr_runtime.ledger.tables.tokens import FactRows, project_facts

_INSERT_OPERATIONS = BatchStatement(
    "INSERT INTO operations {rows}",
    "id VARCHAR, session UUID, feed_offset BIGINT, request_hash VARCHAR, recorded_at TIMESTAMPTZ",
)
_INSERT_SEND_KEYS = BatchStatement(
    "INSERT INTO send_keys {rows}",
    "session UUID, stream VARCHAR, key_hash VARCHAR, data_hash VARCHAR, record_offset BIGINT",
)
_UPDATE_META = """
INSERT INTO meta SELECT unnest($1::VARCHAR[]), unnest($2::BIGINT[])
ON CONFLICT (name) DO UPDATE SET number = excluded.number
"""
_FORGET_HOLDINGS = """
DELETE FROM holdings h WHERE
    rowid < (SELECT max(rowid) FROM holdings newer WHERE newer.session = h.session)
    OR (holder IS NULL AND epoch <= (SELECT epoch FROM sessions s WHERE s.session = h.session))
"""


@dataclass(frozen=True, slots=True)
class Tables:
    """The rows that one projection transaction writes.

    Attributes:
        projection: The changes; not modified while they are written.
        sessions: Current columns of the touched sessions.
        facts: Tokens, public tokens, API keys.
        meta: Names and numbers of `meta`.
        forgets_holdings: Delete rows of `holdings` that are not their session's newest, or that only repeat its
            row in `sessions`: unheld under that epoch.
        forget_before: If given, operations accepted before this are deleted (S-61).
    """

    projection: Projection
    sessions: Mapping[str, Changes]
    meta: Mapping[str, int]
    facts: FactRows = field(default_factory=FactRows)
    forgets_holdings: bool = False
    forget_before: datetime | None = None


def project(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    """Write inside the open transaction."""
    _sessions(connection, tables)
    _runs(connection, tables.projection)
    _waits(connection, tables.projection)
    _keys(connection, tables)
    project_facts(connection, tables.facts)
    if tables.projection.pruned:
        remove_rows(connection, [engine.uuid_of(one) for one in tables.projection.pruned])
    connection.execute(_UPDATE_META, [list(tables.meta), list(tables.meta.values())])
    if tables.forgets_holdings:
        connection.execute(_FORGET_HOLDINGS)


def _sessions(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    new = tables.projection.new_sessions
    SESSIONS.insert(
        connection, (changed(new[one], now) for one, now in tables.sessions.items() if one in new)
    )
    SESSIONS.update(
        connection, {one: now for one, now in tables.sessions.items() if one not in new}
    )


def _runs(connection: duckdb.DuckDBPyConnection, projection: Projection) -> None:
    new = projection.new_runs
    RUNS.insert(connection, (projection.run(run_id) for run_id in new))
    RUNS.update(connection, {one: now for one, now in projection.runs.items() if one not in new})


def _waits(connection: duckdb.DuckDBPyConnection, projection: Projection) -> None:
    new = projection.new_waits
    WAITS.insert(connection, (projection.wait(wait_id) for wait_id in new))
    WAITS.update(connection, {one: now for one, now in projection.waits.items() if one not in new})


def _keys(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    projection = tables.projection
    if tables.forget_before is not None:
        connection.execute("DELETE FROM operations WHERE recorded_at < $1", [tables.forget_before])
    operations = [
        (o.operation_id, engine.uuid_of(o.session_id), o.feed_offset, o.request_hash, o.recorded_at)
        for o in projection.operations
    ]
    _INSERT_OPERATIONS.execute(connection, operations)
    keys = [
        (engine.uuid_of(k.session_id), k.stream, k.key_hash, k.data_hash, k.record_offset)
        for k in projection.send_keys.values()
    ]
    _INSERT_SEND_KEYS.execute(connection, keys)
