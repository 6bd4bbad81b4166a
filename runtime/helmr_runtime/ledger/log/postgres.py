"""PostgreSQL as a store of objects: one table, whose primary key is the fence.

Each thread has a connection of its own, made again when it fails. An object is a row; its tag is a number that rises
with each write. `synchronous_commit` is the server's: what a commit of the log survives is what a commit of that server
does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg.errors import DuplicateObject, UniqueViolation

from helmr.errors import StoreUnavailable, UsageError
from helmr_runtime.ledger.log.objects import ObjectChanged, ObjectExists

T = TypeVar("T")
Postgres = psycopg.Connection[tuple[Any, ...]]

SCHEMES = ("postgresql", "postgres")
TIMEOUT_S = 5.0
"""Of a statement, also where the server or the network has gone silent."""

CONNECT_S = 2
LEDGER = "ledger"
"""The setting in the URL that is ours: one table holds the logs of many ledgers."""

_TABLE = """
CREATE TABLE IF NOT EXISTS helmr_log (
    ledger text, key text COLLATE "C", data bytea NOT NULL, tag bigint NOT NULL DEFAULT 1, PRIMARY KEY (ledger, key))
"""
_CREATE = "INSERT INTO helmr_log (ledger, key, data) VALUES (%s, %s, %s)"
_GET = "SELECT data, tag FROM helmr_log WHERE ledger = %s AND key = %s"
_GET_MANY = "SELECT key, data FROM helmr_log WHERE ledger = %s AND key = ANY(%s)"
_REPLACE = "UPDATE helmr_log SET data = %s, tag = tag + 1 WHERE ledger = %s AND key = %s AND tag = %s RETURNING tag"
_PUT = (
    _CREATE
    + " ON CONFLICT (ledger, key) DO UPDATE SET data = excluded.data, tag = helmr_log.tag + 1 RETURNING tag"
)
_KEYS = "SELECT key FROM helmr_log WHERE ledger = %s AND key LIKE %s ORDER BY key"
_DELETE = "DELETE FROM helmr_log WHERE ledger = %s AND key = ANY(%s)"
_DURABILITY = "SELECT current_setting('synchronous_commit'), current_setting('fsync')"


class Deadlines:
    """Ends the connections whose server has not answered in time: libpq waits for an answer for ever."""

    def __init__(self) -> None:
        self._asking: dict[Postgres, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watched(self, connection: Postgres) -> Iterator[None]:
        """Meanwhile the connection has to answer."""
        with self._lock:
            self._asking[connection] = time.monotonic() + TIMEOUT_S + 1
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._main, name="postgres-deadlines", daemon=True
                )
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                del self._asking[connection]

    def end(self) -> None:
        """Watch nothing more."""
        self._ended.set()

    def _main(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                for connection, at_s in self._asking.items():
                    if time.monotonic() >= at_s:
                        _shut(connection)


def _shut(connection: Postgres) -> None:
    """Shut the connection's socket, so a thread that waits on it gets an error."""
    with contextlib.suppress(OSError, psycopg.Error):
        copy = socket.socket(fileno=os.dup(connection.fileno()))
        try:
            copy.shutdown(socket.SHUT_RDWR)
        finally:
            copy.close()


class PostgresObjects:
    """An `Objects` store in a PostgreSQL table.

    Args:
        conninfo: Connection string of libpq.
        ledger: Name of the ledger that owns the rows.
        name: Name in messages.
    """

    def __init__(self, conninfo: str, ledger: str, name: str) -> None:
        self.name = name
        self._conninfo = conninfo
        self._ledger = ledger
        self._mine = threading.local()
        self._all: set[Postgres] = set()
        self._has_table = False
        self._deadlines = Deadlines()

    def create(self, key: str, data: bytes) -> None:
        try:
            self._run(lambda connection: connection.execute(_CREATE, [self._ledger, key, data]))
        except UniqueViolation as error:
            raise ObjectExists(key) from error

    def get(self, key: str) -> tuple[bytes, str] | None:
        def ask(connection: Postgres) -> tuple[bytes, str] | None:
            rows = connection.execute(_GET, [self._ledger, key], binary=True).fetchall()
            return next(((bytes(data), str(tag)) for data, tag in rows), None)

        return self._run(ask)

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        def ask(connection: Postgres) -> list[bytes | None]:
            rows = connection.execute(_GET_MANY, [self._ledger, list(keys)], binary=True).fetchall()
            found = {key: bytes(data) for key, data in rows}
            return [found.get(key) for key in keys]

        return self._run(ask)

    def replace(self, key: str, data: bytes, tag: str | None) -> str:
        def put(connection: Postgres) -> list[tuple[Any, ...]]:
            if tag is None:
                return connection.execute(_PUT, [self._ledger, key, data]).fetchall()
            return connection.execute(_REPLACE, [data, self._ledger, key, int(tag)]).fetchall()

        made = self._run(put)
        if not made:
            raise ObjectChanged(key)
        return str(made[0][0])

    def keys(self, prefix: str) -> Iterable[str]:
        def ask(connection: Postgres) -> list[str]:
            pattern = prefix.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_") + "%"
            rows = connection.execute(_KEYS, [self._ledger, pattern]).fetchall()
            return [key for (key,) in rows]

        return self._run(ask)

    def delete(self, keys: Sequence[str]) -> None:
        self._run(lambda connection: connection.execute(_DELETE, [self._ledger, list(keys)]))

    def close(self) -> None:
        self._deadlines.end()
        while self._all:
            self._all.pop().close()

    def durability(self) -> str | None:
        def ask(connection: Postgres) -> str:
            ((commit, sync),) = connection.execute(_DURABILITY).fetchall()
            return f"synchronous_commit {commit}, fsync {sync}"

        return self._run(ask)

    def _run(self, ask: Callable[[Postgres], T]) -> T:
        """Raises UniqueViolation as it is."""
        connection: Postgres | None = getattr(self._mine, "connection", None)
        try:
            if connection is None or connection.closed:
                connection = self._mine.connection = self._connect()
                self._all.add(connection)
            with self._deadlines.watched(connection):
                return ask(connection)
        except UniqueViolation:
            raise
        except psycopg.Error as error:
            # Whatever it was, the next call begins with a new connection.
            if connection is not None:
                self._all.discard(connection)
                connection.close()
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StoreUnavailable(f"{self.name}: {said}", retry_after_s=1) from error

    def _connect(self) -> Postgres:
        connection = psycopg.connect(
            self._conninfo,
            autocommit=True,
            connect_timeout=CONNECT_S,
            options=f"-c statement_timeout={int(TIMEOUT_S * 1000)}",
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=2,
            tcp_user_timeout=int(TIMEOUT_S * 1000),
        )
        if not self._has_table:
            try:
                connection.execute(_TABLE)
            except (UniqueViolation, DuplicateObject):
                # Another makes it at the same time: PostgreSQL's own catalog says so, by its key or the table's type.
                connection.execute(_TABLE)
            self._has_table = True
        return connection


def open_postgres(url: str) -> PostgresObjects:
    """Return the database store that a URL names, without a connection to it.

    Args:
        url: As libpq has it, `postgresql://user@host/database`; `?ledger=NAME` says which of the logs in it, `main` if
            it does not.

    Raises:
        UsageError: It can't be one.
    """
    parts = urlsplit(url)
    settings = parse_qsl(parts.query, keep_blank_values=True)
    ledger = dict(settings).get(LEDGER, "main")
    query = urlencode([one for one in settings if one[0] != LEDGER])
    conninfo = urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
    try:
        psycopg.conninfo.conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError as error:
        raise UsageError(
            f"--log can't be a PostgreSQL: {str(error).splitlines()[0]}",
            hint="Give it as `postgresql://user@host/database`, settings behind a question mark as libpq names them.",
        ) from error
    place = f"{parts.hostname or dict(settings).get('host', '')}{parts.path}"
    return PostgresObjects(conninfo, ledger, f"postgresql://{place} ({ledger})")
