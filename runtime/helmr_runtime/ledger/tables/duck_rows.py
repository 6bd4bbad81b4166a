"""The rows of the DuckDB ledger: one object as it is now, without writing the tables first, and pages of the tables.

What changed lately is whole in memory, its entries too, and needs no engine; of what did not, the table has the row.
Transcripts and streams are read from the entries, which need no writing either.

Invariants: S-53; everyone reads what was acknowledged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from helmr.models import RunsQuery, SessionsQuery, TokensQuery, WaitsQuery
from helmr_runtime.core.delegations import DeputyFilter
from helmr_runtime.core.entries import Entry
from helmr_runtime.core.nouns import WaitRow
from helmr_runtime.ledger.index import views
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.projection import FeedTail, Known, Unwritten
from helmr_runtime.ledger.index.views import Wanted
from helmr_runtime.ledger.tables import lists, reads, tokens

Json = dict[str, Any]

PAGES: Mapping[type[Wanted], Callable[..., Json]] = {
    SessionsQuery: lists.sessions,
    RunsQuery: lists.runs,
    WaitsQuery: lists.waits,
    TokensQuery: tokens.token_page,
}

TRIES = 3
"""A session is looked at again if its wait was resolved between the look at memory and the read."""


class DuckRows:
    """Implements `helmr_runtime.ledger.index.views.Rows`.

    Args:
        unwritten: What the tables lack at the moment.
        tail: The newest entries.
        read: Runs a query on a reader's cursor.
        read_tables: As `read`, once the tables have everything.
    """

    def __init__(
        self,
        unwritten: Callable[[], Unwritten],
        tail: FeedTail,
        read: Callable[..., Awaitable[Any]],
        read_tables: Callable[..., Awaitable[Any]],
    ) -> None:
        self._unwritten = unwritten
        self._tail = tail
        self._read = read
        self._read_tables = read_tables

    async def session(self, session_id: str) -> Json | None:
        found: Json | None = None
        for _ in range(TRIES):
            found = self._session(session_id)
            if found is None:
                memory = self._unwritten()
                known = memory.session(session_id)
                wait_id, run_id = (known.changes.get(name) for name in ("wait_id", "run_id"))
                found = await self._read(
                    lists.session,
                    session_id,
                    known,
                    memory.wait(wait_id) if wait_id is not None else None,
                    memory.run(run_id) if run_id is not None else None,
                )
            wait = found["wait"] if found is not None else None
            if wait is None or wait["status"] == "pending":
                break
        return found

    async def run(self, run_id: str) -> Json | None:
        known = self._unwritten().run(run_id)
        row = known.whole
        if row is not None:
            created = self._tail.get(row.created_offset)
            ended = self._entry(row.outcome_offset)
            if created is not None and (ended is not None or row.outcome_offset is None):
                return views.run_json(row, created.body, ended.body if ended is not None else None)
        found: Json | None = await self._read(lists.run, run_id, known)
        return found

    async def wait(self, wait_id: str) -> Json | None:
        known = self._unwritten().wait(wait_id)
        found = self._wait(known)
        if found is None:
            found = await self._read(lists.wait, wait_id, known)
        return found

    async def public_token(self, public_token_id: str) -> Json | None:
        found: Json | None = await self._read_tables(tokens.public_token, public_token_id)
        return found

    # --- pages ----------------------------------------------------------------------------------

    async def page(
        self,
        wanted: Wanted,
        *,
        resolving: Collection[str] = (),
        by_deputy: Sequence[DeputyFilter] = (),
    ) -> Json:
        more = (resolving, by_deputy) if isinstance(wanted, WaitsQuery) else ()
        found: Json = await self._read_tables(PAGES[type(wanted)], wanted, *more)
        return found

    async def waits_by_task(
        self,
        wanted: WaitsQuery,
        *,
        resolving: Collection[str] = (),
        by_deputy: Sequence[DeputyFilter] = (),
    ) -> list[Json]:
        found: list[Json] = await self._read_tables(
            lists.waits_by_task, wanted, resolving, by_deputy
        )
        return found

    async def wait_totals(self, resolving: Collection[str]) -> list[Json]:
        found: list[Json] = await self._read_tables(lists.wait_totals, resolving)
        return found

    async def public_tokens(self, cursor: str | None, limit: int) -> Json:
        found: Json = await self._read_tables(tokens.public_token_page, cursor, limit)
        return found

    async def api_keys(self, cursor: str | None, limit: int) -> Json:
        found: Json = await self._read_tables(tokens.api_key_page, cursor, limit)
        return found

    async def transcript(
        self, head: Head, after: int | None, cursor: str | None, limit: int
    ) -> Json:
        place = head.session_id, head.created_offset
        found: Json = await self._read(reads.transcript, *place, after, cursor, limit)
        return found

    async def records(
        self,
        head: Head,
        direction: str,
        stream: str,
        after: int | None,
        cursor: str | None,
        limit: int,
    ) -> Json:
        place = head.session_id, direction, stream, head.created_offset
        found: Json = await self._read(reads.records, *place, after, cursor, limit)
        return found

    # --- from memory alone: None if it lacks something --------------------------------------------

    def _session(self, session_id: str) -> Json | None:
        memory = self._unwritten()
        row = memory.session(session_id).whole
        if row is None:
            return None
        run = None
        outcome = None
        if views.needs_run(row):
            run = memory.run(row.run_id or "").whole
            outcome = self._entry(run.outcome_offset) if run is not None else None
            if run is None or (outcome is None and views.needs_outcome(run)):
                return None
        wait = None
        if row.wait_id is not None:
            wait = self._wait(memory.wait(row.wait_id))
            if wait is None:
                return None
        body = outcome.body if outcome is not None else None
        return views.session_json(row, wait, run, body)

    def _wait(self, known: Known[WaitRow]) -> Json | None:
        row = known.whole
        if row is None:
            return None
        opened = self._tail.get(row.opened_offset)
        resolved = self._entry(row.resolved_offset)
        if opened is None or (resolved is None and row.resolved_offset is not None):
            return None
        if resolved is not None and views.was_at_once(resolved):
            return None  # who sent the record stands in another entry
        return views.wait_json(
            row,
            opened.body,
            views.principal_of(resolved) if resolved is not None else None,
            outcome=resolved.body if resolved is not None else None,
            in_full=True,
        )

    def _entry(self, feed_offset: int | None) -> Entry | None:
        return self._tail.get(feed_offset) if feed_offset is not None else None
