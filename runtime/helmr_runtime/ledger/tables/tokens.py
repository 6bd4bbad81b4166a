"""Tokens, public tokens, API keys, people and the things of features between the index and the tables.

Written with the projection, each row once in full and then only its numbers again; read back when the file is
opened (what lives), and one by one when a caller asks for what memory has forgotten. The row of a
feature's thing holds where its text stands in the entries, and what became of it since.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any

import duckdb

from helmr.models import TokensQuery, TokenStatus
from helmr.wire import ids
from helmr_runtime.core import jsontext
from helmr_runtime.core.children import Parent, is_child
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.nouns import PublicTokenRow, TokenRow
from helmr_runtime.core.people import Person
from helmr_runtime.core.public_tokens import Scope, ScopedToken
from helmr_runtime.ledger.index import views
from helmr_runtime.ledger.index.features import FactTable, FeatureMemory
from helmr_runtime.ledger.index.keys import ApiKey, OwnedPublicToken
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.index.people import OF_DELEGATIONS
from helmr_runtime.ledger.index.tokens import (
    TokenHead,
    api_key_json,
    public_token_json,
    token_json,
    unreadable_token_json,
)
from helmr_runtime.ledger.tables import engine, reads
from helmr_runtime.ledger.tables.engine import BatchStatement, Reader
from helmr_runtime.ledger.tables.lists import tagged, wanted
from helmr_runtime.ledger.tables.table import (
    API_KEYS,
    PEOPLE,
    PUBLIC_TOKENS,
    TOKENS,
    table_of,
)

logger = logging.getLogger(__name__)


def restore_things(reader: Reader, facts: FactTable, memory: FeatureMemory[Any]) -> None:
    """Load a feature's. One whose text can't be opened, for a master key that is gone, is left out and said so."""
    limit = f"LIMIT {facts.rows_max}" if facts.rows_max is not None else ""
    found = reader.execute(
        f"SELECT * FROM {facts.view} ORDER BY {facts.offset} DESC {limit}"  # noqa: S608 - names of our own
    ).fetchall()
    shown = [table_of(facts).read(row) for row in reversed(found)]
    offsets = [getattr(one, facts.offset) for one in shown]
    entries, problems = reads.listed_entries(reader, set(offsets))
    for row, offset in zip(shown, offsets, strict=True):
        problem = reads.problem_of(problems, offset)
        if problem is None:
            memory.admit(row, entries[offset])
        else:
            name = getattr(row, facts.key)
            logger.error("%s of %s can't be read and is not in use: %s", name, facts.name, problem)


Json = dict[str, Any]

_LIVE_TOKENS = """
SELECT * FROM token_rows WHERE status = 'pending' OR token IN (SELECT unnest($1::UUID[]))
    OR (status = 'cancelled' AND parent IS NOT NULL
        AND token IN (SELECT session FROM sessions WHERE status = 'open' OR activity <> 'idle'))
"""
"""Also children that their parents have ended, and that are not over yet."""
_INSERT_CHAINS = BatchStatement("INSERT INTO chains {rows}", "session UUID, key_id VARCHAR")


@dataclass(frozen=True, slots=True)
class FactRows:
    """Rows to write."""

    tokens: tuple[TokenRow, ...] = ()
    public_tokens: tuple[PublicTokenRow, ...] = ()
    api_keys: tuple[ApiKey, ...] = ()
    people: tuple[Person, ...] = ()
    chains: tuple[engine.Row, ...] = ()
    features: tuple[tuple[FactTable, tuple[str, ...], tuple[Any, ...]], ...] = ()
    """Of each table the names that were touched, and the rows of those that are there."""


class Touched:
    """Tokens, keys and people that changed since the tables were written; given back if the write fails."""

    def __init__(self, index: LedgerIndex) -> None:
        self._index = index
        self.tokens, index.tokens.touched = index.tokens.touched, set()
        self.public_tokens, index.keys.touched_public = index.keys.touched_public, set()
        self.api_keys, index.keys.touched_api = index.keys.touched_api, set()
        self.people, index.people.touched = index.people.touched, set()
        self.features: list[set[str]] = []
        for _, memory in index.features:
            self.features.append(memory.touched)
            memory.touched = set()

    def give_back(self) -> None:
        """The tables could not be written."""
        self._index.tokens.touched |= self.tokens
        self._index.keys.touched_public |= self.public_tokens
        self._index.keys.touched_api |= self.api_keys
        self._index.people.touched |= self.people
        for (_, memory), touched in zip(self._index.features, self.features, strict=True):
            memory.touched |= touched

    def rows(self, tags: dict[str, str], chains: dict[str, str]) -> FactRows:
        """The rows as the index has them now.

        Args:
            tags: JSON text of the tags of tokens that are new.
            chains: Sessions that are new, and the master key that their chain begins with.
        """
        keys = self._index.keys
        found = [self._index.tokens.get(token_id) for token_id in sorted(self.tokens)]
        return FactRows(
            tokens=tuple(_token_row(t, tags.get(t.id, "[]")) for t in found if t is not None),
            public_tokens=tuple(
                _public_token_row(keys.public_tokens[one])
                for one in sorted(self.public_tokens)
                if one in keys.public_tokens
            ),
            api_keys=tuple(keys.api_keys[one] for one in sorted(self.api_keys)),
            people=tuple(self._index.people.by_id[one] for one in sorted(self.people)),
            chains=tuple((engine.uuid_of(session), key_id) for session, key_id in chains.items()),
            features=tuple(self._of_features()),
        )

    def _of_features(self) -> Iterator[tuple[FactTable, tuple[str, ...], tuple[Any, ...]]]:
        for (part, memory), touched in zip(self._index.features, self.features, strict=True):
            if part.table is not None and touched:
                names = tuple(sorted(touched))
                found = (memory.things.get(name) for name in names)
                yield part.table, names, tuple(map(part.table.row, filter(None, found)))


def project_facts(connection: duckdb.DuckDBPyConnection, facts: FactRows) -> None:
    """Write inside the open transaction."""
    TOKENS.put(connection, facts.tokens)
    PUBLIC_TOKENS.put(connection, facts.public_tokens)
    API_KEYS.put(connection, facts.api_keys)
    PEOPLE.put(connection, facts.people)
    _INSERT_CHAINS.execute(connection, facts.chains)
    for table, names, rows in facts.features:
        table_of(table).replace(connection, names, rows)


# --- restoring ------------------------------------------------------------------------------------


def restore_facts(reader: Reader, index: LedgerIndex) -> None:
    """Load the tokens and children that live or are waited on, all public tokens that live, all API keys, and
    what features have.

    The heads are there already.
    """
    waits = [
        (awaited_id, head.wait.id, head.session_id)
        for head in index.heads.values()
        if head.wait is not None
        for awaited_id in head.wait.awaits
    ]
    waited = {awaited_id for awaited_id, _, _ in waits}
    found = reader.execute(_LIVE_TOKENS, [[engine.uuid_of(one) for one in waited]]).fetchall()
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
        index.keys.admit_api_key(API_KEYS.read(row))
    for row in reader.execute("SELECT * FROM person_rows ORDER BY created_offset").fetchall():
        index.people.admit(PEOPLE.read(row))
    _restore_people(reader, index)
    for part, memory in index.features:
        if part.table is not None:
            restore_things(reader, part.table, memory)


def _restore_people(reader: Reader, index: LedgerIndex) -> None:
    """Load what is rare, and in entries alone: since when those who were disabled act again, and delegations."""
    if not index.people.by_id:
        return
    kinds = [EntryKind.PERSON_ENABLED, *OF_DELEGATIONS]
    found = reader.execute(
        "SELECT feed_offset FROM entry_rows WHERE list_contains($1::VARCHAR[], kind)",
        [[kind.value for kind in kinds]],
    ).fetchall()
    entries, _ = reads.listed_entries(reader, {offset for (offset,) in found})
    for offset in sorted(entries):
        entry = entries[offset]
        if entry.kind is EntryKind.PERSON_ENABLED:
            index.people.enabled_at[entry.body["person"]] = entry.recorded_at
        else:
            index.people.apply_delegation(entry)


def chain_keys(reader: Reader, sessions: Sequence[Any]) -> dict[str, str]:
    """The ids of the master keys that the chains of these sessions (UUIDs) began with."""
    if not sessions:
        return {}
    found = reader.execute(
        "SELECT session, key_id FROM chains WHERE session IN (SELECT unnest($1::UUID[]))",
        [list(sessions)],
    ).fetchall()
    return {engine.id_of(ids.SESSION, session): intern(key_id) for session, key_id in found}


def read_token(reader: Reader, token_id: str) -> TokenHead | None:
    """A token, or a child session by its id, that memory has forgotten."""
    row = engine.first_row(
        reader.execute(
            "SELECT * FROM token_rows WHERE token = $1 AND (parent IS NOT NULL) = $2",
            [engine.uuid_of(token_id), is_child(token_id)],
        )
    )
    return _token_of(row) if row is not None else None


def read_by_callback(reader: Reader, callback_hash: str) -> TokenHead | None:
    """The token with this callback secret, if memory has forgotten it."""
    row = engine.first_row(
        reader.execute(
            "SELECT * FROM token_rows WHERE callback_hash = $1 AND parent IS NULL", [callback_hash]
        )
    )
    return _token_of(row) if row is not None else None


# --- lists ----------------------------------------------------------------------------------------


def token_page(reader: Reader, query: TokensQuery) -> Json:
    """Tokens, newest first."""
    limit, where = query.limit, wanted(query, {"tag": tagged("tags")})
    key = views.decode_cursor("tokens", query.cursor, (int,))
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
            tags = jsontext.decode(TOKENS.read(row).tags)
            items.append(unreadable_token_json(token, created, tags, problem))
    following = (
        views.encode_cursor("tokens", [shown[-1].created_offset]) if len(found) > limit else None
    )
    return views.page(items, following)


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
    row = engine.first_row(
        reader.execute(
            "SELECT * FROM public_token_rows WHERE public_token = $1",
            [engine.uuid_of(public_token_id)],
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
        lambda row: api_key_json(API_KEYS.read(row)),
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
    key = views.decode_cursor(name, cursor, (int,))
    found = reader.execute(query, [key[0] if key is not None else None, limit + 1]).fetchall()
    shown: Iterable[Any] = found[:limit]
    following = (
        views.encode_cursor(name, [found[limit - 1][offset_at]]) if len(found) > limit else None
    )
    return views.page([view(row) for row in shown], following)


# --- rows -----------------------------------------------------------------------------------------


def _token_row(token: TokenHead, tags: str) -> TokenRow:
    parent = token.parent
    of_child: dict[str, Any] = (
        {}
        if parent is None
        else {
            "parent_id": parent.session_id,
            "parent_run_id": parent.run_id,
            "parent_op": parent.op,
            "parent_attempt": parent.attempt,
            "leaves": parent.leaves,
        }
    )
    return TokenRow(
        token=engine.uuid_of(token.id),
        session_id=token.session_id,
        created_offset=token.created_offset,
        created_at=token.created_at,
        expires_at=token.expires_at,
        callback_hash=token.callback_hash,
        tags=tags,
        has_schema=token.has_schema,
        status=token.status.value,
        ended_offset=token.ended_offset,
        ended_at=token.ended_at,
        pin_offset=token.pin_offset,
        **of_child,
    )


def _token_of(found: engine.Row) -> TokenHead:
    row, parent = TOKENS.read(found), None
    if row.parent_id is not None:
        assert row.parent_run_id is not None
        assert row.parent_op is not None
        assert row.parent_attempt is not None
        parent = Parent(
            session_id=row.parent_id,
            run_id=row.parent_run_id,
            op=row.parent_op,
            attempt=row.parent_attempt,
            leaves=bool(row.leaves),
        )
    return TokenHead(
        id=engine.id_of(ids.TOKEN if parent is None else ids.SESSION, row.token),
        parent=parent,
        session_id=row.session_id,
        created_offset=row.created_offset,
        created_at=row.created_at,
        expires_at=row.expires_at,
        callback_hash=row.callback_hash,
        has_schema=row.has_schema,
        status=TokenStatus(row.status),
        ended_offset=row.ended_offset,
        ended_at=row.ended_at,
        pin_offset=row.pin_offset,
    )


_AS_THEY_ARE = tuple(
    one.name
    for one in PUBLIC_TOKENS.fields
    if one.name not in ("session_id", "created_offset", "scope", "allowed_origins")
)
"""The fields of a public token that its row has as it has them."""


def _public_token_row(owned: OwnedPublicToken) -> PublicTokenRow:
    token = owned.token
    return PublicTokenRow(
        session_id=owned.session_id,
        created_offset=owned.created_offset,
        scope=jsontext.encode(token.scope.to_json()),
        allowed_origins=jsontext.encode(list(token.allowed_origins)),
        **{name: getattr(token, name) for name in _AS_THEY_ARE},
    )


def _public_token_of(found: engine.Row) -> OwnedPublicToken:
    row = PUBLIC_TOKENS.read(found)
    token = ScopedToken(
        scope=Scope.from_json(jsontext.decode(row.scope)),
        allowed_origins=tuple(jsontext.decode(row.allowed_origins)),
        **{name: getattr(row, name) for name in _AS_THEY_ARE},
    )
    return OwnedPublicToken(token, row.session_id, row.created_offset)
