"""Common code of both ledgers: reads of the service, claims, and keys derived from the master keys.

Reads return JSON-typed dicts that fit `helmr.models`. Waits come without their stream's schema: the catalog has it.

A ledger makes, renews and releases claims in memory. Waits show them; an entry never holds only claims.

Invariants: S-54, S-81; every read shows what was acknowledged.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from helmr.errors import (
    BadCursor,
    BadRequest,
    DataError,
    KeyNotFound,
    RunNotFound,
    SessionNotFound,
    TokenNotFound,
    WaitNotFound,
    WaitResolved,
    WaitTimedOut,
)
from helmr.models import (
    ANSWERABLE,
    ListQuery,
    RunsQuery,
    SessionsQuery,
    TokensQuery,
    WaitsQuery,
    WaitStatus,
)
from helmr_runtime.core.claims import ClaimedWait, WaitClaims
from helmr_runtime.core.commands import FeatureQuestion, FirstReceipt
from helmr_runtime.core.delegations import Delegation
from helmr_runtime.core.entries import Entry, Principal, entry_json, iso
from helmr_runtime.core.fork import ForkSession
from helmr_runtime.core.people import DisabledPeople
from helmr_runtime.core.public_tokens import revoke
from helmr_runtime.core.session_file import FileSignature
from helmr_runtime.core.tokens import end_facts
from helmr_runtime.ledger.index import views
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.index.people import person_json
from helmr_runtime.ledger.index.tokens import TokenHead, api_key_json, public_token_json, token_json
from helmr_runtime.ledger.index.views import Rows
from helmr_runtime.ports import ClaimsKept, HeldLease, Loaded, SessionLine, Started, StartSession
from helmr_runtime.ports.ledger import FROM_START, WorkChanges, WorkPosition, restore
from helmr_runtime.security.file_signatures import public_keys, sign
from helmr_runtime.security.keys import KeyRing
from helmr_runtime.security.secrets import SessionKeys


class ClaimKeeper:
    """The claims of one ledger.

    Args:
        now: The ledger's time.
        head: A session's head, admitted to the index; None if there is no such session.
        heads: Those in memory.
        may_act: Refuses who is disabled.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        head: Callable[[str], Awaitable[Head | None]],
        heads: Callable[[], Mapping[str, Head]],
        *,
        may_act: Callable[[Principal], None] = lambda by: None,
    ) -> None:
        self._may_act = may_act
        self._now = now
        self._head = head
        self._heads = heads

    async def claim_wait(
        self, session_id: str, wait_id: str, by: Principal, *, for_s: float, override: bool
    ) -> ClaimsKept:
        """Claim the wait, or renew the claim, for `for_s` seconds."""
        self._may_act(by)
        head, now = await self._waiting(session_id, wait_id), self._now()
        known = head.claims or _no_claim(head, now)
        head.claims = known.claimed(by, now, for_s=for_s, override=override)
        return _kept(head)

    async def release_wait(self, session_id: str, wait_id: str, by: Principal) -> ClaimsKept:
        """Release this principal's claim on the wait."""
        head = await self._waiting(session_id, wait_id)
        if head.claims is not None:
            head.claims = head.claims.released(by, self._now())
        return _kept(head)

    def give_back(self, names: Collection[str], by: Principal) -> dict[str, ClaimsKept]:
        """End the claims of a person with these names; what is kept, by session."""
        now, kept = self._now(), {}
        for session_id, head in self._heads().items():
            claim = head.claims.claim if head.claims is not None else None
            if head.claims is not None and claim is not None and claim.by.person in names:
                head.claims = head.claims.given_back(by, now)
                kept[session_id] = _kept(head)
        return kept

    async def _waiting(self, session_id: str, wait_id: str) -> Head:
        head = await self._head(session_id)
        wait = head.wait if head is not None else None
        if head is None or wait is None or wait.id != wait_id:
            raise WaitResolved(f"{wait_id} is no longer pending", wait_id=wait_id)
        if wait.kind not in ANSWERABLE:
            raise BadRequest(f"{wait_id} waits for a {wait.kind}, which no one answers")
        # The time counts, whether or not the entry that says so is written yet.
        if wait.default_at is not None and self._now() >= wait.default_at:
            raise WaitResolved(
                f"{wait_id} was answered by its escalation's default at {iso(wait.default_at)}",
                wait_id=wait_id,
            )
        if wait.deadline_at is not None and self._now() >= wait.deadline_at:
            raise WaitTimedOut(
                f"{wait_id} timed out at {iso(wait.deadline_at)}",
                hint="No one can answer it any more.",
                wait_id=wait_id,
                deadline_at=iso(wait.deadline_at),
            )
        return head

    def with_claim(self, wait: Mapping[str, Any]) -> dict[str, Any]:
        """A `WaitInfo` with who has claimed it now."""
        head = self._heads().get(wait["session_id"])
        claims = head.claims if head is not None else None
        claim = claims.live(wait["id"], self._now()) if claims is not None else None
        return {**wait, "claim": claim.to_json() if claim is not None else None}

    def count(self) -> int:
        """Count the waits with a live claim."""
        now = self._now()
        return sum(
            head.claims is not None
            and head.wait is not None
            and head.claims.live(head.wait.id, now) is not None
            for head in self._heads().values()
        )


def _no_claim(head: Head, now: datetime) -> WaitClaims:
    assert head.wait is not None
    assert head.run_id is not None
    wait = ClaimedWait(wait_id=head.wait.id, run_id=head.run_id, op=head.wait.op)
    # What was written of earlier claims of this wait is older than its session's last entry.
    as_of = now if head.last_at is None else max(now, head.last_at)
    return WaitClaims(wait=wait, as_of=as_of)


def _kept(head: Head) -> ClaimsKept:
    return ClaimsKept(claims=head.claims, holder=head.held_by)


class KeyKeeper:
    """Keys that a ledger derives from its key ring.

    Args:
        ring: The master keys; None if there are none.
    """

    def __init__(self, ring: KeyRing | None) -> None:
        self.ring = ring

    async def session_keys(self, session_id: str) -> SessionKeys | None:
        """A session's keys; None without master keys."""
        return self.ring.session_keys(session_id) if self.ring is not None else None

    async def sign_file(self, signed: bytes) -> FileSignature | None:
        """The signature of a session file, by the newest master key; None without master keys."""
        return sign(self.ring, signed) if self.ring is not None else None

    async def file_keys(self) -> Sequence[tuple[str, str]]:
        """The id of each master key and the public key that its signatures are checked by, the newest first."""
        return public_keys(self.ring) if self.ring is not None else ()


if TYPE_CHECKING:
    from helmr_runtime.ledger.log.group import (
        Latency,  # over the engine, which the memory ledger lacks
    )


Json = dict[str, Any]
Q = TypeVar("Q", bound=ListQuery)

FEED_LIMIT_MAX = 2_000
"""Most entries in one answer of the feed."""

POLL_MAX_S = 60.0
"""The longest a long poll waits."""


class ReadableLedger(ABC):
    """A ledger's reads, over what each ledger has of its own: the abstract methods."""

    latency: Latency | None = None
    """Of its commits, where there is a disk."""

    def __init__(self) -> None:
        self._change = asyncio.Event()
        self.claims = ClaimKeeper(
            self.now,
            self.head,
            lambda: self.index.heads,
            may_act=lambda by: self.index.people.disabled.check(by),
        )

    @property
    @abstractmethod
    def index(self) -> LedgerIndex:
        """Its memory.

        Raises:
            StoreUnavailable: It is gone.
        """

    @property
    @abstractmethod
    def rows(self) -> Rows:
        """The rows behind lists and objects."""

    @abstractmethod
    def now(self) -> datetime:
        """The ledger's time."""

    @abstractmethod
    async def head(self, session_id: str) -> Head | None:
        """The session's head, admitted to the index; None if there is no such session."""

    @abstractmethod
    async def entry(self, feed_offset: int) -> Entry:
        """The entry at that offset."""

    @abstractmethod
    async def snapshot(self, session_id: str) -> Loaded:
        """The session as it is on disk now."""

    @abstractmethod
    async def start(self, start: StartSession, line: SessionLine | None = None) -> Started:
        """Create a session, unless operation, key or external id say that it exists (S-2)."""

    @abstractmethod
    async def write_line(
        self, line: SessionLine, *, rides: bool = False
    ) -> Mapping[str, Any] | None:
        """Add a record to a session that no host holds; None if one does."""

    @abstractmethod
    async def token(self, token_id: str) -> TokenHead | None:
        """The token, admitted to the index; None if there is none."""

    @abstractmethod
    async def token_by_callback(self, callback_hash: str) -> TokenHead | None:
        """The token with that callback secret."""

    @abstractmethod
    async def operation(self, operation_id: str) -> int | None:
        """Feed offset of an operation's entry, if memory no longer holds all of the day's."""

    @abstractmethod
    def recent(self, feed_offset: int) -> Entry | None:
        """The entry at that offset, if it is in memory."""

    @abstractmethod
    async def entries_after(self, offset: int, limit: int) -> Sequence[Entry]:
        """The feed behind an offset; every entry once, in offset order (S-54)."""

    @abstractmethod
    async def fork_session(self, fork: ForkSession) -> Json:
        """Create a session with another's past (S-86); `{session_id, run_id}`."""

    # --- starts and the catalog ------------------------------------------------------------------------

    async def start_session(self, start: StartSession, line: SessionLine | None = None) -> Json:
        """Start a session; return `{created, lined, session, run}`, with session and run as they are afterwards."""
        self.index.work.set_off(
            start.session_id, start.trace
        )  # its run may be on the list before this goes on
        started = await self.start(start, line)
        return {
            "created": started.created,
            "lined": started.lined,
            "session": await self.rows.session(started.session_id),
            "run": await self.rows.run(started.run_id),
        }

    async def catalog(self) -> Mapping[str, Any] | None:
        """The newest catalog, None before the first."""
        offset = self.index.catalog_offset
        return (await self.entry(offset)).body if offset else None

    async def known_operation(self, operation_id: str) -> FirstReceipt | None:
        """An accepted operation of the last day (S-61)."""
        offset = self.index.operations.offset_of(operation_id)
        if offset is None:
            offset = await self.operation(operation_id)
        return self.index.features.first(await self.entry(offset)) if offset is not None else None

    # --- tokens and keys -------------------------------------------------------------------------------

    async def get_token(self, token_id: str) -> Json:
        """`TokenInfo` in full, and what a completion needs (`helmr_runtime.ledger.index.tokens`)."""
        token = await self.token(token_id)
        if token is None:
            raise TokenNotFound(f"there is no token {token_id}", token_id=token_id)
        return await self._token_in_full(token)

    async def find_callback(self, callback_hash: str) -> Json | None:
        """The token in full whose callback secret has this hash."""
        token = await self.token_by_callback(callback_hash)
        return await self._token_in_full(token) if token is not None else None

    async def _token_in_full(self, token: TokenHead) -> Json:
        """The token with its texts, schemas and end."""
        while True:
            offsets = (token.created_offset, token.ended_offset, token.pin_offset)
            created, ended, pinned = [await self.entry(o) if o else None for o in offsets]
            if offsets == (token.created_offset, token.ended_offset, token.pin_offset):
                break  # else it ended meanwhile, and its status and its data would be of two times
        assert created is not None
        return token_json(token, created, ended, pinned, in_full=True)

    async def token_end(self, token_id: str) -> Json | None:
        """Return the end of a token, `{status, ended_at, ended_by, data?}`; None while it is pending."""
        token = await self.token(token_id)
        if token is None or token.is_pending:
            return None
        return end_facts(token.status.value, await self.entry(token.ended_offset))

    async def list_tokens(self, /, **wanted: Any) -> Json:
        """A page of `TokenInfo`, newest first; `wanted` is a `TokensQuery`, as it gives itself."""
        return await self.rows.page(_query(TokensQuery, wanted))

    async def find_public_token(self, secret_hash: str) -> Json | None:
        """`PublicTokenInfo` with its state, by its secret's hash; dead ones may be forgotten."""
        owned = self.index.keys.public_by_hash(secret_hash)
        if owned is not None and owned.token.scope.person in self.index.people.disabled.names:
            owned = replace(owned, token=revoke(owned.token, self.now()))
        return public_token_json(owned) if owned is not None else None

    async def get_public_token(self, public_token_id: str) -> Json:
        """`PublicTokenInfo` with its state."""
        owned = self.index.keys.public_tokens.get(public_token_id)
        if owned is not None:
            return public_token_json(owned)
        found = await self.rows.public_token(public_token_id)
        if found is None:
            raise KeyNotFound(f"there is no public token {public_token_id}")
        return found

    async def public_token_maker(self, public_token_id: str) -> Json:
        """The principal that made a public token, as its entry names it."""
        offset = int((await self.get_public_token(public_token_id))["created_offset"])
        (entry,) = await self.entries_after(offset - 1, 1)
        return dict(entry.principal.to_json())

    async def links_of_wait(self, wait_id: str) -> Sequence[Json]:
        """The `PublicTokenInfo` of each answer link of a wait, newest first; dead ones may be forgotten."""
        return [public_token_json(owned) for owned in self.index.keys.links_of(wait_id)]

    async def list_public_tokens(
        self, *, cursor: str | None = None, limit: int | None = None
    ) -> Json:
        """A page of `PublicTokenInfo`, newest first."""
        return await self.rows.public_tokens(cursor, views.limit_of(limit))

    async def find_api_key(self, secret_hash: str) -> Json | None:
        """`ApiKeyInfo` by its secret's hash, also of a revoked key."""
        key = self.index.keys.api_by_hash(secret_hash)
        return api_key_json(key) if key is not None else None

    async def get_api_key(self, key_id: str) -> Json:
        """`ApiKeyInfo`."""
        key = self.index.keys.api_keys.get(key_id)
        if key is None:
            raise KeyNotFound(f"there is no API key {key_id}", key_id=key_id)
        return api_key_json(key)

    async def people(self) -> Sequence[Json]:
        """Return the ledger's facts of each person, in the order of their ids."""
        found, enabled = self.index.people.by_id, self.index.people.enabled_at
        return [person_json(found[one], enabled.get(one)) for one in sorted(found)]

    async def disabled(self) -> DisabledPeople:
        """Return the disabled people, the revoked keys, and the delegations that were ended."""
        return self.index.people.disabled

    async def delegations(self) -> Sequence[Delegation]:
        """Return the delegations that hold or will, oldest first, then those that were ended lately."""
        people = self.index.people
        return (*people.delegations.values(), *people.ended.values())

    async def list_api_keys(self, *, cursor: str | None = None, limit: int | None = None) -> Json:
        """A page of `ApiKeyInfo`, newest first."""
        return await self.rows.api_keys(cursor, views.limit_of(limit))

    # --- followers -------------------------------------------------------------------------------------

    async def changed(self, timeout_s: float) -> bool:
        """Wait for the next change of the index; False if none came in time."""
        event = self._change
        await self._until(event.is_set, timeout_s)
        return event.is_set()

    async def _until(self, holds: Callable[[], bool], timeout_s: float) -> None:
        """Return when it holds, which is looked at after each change of the index, or at the latest then."""
        if holds() or timeout_s <= 0:
            return
        with suppress(TimeoutError):
            # Not `wait_for`, which loses a cancellation that meets the event (Python 3.11).
            async with asyncio.timeout(timeout_s):
                while not holds():
                    await self._change.wait()

    def _changed(self) -> None:
        event, self._change = self._change, asyncio.Event()
        event.set()

    async def feed(self, after: int, limit: int, timeout_s: float) -> Sequence[Json]:
        """Entries behind a feed offset, as `EntryInfo` (S-54); waits for the first of them."""
        await self._until(lambda: self.index.head_offset > after, min(timeout_s, POLL_MAX_S))
        found = await self.entries_after(after, max(1, min(limit, FEED_LIMIT_MAX)))
        return [entry_json(entry) for entry in found]

    async def feed_head(self) -> int:
        """Feed offset of the newest entry."""
        return self.index.head_offset

    async def work(self, known: WorkPosition = FROM_START, timeout_s: float = 0.0) -> WorkChanges:
        """Wait for news on the work list, up to `timeout_s`; return the changes after `known`, as `WorkList.since`."""
        work = self.index.work
        await self._until(lambda: work.has_news(known), min(timeout_s, POLL_MAX_S))
        return work.since(known, self.recent)

    async def held(self) -> Sequence[HeldLease]:
        """Return the held sessions, with holder and epoch."""
        return self.index.holdings()

    async def lead(self, directory: str) -> str:
        """The term of that directory: where it starts, and where it goes on when the ledger is back."""
        return self.index.lead(directory)

    # --- sessions, runs, waits -------------------------------------------------------------------------

    async def get_session(self, session_id: str) -> Json:
        """`SessionInfo`, with its active wait in full, and how many of its records no wait has taken."""
        resolving = self.index.work.resolving()
        found = await self.rows.session(session_id)
        if found is None:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        head = await self._require_head(session_id)
        return {**self._session_now(found, resolving), "unconsumed": await self.unconsumed(head)}

    def _session_now(self, session: Json, resolving: Mapping[str, str]) -> Json:
        wait = session["wait"]
        return {**session, "wait": self._wait_now(wait, resolving)} if wait is not None else session

    def _wait_now(self, wait: Json, resolving: Mapping[str, str]) -> Json:
        """The wait of a row, with what memory alone knows: who has claimed it, and how its token has ended.

        Args:
            wait: Which.
            resolving: Taken before the row was read: what its session decides while it is read, the row has.
        """
        status = resolving.get(wait["id"]) if wait["status"] == WaitStatus.PENDING.value else None
        return {**self.claims.with_claim(wait), "resolving": status}

    async def brief(self, session_id: str) -> Json:
        """`{task, is_over}` of a session. Known from memory: the tables are not written for it."""
        head = await self._require_head(session_id)
        return {"task": head.task, "is_over": head.is_over}

    async def list_sessions(self, /, **wanted: Any) -> Json:
        """A page of `SessionInfo`, newest first; `wanted` is a `SessionsQuery`, as it gives itself."""
        resolving = self.index.work.resolving()
        found = await self.rows.page(_query(SessionsQuery, wanted))
        return {**found, "items": [self._session_now(one, resolving) for one in found["items"]]}

    async def get_run(self, run_id: str) -> Json:
        """`RunInfo` with payload, result and error."""
        found = await self.rows.run(run_id)
        if found is None:
            raise RunNotFound(f"there is no run {run_id}", run_id=run_id)
        return found

    async def list_runs(self, /, **wanted: Any) -> Json:
        """A page of `RunInfo`, newest first; `wanted` is a `RunsQuery`, as it gives itself."""
        return await self.rows.page(_query(RunsQuery, wanted))

    async def get_wait(self, wait_id: str) -> Json:
        """`WaitInfo` in full, but for its schema."""
        status = self.index.work.token_ended(wait_id)
        found = await self.rows.wait(wait_id)
        if found is None:
            raise WaitNotFound(f"there is no wait {wait_id}", wait_id=wait_id)
        return self._wait_now(found, {wait_id: status} if status is not None else {})

    async def list_waits(self, /, **wanted: Any) -> Json:
        """A page of `WaitInfo`: soonest end first, none last, then by id.

        `wanted` is a `WaitsQuery`, as above; `by_deputy` of it holds a `DeputyFilter` for each delegation to the person
        whom the query is about.
        """
        resolving, by_deputy = self.index.work.resolving(), wanted.pop("by_deputy", ())
        query = _query(WaitsQuery, wanted)
        found = await self.rows.page(query, resolving=resolving, by_deputy=by_deputy)
        return {**found, "items": [self._wait_now(one, {}) for one in found["items"]]}

    async def count_waits(self, /, **wanted: Any) -> Json:
        """Count the waits of `list_waits` without making them: see `LedgerClient.count_waits`."""
        resolving, by_deputy = self.index.work.resolving(), wanted.pop("by_deputy", ())
        query = _query(WaitsQuery, wanted)
        found = await self.rows.waits_by_task(query, resolving=resolving, by_deputy=by_deputy)
        of_task = [one for one in found if query.task in (None, one["task"])]
        return {
            "count": sum(one["count"] for one in of_task),
            "before": sum(one["before"] for one in of_task),
            "tasks": sorted(one["task"] for one in found),
        }

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
        head = await self._require_head(session_id)
        return await self.rows.transcript(head, after, cursor, views.limit_of(limit))

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
        head = await self._require_head(session_id)
        limit = views.limit_of(limit)
        return await self.rows.records(head, "input", stream, after, cursor, limit)

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
        head = await self._require_head(session_id)
        limit = views.limit_of(limit)
        return await self.rows.records(head, "output", stream, after, cursor, limit)

    # --- facts of the system, and numbers ---------------------------------------------------------------

    async def notices(self) -> Json:
        """The positions of notice targets, by name."""
        offset = self.index.notices_offset
        return dict((await self.entry(offset)).body["positions"]) if offset else {}

    async def ask(self, question: FeatureQuestion) -> Any:
        """Answer a question from the state of its feature."""
        return question.answer(self.index.features[question.feature], self.now())

    async def unconsumed(self, head: Head) -> int | None:
        """Count the session's records that no wait has taken; None if it can't be read now.

        The first call after a restart reads the session.
        """
        if head.unconsumed is None:
            with suppress(DataError):
                state = restore(head.session_id, await self.snapshot(head.session_id))
                if head.last == (state.seq, state.last_hash):
                    head.unconsumed = state.unconsumed_count
                return state.unconsumed_count
        return head.unconsumed

    async def numbers(self) -> Json:
        """Return the numbers for metrics: latency, waits, claims and those of features."""
        return {
            **(self.latency.to_json() if self.latency is not None else {}),
            "waits": await self.rows.wait_totals(self.index.work.resolving()),
            "claims": self.claims.count(),
            **self.index.features.numbers(),
        }

    # --- claims ----------------------------------------------------------------------------------------

    async def claim_wait(
        self, session_id: str, wait_id: str, by: Principal, *, for_s: float, override: bool
    ) -> ClaimsKept:
        """Claim a pending wait, or renew a claim (S-81)."""
        return await self.claims.claim_wait(session_id, wait_id, by, for_s=for_s, override=override)

    async def release_wait(self, session_id: str, wait_id: str, by: Principal) -> ClaimsKept:
        """Release a claim; without effect if there is none."""
        return await self.claims.release_wait(session_id, wait_id, by)

    async def give_back_claims(
        self, names: Sequence[str], by: Principal
    ) -> Mapping[str, ClaimsKept]:
        """End the claims of a person with these names, who may act no more."""
        return self.claims.give_back(names, by)

    async def links_of_person(self, names: Sequence[str]) -> Sequence[Json]:
        """The `PublicTokenInfo` of each answer link that lives and is for a person with these names."""
        found = self.index.keys.public_tokens.values()
        return [
            public_token_json(one)
            for one in found
            if one.token.scope.person in names and one.token.revoked_at is None
        ]

    # --- inside ---------------------------------------------------------------------------------

    async def _require_head(self, session_id: str) -> Head:
        head = await self.head(session_id)
        if head is None or head is self.index.system:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        return head


def _query(kind: type[Q], wanted: Mapping[str, Any]) -> Q:
    try:
        return kind(**{**wanted, "limit": views.limit_of(wanted.get("limit"))})
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("cursor",):
            raise BadCursor("the cursor can't be read") from error
        raise BadRequest(f"{first['loc'][0]}: {first['msg']}") from error
