"""What lists and queries read, over the lists of the memory ledger: the same shapes, order and cursors as the tables.

Rows are folded from the entries by the projection that the tables are made of, when somebody asks. So a client of
the test harness is answered as a client of a runtime; there is no SQL here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from helmr import ids
from helmr.errors import (
    BadQuery,
    KeyNotFound,
    RunNotFound,
    SessionNotFound,
    WaitNotFound,
)
from helmr.models import TokenStatus
from helmr_runtime.core.entries import Entry, EntryKind
from helmr_runtime.ledger import pages, views
from helmr_runtime.ledger.heads import Head, fold
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ledger.projection import NewRun, NewWait, Projection, session_numbers
from helmr_runtime.ledger.token_views import api_key_json, matches, public_token_json
from helmr_runtime.ports import StartSession
from helmr_runtime.security.session_keys import SessionKeys

Json = dict[str, Any]

ANSWERABLE = ("input", "token")
"""Kinds of waits that somebody can answer."""

FAR_FUTURE_US = 2**62
"""Sorts waits without a deadline last."""


class ReadableLedger(MemoryLedger):
    """A memory ledger with every read of `helmr_runtime.ledger.actor.LedgerActor`, but for SQL."""

    _heads: dict[str, Head]
    _rows: Projection

    def _restore(self) -> None:
        self._heads, self._rows = {}, Projection()
        super()._restore()

    def _tables(self) -> Projection:
        """The rows as of now."""
        self._require_alive()
        for entry in self.stored.entries[self._rows.through :]:
            head = self._heads.setdefault(entry.session_id, Head(entry.session_id))
            fold(head, entry)
            head.tail.clear()
            self._rows.fold(entry, head)
        return self._rows

    # --- sessions -------------------------------------------------------------------------------

    async def get_session(self, session_id: str) -> Json:
        """A `SessionInfo`, with its active wait in full."""
        if session_id not in self._tables().new_sessions:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        return self._session_json(session_id)

    async def start_session(self, start: StartSession) -> Json:
        """As `start`, with what is then known of session and run."""
        started = await self.start(start)
        return {
            "created": started.created,
            "session": await self.get_session(started.session_id),
            "run": await self.get_run(started.run_id),
        }

    async def brief(self, session_id: str) -> Json:
        """`{task, is_over}` of a session."""
        head = self.index.heads.get(session_id)
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

        def fits(info: Json) -> bool:
            is_asked_idle = activity == "idle" and info["status"] != "open"
            return (
                external_id in (None, info["external_id"])
                and task in (None, info["task"])
                and status in (None, info["status"])
                and activity in (None, info["activity"])
                and not is_asked_idle
                and (tag is None or tag in info["tags"])
            )

        rows = self._tables().new_sessions
        found = ((row.created_offset, self._session_json(one)) for one, row in rows.items())
        return _newest_first("sessions", found, fits, cursor, limit)

    def _session_json(self, session_id: str) -> Json:
        numbers = session_numbers(self._heads[session_id])
        wait = self._wait_json(numbers.wait_id, in_full=True) if numbers.wait_id else None
        queued = self._rows.runs.get(numbers.run_id or "") if numbers.activity == "queued" else None
        return views.session_json(self._rows.new_sessions[session_id], numbers, wait, queued)

    # --- runs -----------------------------------------------------------------------------------

    async def get_run(self, run_id: str) -> Json:
        """A `RunInfo`."""
        row = self._tables().new_runs.get(run_id)
        if row is None:
            raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
        return self._run_json(row)

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

        def fits(info: Json) -> bool:
            return (
                session_id in (None, info["session_id"])
                and task in (None, info["task"])
                and status in (None, info["status"])
            )

        rows = self._tables().new_runs.values()
        found = ((row.created_offset, self._run_json(row)) for row in rows)
        return _newest_first("runs", found, fits, cursor, limit)

    def _run_json(self, row: NewRun) -> Json:
        numbers = self._rows.runs[row.run_id]
        ended = numbers.outcome_offset
        created = self.entry(row.created_offset).body
        return views.run_json(
            row, numbers, created, self.entry(ended).body if ended is not None else None
        )

    # --- waits ----------------------------------------------------------------------------------

    async def get_wait(self, wait_id: str) -> Json:
        """A `WaitInfo` in full, but for its schema."""
        if wait_id not in self._tables().new_waits:
            raise WaitNotFound(f"there is no wait {wait_id}", wait_id=wait_id)
        return self._wait_json(wait_id, in_full=True)

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
        """A page of `WaitInfo`: soonest deadline first, none last, then by id."""
        wanted = tuple(kinds) if kinds is not None else ANSWERABLE
        tables = self._tables()
        rows = [
            row
            for row in tables.new_waits.values()
            if status in (None, tables.waits[row.wait_id].status)
            and row.kind in wanted
            and session_id in (None, row.session_id)
            and task in (None, row.task)
            and stream in (None, row.stream)
            and correlation_id in (None, row.correlation_id)
        ]
        rows.sort(key=_deadline_first)
        key = pages.decode("waits", cursor, (int, str))
        if key is not None:
            rows = [row for row in rows if _deadline_first(row) > (key[0], key[1])]
        count = pages.limit_of(limit)
        following = None
        if len(rows) > count:
            following = pages.encode("waits", _deadline_first(rows[count - 1]))
        shown = [self._wait_json(row.wait_id, in_full=False) for row in rows[:count]]
        return pages.page(shown, following)

    def _wait_json(self, wait_id: str, *, in_full: bool) -> Json:
        row, numbers = self._rows.new_waits[wait_id], self._rows.waits[wait_id]
        opened = self.entry(row.opened_offset).body
        resolved = numbers.resolved_offset
        entry = self.entry(resolved) if resolved is not None else None
        by = self._resolver(entry) if entry is not None else None
        outcome = entry.body if entry is not None else None
        return views.wait_json(row, numbers, opened, by, outcome=outcome, in_full=in_full)

    def _resolver(self, entry: Entry) -> Json:
        """Who resolved a wait: of one that an earlier record satisfied at once, who sent that record."""
        record_id = entry.body.get("record_id")
        if record_id is not None and entry.principal.type == "runtime":
            for other in self.entries_of(entry.session_id):
                is_input = other.kind is EntryKind.INPUT_ACCEPTED
                if is_input and other.body["record_id"] == record_id:
                    return views.principal_of(other)
        return views.principal_of(entry)

    # --- transcripts and streams ----------------------------------------------------------------

    async def transcript(
        self,
        session_id: str,
        *,
        after: int | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """A page of `EntryInfo` behind a seq."""
        found = [(entry.seq, entry) for entry in self._entries(session_id)]
        return _forward(f"transcript:{session_id}", found, views.entry_json, after, cursor, limit)

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
        takers = {
            entry.body["record_id"]: entry.body["wait_id"]
            for entry in self._entries(session_id)
            if entry.kind is EntryKind.WAIT_FULFILLED and "record_id" in entry.body
        }

        def view(entry: Entry) -> Json:
            return views.record_json(entry, takers.get(entry.body["record_id"]))

        return self._records(session_id, "input", stream, view, after, cursor, limit)

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

        def view(entry: Entry) -> Json:
            return views.record_json(entry, None)

        return self._records(session_id, "output", stream, view, after, cursor, limit)

    def _records(
        self,
        session_id: str,
        direction: str,
        stream: str,
        view: Callable[[Entry], Json],
        after: int | None,
        cursor: str | None,
        limit: int | None,
    ) -> Json:
        kind = views.record_kind(direction)
        found = [
            (int(entry.body["stream_seq"]), entry)
            for entry in self._entries(session_id)
            if entry.kind is kind and entry.body["stream"] == stream
        ]
        name = f"{direction}:{session_id}:{stream}"
        return _forward(name, found, view, after, cursor, limit)

    def _entries(self, session_id: str) -> list[Entry]:
        self._head(session_id)
        return self.entries_of(session_id)

    # --- tokens and keys --------------------------------------------------------------------------

    async def list_tokens(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """A page of `TokenInfo`, newest first."""
        self._require_alive()
        wanted = TokenStatus(status) if status is not None else None
        found = (
            (token.created_offset, self._token_json(token, in_full=False))
            for token in self.index.tokens
        )
        return _newest_first("tokens", found, lambda i: matches(i, wanted, tag), cursor, limit)

    async def find_callback(self, callback_hash: str) -> Json | None:
        """The token in full whose callback secret has this hash."""
        self._require_alive()
        token = self.index.tokens.by_callback(callback_hash)
        return self._token_json(token, in_full=True) if token is not None else None

    async def find_public_token(self, secret_hash: str) -> Json | None:
        """`PublicTokenInfo` with its state, by its secret's hash."""
        self._require_alive()
        owned = self.index.keys.public_by_hash(secret_hash)
        return public_token_json(owned) if owned is not None else None

    async def get_public_token(self, public_token_id: str) -> Json:
        """`PublicTokenInfo` with its state."""
        self._require_alive()
        owned = self.index.keys.public_tokens.get(public_token_id)
        if owned is None:
            raise KeyNotFound(f"there is no public token {public_token_id}")
        return public_token_json(owned)

    async def list_public_tokens(
        self, *, cursor: str | None = None, limit: int | None = None
    ) -> Json:
        """A page of `PublicTokenInfo`, newest first."""
        self._require_alive()
        owned = self.index.keys.public_tokens.values()
        found = ((one.created_offset, public_token_json(one)) for one in owned)
        return _newest_first("public-tokens", found, _all, cursor, limit)

    async def find_api_key(self, secret_hash: str) -> Json | None:
        """`ApiKeyInfo` by its secret's hash, also of a revoked key."""
        self._require_alive()
        key = self.index.keys.api_by_hash(secret_hash)
        return api_key_json(key) if key is not None else None

    async def get_api_key(self, key_id: str) -> Json:
        """`ApiKeyInfo`."""
        self._require_alive()
        key = self.index.keys.api_keys.get(key_id)
        if key is None:
            raise KeyNotFound(f"there is no API key {key_id}", key_id=key_id)
        return api_key_json(key)

    async def list_api_keys(self, *, cursor: str | None = None, limit: int | None = None) -> Json:
        """A page of `ApiKeyInfo`, newest first."""
        self._require_alive()
        keys = self.index.keys.api_keys.values()
        found = ((key.created_offset, api_key_json(key)) for key in keys)
        return _newest_first("api-keys", found, _all, cursor, limit)

    async def session_keys(self, session_id: str) -> SessionKeys | None:
        """A session's keys."""
        return self.ring.session_keys(session_id) if self.ring is not None else None

    # --- followers, state -------------------------------------------------------------------------

    async def feed(self, after: int, limit: int, timeout_s: float) -> Sequence[Json]:
        """Entries behind a feed offset, as `EntryInfo` (S-54); waits for the first of them."""
        self._require_alive()
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while len(self.stored.entries) <= after and (rest := until - loop.time()) > 0:
            event = self._change
            try:
                # Not `wait_for`, which loses a cancellation that meets the event (Python 3.11).
                async with asyncio.timeout(rest):
                    await event.wait()
            except TimeoutError:
                break
            self._require_alive()
        return [views.entry_json(entry) for entry in self.stored.entries[after : after + limit]]

    async def seq_at(self, session_id: str, feed_offset: int) -> int:
        """Seq of a session's last entry up to that feed offset, 0 if there is none."""
        entries = self._entries(session_id)
        return max((e.seq for e in entries if (e.feed_offset or 0) <= feed_offset), default=0)

    async def feed_head(self) -> int:
        """Feed offset of the newest entry."""
        self._require_alive()
        return len(self.stored.entries)

    async def stats(self) -> Json:
        """What of a ledger's numbers there is without a disk."""
        self._require_alive()
        return {
            "open": True,
            "feed_offset": len(self.stored.entries),
            "failure": None,
            "counts": self.index.counts(),
            "waiting_held_since": views.iso_or_none(self.index.waiting_held_since()),
        }

    async def query(self, sql: str, *, limit: int = 0) -> bytes:
        """Refused.

        Raises:
            BadQuery: Always.
        """
        raise BadQuery(
            "sessions in a test's memory can't be queried with SQL",
            hint="Read lists and transcripts, or ask a runtime.",
        )


def _all(info: Json) -> bool:
    return True


def _deadline_first(row: NewWait) -> tuple[int, str]:
    if row.deadline_at is None:
        return FAR_FUTURE_US, row.wait_id
    return round(row.deadline_at.timestamp() * 1_000_000), row.wait_id


def _newest_first(
    name: str,
    found: Iterable[tuple[int, Json]],
    fits: Callable[[Json], bool],
    cursor: str | None,
    limit: int | None,
) -> Json:
    """A page of objects by the feed offset where they began."""
    key = pages.decode(name, cursor, (int,))
    rows = [(o, info) for o, info in found if (key is None or o < key[0]) and fits(info)]
    rows.sort(key=lambda row: row[0], reverse=True)
    count = pages.limit_of(limit)
    following = pages.encode(name, [rows[count - 1][0]]) if len(rows) > count else None
    return pages.page([info for _, info in rows[:count]], following)


def _forward(
    name: str,
    found: Sequence[tuple[int, Entry]],
    view: Callable[[Entry], Json],
    after: int | None,
    cursor: str | None,
    limit: int | None,
) -> Json:
    """A page of entries behind a number; a cursor wins over `after`."""
    key = pages.decode(name, cursor, (int,))
    start = int(key[0]) if key is not None else (after or 0)
    rows = [(number, entry) for number, entry in found if number > start]
    count = pages.limit_of(limit)
    following = pages.encode(name, [rows[count - 1][0]]) if len(rows) > count else None
    return pages.page([view(entry) for _, entry in rows[:count]], following)
