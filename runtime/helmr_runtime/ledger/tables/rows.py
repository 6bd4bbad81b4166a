"""Between the store's values and DuckDB's.

Times go in as aware datetimes and come out as microseconds, so that no session setting can shift them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import duckdb
from typeid.errors import TypeIDException

from helmr import ids
from helmr.errors import BadId, PayloadDamaged
from helmr.old_names import body_of_today
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
    """What `time_of` makes the time of again."""
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
