"""The master keys that a ledger's file knows: what is held against the key ring before anything is written (S-52).

Reads with whatever connection has the file, of any schema, and needs no key to do so.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import duckdb

from helmr import ids
from helmr_runtime.core.entries import GENESIS
from helmr_runtime.ledger.tables import rows
from helmr_runtime.ledger.tables.reads import linked
from helmr_runtime.security.keys import KeyRing, held_against

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
    """Have the file know these keys too, in the open transaction if there is one."""
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
    bounds = [rows.uuid_of(ids.SYSTEM_STREAM), projected[0][0], SAMPLES_MAX]
    by_id = {key.id for key in ring.keys} if ring is not None else set()
    found: dict[str, bool] = defaultdict(bool)
    for row in connection.execute(_FIRST, bounds).fetchall():
        key_id = _chain_key_id(row[8])
        if key_id is None:
            continue
        session_id = rows.id_of(ids.SESSION, row[1])
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
