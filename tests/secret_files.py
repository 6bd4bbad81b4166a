"""Which secrets a file holds: its bytes, and of a database or Parquet file what stands in its columns.

DuckDB and Parquet may compress texts, so that a secret in one need not be among the file's bytes.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree as remove_tree  # not the one that searches before it removes

import duckdb

from runtime.security.redaction import find_secrets

MAY_HOLD_ONE = {
    "credentials.json": "a local program's way in, 0600",
    "admin.key": "the local key itself, 0600",
    "*/runtimes/*.json": "the pointer to credentials.json, 0600",
    "*/pages/*": "what a task handed to a web page's server: the example's public token",
    "*/mail/*": "an e-mail that a task sent: the demo's and the tests' outbox",
    "master-keys.json": "the master keys themselves, 0600",
    "helmr-*/token": "Ray's token itself, 0600",
}
"""Files whose purpose is to hold a secret, as patterns of their path."""

PREFIX = b"hlmr_"
FOREIGN = re.compile(rb"(?<![0-9A-Za-z+/=])(?:[0-9a-f]{64}|[0-9A-Za-z+/]{43}=)(?![0-9A-Za-z+/=])")
"""What a token of Ray and a master key look like; whether one is, only the known ones tell."""

FILE_BYTES_MAX = 256 * 1024 * 1024
TABLES = {".duckdb": b"DUCK", ".parquet": b"PAR1"}
"""Kinds of files whose columns are read, and what such a file has in its first 16 bytes."""


def foreign_secrets(folder: Path) -> set[bytes]:
    """Master keys and Ray's tokens in the files below the folder that are there for them."""
    found: set[bytes] = set()
    for path in _files(folder):
        try:
            if path.name == "master-keys.json":
                keys = json.loads(path.read_bytes())["keys"]
                found |= {str(key["key"]).encode() for key in keys}
            elif path.match("helmr-*/token"):
                found.add(path.read_bytes().strip())
        except (OSError, ValueError, KeyError, TypeError):  # not such a file, or a test spoilt it
            continue
    return {secret for secret in found if FOREIGN.fullmatch(secret)}


def searched_in(folder: Path) -> Iterator[Path]:
    """The files below a folder, but those that may hold a secret."""
    return (path for path in _files(folder) if not may_hold_one(path))


def may_hold_one(path: Path) -> bool:
    """The file is one whose purpose is to hold a secret."""
    return any(path.match(pattern) for pattern in MAY_HOLD_ONE)


def secrets_of(path: Path, foreign: set[bytes]) -> list[str]:
    """The well-formed secrets of ours in a file, and those of `foreign`."""
    try:
        content = path.read_bytes() if path.stat().st_size <= FILE_BYTES_MAX else b""
    except OSError:  # it went away, or a test took its rights
        return []
    texts = [content.decode("latin-1")] if PREFIX in content else []
    kind = TABLES.get(path.suffix)
    if kind is not None and kind in content[:16]:
        texts += _column_texts(path)
    found = dict.fromkeys(secret for text in texts for secret in find_secrets(text))
    if foreign:
        others = (match[0] for match in FOREIGN.finditer(content) if match[0] in foreign)
        found |= dict.fromkeys(secret.decode() for secret in others)
    return list(found)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if not path.is_symlink() and path.is_file()]


def _column_texts(path: Path) -> list[str]:
    """The texts in the file's columns that hold the prefix; read from a copy, with the log that belongs to it."""
    folder = Path(tempfile.mkdtemp(prefix="helmr-columns-"))
    try:
        copy = Path(shutil.copy(path, folder))
        wal = path.with_name(f"{path.name}.wal")
        if wal.is_file():
            shutil.copy(wal, folder)
        return _parquet_texts(copy) if path.suffix == ".parquet" else _table_texts(copy)
    except (OSError, duckdb.Error):  # it went away, or a test damaged it; its bytes were searched
        return []
    finally:
        remove_tree(folder, ignore_errors=True)


def _table_texts(path: Path) -> list[str]:
    with duckdb.connect(str(path), config={"threads": 1}) as database:
        columns = database.execute(
            "SELECT schema_name, table_name, column_name FROM duckdb_columns() "
            "WHERE NOT internal AND database_name = current_database() AND data_type LIKE 'VARCHAR%'"
        ).fetchall()
        found: list[str] = []
        for schema, table, column in columns:
            found += _holding(database, f'"{schema}"."{table}"', column)
        return found


def _parquet_texts(path: Path) -> list[str]:
    with duckdb.connect(config={"threads": 1}) as database:
        source = f"read_parquet('{path}')"
        columns = database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        return [
            text
            for name, kind, *_ in columns
            if kind.startswith("VARCHAR")
            for text in _holding(database, source, name)
        ]


def _holding(database: duckdb.DuckDBPyConnection, source: str, column: str) -> list[str]:
    query = f'SELECT "{column}"::VARCHAR FROM {source} WHERE contains("{column}"::VARCHAR, ?)'
    return [text for (text,) in database.execute(query, [PREFIX.decode()]).fetchall()]
