"""The ledger as the service sees it: the start of sessions, and every read.

All reads come from the ledger; an actor's memory is never shown. What they return are JSON
types that fit the models of `helmr.models`; lists are `{items, next_cursor}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from helmr_runtime.ports import StartSession
from helmr_runtime.rpc.proxies import LedgerProxy
from helmr_runtime.security.session_keys import SessionKeys

Json = Mapping[str, Any]


class Brief(NamedTuple):
    """What the ledger knows of a session without looking into the tables.

    `is_over`: no code of it runs any more, nor will.
    """

    task: str
    is_over: bool


class LedgerClient(LedgerProxy):
    """The reads of `helmr_runtime.ledger.actor.LedgerActor` over calls."""

    async def start_session(self, start: StartSession) -> Json:
        """Create a session unless it exists (S-2); `{created, session, run}`, as one call and one commit."""
        return await self._json("start_session", start)

    async def get_session(self, session_id: str) -> Json:
        """A `SessionInfo`, its active wait in full but for the schema.

        Raises:
            SessionNotFound: No session with that id.
        """
        return await self._json("get_session", session_id)

    async def task_of(self, session_id: str) -> str:
        """A session's task. Costs the ledger less than `get_session`.

        Raises:
            SessionNotFound: No session with that id.
        """
        return (await self.brief(session_id)).task

    async def brief(self, session_id: str) -> Brief:
        """A session's task, and whether it is over.

        Raises:
            SessionNotFound: No session with that id.
        """
        found = await self._json("brief", session_id)
        return Brief(task=str(found["task"]), is_over=bool(found["is_over"]))

    async def list_sessions(self, **filters: Any) -> Json:
        """Sessions, newest first. Filters: external_id, task, status, activity, tag, limit, cursor."""
        return await self._json("list_sessions", **filters)

    async def get_run(self, run_id: str) -> Json:
        """A `RunInfo`.

        Raises:
            RunNotFound: No run with that id.
        """
        return await self._json("get_run", run_id)

    async def list_runs(self, **filters: Any) -> Json:
        """Runs, newest first. Filters: session_id, task, status, limit, cursor."""
        return await self._json("list_runs", **filters)

    async def get_wait(self, wait_id: str) -> Json:
        """A `WaitInfo` in full but for the schema.

        Raises:
            WaitNotFound: No wait with that id.
        """
        return await self._json("get_wait", wait_id)

    async def list_waits(self, **filters: Any) -> Json:
        """Waits by deadline. Filters: status, kinds, session_id, task, stream, limit, cursor."""
        return await self._json("list_waits", **filters)

    async def transcript(
        self,
        session_id: str,
        *,
        after: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Json:
        """Entries of a session by seq."""
        return await self._json("transcript", session_id, after=after, limit=limit, cursor=cursor)

    async def inputs(
        self,
        session_id: str,
        stream: str,
        *,
        after: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Json:
        """Records of an input stream by seq, consumed or not."""
        return await self._json(
            "inputs", session_id, stream, after=after, limit=limit, cursor=cursor
        )

    async def outputs(
        self,
        session_id: str,
        stream: str,
        *,
        after: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Json:
        """Records of an output stream by seq."""
        return await self._json(
            "outputs", session_id, stream, after=after, limit=limit, cursor=cursor
        )

    async def feed(self, after: int, limit: int, timeout_s: float) -> Sequence[Json]:
        """Entries of all sessions behind a feed offset; waits for the first at most `timeout_s`."""
        found: Sequence[Json] = await self.call("feed", after, limit, timeout_s)
        return found

    async def feed_head(self) -> int:
        """The newest feed offset."""
        return int(await self.call("feed_head"))

    async def find_callback(self, callback_hash: str) -> Json | None:
        """A token in full, by the hash of its callback secret."""
        found: Json | None = await self.call("find_callback", callback_hash)
        return found

    async def find_public_token(self, secret_hash: str) -> Json | None:
        """A `PublicTokenInfo` with its `state`, by its secret's hash."""
        found: Json | None = await self.call("find_public_token", secret_hash)
        return found

    async def get_public_token(self, public_token_id: str) -> Json:
        """A `PublicTokenInfo`.

        Raises:
            KeyNotFound: No public token with that id.
        """
        return await self._json("get_public_token", public_token_id)

    async def list_public_tokens(self, **page: Any) -> Json:
        """Public tokens, newest first."""
        return await self._json("list_public_tokens", **page)

    async def find_api_key(self, secret_hash: str) -> Json | None:
        """An `ApiKeyInfo`, by its secret's hash."""
        found: Json | None = await self.call("find_api_key", secret_hash)
        return found

    async def get_api_key(self, key_id: str) -> Json:
        """An `ApiKeyInfo`.

        Raises:
            KeyNotFound: No key with that id.
        """
        return await self._json("get_api_key", key_id)

    async def list_api_keys(self, **page: Any) -> Json:
        """API keys, newest first."""
        return await self._json("list_api_keys", **page)

    async def catalog(self) -> Json | None:
        """The newest `Catalog`, None before the first."""
        found: Json | None = await self.call("catalog")
        return found

    async def query(self, sql: str, *, limit: int) -> bytes:
        """One SELECT over the public views, as an Arrow IPC stream.

        Raises:
            BadQuery, QueryTimeout, QueryTooLarge, QueryBusy: As `helmr_runtime.ledger.duck.query` says.
        """
        stream: bytes = await self.call("query", sql, limit=limit)
        return stream

    async def session_keys(self, session_id: str) -> SessionKeys | None:
        """What the secrets of a session's tokens are derived from."""
        found: SessionKeys | None = await self.call("session_keys", session_id)
        return found

    async def stats(self) -> Json:
        """Offsets, sizes, latencies and counts; `failure` says why it can't commit, if so."""
        return await self._json("stats")

    # --- searches -----------------------------------------------------------------------------------

    async def last_seq_where(self, session_id: str, holds: Callable[[Json], bool]) -> int:
        """The last seq whose entry satisfies `holds`, 0 if none does.

        Args:
            session_id: Of which session.
            holds: True up to some entry and false from there on.
        """

        async def is_before(seq: int) -> bool:
            entry = await self._entry(session_id, seq)
            return entry is not None and holds(entry)

        step = 1
        while await is_before(step):
            step *= 2
        low, high = step // 2, step
        while high - low > 1:
            middle = (low + high) // 2
            if await is_before(middle):
                low = middle
            else:
                high = middle
        return low

    async def _entry(self, session_id: str, seq: int) -> Json | None:
        page = await self.transcript(session_id, after=seq - 1, limit=1)
        return page["items"][0] if page["items"] else None

    async def _json(self, method: str, /, *args: Any, **kwargs: Any) -> Json:
        found: Json = await self.call(method, *args, **kwargs)
        return found
