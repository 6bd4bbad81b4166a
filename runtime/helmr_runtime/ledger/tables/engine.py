"""The tables' access to the engine: a connection that reads entries, statements of many rows, values, errors.

A few rows enter a statement as one list per column. The engine holds the GIL while it reads lists, so many rows enter
as one JSON text, which it parses without the GIL. Times enter as aware datetimes and leave as microseconds, so no
session setting can shift them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
from typeid.errors import TypeIDException

from helmr.errors import (
    BadId,
    DataError,
    HelmrError,
    MasterKeyMissing,
    PayloadDamaged,
    StoreUnavailable,
)
from helmr.wire import ids
from helmr.wire.old_names import body_of_today
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind, Principal, principal_text

Row = Sequence[Any]

IDS_CACHED = 16_384
"""Ids converted again and again: those of the sessions, runs and waits at work."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def first_row(found: duckdb.DuckDBPyConnection) -> tuple[Any, ...] | None:
    """The first row of what a statement found, which is read to its end.

    A result that is not keeps its connection's transaction open, and for as long nothing gets from the database's log
    into its file.
    """
    left = found.fetchall()
    return left[0] if left else None


@lru_cache(IDS_CACHED)
def uuid_of(identity: str) -> UUID:
    """The UUID of an id.

    Raises:
        BadId: Not an id.
    """
    try:
        return ids.to_uuid(identity)
    except (TypeIDException, ValueError) as error:
        raise BadId(f"{identity[:80]!r} is not an id") from error


@lru_cache(IDS_CACHED)
def id_of(prefix: str, value: UUID) -> str:
    """The id of a UUID."""
    return ids.from_uuid(prefix, value)


def uuid_or_none(identity: str | None) -> UUID | None:
    """The UUID of an id, if there is one."""
    return uuid_of(identity) if identity is not None else None


def id_or_none(prefix: str, value: UUID | None) -> str | None:
    """The id of a UUID, if there is one."""
    return id_of(prefix, value) if value is not None else None


def time_of(micros: int) -> datetime:
    """The time that `epoch_us` gave."""
    return EPOCH + micros * MICROSECOND


def micros_of(moment: datetime) -> int:
    """Convert a time to microseconds; `time_of` converts back."""
    return (moment - EPOCH) // MICROSECOND


def time_or_none(micros: int | None) -> datetime | None:
    """The time that `epoch_us` gave, if any."""
    return EPOCH + micros * MICROSECOND if micros is not None else None


def micros_or_none(moment: datetime | None) -> int | None:
    """A time as `epoch_us` gives it."""
    return micros_of(moment) if moment is not None else None


def entry_row(entry: Entry) -> Row:
    """A row of `entries`."""
    return (
        entry.feed_offset,
        uuid_of(entry.session_id),
        entry.seq,
        entry.recorded_at,
        entry.kind.value,
        uuid_or_none(entry.run_id),
        entry.op,
        principal_text(entry.principal),
        entry.body_json,
        entry.hash,
    )


@lru_cache(1024)
def _principal(text: str) -> Principal:
    return Principal.from_json(jsontext.decode(text))


OpenBody = Callable[[str, str, int, str], str]
"""Gives the JSON text of a stored body: (stored, session id, seq, kind)."""


def entry_of(row: Row, open_body: OpenBody) -> Entry:
    """The entry of a row of `entry_rows`.

    Raises:
        PayloadDamaged: Its body is not what was written; names the entry.
        MasterKeyMissing: Its body is sealed with a key that there is not.
    """
    offset, session, seq, recorded_us, kind, run, op, principal, body, digest = row
    session_id = id_of(ids.SESSION, session)
    return Entry(
        session_id=session_id,
        seq=seq,
        recorded_at=time_of(recorded_us),
        kind=EntryKind(kind),
        run_id=id_or_none(ids.RUN, run),
        op=op,
        principal=_principal(principal),
        body=_body(open_body(body, session_id, seq, kind), session_id, seq, kind),
        body_json=body,
        hash=bytes(digest),
        feed_offset=offset,
    )


def body_of(row: Row, open_body: OpenBody) -> dict[str, Any]:
    """The body of an entry, of its columns `feed_offset, session, seq, kind, body`; raises as `entry_of`."""
    _, session, seq, kind, body = row
    session_id = id_of(ids.SESSION, session)
    return _body(open_body(body, session_id, seq, kind), session_id, seq, kind)


def _body(text: str, session_id: str, seq: int, kind: str) -> dict[str, Any]:
    try:
        body: dict[str, Any] = jsontext.decode(text)
    except ValueError as error:
        raise PayloadDamaged(
            f"{session_id} seq {seq} ({kind}): the body is not JSON: it was changed",
            session_id=session_id,
            seq=seq,
            kind=kind,
        ) from error
    return body_of_today(kind, body)


Connection = duckdb.DuckDBPyConnection

ENGINE_ERROR = duckdb.Error
"""What a failing statement raises; translated by the ledger around the store."""

STORE_ERRORS = (duckdb.Error, OSError, StoreUnavailable)
"""Everything by which a write fails that may succeed later."""

_PASSING = (OSError, duckdb.IOException, duckdb.OutOfMemoryException, duckdb.FatalException)
"""Of the machine: its disk, its memory, its rights."""

_LASTING = (
    *("orrupt", "does not match", "not a valid", "Could not read enough bytes"),
    *("version number", "newer version", "older version"),
)
"""What input and output errors say that are about what stands in the file; the engine has no class for that."""


class Reader:
    """A connection for reading, which turns rows of `entry_rows` into entries with their bodies opened."""

    def __init__(self, connection: Connection, open_body: OpenBody) -> None:
        self._connection = connection
        self._open_body = open_body

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Connection:
        """Run a statement."""
        return self._connection.execute(statement, parameters)

    def entries(self, statement: str, parameters: Sequence[Any] = ()) -> list[Entry]:
        """The entries that a statement finds whose first columns are those of `entry_rows`.

        Raises:
            PayloadDamaged: A body is not what was written; names the entry.
            MasterKeyMissing: A body is sealed with a key that there is not.
        """
        rows = self._connection.execute(statement, parameters).fetchall()
        return [entry_of(row[:10], self._open_body) for row in rows]

    def readable_entries(
        self, statement: str, parameters: Sequence[Any] = ()
    ) -> tuple[list[Entry], dict[int, str]]:
        """Read entries. One that can't be opened has an empty body, and a problem under its feed offset.

        Lists use it, so that one bad entry does not fail them. Never decide anything from its result.
        """
        found: list[Entry] = []
        problems: dict[int, str] = {}
        for row in self._connection.execute(statement, parameters).fetchall():
            try:
                found.append(entry_of(row[:10], self._open_body))
            except (PayloadDamaged, MasterKeyMissing) as error:
                problems[row[0]] = error.message
                found.append(entry_of((*row[:8], "{}", row[9]), in_the_clear))
        return found, problems

    def body_of(self, row: Sequence[Any]) -> dict[str, Any]:
        """The body of an entry, as `rows.body_of`."""
        return body_of(row, self._open_body)


def in_the_clear(stored: str, session_id: str, seq: int, kind: str) -> str:
    """Opens bodies that were never sealed."""
    return stored


_NO_ROOM = ("No space left on device", "Disk quota exceeded")
"""What the engine says of a full disk, in errors of several classes; it has none for that."""


def no_room(path: Path, error: Exception) -> StoreUnavailable | None:
    """The error of a ledger whose disk is full; None if that is not what the engine, or the system, says."""
    if not any(sign in str(error) for sign in _NO_ROOM):
        return None
    return StoreUnavailable(
        f"there is no room for {path}",
        hint="Make room on its disk. Nothing that was acknowledged is lost, and nothing is wrong with the file.",
    )


def unopened(path: Path, error: Exception) -> HelmrError:
    """The error of a ledger that the engine, or the system, does not open."""
    said = str(error).splitlines()[0]
    if (full := no_room(path, error)) is not None:
        return full
    of_file = said.replace(str(path), "")
    if isinstance(error, _PASSING) and not any(sign in of_file for sign in _LASTING):
        return StoreUnavailable(f"{path} can't be opened: {said}")
    return DataError(
        f"{path} can't be opened: {said}",
        hint="Trying again does not help. Keep a copy of the data directory as it is, then try `helmr repair`, which "
        "keeps the old file too. Else go on with a backup, or with a copy that was made while the runtime was stopped.",
    )


MANY = 64
"""From so many rows on a text costs less processor time than lists."""

AT_ONCE = 5_000
"""Rows in one text."""

_READ = {"TIMESTAMPTZ": "make_timestamptz({}::BIGINT)", "BLOB": "unhex({})", "VARCHAR": "{}"}
"""How a value of a type is made of its text, where that is not a cast."""


class BatchStatement:
    """A statement over rows.

    Args:
        text: With `{rows}` where the rows are selected.
        columns: Their names and types, as a table is declared.
    """

    def __init__(self, text: str, columns: str) -> None:
        declared = [column.split() for column in columns.split(",")]
        places = list(enumerate(declared, start=1))
        lists = ", ".join(f"unnest(${n}::{kind}[]) AS {name}" for n, (name, kind) in places)
        read = ", ".join(
            f"{_READ.get(kind, '{}::' + kind).format(f'r[{n}]')} AS {name}"
            for n, (name, kind) in places
        )
        self._of_lists = text.format(rows=f"SELECT {lists}")
        self._of_text = text.format(
            rows=f"SELECT {read} FROM (SELECT unnest(from_json($1, '[[\"varchar\"]]')) AS r)"  # noqa: S608 - names of our own
        )

    def execute(self, connection: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> None:
        """Run it over rows of that width; not at all over none.

        Raises:
            duckdb.Error: Something of it was refused.
        """
        if len(rows) >= MANY:
            for at in range(0, len(rows), AT_ONCE):
                text = json.dumps(rows[at : at + AT_ONCE], default=_plain)
                connection.execute(self._of_text, [text])
        elif rows:
            connection.execute(self._of_lists, [list(one) for one in zip(*rows, strict=True)])


def _plain(value: Any) -> Any:
    match value:
        case UUID():
            return value.hex
        case datetime():
            return micros_of(value)
        case _:
            return bytes(value).hex()
