"""Pruned sessions as Parquet files: their entries as the ledger had them, sealed bodies sealed (S-69)."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from helmr import ids
from helmr.errors import StoreUnavailable
from helmr_runtime.ledger.log.files import sync_directory
from helmr_runtime.ledger.tables.batch_statement import BatchStatement
from helmr_runtime.ledger.tables.engine import Reader
from helmr_runtime.ledger.tables.removing import Removal
from helmr_runtime.ledger.tables.rows import Row, id_of, id_or_none, uuid_of

FOLDER = "pruned"
"""In the data directory."""

_CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "memory_limit": "256MB",
    "threads": "1",
}
_ENTRIES = """
SELECT feed_offset, session, seq, epoch_us(recorded_at), kind, run, op, principal, body, hex(hash)
FROM entries WHERE feed_offset BETWEEN $1 AND $2 AND session IN (SELECT unnest($3::UUID[])) ORDER BY feed_offset
"""
_TABLE = """
CREATE TABLE archived (feed_offset BIGINT, session VARCHAR, seq INTEGER, recorded_at TIMESTAMPTZ, kind VARCHAR,
    run VARCHAR, op INTEGER, principal VARCHAR, body VARCHAR, hash VARCHAR)
"""
_INSERT = BatchStatement(
    "INSERT INTO archived SELECT * REPLACE (make_timestamptz(recorded_us) AS recorded_us) FROM ({rows})",
    "feed_offset BIGINT, session VARCHAR, seq INTEGER, recorded_us BIGINT, kind VARCHAR, run VARCHAR, "
    "op INTEGER, principal VARCHAR, body VARCHAR, hash VARCHAR",
)
ROWS_AT_A_TIME = 200
"""Their values are made here, under the interpreter's lock; commits beside it need that too."""


def write(reader: Reader, folder: Path, removal: Removal) -> str:
    """Write the entries of sessions that are to go to a file of their own, and to disk; returns its name.

    The ledger's own engine may not write files; another one in memory does.

    Raises:
        StoreUnavailable: It can't be written.
    """
    gone = [uuid_of(session) for session in removal.sessions]
    found = reader.execute(_ENTRIES, [removal.first_offset, removal.last_offset, gone])
    name = f"{removal.first_offset:012}-{removal.last_offset:012}-{len(gone)}.parquet"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        part = folder / f".{name}.part"
        with duckdb.connect(":memory:", config={**_CONFIG}) as scratch:
            scratch.execute("SET TimeZone = 'UTC'")
            scratch.execute(_TABLE)
            while some := found.fetchmany(ROWS_AT_A_TIME):
                _INSERT.execute(scratch, [_named(row) for row in some])
            quoted = str(part).replace("'", "''")
            scratch.execute(f"COPY archived TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)")
        part.chmod(0o600)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(folder / name)
        sync_directory(folder)
    except (OSError, duckdb.Error) as error:
        said = str(error).splitlines()[0]
        raise StoreUnavailable(f"the archive {folder} can't be written: {said}") from error
    return name


def _named(row: Row) -> Row:
    """The row with ids as everybody else knows them."""
    session, run = id_of(ids.SESSION, row[1]), id_or_none(ids.RUN, row[5])
    return (row[0], session, *row[2:5], run, *row[6:])
