"""Tokens, public tokens, API keys and schedules between the index and the tables.

Written with the projection, each row once in full and then only its numbers again; read back when the file is
opened (what lives), and one by one when a caller asks for what memory has forgotten. A schedule's row holds where its
text stands in the entries, and what became of it since.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any

import duckdb

from helmr import ids
from helmr.models import TokensQuery, TokenStatus
from helmr_runtime.core import jsontext
from helmr_runtime.core.entries import Entry
from helmr_runtime.core.public_tokens import Scope, ScopedToken
from helmr_runtime.core.schedules import Schedule, restored
from helmr_runtime.core.tokens import Parent, is_child
from helmr_runtime.ledger.index import row_access
from helmr_runtime.ledger.index.keys import ApiKey, OwnedPublicToken
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.index.tokens import (
    TokenHead,
    api_key_json,
    public_token_json,
    token_json,
    unreadable_token_json,
)
from helmr_runtime.ledger.tables import reads, rows
from helmr_runtime.ledger.tables.engine import BatchStatement, Reader
from helmr_runtime.ledger.tables.lists import tagged, wanted

logger = logging.getLogger(__name__)

_DELETE = "DELETE FROM schedules WHERE name IN (SELECT unnest($1::VARCHAR[]))"
_INSERT = BatchStatement(
    "INSERT INTO schedules {rows}",
    "name VARCHAR, written_offset BIGINT, created_at TIMESTAMPTZ, settled_at TIMESTAMPTZ, paused BOOLEAN, "
    "gone BOOLEAN, session UUID, last_due_at TIMESTAMPTZ, outcome VARCHAR",
)


def project_schedules(
    connection: duckdb.DuckDBPyConnection, touched: tuple[str, ...], made: tuple[rows.Row, ...]
) -> None:
    """Write inside the open transaction: the rows of those that are there, none of those that are not."""
    if touched:
        connection.execute(_DELETE, [list(touched)])
    _INSERT.execute(connection, made)


def schedule_row(schedule: Schedule) -> rows.Row:
    """As the statement takes it."""
    return (
        schedule.name,
        schedule.written_offset,
        schedule.created_at,
        schedule.settled_at,
        schedule.paused,
        schedule.gone,
        rows.uuid_or_none(schedule.session_id),
        schedule.last_due_at,
        schedule.outcome,
    )


def restore_schedules(reader: Reader, index: LedgerIndex) -> None:
    """Load all of them. One whose text can't be opened, for a master key that is gone, is left out and said so."""
    found = reader.execute("SELECT * FROM schedule_rows").fetchall()
    if not found:
        return
    entries, problems = reads.listed_entries(reader, {row[1] for row in found})
    for row in found:
        problem = reads.problem_of(problems, row[1])
        if problem is None:
            index.schedules.admit(_schedule_of(row, entries[row[1]]))
        else:
            logger.error("schedule %s can't be read and is never due: %s", row[0], problem)


def _schedule_of(row: Any, entry: Entry) -> Schedule:
    return restored(
        entry,
        created_at=rows.time_of(row[2]),
        settled_at=rows.time_of(row[3]),
        paused=row[4],
        gone=row[5],
        session_id=rows.id_or_none(ids.SESSION, row[6]),
        last_due_at=rows.time_or_none(row[7]),
        outcome=row[8],
    )


Json = dict[str, Any]

_UPSERT_TOKENS = BatchStatement(
    """
    INSERT INTO tokens {rows} ON CONFLICT (token) DO UPDATE SET status = excluded.status,
        ended_offset = excluded.ended_offset, ended_at = excluded.ended_at, pin_offset = excluded.pin_offset
    """,
    "token UUID, session UUID, created_offset BIGINT, created_at TIMESTAMPTZ, expires_at TIMESTAMPTZ, "
    "callback_hash VARCHAR, tags VARCHAR, has_schema BOOLEAN, status token_status, ended_offset BIGINT, "
    "ended_at TIMESTAMPTZ, pin_offset BIGINT, parent UUID, parent_run UUID, parent_op INTEGER, "
    "parent_attempt INTEGER, leaves BOOLEAN",
)
_UPSERT_PUBLIC_TOKENS = BatchStatement(
    """
    INSERT INTO public_tokens {rows} ON CONFLICT (public_token) DO UPDATE SET uses = excluded.uses,
        last_used_at = excluded.last_used_at, revoked_at = excluded.revoked_at
    """,
    "public_token UUID, session UUID, created_offset BIGINT, created_at TIMESTAMPTZ, secret_hash VARCHAR, "
    "scope VARCHAR, allowed_origins VARCHAR, key_id VARCHAR, max_uses BIGINT, expires_at TIMESTAMPTZ, "
    "uses BIGINT, last_used_at TIMESTAMPTZ, revoked_at TIMESTAMPTZ",
)
_UPSERT_API_KEYS = BatchStatement(
    "INSERT INTO api_keys {rows} ON CONFLICT (api_key) DO UPDATE SET revoked_at = excluded.revoked_at",
    "api_key UUID, created_offset BIGINT, created_at TIMESTAMPTZ, secret_hash VARCHAR, role VARCHAR, "
    "name VARCHAR, revoked_at TIMESTAMPTZ",
)
_LIVE_TOKENS = """
SELECT * FROM token_rows WHERE status = 'pending' OR token IN (SELECT unnest($1::UUID[]))
    OR (status = 'cancelled' AND parent IS NOT NULL
        AND token IN (SELECT session FROM sessions WHERE status = 'open' OR activity <> 'idle'))
"""
"""Also children that their parents have ended, and that are not over yet."""
_INSERT_CHAINS = BatchStatement("INSERT INTO chains {rows}", "session UUID, key_id VARCHAR")


@dataclass(frozen=True, slots=True)
class FactRows:
    """Rows to write: columns as the statements take them."""

    tokens: tuple[rows.Row, ...] = ()
    public_tokens: tuple[rows.Row, ...] = ()
    api_keys: tuple[rows.Row, ...] = ()
    chains: tuple[rows.Row, ...] = ()
    schedules_touched: tuple[str, ...] = ()
    schedules: tuple[rows.Row, ...] = ()


class Touched:
    """What of the index's tokens and keys changed since the tables were written; given back if they can't be."""

    def __init__(self, index: LedgerIndex) -> None:
        self._index = index
        self.tokens, index.tokens.touched = index.tokens.touched, set()
        self.public_tokens, index.keys.touched_public = index.keys.touched_public, set()
        self.api_keys, index.keys.touched_api = index.keys.touched_api, set()
        self.schedules, index.schedules.touched = index.schedules.touched, set()

    def give_back(self) -> None:
        """The tables could not be written."""
        self._index.tokens.touched |= self.tokens
        self._index.keys.touched_public |= self.public_tokens
        self._index.keys.touched_api |= self.api_keys
        self._index.schedules.touched |= self.schedules

    def rows(self, tags: dict[str, str], chains: dict[str, str]) -> FactRows:
        """The rows as the index has them now.

        Args:
            tags: JSON text of the tags of tokens that are new.
            chains: Sessions that are new, and the master key that their chain begins with.
        """
        keys = self._index.keys
        schedules = self._index.schedules.by_name
        found = [self._index.tokens.get(token_id) for token_id in sorted(self.tokens)]
        return FactRows(
            tokens=tuple(_token_row(t, tags.get(t.id, "[]")) for t in found if t is not None),
            public_tokens=tuple(
                _public_token_row(keys.public_tokens[one])
                for one in sorted(self.public_tokens)
                if one in keys.public_tokens
            ),
            api_keys=tuple(_api_key_row(keys.api_keys[one]) for one in sorted(self.api_keys)),
            chains=tuple((rows.uuid_of(session), key_id) for session, key_id in chains.items()),
            schedules_touched=tuple(sorted(self.schedules)),
            schedules=tuple(
                schedule_row(schedules[name])
                for name in sorted(self.schedules)
                if name in schedules
            ),
        )


def project_facts(connection: duckdb.DuckDBPyConnection, facts: FactRows) -> None:
    """Write inside the open transaction."""
    _UPSERT_TOKENS.execute(connection, facts.tokens)
    _UPSERT_PUBLIC_TOKENS.execute(connection, facts.public_tokens)
    _UPSERT_API_KEYS.execute(connection, facts.api_keys)
    _INSERT_CHAINS.execute(connection, facts.chains)
    project_schedules(connection, facts.schedules_touched, facts.schedules)


# --- restoring ------------------------------------------------------------------------------------


def restore_facts(reader: Reader, index: LedgerIndex) -> None:
    """Load the tokens and children that live or are waited on, all public tokens that live, all API keys and schedules.

    The heads are there already.
    """
    waits = [
        (awaited_id, head.wait.id, head.session_id)
        for head in index.heads.values()
        if head.wait is not None
        for awaited_id in head.wait.awaits
    ]
    waited = {awaited_id for awaited_id, _, _ in waits}
    found = reader.execute(_LIVE_TOKENS, [[rows.uuid_of(one) for one in waited]]).fetchall()
    for row in found:
        index.tokens.admit(_token_of(row))
    for awaited_id, wait_id, session_id in waits:
        token = index.tokens.get(awaited_id)
        if token is not None:
            index.tokens.note_wait(token, wait_id, session_id)
    for row in reader.execute(
        "SELECT * FROM public_token_rows WHERE revoked_us IS NULL ORDER BY created_offset"
    ).fetchall():
        index.keys.admit_public_token(_public_token_of(row))
    for row in reader.execute("SELECT * FROM api_key_rows ORDER BY created_offset").fetchall():
        index.keys.admit_api_key(_api_key_of(row))
    restore_schedules(reader, index)


def chain_keys(reader: Reader, sessions: Sequence[Any]) -> dict[str, str]:
    """The ids of the master keys that the chains of these sessions (UUIDs) began with."""
    if not sessions:
        return {}
    found = reader.execute(
        "SELECT session, key_id FROM chains WHERE session IN (SELECT unnest($1::UUID[]))",
        [list(sessions)],
    ).fetchall()
    return {rows.id_of(ids.SESSION, session): intern(key_id) for session, key_id in found}


def read_token(reader: Reader, token_id: str) -> TokenHead | None:
    """A token, or a child session by its id, that memory has forgotten."""
    row = rows.first_row(
        reader.execute(
            "SELECT * FROM token_rows WHERE token = $1 AND (parent IS NOT NULL) = $2",
            [rows.uuid_of(token_id), is_child(token_id)],
        )
    )
    return _token_of(row) if row is not None else None


def read_by_callback(reader: Reader, callback_hash: str) -> TokenHead | None:
    """The token with this callback secret, if memory has forgotten it."""
    row = rows.first_row(
        reader.execute(
            "SELECT * FROM token_rows WHERE callback_hash = $1 AND parent IS NULL", [callback_hash]
        )
    )
    return _token_of(row) if row is not None else None


# --- lists ----------------------------------------------------------------------------------------


def token_page(reader: Reader, query: TokensQuery) -> Json:
    """Tokens, newest first."""
    limit, where = query.limit, wanted(query, {"tag": tagged("tags")})
    key = row_access.decode("tokens", query.cursor, (int,))
    if key is not None:
        where.add("created_offset < {0}", key[0])
    found = reader.execute(
        f"SELECT * FROM token_rows WHERE parent IS NULL AND {where} "  # noqa: S608 - terms of our own
        f"ORDER BY created_offset DESC LIMIT {limit + 1}",
        where.values,
    ).fetchall()
    shown = [_token_of(row) for row in found[:limit]]
    offsets = {o for t in shown for o in (t.created_offset, t.ended_offset, t.pin_offset) if o}
    entries, problems = reads.listed_entries(reader, offsets)
    items = []
    for token, row in zip(shown, found, strict=False):
        created, ended, pinned = (
            entries.get(o) for o in (token.created_offset, token.ended_offset, token.pin_offset)
        )
        assert created is not None
        problem = reads.problem_of(
            problems, token.created_offset, token.ended_offset, token.pin_offset
        )
        if problem is None:
            items.append(token_json(token, created, ended, pinned, in_full=False))
        else:
            items.append(unreadable_token_json(token, created, jsontext.decode(row[6]), problem))
    following = (
        row_access.encode("tokens", [shown[-1].created_offset]) if len(found) > limit else None
    )
    return row_access.page(items, following)


def public_token_page(reader: Reader, cursor: str | None, limit: int) -> Json:
    """Public tokens, newest first."""
    return _page(
        reader,
        "public-tokens",
        "SELECT * FROM public_token_rows WHERE ($1::BIGINT IS NULL OR created_offset < $1) "
        "ORDER BY created_offset DESC, public_token DESC LIMIT $2",
        lambda row: public_token_json(_public_token_of(row)),
        cursor,
        limit,
        offset_at=2,
    )


def public_token(reader: Reader, public_token_id: str) -> Json | None:
    """One public token."""
    row = rows.first_row(
        reader.execute(
            "SELECT * FROM public_token_rows WHERE public_token = $1",
            [rows.uuid_of(public_token_id)],
        )
    )
    return public_token_json(_public_token_of(row)) if row is not None else None


def api_key_page(reader: Reader, cursor: str | None, limit: int) -> Json:
    """API keys, newest first."""
    return _page(
        reader,
        "api-keys",
        "SELECT * FROM api_key_rows WHERE ($1::BIGINT IS NULL OR created_offset < $1) "
        "ORDER BY created_offset DESC LIMIT $2",
        lambda row: api_key_json(_api_key_of(row)),
        cursor,
        limit,
        offset_at=1,
    )


def _page(
    reader: Reader,
    name: str,
    query: str,
    view: Callable[[Any], Json],
    cursor: str | None,
    limit: int,
    *,
    offset_at: int,
) -> Json:
    key = row_access.decode(name, cursor, (int,))
    found = reader.execute(query, [key[0] if key is not None else None, limit + 1]).fetchall()
    shown: Iterable[Any] = found[:limit]
    following = (
        row_access.encode(name, [found[limit - 1][offset_at]]) if len(found) > limit else None
    )
    return row_access.page([view(row) for row in shown], following)


# --- rows -----------------------------------------------------------------------------------------


def _token_row(token: TokenHead, tags: str) -> rows.Row:
    return (
        rows.uuid_of(token.id),
        rows.uuid_of(token.session_id),
        token.created_offset,
        token.created_at,
        token.expires_at,
        token.callback_hash,
        tags,
        token.has_schema,
        token.status.value,
        token.ended_offset,
        token.ended_at,
        token.pin_offset,
        *_parent_columns(token.parent),
    )


def _parent_columns(parent: Parent | None) -> rows.Row:
    if parent is None:
        return (None,) * 5
    session, run = rows.uuid_of(parent.session_id), rows.uuid_of(parent.run_id)
    return (session, run, parent.op, parent.attempt, parent.leaves)


def _token_of(row: Any) -> TokenHead:
    parent = None
    if row[12] is not None:
        parent = Parent(
            session_id=rows.id_of(ids.SESSION, row[12]),
            run_id=rows.id_of(ids.RUN, row[13]),
            op=row[14],
            attempt=row[15],
            leaves=row[16],
        )
    return TokenHead(
        id=rows.id_of(ids.TOKEN if parent is None else ids.SESSION, row[0]),
        parent=parent,
        session_id=rows.id_of(ids.SESSION, row[1]),
        created_offset=row[2],
        created_at=rows.time_of(row[3]),
        expires_at=rows.time_of(row[4]),
        callback_hash=row[5],
        has_schema=row[7],
        status=TokenStatus(row[8]),
        ended_offset=row[9],
        ended_at=rows.time_or_none(row[10]),
        pin_offset=row[11],
    )


def _public_token_row(owned: OwnedPublicToken) -> rows.Row:
    token = owned.token
    return (
        rows.uuid_of(token.id),
        rows.uuid_of(owned.session_id),
        owned.created_offset,
        token.created_at,
        token.secret_hash,
        jsontext.encode(token.scope.to_json()),
        jsontext.encode(list(token.allowed_origins)),
        token.key_id,
        token.max_uses,
        token.expires_at,
        token.uses,
        token.last_used_at,
        token.revoked_at,
    )


def _public_token_of(row: Any) -> OwnedPublicToken:
    token = ScopedToken(
        id=rows.id_of(ids.PUBLIC_TOKEN, row[0]),
        created_at=rows.time_of(row[3]),
        secret_hash=row[4],
        scope=Scope.from_json(jsontext.decode(row[5])),
        allowed_origins=tuple(jsontext.decode(row[6])),
        key_id=row[7],
        max_uses=row[8],
        expires_at=rows.time_of(row[9]),
        uses=row[10],
        last_used_at=rows.time_or_none(row[11]),
        revoked_at=rows.time_or_none(row[12]),
    )
    return OwnedPublicToken(token, rows.id_of(ids.SESSION, row[1]), row[2])


def _api_key_row(key: ApiKey) -> rows.Row:
    return (
        rows.uuid_of(key.id),
        key.created_offset,
        key.created_at,
        key.secret_hash,
        key.role,
        key.name,
        key.revoked_at,
    )


def _api_key_of(row: Any) -> ApiKey:
    return ApiKey(
        id=rows.id_of(ids.API_KEY, row[0]),
        created_offset=row[1],
        created_at=rows.time_of(row[2]),
        secret_hash=row[3],
        role=row[4],
        name=row[5],
        revoked_at=rows.time_or_none(row[6]),
    )
