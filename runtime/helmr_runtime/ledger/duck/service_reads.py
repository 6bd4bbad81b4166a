"""Every read of the service over an open ledger, and the starts that answer with one.

Reads return JSON-typed dicts that fit `helmr.models`; waits come without their stream's schema, which stands in the
catalog.

Invariants: S-54; everyone reads what was acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from helmr import ids
from helmr.errors import KeyNotFound, RunNotFound, SessionNotFound, TokenNotFound, WaitNotFound
from helmr.models import QUERY_ROWS_DEFAULT, QUERY_ROWS_MAX, QUERY_TIMEOUT_S
from helmr_runtime.ledger import pages, views
from helmr_runtime.ledger.duck import lists, transcripts
from helmr_runtime.ledger.duck.ledger import POLL_MAX_S, DuckLedger
from helmr_runtime.ledger.duck.lists import ANSWERABLE, RunFilter, SessionFilter, WaitFilter
from helmr_runtime.ledger.duck.tokens import (
    api_key_page,
    public_token,
    public_token_page,
    token_page,
)
from helmr_runtime.ledger.token_views import api_key_json, public_token_json
from helmr_runtime.ports import StartSession

Json = dict[str, Any]

FEED_LIMIT_MAX = 2_000
"""Most entries in one answer of the feed."""


class ServiceReads:
    """What of `helmr_runtime.rpc.ledger_client.LedgerClient` reads."""

    def __init__(self, ledger: DuckLedger) -> None:
        self._ledger = ledger

    # --- starts and the catalog ------------------------------------------------------------------------

    async def start_session(self, start: StartSession) -> Json:
        """As `start`; what is then known of session and run comes with it: `{created, session, run}`."""
        started = await self._ledger.start(start)
        return {
            "created": started.created,
            "session": await self._ledger.objects.session(started.session_id),
            "run": await self._ledger.objects.run(started.run_id),
        }

    async def catalog(self) -> Mapping[str, Any] | None:
        """The newest catalog, None before the first."""
        return await self._ledger.catalog()

    # --- tokens and keys -------------------------------------------------------------------------------

    async def get_token(self, token_id: str) -> Json:
        """`TokenInfo` in full, and what a completion needs (`helmr_runtime.ledger.token_views`)."""
        token = await self._ledger.token(token_id)
        if token is None:
            raise TokenNotFound(f"there is no token {token_id}", token_id=token_id)
        return await self._ledger.token_in_full(token)

    async def find_callback(self, callback_hash: str) -> Json | None:
        """The token in full whose callback secret has this hash."""
        token = await self._ledger.token_by_callback(callback_hash)
        return await self._ledger.token_in_full(token) if token is not None else None

    async def list_tokens(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """A page of `TokenInfo`, newest first."""
        return await self._ledger.read_tables(
            token_page, status, tag, cursor, pages.limit_of(limit)
        )

    async def find_public_token(self, secret_hash: str) -> Json | None:
        """`PublicTokenInfo` with its state, by its secret's hash; dead ones may be forgotten."""
        owned = self._ledger.index.keys.public_by_hash(secret_hash)
        return public_token_json(owned) if owned is not None else None

    async def get_public_token(self, public_token_id: str) -> Json:
        """`PublicTokenInfo` with its state."""
        owned = self._ledger.index.keys.public_tokens.get(public_token_id)
        if owned is not None:
            return public_token_json(owned)
        found = await self._ledger.read_tables(public_token, public_token_id)
        if found is None:
            raise KeyNotFound(f"there is no public token {public_token_id}")
        return found

    async def list_public_tokens(
        self, *, cursor: str | None = None, limit: int | None = None
    ) -> Json:
        """A page of `PublicTokenInfo`, newest first."""
        return await self._ledger.read_tables(public_token_page, cursor, pages.limit_of(limit))

    async def find_api_key(self, secret_hash: str) -> Json | None:
        """`ApiKeyInfo` by its secret's hash, also of a revoked key."""
        key = self._ledger.index.keys.api_by_hash(secret_hash)
        return api_key_json(key) if key is not None else None

    async def get_api_key(self, key_id: str) -> Json:
        """`ApiKeyInfo`."""
        key = self._ledger.index.keys.api_keys.get(key_id)
        if key is None:
            raise KeyNotFound(f"there is no API key {key_id}", key_id=key_id)
        return api_key_json(key)

    async def list_api_keys(self, *, cursor: str | None = None, limit: int | None = None) -> Json:
        """A page of `ApiKeyInfo`, newest first."""
        return await self._ledger.read_tables(api_key_page, cursor, pages.limit_of(limit))

    # --- followers -------------------------------------------------------------------------------------

    async def feed(self, after: int, limit: int, timeout_s: float) -> Sequence[Json]:
        """Entries behind a feed offset, as `EntryInfo` (S-54); waits for the first of them."""
        until = _now_s() + min(timeout_s, POLL_MAX_S)
        while self._ledger.index.head_offset <= after and (rest := until - _now_s()) > 0:
            await self._ledger.changed(rest)
        found = await self._ledger.entries_after(after, max(1, min(limit, FEED_LIMIT_MAX)))
        return [views.entry_json(entry) for entry in found]

    async def feed_head(self) -> int:
        """Feed offset of the newest entry."""
        return self._ledger.index.head_offset

    async def seq_at(self, session_id: str, feed_offset: int) -> int:
        """Seq of a session's last entry up to that feed offset, 0 if there is none."""
        return await self._ledger.seq_at(session_id, feed_offset)

    # --- sessions, runs, waits -------------------------------------------------------------------------

    async def get_session(self, session_id: str) -> Json:
        """`SessionInfo`, with its active wait in full."""
        found = await self._ledger.objects.session(session_id)
        if found is None:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        return found

    async def brief(self, session_id: str) -> Json:
        """`{task, is_over}` of a session. Known from memory: the tables are not written for it."""
        head = await self._ledger.head(session_id)
        if head is None or session_id == ids.NIL_SESSION:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        return {"task": head.task, "is_over": head.is_over}

    async def list_sessions(
        self,
        *,
        external_id: str | None = None,
        task: str | None = None,
        status: str | None = None,
        activity: str | None = None,
        tag: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """A page of `SessionInfo`, newest first."""
        wanted = SessionFilter(
            external_id=external_id, task=task, status=status, activity=activity, tag=tag
        )
        return await self._ledger.read_tables(lists.sessions, wanted, cursor, pages.limit_of(limit))

    async def get_run(self, run_id: str) -> Json:
        """`RunInfo` with payload, result and error."""
        found = await self._ledger.objects.run(run_id)
        if found is None:
            raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
        return found

    async def list_runs(
        self,
        *,
        session_id: str | None = None,
        task: str | None = None,
        status: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """A page of `RunInfo`, newest first."""
        wanted = RunFilter(session_id=session_id, task=task, status=status)
        return await self._ledger.read_tables(lists.runs, wanted, cursor, pages.limit_of(limit))

    async def get_wait(self, wait_id: str) -> Json:
        """`WaitInfo` in full, but for its schema."""
        found = await self._ledger.objects.wait(wait_id)
        if found is None:
            raise WaitNotFound(f"there is no wait {wait_id}", wait_id=wait_id)
        return found

    async def list_waits(
        self,
        *,
        status: str | None = "pending",
        kinds: Sequence[str] | None = None,
        session_id: str | None = None,
        task: str | None = None,
        stream: str | None = None,
        correlation_id: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """A page of `WaitInfo`: soonest deadline first, none last, then by id.

        `kinds` None: those that somebody can answer. `status` None: also those that are over.
        """
        wanted = WaitFilter(
            status=status,
            kinds=tuple(kinds) if kinds is not None else ANSWERABLE,
            session_id=session_id,
            task=task,
            stream=stream,
            correlation_id=correlation_id,
        )
        return await self._ledger.read_tables(lists.waits, wanted, cursor, pages.limit_of(limit))

    # --- queries ---------------------------------------------------------------------------------------

    async def query(
        self,
        sql: str,
        *,
        limit: int = QUERY_ROWS_DEFAULT,
        timeout_s: float = QUERY_TIMEOUT_S,
    ) -> bytes:
        """Run one SELECT over the public views; the result as an Arrow IPC stream (`helmr.query`)."""
        rows_max = max(1, min(limit, QUERY_ROWS_MAX))
        return await self._ledger.query(
            sql, rows_max=rows_max, timeout_s=min(timeout_s, QUERY_TIMEOUT_S)
        )

    # --- transcripts and streams -----------------------------------------------------------------------

    async def transcript(
        self,
        session_id: str,
        *,
        after: int | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """A page of `EntryInfo` behind a seq."""
        since = await self._since(session_id)
        return await self._ledger.read(
            transcripts.transcript, session_id, since, after, cursor, pages.limit_of(limit)
        )

    async def inputs(
        self,
        session_id: str,
        stream: str,
        *,
        after: int | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """A page of the `RecordInfo` of an input stream, with who consumed each."""
        since = await self._since(session_id)
        return await self._ledger.read(
            transcripts.records, session_id, "input", stream, since, after, cursor,
            pages.limit_of(limit),
        )  # fmt: skip

    async def outputs(
        self,
        session_id: str,
        stream: str,
        *,
        after: int | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """A page of the `RecordInfo` of an output stream."""
        since = await self._since(session_id)
        return await self._ledger.read(
            transcripts.records, session_id, "output", stream, since, after, cursor,
            pages.limit_of(limit),
        )  # fmt: skip

    # --- inside ---------------------------------------------------------------------------------

    async def _since(self, session_id: str) -> int:
        """The feed offset where the session begins."""
        head = await self._ledger.head(session_id)
        if head is None:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        return head.created_offset


def _now_s() -> float:
    return asyncio.get_running_loop().time()
