"""Which secrets a file holds: its bytes, and of a database or Parquet file what stands in its columns.

DuckDB and Parquet may compress texts, so that a secret in one need not be among the file's bytes.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import rmtree as remove_tree  # not the one that searches before it removes
from types import TracebackType
from typing import Self

import duckdb

from helmr_runtime.security.payloads import find_secrets

MAY_HOLD_ONE = {
    "credentials.json": "a local program's way in, 0600",
    "admin.key": "the local key itself, 0600",
    "*/runtimes/*.json": "the pointer to credentials.json, 0600",
    "*/pages/*": "what a task handed to a web page's server: the example's public token",
    "*/mail/*": "an e-mail that a task sent: the demo's and the tests' outbox",
    "*/marks/mail-*-own-token": "the link that a task in the ledger of 0.1.0 sends",
    "master-keys.json": "the master keys themselves, 0600",
    "tests/fixtures/ledger_0_1_0/secrets.json": "tracked, in a copy of the sources: what opens that ledger",
    "tests/security/test_keys.py": "tracked, in a copy of the sources: derived from known bytes",
    "helmr-*/token": "Ray's token itself, 0600",
}
"""Files whose purpose is to hold a secret, as patterns of their path."""

PREFIX = b"hlmr_"
FOREIGN = re.compile(rb"([0-9a-f]{64}|[0-9A-Za-z+/]{43})=?")
"""What a token of Ray and a master key look like, less its padding; whether one is, only the known ones tell."""
FOREIGN_CHARS_MIN = 43
CHARS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/"
IS_CHAR = bytes(1 if byte in CHARS else 0 for byte in range(256))

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
    return {match[1] for secret in found if (match := FOREIGN.fullmatch(secret))}


def searched_in(folder: Path) -> Iterator[Path]:
    """The files below a folder, but those that may hold a secret."""
    return (path for path in _files(folder) if not may_hold_one(path))


def may_hold_one(path: Path) -> bool:
    """The file is one whose purpose is to hold a secret."""
    return any(path.match(pattern) for pattern in MAY_HOLD_ONE)


def secrets_of(path: Path, foreign: set[bytes], columns: Columns) -> list[str]:
    """The well-formed secrets of ours in a file, and those of `foreign`."""
    try:
        content = path.read_bytes() if path.stat().st_size <= FILE_BYTES_MAX else b""
    except OSError:  # it went away, or a test took its rights
        return []
    texts = [content.decode("latin-1")] if PREFIX in content else []
    kind = TABLES.get(path.suffix)
    if kind is not None and kind in content[:16]:
        texts += columns.texts(path)
    found = dict.fromkeys(secret for text in texts for secret in find_secrets(text))
    if foreign:
        for text in _long_words(content):
            found |= {secret.decode(): None for secret in foreign if secret in text}
    return list(found)


def _long_words(content: bytes) -> Iterator[bytes]:
    """What might hold a foreign secret; a regex takes fifty times as long over gigabytes of ledgers."""
    kinds = content.translate(IS_CHAR)
    word = b"\1" * FOREIGN_CHARS_MIN
    begin = kinds.find(word)
    while begin >= 0:
        end = kinds.find(b"\0", begin)
        end = len(kinds) if end < 0 else end
        yield content[begin:end]
        begin = kinds.find(word, end)


class Columns:
    """Reads the texts in the columns of databases and Parquet files, which hold the prefix; one connection for all."""

    def __init__(self) -> None:
        self._database: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._database is not None:
            self._database.close()

    def texts(self, path: Path) -> list[str]:
        """Those of one file, with the log that belongs to it; of a copy if something holds the file."""
        if self._database is None:
            self._database = duckdb.connect(config={"threads": 1})
        if path.suffix != ".parquet":
            with suppress(duckdb.Error):
                return _table_texts(self._database, path)
        return self._copys_texts(self._database, path)

    def _copys_texts(self, database: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
        folder = Path(tempfile.mkdtemp(prefix="helmr-columns-"))
        try:
            copy = Path(shutil.copy(path, folder))
            wal = path.with_name(f"{path.name}.wal")
            if wal.is_file():
                shutil.copy(wal, folder)
            return (_parquet_texts if path.suffix == ".parquet" else _table_texts)(database, copy)
        except (
            OSError,
            duckdb.Error,
        ):  # it went away, or a test damaged it; its bytes were searched
            return []
        finally:
            remove_tree(folder, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if not path.is_symlink() and path.is_file()]


def _table_texts(database: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    database.execute(f"ATTACH '{path}' AS searched (READ_ONLY)")
    try:
        tables = defaultdict(list)
        for table, column in database.execute(
            'SELECT format(\'searched."{}"."{}"\', schema_name, table_name), column_name FROM duckdb_columns() '
            "JOIN duckdb_tables() USING (database_name, schema_name, table_name) "
            "WHERE database_name = 'searched' AND data_type LIKE 'VARCHAR%' AND estimated_size > 0"
        ).fetchall():
            tables[table].append(column)
        return _holding(database, tables)
    finally:
        database.execute("DETACH searched")


def _parquet_texts(database: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    source = f"read_parquet('{path}')"
    columns = database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    names = [name for name, kind, *_ in columns if kind.startswith("VARCHAR")]
    return _holding(database, {source: names} if names else {})


def _holding(database: duckdb.DuckDBPyConnection, tables: dict[str, list[str]]) -> list[str]:
    """The texts with the prefix in columns of tables, by one query: there are hundreds of files."""
    queries = []
    for source, columns in tables.items():
        texts = ", ".join(f'"{column}"::VARCHAR' for column in columns)
        queries.append(f"SELECT unnest([{texts}]) AS t FROM {source}")
    if not queries:
        return []
    query = f"SELECT t FROM ({' UNION ALL '.join(queries)}) WHERE contains(t, ?)"
    return [text for (text,) in database.execute(query, [PREFIX.decode()]).fetchall()]
