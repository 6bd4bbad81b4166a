"""The tables: what they are today, and which number that has.

`entries`, `checkpoints` and `holdings` are appended to and never updated; the others are projections of the
entries, written behind. Primary keys only: other indexes on changing columns lose rows in this engine's releases
of 2026. Columns that change are numbers, times and enums; text is written once.

There are no migrations. The entries are the truth: a file of an earlier number is carried over by folding its entries
into today's tables (`helmr_runtime.ledger.log.carry_over`).

Source: measurements of the project: scattered updates of numbers in 100,000 rows cost a checkpoint
10 ms, also beside text columns that do not change.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from helmr.errors import DataError
from helmr.version import version as helmr_version
from helmr_runtime.ledger.tables import table as tables
from helmr_runtime.ledger.tables.rows import first_row

SCHEMA = 12
"""The number of what `make` makes. A change of any table takes the next one, once the last has been in an edition."""

WRITTEN_BY = "helmr"
"""The row of `meta_texts` with the version of Helmr that has opened the file last."""

TYPES: Sequence[str] = tuple(tables.word_types())

TABLES: Sequence[str] = (
    """
    CREATE TABLE meta (
        name VARCHAR PRIMARY KEY,
        number BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE meta_texts (
        name VARCHAR PRIMARY KEY,
        text VARCHAR NOT NULL
    )
    """,
    """
    CREATE TABLE entries (
        feed_offset BIGINT NOT NULL,
        session UUID NOT NULL,
        seq INTEGER NOT NULL,
        recorded_at TIMESTAMPTZ NOT NULL,
        kind VARCHAR NOT NULL,
        run UUID,
        op INTEGER,
        principal VARCHAR NOT NULL,
        body VARCHAR NOT NULL,
        hash BLOB NOT NULL
    )
    """,
    """
    CREATE TABLE checkpoints (
        feed_offset BIGINT NOT NULL,
        session UUID NOT NULL,
        seq INTEGER NOT NULL,
        body VARCHAR NOT NULL
    )
    """,
    """
    CREATE TABLE holdings (
        session UUID NOT NULL,
        epoch BIGINT NOT NULL,
        holder VARCHAR
    )
    """,
    """
    CREATE TABLE operations (
        id VARCHAR NOT NULL,
        session UUID NOT NULL,
        feed_offset BIGINT NOT NULL,
        request_hash VARCHAR NOT NULL,
        recorded_at TIMESTAMPTZ NOT NULL
    )
    """,
    """
    CREATE TABLE send_keys (
        session UUID NOT NULL,
        stream VARCHAR NOT NULL,
        key_hash VARCHAR NOT NULL,
        data_hash VARCHAR NOT NULL,
        record_offset BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE chains (
        session UUID NOT NULL,
        key_id VARCHAR NOT NULL
    )
    """,
)
"""Beside those of the nouns (`helmr_runtime.ledger.tables.table`). `chains` says which master key each hash chain began
with."""

VIEWS: Sequence[str] = (
    """
    CREATE VIEW entry_rows AS
    SELECT feed_offset, session, seq, epoch_us(recorded_at) AS recorded_us, kind, run, op, principal,
        body, hash
    FROM entries
    """,
)

NUMBERS = {
    "projected_offset": 0,
    "openings": 0,
    "system_offset": 0,
    "catalog_offset": 0,
    "notices_offset": 0,
    "schema": SCHEMA,
}
"""The rows of `meta` that every file has."""


def make(connection: duckdb.DuckDBPyConnection) -> None:
    """Make today's tables in an empty file, and bring them to disk: no DDL waits in the engine's log."""
    connection.begin()
    nouns = [statement for one in tables.NOUNS for statement in one.statements]
    for statement in (*TYPES, *TABLES, *nouns, *VIEWS):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO meta SELECT unnest($1::VARCHAR[]), unnest($2::BIGINT[])",
        [list(NUMBERS), list(NUMBERS.values())],
    )
    connection.commit()
    connection.execute("CHECKPOINT")


def schema_of(connection: duckdb.DuckDBPyConnection) -> int:
    """The number of a file's tables; 0 if it has none.

    Raises:
        DataError: A newer Helmr made them.
    """
    found = first_row(
        connection.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'meta'")
    )
    if found is None or found[0] == 0:
        return 0
    row = first_row(connection.execute("SELECT number FROM meta WHERE name = 'schema'"))
    schema = int(row[0]) if row is not None else 0
    if schema > SCHEMA:
        writer = written_by(connection)
        raise DataError(f"the ledger {too_new(schema, writer)}", hint=use_newer(writer))
    return schema


def sign(connection: duckdb.DuckDBPyConnection) -> None:
    """Have the file keep that this Helmr has opened it."""
    if written_by(connection) != helmr_version():
        connection.execute(
            "INSERT INTO meta_texts VALUES ($1, $2) ON CONFLICT DO UPDATE SET text = excluded.text",
            [WRITTEN_BY, helmr_version()],
        )


def written_by(connection: duckdb.DuckDBPyConnection) -> str | None:
    """The version of Helmr that has opened the file last; None before 0.2.0, which was the first to say so."""
    try:
        found = connection.execute("SELECT text FROM meta_texts WHERE name = $1", [WRITTEN_BY])
    except duckdb.CatalogException:
        return None
    row = first_row(found)
    return str(row[0]) if row is not None else None


def too_new(schema: int, writer: str | None) -> str:
    """The error text for a file with a schema of a newer Helmr."""
    by = f", written by Helmr {writer}" if writer is not None else ""
    return f"has schema {schema}{by}; this Helmr {helmr_version()} knows {SCHEMA}"


def use_newer(writer: str | None) -> str:
    """What to do about it."""
    return (
        f"Use Helmr {writer} or later."
        if writer is not None
        else "Use the newer Helmr that wrote it."
    )
