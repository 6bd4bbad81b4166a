"""Changes rows of a ledger's file behind its back, as a bad disk or a hand would."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

CHANGED: dict[str, tuple[str, ...]] = {
    "entries": ("body", "principal", "kind", "seq", "hash", "recorded_at", "op", "run", "session"),
    "checkpoints": ("body", "seq"),
    "sessions": ("task", "tags", "metadata", "status", "activity", "next_seq", "last_offset"),
    "runs": ("task", "attempt", "created_offset", "status", "ended_at"),
    "waits": ("task", "op", "opened_offset", "deadline_at", "status", "stream"),
    "tokens": ("callback_hash", "tags", "created_offset", "expires_at", "status"),
    "public_tokens": ("secret_hash", "scope", "uses", "expires_at"),
    "api_keys": ("secret_hash", "role", "name"),
    "chains": ("key_id",),
    "send_keys": ("key_hash", "data_hash", "record_offset"),
    "operations": ("request_hash", "feed_offset"),
}
"""Columns by table."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One value that was changed."""

    table: str
    column: str
    before: Any
    after: Any


def damage(path: Path, chance: random.Random, table: str) -> Damage | None:
    """Change one value of a row of the table; None if the table is empty."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        column = chance.choice(CHANGED[table])
        found = connection.execute(
            f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY rowid"
        ).fetchall()
        if not found:
            return None
        row, value = chance.choice(found)
        kind = connection.execute(f"SELECT typeof({column}) FROM {table} LIMIT 1").fetchall()[0][0]
        after = _changed(value, kind, chance)
        connection.execute(f"UPDATE {table} SET {column} = $1 WHERE rowid = $2", [after, row])
        connection.execute("CHECKPOINT")
    return Damage(table, column, value, after)


def _changed(value: Any, kind: str, chance: random.Random) -> Any:
    if kind.startswith("ENUM"):
        names = kind[len("ENUM(") : -1].replace("'", "").split(", ")
        return chance.choice([name for name in names if name != value])
    if kind == "VARCHAR":
        place = chance.randrange(len(value))
        return value[:place] + ("y" if value[place] == "x" else "x") + value[place + 1 :]
    if kind == "BLOB":
        place = chance.randrange(len(value))
        return value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
    if kind == "UUID":
        return value.__class__(int=value.int ^ 1)
    if kind.startswith("TIMESTAMP"):
        return value.replace(microsecond=value.microsecond ^ 1)
    return value ^ 1
