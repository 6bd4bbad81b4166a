"""The tables: what they are today, which number that has, and which master keys a file knows.

`entries`, `checkpoints` and `holdings` are appended to and never updated; the others are projections of the
entries, written behind. Primary keys only: other indexes on changing columns lose rows in this engine's releases
of 2026. Columns that change are numbers, times and enums; text is written once.

There are no migrations. The entries are the truth: a file of an earlier number is carried over by folding its entries
into today's tables (`helmr_runtime.ledger.log.carry_over`).

What a file knows of its master keys is held against the key ring before anything is written (S-52), on whatever
connection has the file, of any schema, and without a key.

Source: measurements of the project: scattered updates of numbers in 100,000 rows cost a checkpoint
10 ms, also beside text columns that do not change.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from helmr.errors import DataError
from helmr.version import version as helmr_version
from helmr.wire import ids
from helmr_runtime.core.entries import GENESIS
from helmr_runtime.ledger.index.features import FeatureMemories
from helmr_runtime.ledger.tables import engine
from helmr_runtime.ledger.tables import table as tables
from helmr_runtime.ledger.tables.engine import first_row
from helmr_runtime.ledger.tables.reads import linked
from helmr_runtime.security.keys import KeyRing, held_against

SCHEMA = 14
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


def make_of_features(connection: duckdb.DuckDBPyConnection, features: FeatureMemories) -> None:
    """Make the tables of features that the file lacks: it is new, or was written without them."""
    lacking = [
        tables.table_of(part.table)
        for part, _ in features
        if part.table is not None and not _has(connection, part.table.name)
    ]
    for table in lacking:
        for statement in table.statements:
            connection.execute(statement)
    if lacking:
        connection.execute("CHECKPOINT")


def schema_of(connection: duckdb.DuckDBPyConnection) -> int:
    """The number of a file's tables; 0 if it has none.

    Raises:
        DataError: A newer Helmr made them.
    """
    if not _has(connection, "meta"):  # a look at the list of all tables takes twenty times as long
        return 0
    row = first_row(connection.execute("SELECT number FROM meta WHERE name = 'schema'"))
    schema = int(row[0]) if row is not None else 0
    if schema > SCHEMA:
        writer = written_by(connection)
        raise DataError(f"the ledger {too_new(schema, writer)}", hint=use_newer(writer))
    return schema


def sign(connection: duckdb.DuckDBPyConnection) -> None:
    """Record this Helmr's version in the file."""
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
    """Build the hint for a file that a newer Helmr wrote."""
    return (
        f"Use Helmr {writer} or later."
        if writer is not None
        else "Use the newer Helmr that wrote it."
    )


Connection = duckdb.DuckDBPyConnection

KEY_PREFIX = "key:"
"""What the name of a fingerprint's row in `meta_texts` begins with; the key's id follows."""

SAMPLES_MAX = 1_000
"""First entries that are looked at of sessions that the tables do not show yet."""

_HAS_ENTRIES = "SELECT 1 FROM entries LIMIT 1"
_KNOWN = "SELECT name, text FROM meta_texts WHERE starts_with(name, $1)"
_COLUMNS = "feed_offset, session, seq, epoch_us(recorded_at), kind, run, op, principal, body, hash"
_FIRST = f"""
SELECT {_COLUMNS} FROM entries WHERE seq = 1 AND (session = $1 OR session IN (
    SELECT min(session) FROM chains GROUP BY key_id UNION SELECT max(session) FROM chains GROUP BY key_id
))
UNION ALL
(SELECT {_COLUMNS} FROM entries WHERE seq = 1 AND session <> $1 AND feed_offset > $2 ORDER BY feed_offset LIMIT $3)
"""  # noqa: S608 - names of our own
"""The system stream's first entry, two of the chains of each master key, and those that the tables do not show yet."""
_REMEMBER = "INSERT INTO meta_texts VALUES ($1, $2) ON CONFLICT DO UPDATE SET text = excluded.text"


def check_ring(connection: Connection, ring: KeyRing | None, path: Path) -> dict[str, str]:
    """The fingerprints that the file is to `remember`; raises unless the ring is its own.

    A file without entries takes any ring.

    Raises:
        MasterKeyMissing: It was written with other keys.
    """
    known = known_keys(connection)
    if not _has(connection, "entries") or not connection.execute(_HAS_ENTRIES).fetchall():
        known = {}
        proven: Mapping[str, bool] = {}
    else:
        has_all = ring is not None and all(key.id in known for key in ring.keys)
        proven = {} if has_all else _proven(connection, ring)
    return held_against(ring, known, proven, place=str(path.parent))


def known_keys(connection: Connection) -> dict[str, str]:
    """The fingerprints of master keys that the file has, by their ids."""
    if not _has(connection, "meta_texts"):
        return {}
    found = connection.execute(_KNOWN, [KEY_PREFIX]).fetchall()
    return {name.removeprefix(KEY_PREFIX): text for name, text in found}


def remember(connection: Connection, fingerprints: Mapping[str, str]) -> None:
    """Record the fingerprints of keys in the file, within the open transaction if there is one."""
    for key_id, mark in fingerprints.items():
        connection.execute(_REMEMBER, [KEY_PREFIX + key_id, mark])


def _has(connection: Connection, table: str) -> bool:
    try:
        connection.execute(f"SELECT 1 FROM {table} LIMIT 0")  # noqa: S608 - names of our own
    except duckdb.CatalogException:  # of an earlier schema, or a file that is being made
        return False
    return True


def _proven(connection: Connection, ring: KeyRing | None) -> dict[str, bool]:
    """The ids of master keys that chains began with, and whether the ring's key gives the first hash of any."""
    if not _has(connection, "chains"):
        return {}  # of a Helmr that had no master keys
    projected = connection.execute(
        "SELECT number FROM meta WHERE name = 'projected_offset'"
    ).fetchall()
    bounds = [engine.uuid_of(ids.SYSTEM_STREAM), projected[0][0], SAMPLES_MAX]
    by_id = {key.id for key in ring.keys} if ring is not None else set()
    found: dict[str, bool] = defaultdict(bool)
    for row in connection.execute(_FIRST, bounds).fetchall():
        key_id = _chain_key_id(row[8])
        if key_id is None:
            continue
        session_id = engine.id_of(ids.SESSION, row[1])
        key = ring.chain_key(session_id, key_id) if ring is not None and key_id in by_id else None
        is_right = key is not None and linked(session_id, row, GENESIS, key) == bytes(row[9])
        found[key_id] = found[key_id] or is_right
    return found


def _chain_key_id(stored: str) -> str | None:
    """The master key that a first entry's chain began with; a sealed body was sealed with the same."""
    try:
        body = json.loads(stored)
        sealed = body.get("sealed") if body.get("enc") else None
        named = sealed.partition(".")[0] if sealed is not None else body.get("chain_key_id")
    except (ValueError, AttributeError, RecursionError):  # it was changed: no proof of anything
        return None
    return str(named) if named is not None else None
