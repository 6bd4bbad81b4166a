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
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry, EntryKind, Principal, principal_text
from helmr_runtime.ledger.projection import (
    NewRun,
    NewSession,
    NewWait,
    RunNumbers,
    SessionNumbers,
    WaitNumbers,
)

Row = Sequence[Any]

IDS_CACHED = 16_384
"""Ids converted again and again: those of the sessions, runs and waits at work."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


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
    return _EPOCH + micros * _MICROSECOND


def micros_of(moment: datetime) -> int:
    """What `time_of` makes the time of again."""
    return (moment - _EPOCH) // _MICROSECOND


def time_or_none(micros: int | None) -> datetime | None:
    """The time that `epoch_us` gave, if any."""
    return _EPOCH + micros * _MICROSECOND if micros is not None else None


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
    return body


FIXED_LAST = 5
"""Columns of `sessions` behind those that change: the origin of a fork, and the parent of a child."""


def new_session_row(row: NewSession) -> Row:
    """What of a row of `sessions` never changes: the first columns, and the last `FIXED_LAST`."""
    return (
        uuid_of(row.session_id),
        row.created_offset,
        row.created_at,
        row.task,
        row.external_id,
        row.start_key,
        row.tags,
        row.metadata,
        uuid_or_none(row.origin_id),
        row.origin_seq,
        uuid_or_none(row.parent_id),
        uuid_or_none(row.parent_run_id),
        row.parent_op,
    )


def session_numbers_row(row: SessionNumbers) -> Row:
    """The key and the changing columns of `sessions`."""
    return (
        uuid_of(row.session_id),
        row.status,
        row.activity,
        uuid_or_none(row.run_id),
        uuid_or_none(row.wait_id),
        row.next_seq,
        row.last_offset,
        row.updated_at,
        row.epoch,
        row.checkpoint_offset,
        row.tail_count,
        row.open_steps,
        row.has_keys,
    )


def session_of(row: Row) -> tuple[NewSession, SessionNumbers]:
    """The two halves of a row of `session_rows`."""
    session_id = id_of(ids.SESSION, row[0])
    fixed = NewSession(
        session_id=session_id,
        created_offset=row[1],
        created_at=time_of(row[2]),
        task=row[3],
        external_id=row[4],
        start_key=row[5],
        tags=row[6],
        metadata=row[7],
        origin_id=id_or_none(ids.SESSION, row[20]),
        origin_seq=row[21],
        parent_id=id_or_none(ids.SESSION, row[22]),
        parent_run_id=id_or_none(ids.RUN, row[23]),
        parent_op=row[24],
    )
    numbers = SessionNumbers(
        session_id=session_id,
        status=row[8],
        activity=row[9],
        run_id=id_or_none(ids.RUN, row[10]),
        wait_id=id_or_none(ids.WAIT, row[11]),
        next_seq=row[12],
        last_offset=row[13],
        updated_at=time_of(row[14]),
        epoch=row[15],
        checkpoint_offset=row[16],
        tail_count=row[17],
        open_steps=row[18],
        has_keys=row[19],
    )
    return fixed, numbers


def new_run_row(row: NewRun) -> Row:
    """The first columns of `runs`."""
    return (
        uuid_of(row.run_id),
        uuid_of(row.session_id),
        row.created_offset,
        row.created_at,
        row.task,
    )


def run_numbers_row(row: RunNumbers) -> Row:
    """The key and the changing columns of `runs`."""
    return (
        uuid_of(row.run_id),
        row.status,
        row.attempt,
        row.retry_at,
        row.queued_at,
        row.ended_at,
        row.outcome_offset,
    )


def run_of(row: Row) -> tuple[NewRun, RunNumbers]:
    """The two halves of a row of `run_rows`."""
    run_id = id_of(ids.RUN, row[0])
    fixed = NewRun(
        run_id=run_id,
        session_id=id_of(ids.SESSION, row[1]),
        created_offset=row[2],
        created_at=time_of(row[3]),
        task=row[4],
    )
    return fixed, run_numbers_of(run_id, row)


def run_numbers_of(run_id: str, row: Row) -> RunNumbers:
    """The changing half of a row of `run_rows`."""
    return RunNumbers(
        run_id=run_id,
        status=row[5],
        attempt=row[6],
        retry_at=time_or_none(row[7]),
        queued_at=time_or_none(row[8]),
        ended_at=time_or_none(row[9]),
        outcome_offset=row[10],
    )


def new_wait_row(row: NewWait) -> Row:
    """The first columns of `waits`."""
    return (
        uuid_of(row.wait_id),
        uuid_of(row.session_id),
        uuid_of(row.run_id),
        row.op,
        row.opened_offset,
        row.opened_at,
        row.kind,
        row.task,
        row.stream,
        row.correlation_id,
        uuid_or_none(row.token_id),
        row.deadline_at,
        row.is_backoff,
    )


def wait_details_row(row: NewWait) -> Row:
    """The columns of `waits` behind the mode that never change either."""
    return (row.priority, row.tags, row.session_tags, row.assignee, row.session_ids)


def wait_numbers_row(row: WaitNumbers) -> Row:
    """The key and the columns of `waits` that say how it ended."""
    return (uuid_of(row.wait_id), row.status, row.resolved_offset, row.resolved_at, row.mode)


def wait_newer_row(row: WaitNumbers) -> Row:
    """The last columns of `waits`: what is next on its escalation, and the batch that its answer was one of."""
    return (row.next_escalation, row.next_escalation_at, row.default_at, row.batch_id)


def wait_of(row: Row) -> tuple[NewWait, WaitNumbers]:
    """The two halves of a row of `wait_rows`."""
    wait_id = id_of(ids.WAIT, row[0])
    fixed = NewWait(
        wait_id=wait_id,
        session_id=id_of(ids.SESSION, row[1]),
        run_id=id_of(ids.RUN, row[2]),
        op=row[3],
        opened_offset=row[4],
        opened_at=time_of(row[5]),
        kind=row[6],
        task=row[7],
        stream=row[8],
        correlation_id=row[9],
        token_id=id_or_none(ids.TOKEN, row[10]),
        deadline_at=time_or_none(row[11]),
        is_backoff=row[12],
        priority=row[17],
        tags=row[18],
        session_tags=row[19],
        assignee=row[20],
        session_ids=row[21],
    )
    numbers = WaitNumbers(
        wait_id=wait_id,
        status=row[13],
        resolved_offset=row[14],
        resolved_at=time_or_none(row[15]),
        mode=row[16],
        next_escalation=row[22],
        next_escalation_at=time_or_none(row[23]),
        default_at=time_or_none(row[24]),
        batch_id=row[25],
    )
    return fixed, numbers
