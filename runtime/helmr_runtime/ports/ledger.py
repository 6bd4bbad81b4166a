"""The contract of a ledger: its methods and the values that they return.

A store is a class that has these methods: `helmr_runtime.ledger.ledger.DuckLedger` over a file,
`helmr_runtime.ledger.memory.MemoryLedger` over lists. `helmr_runtime.ledger.actor.LedgerActor` opens one and forwards
each call; all methods are calls to that actor. Reads return JSON types that fit the models of `helmr.models`; lists are
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
from helmr_runtime.core.delegations import Delegation
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
"""Fact of a `NotReady`: the entries already carried over from a ledger of an earlier edition; `entries` is their
total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFreshness:
    """Tells whether reads include all that was acknowledged.

    Attributes:
        stale_as_of: Time, in ISO 8601, up to which they do, if another runtime may have written since.
        for_s: Seconds for which no other runtime can write; infinite if no other machine reaches the log.
    """

    stale_as_of: str | None = None
    for_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """Work for the directory; it stays on the ledger's list until a commit clears it.

    kind: the work to do.
        `run`: an unheld session whose run is queued without a future retry_at, or running, or waiting with lost steps.
        `delivery`: a token or a child session of a pending wait ended; `wait_id`, `token_id` are set.
        `end`: a child session that its parent has ended must be cancelled; `token_id` is the child's id.
    end: The result of `token_end`, unless it is large or no longer in memory: then call `token_end`.
    trace: Its cause, as a W3C traceparent, if the ledger remembers it.
    family: The oldest ancestor of its session, which no task started, if the ledger remembers it.
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
        """Its key on the list."""
        return f"end {self.session_id}" if self.kind == "end" else self.wait_id or self.session_id


WorkPosition = tuple[int, int]
"""A reader's position in the changes of the ledger's list: the last known addition and the last known removal."""

FROM_START: WorkPosition = (-1, -1)
"""The position of a reader that knows nothing yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkChanges:
    """The changes of the ledger's list since a position.

    Attributes:
        position: The position after these changes; pass it to the next `work`.
        added: New items on the list, oldest first.
        gone: Keys of items that have left the list.
        is_whole: `added` begins with the first item of the list: forget all known items.
        has_more: There are more changes; the next call returns at once.
    """

    position: WorkPosition
    added: tuple[WorkItem, ...] = ()
    gone: tuple[str, ...] = ()
    is_whole: bool = False
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """A page of a backup: rows as JSON arrays (`helmr_runtime.core.session_file`), and the feed offset of its end.

    Attributes:
        pruned_offset: Feed offset of the newest `sessions.pruned` at the time of the read, 0 before the first. Pages up
            to an earlier offset may lack entries in the middle of sessions.
    """

    through: int
    rows: tuple[bytes, ...]
    pruned_offset: int = 0


def restore(session_id: str, loaded: Loaded) -> SessionState:
    """Return the loaded state: the checkpoint's, with the entries after it."""
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
    """The ledger as the service sees it: starts, facts of the system, and all reads. It can't commit for a session."""

    async def start_session(self, start: StartSession, line: SessionLine | None = None) -> Json:
        """Create a session unless it exists (S-2); `{created, lined, session, run}`, as one call and one commit.

        Args:
            start: The session to create.
            line: Written in the same commit, if that creates the session and no host holds the line's session: `lined`.
        """
        ...

    async def write_line(
        self, line: SessionLine, *, rides: bool = False
    ) -> Mapping[str, Any] | None:
        """Write a line and return the receipt of a send; None, without effect, if a host must write it.

        Args:
            line: A record, and the session that it goes to, which may begin with it.
            rides: Another commit follows at once, which includes it.

        Raises:
            ExternalIdConflict: The open session of that name has another task or payload.
            HelmrError: The record is refused, as a send would be.
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
        """Return a session as it is on disk now, with all that a replay of its newest run needs, without adopting it.

        Raises:
            SessionNotFound: No session with that id.
        """
        ...

    async def records(self, session_id: str, watermark: Watermark) -> Sequence[Json]:
        """Return the bodies of the records that a read of a stream's history saw, in order; fewer if some are gone."""
        ...

    async def known_operation(self, operation_id: str) -> FirstReceipt | None:
        """Look an operation up that was accepted in the last day (S-61)."""
        ...

    async def claim_wait(
        self, session_id: str, wait_id: str, by: Principal, *, for_s: float, override: bool
    ) -> ClaimsKept:
        """Claim a pending wait, or renew a claim (S-81). In memory: writes nothing and wakes no one.

        Raises:
            WaitClaimed: Someone else has claimed it, and the claim is not overridden.
            WaitResolved, WaitTimedOut: It is over.
            BadRequest: No one answers it.
        """
        ...

    async def release_wait(self, session_id: str, wait_id: str, by: Principal) -> ClaimsKept:
        """Release a claim; does nothing if there is none.

        Raises:
            WaitClaimed: The claim is another principal's.
            WaitResolved, WaitTimedOut, BadRequest: As `claim_wait`.
        """
        ...

    async def give_back_claims(
        self, names: Sequence[str], by: Principal
    ) -> Mapping[str, ClaimsKept]:
        """End the claims of a disabled person with these names (S-117); return the kept claims, by session."""
        ...

    async def links_of_person(self, names: Sequence[str]) -> Sequence[Json]:
        """Return a `PublicTokenInfo` for each live answer link for a person with these names."""
        ...

    async def fact(self, fact: LedgerCommand) -> Json:
        """Write a fact of the system stream: tokens, their public tokens, API keys; on disk when it returns.

        Raises:
            HelmrError: `helmr_runtime.ledger.index.commands` refuses it.
        """
        ...

    async def get_token(self, token_id: str) -> Json:
        """A token in full, with the schemas that a completion must fit.

        Raises:
            TokenNotFound: No such token.
        """
        ...

    async def list_tokens(self, /, **wanted: Any) -> Json:
        """Return tokens, newest first: a page for the parameters of a `TokensQuery`."""
        ...

    async def get_session(self, session_id: str) -> Json:
        """Return a `SessionInfo`, with its active wait in full except for the schema.

        Raises:
            SessionNotFound: No session with that id.
        """
        ...

    async def brief(self, session_id: str) -> Json:
        """Return `{task, is_over}`; over if no code of the session runs or will run. Costs less than `get_session`.

        Raises:
            SessionNotFound: No session with that id.
        """
        ...

    async def list_sessions(self, /, **wanted: Any) -> Json:
        """Return sessions, newest first: a page for the parameters of a `SessionsQuery`."""
        ...

    async def get_run(self, run_id: str) -> Json:
        """A `RunInfo`.

        Raises:
            RunNotFound: No run with that id.
        """
        ...

    async def list_runs(self, /, **wanted: Any) -> Json:
        """Return runs, newest first: a page for the parameters of a `RunsQuery`."""
        ...

    async def get_wait(self, wait_id: str) -> Json:
        """Return a `WaitInfo` in full except for the schema.

        Raises:
            WaitNotFound: No wait with that id.
        """
        ...

    async def list_waits(self, /, **wanted: Any) -> Json:
        """Return waits by the time that ends them: a page for the parameters of a `WaitsQuery`.

        With `by_deputy`, a `DeputyFilter` for each delegation, `concerns` and `answerable_by` also hold for the people
        whose deputy asks.
        """
        ...

    async def count_waits(self, /, **wanted: Any) -> Json:
        """Count the waits that `list_waits` lists for these parameters, on all its pages: `{count, before, tasks}`.

        `before` are those on the pages before the cursor. `tasks` are the tasks that the list would have without its
        filter by task.
        """
        ...

    async def transcript(
        self,
        session_id: str,
        *,
        after: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Json:
        """Return entries of a session by seq."""
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
        """Return records of an input stream by seq, consumed or not."""
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
        """Return records of an output stream by seq."""
        ...

    async def feed(self, after: int, limit: int, timeout_s: float) -> Sequence[Json]:
        """Return entries of all sessions after a feed offset; waits up to `timeout_s` for the first."""
        ...

    async def seq_at(self, session_id: str, feed_offset: int) -> int:
        """Return the seq of a session's last entry up to that feed offset; 0 if there is none."""
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
        """Return each person that the ledger knows, by id: `{id, issuer, subject, bound_at, disabled_at, reason}`."""
        ...

    async def delegations(self) -> Sequence[Delegation]:
        """Return the delegations that hold or will, then those that were ended lately; the time of some may be over."""
        ...

    async def list_api_keys(self, *, cursor: str | None = None, limit: int | None = None) -> Json:
        """API keys, newest first."""
        ...

    async def ask(self, question: FeatureQuestion) -> Any:
        """Return the reply of a feature's memory, as JSON.

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
        """Run one SELECT over the public views and return an Arrow IPC stream.

        Raises:
            BadQuery, QueryTimeout, QueryTooLarge, QueryBusy: See `helmr_runtime.ledger.query`.
        """
        ...

    async def freshness(self) -> ReadFreshness:
        """Return the freshness of reads (S-102). Asked after a read, it holds for that read."""
        ...

    async def backup_header(self, version: str) -> BackupHeader:
        """Return the header of a backup at the ledger's current feed offset. `version` is Helmr's."""
        ...

    async def copied_rows(self, after: int, through: int) -> CopiedRows:
        """Return a page of the entries after a feed offset, up to `through`, with their checkpoints."""
        ...

    async def attachment_piece(self, session_id: str, attachment_id: str, number: int) -> bytes:
        """Return a piece of a session's file.

        Raises:
            AttachmentNotFound: There is none.
            StoreUnavailable: The store does not answer.
        """
        ...

    async def prune(self, prune: Prune) -> Pruned:
        """Remove the next page of old sessions that are over, or count them all (S-69).

        Raises:
            StoreUnavailable: A backup is being read, or the archive can't be written.
        """
        ...

    async def session_keys(self, session_id: str) -> SessionKeys | None:
        """Return the keys for the secrets of a session's tokens."""
        ...

    async def sign_file(self, signed: bytes) -> FileSignature | None:
        """Sign the bytes of a session file that a signature covers; return None if there are no master keys."""
        ...

    async def file_keys(self) -> Sequence[tuple[str, str]]:
        """Return the id of each master key with the public key that verifies its signatures, the newest first."""
        ...

    async def stats(self) -> Json:
        """Return offsets, sizes, latencies and counts; `failure` is the reason if it can't commit."""
        ...

    async def numbers(self) -> Json:
        """Return the numbers that only `/metrics` shows: `{waits[]{kind stream count oldest_at}, claims,
        commit_seconds?, commit_jobs?}`, and those of each feature under its name; `commit_…` as in
        `ledger.log.group.Distribution.to_json`, if there is a disk.
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
        """Adopt a session: raise the epoch, mark it held by `holder`, return its data. `key` is (stream, key hash).

        Args:
            known: Seq and hash of the last entry that the caller's own state covers.
            term: The directory's term at the adoption (see `lead`); None without a directory.

        Raises:
            SessionNotFound: no such session.
            Moved: The holder was abandoned, or another term has begun.
        """
        ...

    async def commit(self, flush: Flush) -> CommitReply:
        """Store one flush; returns once it is on disk (S-60)."""
        ...

    async def put_attachment_piece(
        self, session_id: str, attachment_id: str, number: int, data: bytes
    ) -> None:
        """Store a piece of a session's file, numbered from 0; on disk when it returns (S-143).

        Raises:
            StoreUnavailable: The store does not answer.
        """
        ...

    async def abandon(self, session_id: str, epoch: int) -> None:
        """Raise the epoch and mark the session unheld, since that epoch's holder died; it returns to `work`."""
        ...

    async def abandon_all(self, holder: str) -> None:
        """Abandon every session of a holder that died. Its loads are refused from now on."""
        ...

    async def held(self) -> Sequence[HeldLease]:
        """Return the sessions marked held."""
        ...

    async def lead(self, directory: str) -> str:
        """Return the term of that directory. A new term begins unless the last one is its own: adoptions that an
        earlier directory sent, or this one to an earlier process of the ledger, are then refused.
        """
        ...

    async def known_key(self, session_id: str, stream: str, key_hash: str) -> KnownKey | None:
        """Look an idempotency key up."""
        ...

    async def disabled(self) -> DisabledPeople:
        """Return the disabled people."""
        ...

    async def start(self, start: StartSession, line: SessionLine | None = None) -> Started:
        """Create a session in a conditional write."""
        ...

    async def token_end(self, token_id: str) -> Mapping[str, Any] | None:
        """Return the end of a token: `{status, ended_at, ended_by, data?}`; None while it is pending."""
        ...

    async def work(self, known: WorkPosition = FROM_START, timeout_s: float = 0.0) -> WorkChanges:
        """Wait up to `timeout_s` for changes of the list after `known`."""
        ...
