"""The ledger's shell: opens the file when first asked, and turns its state into calls and long polls.

A plain class; the Ray actor around it adds nothing. The constructor does nothing that can fail: a failing open
is answered to the caller and tried again at the next call, so that a restarted actor heals by itself; so is a
writer that stopped.

Every read returns JSON-typed dicts that fit `helmr.models`; waits come without `schema`, which stands in the
catalog. Invariants: S-14, S-54, S-60, S-63, S-65.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helmr import ids
from helmr.errors import (
    DataError,
    KeyNotFound,
    NotReady,
    RunNotFound,
    RuntimeHeld,
    SessionNotFound,
    StoreUnavailable,
    TokenNotFound,
    WaitNotFound,
)
from helmr.models import QUERY_ROWS_DEFAULT, QUERY_ROWS_MAX, QUERY_TIMEOUT_S
from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import Principal
from helmr_runtime.core.receipts import FirstReceipt
from helmr_runtime.core.tokens import LedgerCommand
from helmr_runtime.ledger import pages, views
from helmr_runtime.ledger.duck import lists, transcripts
from helmr_runtime.ledger.duck.database import Settings
from helmr_runtime.ledger.duck.jobs import ChainKey
from helmr_runtime.ledger.duck.ledger import DuckLedger, open_ledger, plain_chain
from helmr_runtime.ledger.duck.lists import ANSWERABLE, RunFilter, SessionFilter, WaitFilter
from helmr_runtime.ledger.duck.tokens import (
    api_key_page,
    public_token,
    public_token_page,
    token_page,
)
from helmr_runtime.ledger.token_views import api_key_json, public_token_json
from helmr_runtime.ports import (
    CommitReply,
    Flush,
    HeldLease,
    KnownKey,
    Loaded,
    Started,
    StartSession,
    WorkItem,
)
from helmr_runtime.security.keys import KeyRing
from helmr_runtime.security.session_keys import SessionKeys

Json = dict[str, Any]

LOCK_PATIENCE_S = 2.0
"""How long an open waits for a lock that a killed predecessor's process is about to lose."""

LOCK_RETRY_S = 0.05
"""Between two tries meanwhile."""

POLL_MAX_S = 60.0
"""The longest a long poll waits."""

FEED_LIMIT_MAX = 2_000
"""Most entries in one answer of the feed."""


class LedgerActor:
    """Implements `helmr_runtime.ports.Ledger` over one DuckDB file, plus every read of the service.

    Args:
        path: The database file; its lock and head mark stand beside it.
        clock: Tells the time and rings deadlines.
        settings: What DuckDB may use.
        chain_key: The key of hash chains that name no master key.
        ring: The master keys: new chains and the secrets of tokens are derived from them.
        encrypts: Whether bodies of new entries are sealed; None as the file remembers.
        lock_patience_s: How long to wait for another holder's end.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        settings: Settings | None = None,
        chain_key: ChainKey = plain_chain,
        ring: KeyRing | None = None,
        encrypts: bool | None = None,
        lock_patience_s: float = LOCK_PATIENCE_S,
    ) -> None:
        self._path = path
        self._clock = clock
        self._settings = settings
        self._chain_key = chain_key
        self._ring = ring
        self._encrypts = encrypts
        self._lock_patience_s = lock_patience_s
        self._ledger: DuckLedger | None = None
        self._opening = asyncio.Lock()
        self._is_closed = False

    async def session_keys(self, session_id: str) -> SessionKeys | None:
        """A session's keys, derived from the master keys, which stay here; None if there are none."""
        return self._ring.session_keys(session_id) if self._ring is not None else None

    # --- helmr_runtime.ports.Ledger -------------------------------------------------------------------

    async def load(
        self,
        session_id: str,
        holder: str,
        *,
        operation_id: str | None = None,
        key: tuple[str, str] | None = None,
    ) -> Loaded:
        """Adopt: raise the epoch, mark held by `holder`, return what is needed (S-62)."""
        ledger = await self._open()
        return await ledger.load(session_id, holder, operation_id=operation_id, key=key)

    async def commit(self, flush: Flush) -> CommitReply:
        """Store one flush; returns when it is on disk (S-60).

        A decline of `OperationUnused` has the fact `entry`: the Entry that carries the receipt.

        Raises:
            StoreUnavailable: Not stored, or unknown: send the same flush again (S-65).
        """
        return await (await self._open()).commit(flush)

    async def abandon(self, session_id: str, epoch: int) -> None:
        """The holder of that epoch died: raise the epoch and mark the session unheld, durably."""
        await (await self._open()).abandon(session_id, epoch)

    async def known_operation(self, operation_id: str) -> FirstReceipt | None:
        """Look an accepted operation of the last day up (S-61)."""
        return await (await self._open()).known_operation(operation_id)

    async def known_key(self, session_id: str, stream: str, key_hash: str) -> KnownKey | None:
        """Look an idempotency key up (S-26)."""
        return await (await self._open()).known_key(session_id, stream, key_hash)

    async def records(self, session_id: str, stream: str, through_seq: int) -> Sequence[Any]:
        """The `input.accepted` bodies of a stream up to a stream seq, in order."""
        return await (await self._open()).records(session_id, stream, through_seq)

    async def start(self, start: StartSession) -> Started:
        """The conditional write that creates a session (S-2)."""
        return await (await self._open()).start(start)

    async def start_session(self, start: StartSession) -> Json:
        """As `start`; what is then known of session and run comes with it: `{created, session, run}`."""
        ledger = await self._open()
        started = await ledger.start(start)
        return {
            "created": started.created,
            "session": await ledger.objects.session(started.session_id),
            "run": await ledger.objects.run(started.run_id),
        }

    async def work(self, known: int, timeout_s: float) -> tuple[int, Sequence[WorkItem]]:
        """Wait until the work list's version differs from `known`; it rises when an item is added.

        At most `WORK_ITEMS_MAX` items of each kind; the next call shows what is behind them once
        they are seen to. Start with `known` 0.
        """
        ledger = await self._open()
        until = _now_s() + min(timeout_s, POLL_MAX_S)
        while ledger.work()[0] == known and (rest := until - _now_s()) > 0:
            await ledger.changed(rest)
        return ledger.work()

    async def held(self) -> Sequence[HeldLease]:
        """Which sessions are held, by whom and under which epoch: where a new directory starts."""
        return (await self._open()).held()

    # --- tokens and keys --------------------------------------------------------------------------

    async def fact(self, fact: LedgerCommand) -> Json:
        """Write a fact of the nil session (`helmr_runtime.ledger.commands`); on disk when it returns."""
        return dict(await (await self._open()).fact(fact))

    async def get_token(self, token_id: str) -> Json:
        """`TokenInfo` in full, and what a completion needs (`helmr_runtime.ledger.token_views`)."""
        ledger = await self._open()
        token = await ledger.token(token_id)
        if token is None:
            raise TokenNotFound(f"there is no token {token_id}", token_id=token_id)
        return await ledger.token_in_full(token)

    async def find_callback(self, callback_hash: str) -> Json | None:
        """The token in full whose callback secret has this hash."""
        ledger = await self._open()
        token = await ledger.token_by_callback(callback_hash)
        return await ledger.token_in_full(token) if token is not None else None

    async def list_tokens(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """A page of `TokenInfo`, newest first."""
        ledger = await self._open()
        return await ledger.read_tables(token_page, status, tag, cursor, pages.limit_of(limit))

    async def token_end(self, token_id: str) -> Json | None:
        """How a token ended, None while it is pending."""
        return await (await self._open()).token_end(token_id)

    async def find_public_token(self, secret_hash: str) -> Json | None:
        """`PublicTokenInfo` with its state, by its secret's hash; dead ones may be forgotten."""
        owned = (await self._open()).index.keys.public_by_hash(secret_hash)
        return public_token_json(owned) if owned is not None else None

    async def get_public_token(self, public_token_id: str) -> Json:
        """`PublicTokenInfo` with its state."""
        ledger = await self._open()
        owned = ledger.index.keys.public_tokens.get(public_token_id)
        if owned is not None:
            return public_token_json(owned)
        found = await ledger.read_tables(public_token, public_token_id)
        if found is None:
            raise KeyNotFound(f"there is no public token {public_token_id}")
        return found

    async def list_public_tokens(
        self, *, cursor: str | None = None, limit: int | None = None
    ) -> Json:
        """A page of `PublicTokenInfo`, newest first."""
        ledger = await self._open()
        return await ledger.read_tables(public_token_page, cursor, pages.limit_of(limit))

    async def find_api_key(self, secret_hash: str) -> Json | None:
        """`ApiKeyInfo` by its secret's hash, also of a revoked key."""
        key = (await self._open()).index.keys.api_by_hash(secret_hash)
        return api_key_json(key) if key is not None else None

    async def get_api_key(self, key_id: str) -> Json:
        """`ApiKeyInfo`."""
        key = (await self._open()).index.keys.api_keys.get(key_id)
        if key is None:
            raise KeyNotFound(f"there is no API key {key_id}", key_id=key_id)
        return api_key_json(key)

    async def list_api_keys(self, *, cursor: str | None = None, limit: int | None = None) -> Json:
        """A page of `ApiKeyInfo`, newest first."""
        ledger = await self._open()
        return await ledger.read_tables(api_key_page, cursor, pages.limit_of(limit))

    # --- followers ------------------------------------------------------------------------------

    async def feed(self, after: int, limit: int, timeout_s: float) -> Sequence[Json]:
        """Entries behind a feed offset, as `EntryInfo` (S-54); waits for the first of them."""
        ledger = await self._open()
        until = _now_s() + min(timeout_s, POLL_MAX_S)
        while ledger.index.head_offset <= after and (rest := until - _now_s()) > 0:
            await ledger.changed(rest)
        found = await ledger.entries_after(after, max(1, min(limit, FEED_LIMIT_MAX)))
        return [views.entry_json(entry) for entry in found]

    async def seq_at(self, session_id: str, feed_offset: int) -> int:
        """Seq of a session's last entry up to that feed offset, 0 if there is none."""
        return await (await self._open()).seq_at(session_id, feed_offset)

    async def feed_head(self) -> int:
        """Feed offset of the newest entry."""
        return (await self._open()).index.head_offset

    # --- sessions, runs, waits ------------------------------------------------------------------

    async def get_session(self, session_id: str) -> Json:
        """`SessionInfo`, with its active wait in full."""
        ledger = await self._open()
        found = await ledger.objects.session(session_id)
        if found is None:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        return found

    async def brief(self, session_id: str) -> Json:
        """`{task, is_over}` of a session. Known from memory: the tables are not written for it."""
        head = await (await self._open()).head(session_id)
        if head is None or session_id == ids.NIL_SESSION:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        return {"task": head.task, "is_over": head.is_over}

    async def find_session(self, external_id: str) -> Json:
        """The open session with that external id, else the newest (S-2)."""
        found = await self.list_sessions(external_id=external_id, limit=1)
        items: list[Json] = found["items"]
        if not items:
            raise SessionNotFound(f"there is no session with external id {external_id!r}")
        return items[0]

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
        ledger = await self._open()
        return await ledger.read_tables(lists.sessions, wanted, cursor, pages.limit_of(limit))

    async def get_run(self, run_id: str) -> Json:
        """`RunInfo` with payload, result and error."""
        found = await (await self._open()).objects.run(run_id)
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
        ledger = await self._open()
        wanted = RunFilter(session_id=session_id, task=task, status=status)
        return await ledger.read_tables(lists.runs, wanted, cursor, pages.limit_of(limit))

    async def get_wait(self, wait_id: str) -> Json:
        """`WaitInfo` in full, but for its schema."""
        found = await (await self._open()).objects.wait(wait_id)
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
        ledger = await self._open()
        return await ledger.read_tables(lists.waits, wanted, cursor, pages.limit_of(limit))

    # --- queries --------------------------------------------------------------------------------

    async def query(
        self,
        sql: str,
        *,
        limit: int = QUERY_ROWS_DEFAULT,
        timeout_s: float = QUERY_TIMEOUT_S,
    ) -> bytes:
        """Run one SELECT over the public views; the result as an Arrow IPC stream (`helmr.query`)."""
        ledger = await self._open()
        rows_max = max(1, min(limit, QUERY_ROWS_MAX))
        return await ledger.query(sql, rows_max=rows_max, timeout_s=min(timeout_s, QUERY_TIMEOUT_S))

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
        ledger, since = await self._session(session_id)
        return await ledger.read(
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
        ledger, since = await self._session(session_id)
        return await ledger.read(
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
        ledger, since = await self._session(session_id)
        return await ledger.read(
            transcripts.records, session_id, "output", stream, since, after, cursor,
            pages.limit_of(limit),
        )  # fmt: skip

    async def verify_chain(self, session_id: str) -> int:
        """Check a session's hash chain (S-52); returns the number of its entries.

        Raises:
            ChainBroken: Fact `seq` names the first bad one.
        """
        return await (await self._open()).verify_chain(session_id)

    # --- catalog, state, end --------------------------------------------------------------------

    async def write_catalog(self, catalog: Mapping[str, Any], principal: Principal) -> bool:
        """Write the catalog (`Catalog` as JSON) if its code hash is new; whether it was."""
        return await (await self._open()).write_catalog(catalog, principal)

    async def catalog(self) -> Mapping[str, Any] | None:
        """The newest catalog, None before the first."""
        return await (await self._open()).catalog()

    async def counts(self) -> Mapping[str, int]:
        """How many sessions are open, held, parked, queued, …"""
        return (await self._open()).index.counts()

    async def stats(self) -> Json:
        """Offsets, size, commit latency, counts; `open` is False, with `failure`, while it can't be opened."""
        try:
            ledger = await self._open()
        except (StoreUnavailable, RuntimeHeld, DataError) as error:
            return {"open": False, "failure": error.message, "code": error.code}
        return {"open": True, **await ledger.stats()}

    async def close(self) -> None:
        """Write what is queued and close the file. Later calls are refused."""
        async with self._opening:
            self._is_closed = True
            if self._ledger is not None:
                await self._ledger.close()
                self._ledger = None

    # --- inside ---------------------------------------------------------------------------------

    async def _session(self, session_id: str) -> tuple[DuckLedger, int]:
        """The ledger, and the feed offset where the session begins."""
        ledger = await self._open()
        head = await ledger.head(session_id)
        if head is None:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        return ledger, head.created_offset

    async def _open(self) -> DuckLedger:
        if self._ledger is not None and not self._ledger.is_broken:
            return self._ledger
        async with self._opening:
            if self._is_closed:
                raise NotReady("the ledger is closed")
            if self._ledger is not None and self._ledger.is_broken:
                broken, self._ledger = self._ledger, None
                await broken.close()
            if self._ledger is None:
                self._ledger = await self._open_patiently()
            return self._ledger

    async def _open_patiently(self) -> DuckLedger:
        until = _now_s() + self._lock_patience_s
        while True:
            try:
                return await open_ledger(
                    self._path,
                    clock=self._clock,
                    settings=self._settings,
                    chain_key=self._chain_key,
                    ring=self._ring,
                    encrypts=self._encrypts,
                )
            except RuntimeHeld:
                if _now_s() >= until:
                    raise
            await asyncio.sleep(LOCK_RETRY_S)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
