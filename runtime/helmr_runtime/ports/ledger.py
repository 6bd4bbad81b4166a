"""The contract of a ledger, said once: what it answers, and what of it is passed along.

A store is a class that has these methods: `helmr_runtime.ledger.ledger.DuckLedger` over a file,
`helmr_runtime.ledger.memory.MemoryLedger` over lists. `helmr_runtime.ledger.actor.LedgerActor` opens one and hands each
call on; all methods are calls to that actor. Reads return JSON types that fit the models of `helmr.models`; lists are
`{items, next_cursor}`.

`tests/ledger/test_port.py` tests each store against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from helmr_runtime.core import checkpoint as checkpoints
from helmr_runtime.core.commands import FeatureQuestion, FirstReceipt, Prune, Pruned
from helmr_runtime.core.entries import Principal, Watermark
from helmr_runtime.core.fork import ForkSession
from helmr_runtime.core.people import DisabledPeople
from helmr_runtime.core.session_file import BackupHeader, FileSignature
from helmr_runtime.core.state import SessionState
from helmr_runtime.core.tokens import LedgerCommand
from helmr_runtime.ports import (
    ClaimsKept,
    CommitReply,
    Flush,
    HeldLease,
    KnownKey,
    Loaded,
    SessionLine,
    Started,
    StartSession,
)
from helmr_runtime.security.secrets import SessionKeys

Json = Mapping[str, Any]

ENTRIES_DONE = "entries_done"
"""The fact of a `NotReady` that says how far a ledger of an earlier edition is carried over; `entries` are all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFreshness:
    """Whether reads have everything that was acknowledged.

    Attributes:
        stale_as_of: The time, in ISO 8601, up to which they have, if another runtime may have gone on since.
        for_s: For so many seconds more no other runtime can; endless if no other machine reaches the log.
    """

    stale_as_of: str | None = None
    for_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """Something the directory must see to; it stays on the ledger's list until a commit clears it.

    kind: what is to be done.
        `run`: an unheld session whose run is queued without a future retry_at, or running, or waiting with lost steps.
        `delivery`: a token or a child session of a pending wait ended; `wait_id`, `token_id` are set.
        `end`: a child session that its parent has ended is to be cancelled; `token_id` is the child's id.
    end: As `token_end` gives it, unless it is large or no longer in memory: then it is to be asked for.
    trace: What set it off, as a W3C traceparent, as far as the ledger's memory has it.
    family: The session that it descends from and that no task started, as far as the ledger's memory has it.
    """

    kind: str
    session_id: str
    queued_at: datetime
    run_id: str | None = None
    wait_id: str | None = None
    token_id: str | None = None
    end: Mapping[str, Any] | None = None
    trace: str | None = None
    family: str | None = None

    @property
    def key(self) -> str:
        """What names it while it is on the list."""
        return f"end {self.session_id}" if self.kind == "end" else self.wait_id or self.session_id


WorkPosition = tuple[int, int]
"""Up to which change of the ledger's list a reader knows what was added to it, and what has left it."""

FROM_START: WorkPosition = (-1, -1)
"""The position of a reader that knows nothing yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkChanges:
    """What has become of the ledger's list since a position.

    Attributes:
        position: How far this goes; pass it to the next `work`.
        added: What is on the list and did not come before, oldest first.
        gone: Keys of what is there no more.
        is_whole: `added` begins with the first of the list: what was known before is void.
        has_more: There is more behind; the next call returns at once.
    """

    position: WorkPosition
    added: tuple[WorkItem, ...] = ()
    gone: tuple[str, ...] = ()
    is_whole: bool = False
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """A page of a backup: rows as JSON arrays (`helmr_runtime.core.session_file`), and where in the feed it ends.

    Attributes:
        pruned_offset: Feed offset of the newest `sessions.pruned` when it was read, 0 before the first. What was copied
            up to an offset before it may lack entries in the middle of sessions.
    """

    through: int
    rows: tuple[bytes, ...]
    pruned_offset: int = 0


def restore(session_id: str, loaded: Loaded) -> SessionState:
    """The state that was loaded: the checkpoint's, and the entries after it."""
    if loaded.checkpoint is not None:
        state = checkpoints.restore(
            session_id,
            loaded.checkpoint,
            loaded.referenced,
            loaded.pieces,
            offset=loaded.checkpoint_offset,
        )
    else:
        state = SessionState(session_id)
    for entry in loaded.entries:
        state.apply(entry)
    return state


class LedgerClient(Protocol):
    """The ledger as the service sees it: starts, facts of the system, and every read. It can't commit for a session."""

    async def start_session(self, start: StartSession, line: SessionLine | None = None) -> Json:
        """Create a session unless it exists (S-2); `{created, lined, session, run}`, as one call and one commit.

        Args:
            start: What is to be created.
            line: Written in the same commit, if that creates the session and no host holds the line's: `lined`.
        """
        ...

    async def write_line(
        self, line: SessionLine, *, rides: bool = False
    ) -> Mapping[str, Any] | None:
        """Write a line; its receipt is that of a send. None if it is for a host to write: nothing has happened.

        Args:
            line: A record, and the session that it goes to, which may begin with it.
            rides: Another commit follows in a moment, which takes it along.

        Raises:
            ExternalIdConflict: The open session of that name has another task or payload.
            HelmrError: The record is refused, as a send is.
        """
        ...

    async def fork_session(self, fork: ForkSession) -> Json:
        """Create a session with another's past (S-86); `{session_id, run_id}`, also when it is repeated.

        Raises:
            SessionNotFound: No session with that id.
            OpNotFound, ForkRefused: As `helmr_runtime.core.fork.fork`.
            OperationConflict: The operation id was used with another request.
        """
        ...

    async def snapshot(self, session_id: str) -> Loaded:
        """A session as it is on disk now, with all that a replay of its newest run needs; no one adopts it.

        Raises:
            SessionNotFound: No session with that id.
        """
        ...

    async def records(self, session_id: str, watermark: Watermark) -> Sequence[Json]:
        """The bodies of the records that a read of a stream's history saw, in order; fewer if some are gone."""
        ...

    async def known_operation(self, operation_id: str) -> FirstReceipt | None:
        """Look an operation up that was accepted in the last day (S-61)."""
        ...

    async def claim_wait(
        self, session_id: str, wait_id: str, by: Principal, *, for_s: float, override: bool
    ) -> ClaimsKept:
        """Claim a pending wait, or renew a claim (S-81). In memory: writes nothing and wakes no one.

        Raises:
            WaitClaimed: Someone else has claimed it, and that is not overridden.
            WaitResolved, WaitTimedOut: It is over.
            BadRequest: No one answers it.
        """
        ...

    async def release_wait(self, session_id: str, wait_id: str, by: Principal) -> ClaimsKept:
        """Release a claim; without effect if there is none.

        Raises:
            WaitClaimed: It is another's.
            WaitResolved, WaitTimedOut, BadRequest: As `claim_wait`.
        """
        ...

    async def give_back_claims(
        self, names: Sequence[str], by: Principal
    ) -> Mapping[str, ClaimsKept]:
        """End the claims of a person with these names, who may act no more (S-117); what is kept, by session."""
        ...

    async def links_of_person(self, names: Sequence[str]) -> Sequence[Json]:
        """A `PublicTokenInfo` for each answer link that lives and is for a person with these names."""
        ...

    async def fact(self, fact: LedgerCommand) -> Json:
        """Write a fact of the system stream: tokens, their public tokens, API keys; on disk when it returns.

        Raises:
            HelmrError: It is refused, as `helmr_runtime.ledger.index.commands` says.
        """
        ...

    async def get_token(self, token_id: str) -> Json:
        """A token in full, with the schemas that a completion must fit.

        Raises:
            TokenNotFound: No such token.
        """
        ...

    async def list_tokens(self, /, **wanted: Any) -> Json:
        """Tokens, newest first: a page of those that a `TokensQuery` wants, as it gives itself."""
        ...

    async def get_session(self, session_id: str) -> Json:
        """A `SessionInfo`, its active wait in full but for the schema.

        Raises:
            SessionNotFound: No session with that id.
        """
        ...

    async def brief(self, session_id: str) -> Json:
        """`{task, is_over}`: over if no code of the session runs any more, nor will. Costs less than `get_session`.

        Raises:
            SessionNotFound: No session with that id.
        """
        ...

    async def list_sessions(self, /, **wanted: Any) -> Json:
        """Sessions, newest first: a page of those that a `SessionsQuery` wants, as it gives itself."""
        ...

    async def get_run(self, run_id: str) -> Json:
        """A `RunInfo`.

        Raises:
            RunNotFound: No run with that id.
        """
        ...

    async def list_runs(self, /, **wanted: Any) -> Json:
        """Runs, newest first: a page of those that a `RunsQuery` wants, as it gives itself."""
        ...

    async def get_wait(self, wait_id: str) -> Json:
        """A `WaitInfo` in full but for the schema.

        Raises:
            WaitNotFound: No wait with that id.
        """
        ...

    async def list_waits(self, /, **wanted: Any) -> Json:
        """Waits by when time ends them: a page of those that a `WaitsQuery` wants, as it gives itself."""
        ...

    async def transcript(
        self,
        session_id: str,
        *,
        after: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Json:
        """Entries of a session by seq."""
        ...

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
        ...

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
        ...

    async def feed(self, after: int, limit: int, timeout_s: float) -> Sequence[Json]:
        """Entries of all sessions behind a feed offset; waits for the first at most `timeout_s`."""
        ...

    async def seq_at(self, session_id: str, feed_offset: int) -> int:
        """Seq of a session's last entry up to that feed offset, 0 if there is none."""
        ...

    async def feed_head(self) -> int:
        """The newest feed offset."""
        ...

    async def find_callback(self, callback_hash: str) -> Json | None:
        """A token in full, by the hash of its callback secret."""
        ...

    async def find_public_token(self, secret_hash: str) -> Json | None:
        """A `PublicTokenInfo` with its `state`, by its secret's hash."""
        ...

    async def public_token_maker(self, public_token_id: str) -> Json:
        """The `Principal` that made a public token.

        Raises:
            KeyNotFound: No public token with that id.
        """
        ...

    async def get_public_token(self, public_token_id: str) -> Json:
        """A `PublicTokenInfo`.

        Raises:
            KeyNotFound: No public token with that id.
        """
        ...

    async def links_of_wait(self, wait_id: str) -> Sequence[Json]:
        """The `PublicTokenInfo` of each answer link of a wait, newest first."""
        ...

    async def list_public_tokens(
        self, *, cursor: str | None = None, limit: int | None = None
    ) -> Json:
        """Public tokens, newest first."""
        ...

    async def find_api_key(self, secret_hash: str) -> Json | None:
        """An `ApiKeyInfo`, by its secret's hash."""
        ...

    async def get_api_key(self, key_id: str) -> Json:
        """An `ApiKeyInfo`.

        Raises:
            KeyNotFound: No key with that id.
        """
        ...

    async def people(self) -> Sequence[Json]:
        """What the ledger knows of each person, by id: `{id, issuer, subject, bound_at, disabled_at, reason}`."""
        ...

    async def grants_of(self, client: str, agent: str) -> Sequence[Json]:
        """The `GrantInfo` of each grant that counts now in an agent's session (S-107)."""
        ...

    async def get_grant(self, grant_id: str) -> Json:
        """A `GrantInfo`.

        Raises:
            GrantNotFound: No grant with that id.
        """
        ...

    async def list_grants(self, *, cursor: str | None = None, limit: int | None = None) -> Json:
        """The newest grants, those that are over too."""
        ...

    async def list_api_keys(self, *, cursor: str | None = None, limit: int | None = None) -> Json:
        """API keys, newest first."""
        ...

    async def ask(self, question: FeatureQuestion) -> Any:
        """What a feature's memory answers, as JSON.

        Raises:
            FeatureMissing: The ledger does not have that feature.
        """
        ...

    async def catalog(self) -> Json | None:
        """The newest `Catalog`, None before the first."""
        ...

    async def notices(self) -> Json:
        """The positions of notice targets, by name (`helmr_runtime.core.notices.Position`)."""
        ...

    async def query(self, sql: str, *, limit: int) -> bytes:
        """One SELECT over the public views, as an Arrow IPC stream.

        Raises:
            BadQuery, QueryTimeout, QueryTooLarge, QueryBusy: As `helmr_runtime.ledger.query` says.
        """
        ...

    async def freshness(self) -> ReadFreshness:
        """Whether reads have everything (S-102). Asked after a read, it is true of that one."""
        ...

    async def backup_header(self, version: str) -> BackupHeader:
        """What a backup begins with: the ledger at the feed offset that it has now. `version` is Helmr's."""
        ...

    async def copied_rows(self, after: int, through: int) -> CopiedRows:
        """The entries behind a feed offset and their checkpoints, as far as a page goes; at most to `through`."""
        ...

    async def prune(self, prune: Prune) -> Pruned:
        """Remove the next page of old sessions that are over, or count them all (S-69).

        Raises:
            StoreUnavailable: A backup is being read, or the archive can't be written.
        """
        ...

    async def session_keys(self, session_id: str) -> SessionKeys | None:
        """What the secrets of a session's tokens are derived from."""
        ...

    async def sign_file(self, signed: bytes) -> FileSignature | None:
        """The signature of a session file, by what of it is signed; None if there are no master keys."""
        ...

    async def file_keys(self) -> Sequence[tuple[str, str]]:
        """The id of each master key and the public key that its signatures are checked by, the newest first."""
        ...

    async def stats(self) -> Json:
        """Offsets, sizes, latencies and counts; `failure` says why it can't commit, if so."""
        ...

    async def numbers(self) -> Json:
        """What only `/metrics` shows: `{waits[]{kind stream count oldest_at}, claims, commit_seconds?, commit_jobs?}`,
        and those of each feature under its name; `commit_…`, where there is a disk, as
        `ledger.log.group.Distribution.to_json`.
        """
        ...


class Ledger(LedgerClient, Protocol):
    """The ledger as hosts and the directory see it: they adopt sessions and commit for them."""

    async def load(
        self,
        session_id: str,
        holder: str,
        *,
        operation_id: str | None = None,
        key: tuple[str, str] | None = None,
        term: str | None = None,
        known: tuple[int, bytes] | None = None,
    ) -> Loaded:
        """Adopt: raise the epoch, mark held by `holder`, return what is needed. `key` is (stream, key hash).

        Args:
            known: Seq and hash of the last entry that a state of the caller's own covers.
            term: In which a directory sent the adoption (see `lead`); None without a directory.

        Raises:
            SessionNotFound: no such session.
            Moved: That holder was abandoned, or another term has begun.
        """
        ...

    async def commit(self, flush: Flush) -> CommitReply:
        """Store one flush; returns when it is on disk (S-60)."""
        ...

    async def abandon(self, session_id: str, epoch: int) -> None:
        """The holder of that epoch died: raise the epoch and mark unheld; the session returns to `work`."""
        ...

    async def abandon_all(self, holder: str) -> None:
        """As `abandon`, for every session that this holder holds: it died. Its loads are refused from now on."""
        ...

    async def held(self) -> Sequence[HeldLease]:
        """The sessions marked held."""
        ...

    async def lead(self, directory: str) -> str:
        """The term of that directory. Unless this ledger's last one is its, a new one begins: what an earlier directory
        has sent, or this one to an earlier process of the ledger, adopts nothing more.
        """
        ...

    async def known_key(self, session_id: str, stream: str, key_hash: str) -> KnownKey | None:
        """Look an idempotency key up."""
        ...

    async def disabled(self) -> DisabledPeople:
        """Who may act no more."""
        ...

    async def start(self, start: StartSession, line: SessionLine | None = None) -> Started:
        """The conditional write that creates a session."""
        ...

    async def token_end(self, token_id: str) -> Mapping[str, Any] | None:
        """How a token ended, None while it is pending: `{status, ended_at, ended_by, data?}`."""
        ...

    async def work(self, known: WorkPosition = FROM_START, timeout_s: float = 0.0) -> WorkChanges:
        """Wait until something is added to the list behind `known`, at most `timeout_s`."""
        ...
