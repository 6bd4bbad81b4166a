"""Writing a projection to the tables, in one transaction with `projected_offset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from helmr_runtime.ledger.duck import rows
from helmr_runtime.ledger.duck.batch_statement import BatchStatement
from helmr_runtime.ledger.duck.removing import remove_rows
from helmr_runtime.ledger.duck.tokens import FactRows, project_facts
from helmr_runtime.ledger.projection import Projection, SessionNumbers

_SESSION_NUMBERS = (
    "session UUID, status session_status, activity activity, run UUID, wait UUID, next_seq INTEGER, "
    "last_offset BIGINT, updated_at TIMESTAMPTZ, epoch BIGINT, checkpoint_offset BIGINT, tail_count INTEGER, "
    "open_steps INTEGER, has_keys BOOLEAN"
)
_INSERT_SESSIONS = BatchStatement(
    "INSERT INTO sessions {rows}",
    "session UUID, created_offset BIGINT, created_at TIMESTAMPTZ, task VARCHAR, external_id VARCHAR, "
    "start_key VARCHAR, tags VARCHAR, metadata VARCHAR, "
    + _SESSION_NUMBERS.removeprefix("session UUID, ")
    + ", origin UUID, origin_seq INTEGER, parent UUID, parent_run UUID, parent_op INTEGER",
)
_UPDATE_SESSIONS = BatchStatement(
    """
    UPDATE sessions SET status = u.status, activity = u.activity, run = u.run, wait = u.wait,
        next_seq = u.next_seq, last_offset = u.last_offset, updated_at = u.updated_at, epoch = u.epoch,
        checkpoint_offset = u.checkpoint_offset, tail_count = u.tail_count, open_steps = u.open_steps,
        has_keys = u.has_keys
    FROM ({rows}) AS u WHERE sessions.session = u.session
    """,
    _SESSION_NUMBERS,
)
_RUN_NUMBERS = (
    "status run_status, attempt INTEGER, retry_at TIMESTAMPTZ, queued_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, "
    "outcome_offset BIGINT"
)
_INSERT_RUNS = BatchStatement(
    "INSERT INTO runs {rows}",
    "run UUID, session UUID, created_offset BIGINT, created_at TIMESTAMPTZ, task VARCHAR, "
    + _RUN_NUMBERS,
)
_UPDATE_RUNS = BatchStatement(
    """
    UPDATE runs SET status = u.status, attempt = u.attempt, retry_at = u.retry_at, queued_at = u.queued_at,
        ended_at = u.ended_at, outcome_offset = u.outcome_offset
    FROM ({rows}) AS u WHERE runs.run = u.run
    """,
    "run UUID, " + _RUN_NUMBERS,
)
_WAIT_NUMBERS = (
    "status wait_status, resolved_offset BIGINT, resolved_at TIMESTAMPTZ, mode answer_mode"
)
_WAIT_NEWER = "next_escalation INTEGER, next_escalation_at TIMESTAMPTZ, default_at TIMESTAMPTZ, batch_id VARCHAR"
_INSERT_WAITS = BatchStatement(
    "INSERT INTO waits {rows}",
    "wait UUID, session UUID, run UUID, op INTEGER, opened_offset BIGINT, opened_at TIMESTAMPTZ, "
    "kind awaited_kind, task VARCHAR, stream VARCHAR, correlation_id VARCHAR, token UUID, "
    f"deadline_at TIMESTAMPTZ, is_backoff BOOLEAN, {_WAIT_NUMBERS}, priority wait_priority, tags VARCHAR, "
    f"session_tags VARCHAR, assignee VARCHAR, session_ids VARCHAR, {_WAIT_NEWER}",
)
_UPDATE_WAITS = BatchStatement(
    """
    UPDATE waits SET status = u.status, resolved_offset = u.resolved_offset, resolved_at = u.resolved_at,
        mode = u.mode, next_escalation = u.next_escalation, next_escalation_at = u.next_escalation_at, default_at =
        u.default_at, batch_id = u.batch_id
    FROM ({rows}) AS u WHERE waits.wait = u.wait
    """,
    f"wait UUID, {_WAIT_NUMBERS}, {_WAIT_NEWER}",
)
_ASSIGN_WAITS = BatchStatement(
    "UPDATE waits SET assignee = u.assignee FROM ({rows}) AS u WHERE waits.wait = u.wait",
    "wait UUID, assignee VARCHAR",
)
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
    """What one projection transaction writes.

    Attributes:
        projection: What changed; not touched while this is written.
        sessions: The numbers of the touched sessions.
        facts: Tokens, public tokens, API keys.
        meta: Names and numbers of `meta`.
        forgets_holdings: Rows of `holdings` go that are not their session's newest, or say only what its row in
            `sessions` does: that nobody holds it under that epoch.
        forget_before: If given, operations accepted before this are deleted (S-61).
    """

    projection: Projection
    sessions: Sequence[SessionNumbers]
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
        remove_rows(connection, [rows.uuid_of(one) for one in tables.projection.pruned])
    connection.execute(_UPDATE_META, [list(tables.meta), list(tables.meta.values())])
    if tables.forgets_holdings:
        connection.execute(_FORGET_HOLDINGS)


def _sessions(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    new = tables.projection.new_sessions
    inserted, updated = [], []
    for numbers in tables.sessions:
        row = rows.session_numbers_row(numbers)
        if numbers.session_id in new:
            fixed = rows.new_session_row(new[numbers.session_id])
            first, last = fixed[: -rows.FIXED_LAST], fixed[-rows.FIXED_LAST :]
            inserted.append((*first, *row[1:], *last))
        else:
            updated.append(row)
    _INSERT_SESSIONS.execute(connection, inserted)
    _UPDATE_SESSIONS.execute(connection, updated)


def _runs(connection: duckdb.DuckDBPyConnection, projection: Projection) -> None:
    new = projection.new_runs
    inserted, updated = [], []
    for numbers in projection.runs.values():
        row = rows.run_numbers_row(numbers)
        if numbers.run_id in new:
            inserted.append((*rows.new_run_row(new[numbers.run_id]), *row[1:]))
        else:
            updated.append(row)
    _INSERT_RUNS.execute(connection, inserted)
    _UPDATE_RUNS.execute(connection, updated)


def _waits(connection: duckdb.DuckDBPyConnection, projection: Projection) -> None:
    new = projection.new_waits
    inserted, updated = [], []
    for numbers in projection.waits.values():
        row, newer = rows.wait_numbers_row(numbers), rows.wait_newer_row(numbers)
        if numbers.wait_id in new:
            fixed = new[numbers.wait_id]
            first, details = rows.new_wait_row(fixed), rows.wait_details_row(fixed)
            inserted.append((*first, *row[1:], *details, *newer))
        else:
            updated.append((*row, *newer))
    _INSERT_WAITS.execute(connection, inserted)
    _UPDATE_WAITS.execute(connection, updated)
    assigned = [(rows.uuid_of(wait), name) for wait, (name,) in projection.assigned.items()]
    _ASSIGN_WAITS.execute(connection, assigned)


def _keys(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    projection = tables.projection
    if tables.forget_before is not None:
        connection.execute("DELETE FROM operations WHERE recorded_at < $1", [tables.forget_before])
    operations = [
        (o.operation_id, rows.uuid_of(o.session_id), o.feed_offset, o.request_hash, o.recorded_at)
        for o in projection.operations
    ]
    _INSERT_OPERATIONS.execute(connection, operations)
    keys = [
        (rows.uuid_of(k.session_id), k.stream, k.key_hash, k.data_hash, k.record_offset)
        for k in projection.send_keys.values()
    ]
    _INSERT_SEND_KEYS.execute(connection, keys)
