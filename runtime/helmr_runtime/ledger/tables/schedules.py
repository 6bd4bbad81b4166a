"""Schedules between the index and their table.

A row holds where the text of a schedule stands in the entries, and what became of it since. Few rows, written anew
when they change.
"""

from __future__ import annotations

import logging
from typing import Any

import duckdb

from helmr import ids
from helmr_runtime.core.entries import Entry
from helmr_runtime.core.schedules import Schedule, restored
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.tables import reads, rows
from helmr_runtime.ledger.tables.batch_statement import BatchStatement
from helmr_runtime.ledger.tables.engine import Reader

logger = logging.getLogger(__name__)

_DELETE = "DELETE FROM schedules WHERE name IN (SELECT unnest($1::VARCHAR[]))"
_INSERT = BatchStatement(
    "INSERT INTO schedules {rows}",
    "name VARCHAR, written_offset BIGINT, created_at TIMESTAMPTZ, settled_at TIMESTAMPTZ, paused BOOLEAN, "
    "gone BOOLEAN, session UUID, last_due_at TIMESTAMPTZ, outcome VARCHAR",
)


def project_schedules(
    connection: duckdb.DuckDBPyConnection, touched: tuple[str, ...], made: tuple[rows.Row, ...]
) -> None:
    """Write inside the open transaction: the rows of those that are there, none of those that are not."""
    if touched:
        connection.execute(_DELETE, [list(touched)])
    _INSERT.execute(connection, made)


def schedule_row(schedule: Schedule) -> rows.Row:
    """As the statement takes it."""
    return (
        schedule.name,
        schedule.written_offset,
        schedule.created_at,
        schedule.settled_at,
        schedule.paused,
        schedule.gone,
        rows.uuid_or_none(schedule.session_id),
        schedule.last_due_at,
        schedule.outcome,
    )


def restore_schedules(reader: Reader, index: LedgerIndex) -> None:
    """Load all of them. One whose text can't be opened, for a master key that is gone, is left out and said so."""
    found = reader.execute("SELECT * FROM schedule_rows").fetchall()
    if not found:
        return
    entries, problems = reads.listed_entries(reader, {row[1] for row in found})
    for row in found:
        problem = reads.problem_of(problems, row[1])
        if problem is None:
            index.schedules.admit(_schedule_of(row, entries[row[1]]))
        else:
            logger.error("schedule %s can't be read and is never due: %s", row[0], problem)


def _schedule_of(row: Any, entry: Entry) -> Schedule:
    return restored(
        entry,
        created_at=rows.time_of(row[2]),
        settled_at=rows.time_of(row[3]),
        paused=row[4],
        gone=row[5],
        session_id=rows.id_or_none(ids.SESSION, row[6]),
        last_due_at=rows.time_or_none(row[7]),
        outcome=row[8],
    )
