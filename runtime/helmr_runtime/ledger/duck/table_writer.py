"""Writing a projection to the tables, in one transaction with `projected_offset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from helmr_runtime.ledger.duck import rows
from helmr_runtime.ledger.duck.removing import remove_rows
from helmr_runtime.ledger.duck.tokens import FactRows, project_facts
from helmr_runtime.ledger.projection import Projection, SessionNumbers

_INSERT_SESSIONS = """
INSERT INTO sessions SELECT unnest($1::UUID[]), unnest($2::BIGINT[]), unnest($3::TIMESTAMPTZ[]),
    unnest($4::VARCHAR[]), unnest($5::VARCHAR[]), unnest($6::VARCHAR[]), unnest($7::VARCHAR[]),
    unnest($8::VARCHAR[]), unnest($9::VARCHAR[])::session_status, unnest($10::VARCHAR[])::activity,
    unnest($11::UUID[]), unnest($12::UUID[]), unnest($13::INTEGER[]), unnest($14::BIGINT[]),
    unnest($15::TIMESTAMPTZ[]), unnest($16::BIGINT[]), unnest($17::BIGINT[]), unnest($18::INTEGER[]),
    unnest($19::INTEGER[]), unnest($20::BOOLEAN[]), unnest($21::UUID[]), unnest($22::INTEGER[]),
    unnest($23::UUID[]), unnest($24::UUID[]), unnest($25::INTEGER[])
"""
_UPDATE_SESSIONS = """
UPDATE sessions SET status = u.status, activity = u.activity, run = u.run, wait = u.wait,
    next_seq = u.next_seq, last_offset = u.last_offset, updated_at = u.updated_at, epoch = u.epoch,
    checkpoint_offset = u.checkpoint_offset, tail_count = u.tail_count, open_steps = u.open_steps,
    has_keys = u.has_keys
FROM (SELECT unnest($1::UUID[]) AS session, unnest($2::VARCHAR[])::session_status AS status,
    unnest($3::VARCHAR[])::activity AS activity, unnest($4::UUID[]) AS run, unnest($5::UUID[]) AS wait,
    unnest($6::INTEGER[]) AS next_seq, unnest($7::BIGINT[]) AS last_offset,
    unnest($8::TIMESTAMPTZ[]) AS updated_at, unnest($9::BIGINT[]) AS epoch,
    unnest($10::BIGINT[]) AS checkpoint_offset, unnest($11::INTEGER[]) AS tail_count,
    unnest($12::INTEGER[]) AS open_steps, unnest($13::BOOLEAN[]) AS has_keys) AS u
WHERE sessions.session = u.session
"""
_INSERT_RUNS = """
INSERT INTO runs SELECT unnest($1::UUID[]), unnest($2::UUID[]), unnest($3::BIGINT[]),
    unnest($4::TIMESTAMPTZ[]), unnest($5::VARCHAR[]), unnest($6::VARCHAR[])::run_status,
    unnest($7::INTEGER[]), unnest($8::TIMESTAMPTZ[]), unnest($9::TIMESTAMPTZ[]),
    unnest($10::TIMESTAMPTZ[]), unnest($11::BIGINT[])
"""
_UPDATE_RUNS = """
UPDATE runs SET status = u.status, attempt = u.attempt, retry_at = u.retry_at, queued_at = u.queued_at,
    ended_at = u.ended_at, outcome_offset = u.outcome_offset
FROM (SELECT unnest($1::UUID[]) AS run, unnest($2::VARCHAR[])::run_status AS status,
    unnest($3::INTEGER[]) AS attempt, unnest($4::TIMESTAMPTZ[]) AS retry_at,
    unnest($5::TIMESTAMPTZ[]) AS queued_at, unnest($6::TIMESTAMPTZ[]) AS ended_at,
    unnest($7::BIGINT[]) AS outcome_offset) AS u
WHERE runs.run = u.run
"""
_INSERT_WAITS = """
INSERT INTO waits SELECT unnest($1::UUID[]), unnest($2::UUID[]), unnest($3::UUID[]),
    unnest($4::INTEGER[]), unnest($5::BIGINT[]), unnest($6::TIMESTAMPTZ[]),
    unnest($7::VARCHAR[])::awaited_kind, unnest($8::VARCHAR[]), unnest($9::VARCHAR[]),
    unnest($10::VARCHAR[]), unnest($11::UUID[]), unnest($12::TIMESTAMPTZ[]), unnest($13::BOOLEAN[]),
    unnest($14::VARCHAR[])::wait_status, unnest($15::BIGINT[]), unnest($16::TIMESTAMPTZ[]),
    unnest($17::VARCHAR[])::answer_mode, unnest($18::VARCHAR[])::wait_priority, unnest($19::VARCHAR[]),
    unnest($20::VARCHAR[]), unnest($21::VARCHAR[]), unnest($22::VARCHAR[]), unnest($23::INTEGER[]),
    unnest($24::TIMESTAMPTZ[]), unnest($25::TIMESTAMPTZ[]), unnest($26::VARCHAR[])
"""
_UPDATE_WAITS = """
UPDATE waits SET status = u.status, resolved_offset = u.resolved_offset, resolved_at = u.resolved_at,
    mode = u.mode, next_rung = u.next_rung, next_rung_at = u.next_rung_at, default_at = u.default_at,
    batch_id = u.batch_id
FROM (SELECT unnest($1::UUID[]) AS wait, unnest($2::VARCHAR[])::wait_status AS status,
    unnest($3::BIGINT[]) AS resolved_offset, unnest($4::TIMESTAMPTZ[]) AS resolved_at,
    unnest($5::VARCHAR[])::answer_mode AS mode, unnest($6::INTEGER[]) AS next_rung,
    unnest($7::TIMESTAMPTZ[]) AS next_rung_at, unnest($8::TIMESTAMPTZ[]) AS default_at,
    unnest($9::VARCHAR[]) AS batch_id) AS u
WHERE waits.wait = u.wait
"""
_ASSIGN_WAITS = """
UPDATE waits SET assignee = u.assignee
FROM (SELECT unnest($1::UUID[]) AS wait, unnest($2::VARCHAR[]) AS assignee) AS u
WHERE waits.wait = u.wait
"""
_INSERT_OPERATIONS = """
INSERT INTO operations SELECT unnest($1::VARCHAR[]), unnest($2::UUID[]), unnest($3::BIGINT[]),
    unnest($4::VARCHAR[]), unnest($5::TIMESTAMPTZ[])
"""
_INSERT_SEND_KEYS = """
INSERT INTO send_keys SELECT unnest($1::UUID[]), unnest($2::VARCHAR[]), unnest($3::VARCHAR[]),
    unnest($4::VARCHAR[]), unnest($5::BIGINT[])
"""
_FORGET_HOLDINGS = """
DELETE FROM holdings h WHERE
    rowid < (SELECT max(rowid) FROM holdings newer WHERE newer.session = h.session)
    OR (holder IS NULL AND epoch <= (SELECT epoch FROM sessions s WHERE s.session = h.session))
"""
_UPDATE_META = """
INSERT INTO meta SELECT unnest($1::VARCHAR[]), unnest($2::BIGINT[])
ON CONFLICT (name) DO UPDATE SET number = excluded.number
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
    if inserted:
        connection.execute(_INSERT_SESSIONS, rows.columns(inserted, 26))
    if updated:
        connection.execute(_UPDATE_SESSIONS, rows.columns(updated, 13))


def _runs(connection: duckdb.DuckDBPyConnection, projection: Projection) -> None:
    new = projection.new_runs
    inserted, updated = [], []
    for numbers in projection.runs.values():
        row = rows.run_numbers_row(numbers)
        if numbers.run_id in new:
            inserted.append((*rows.new_run_row(new[numbers.run_id]), *row[1:]))
        else:
            updated.append(row)
    if inserted:
        connection.execute(_INSERT_RUNS, rows.columns(inserted, 11))
    if updated:
        connection.execute(_UPDATE_RUNS, rows.columns(updated, 7))


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
    if inserted:
        connection.execute(_INSERT_WAITS, rows.columns(inserted, 25))
    if updated:
        connection.execute(_UPDATE_WAITS, rows.columns(updated, 9))
    if projection.assigned:
        assigned = [(rows.uuid_of(wait), name) for wait, (name,) in projection.assigned.items()]
        connection.execute(_ASSIGN_WAITS, rows.columns(assigned, 2))


def _keys(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
    projection = tables.projection
    if tables.forget_before is not None:
        connection.execute("DELETE FROM operations WHERE recorded_at < $1", [tables.forget_before])
    if projection.operations:
        operations = [
            (
                o.operation_id,
                rows.uuid_of(o.session_id),
                o.feed_offset,
                o.request_hash,
                o.recorded_at,
            )
            for o in projection.operations
        ]
        connection.execute(_INSERT_OPERATIONS, rows.columns(operations, 5))
    if projection.send_keys:
        keys = [
            (rows.uuid_of(k.session_id), k.stream, k.key_hash, k.data_hash, k.record_offset)
            for k in projection.send_keys.values()
        ]
        connection.execute(_INSERT_SEND_KEYS, rows.columns(keys, 5))
