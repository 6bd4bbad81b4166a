"""What the parts of the runtime say to each other: values and the protocols of ledger, session and directory.

The values are frozen and hold only JSON types, bytes, datetimes and each other, so that they cross process
boundaries; the protocols have one implementation as a Ray actor and one in-process for tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from helmr_runtime.core.children import Parent
from helmr_runtime.core.chunks import ChunkNews, ChunkPlace
from helmr_runtime.core.claims import WaitClaims
from helmr_runtime.core.commands import (
    AnswerWait,
    FirstReceipt,
    OperationKey,
    Send,
    SessionCommand,
    TokenEnded,
)
from helmr_runtime.core.entries import Entry, Principal
from helmr_runtime.core.people import NO_ONE_DISABLED, DisabledPeople
from helmr_runtime.security.secrets import SessionKeys

# --- host <-> ledger ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OperationUnused:
    """Precondition: this operation id is new. Declined with the entry that carries its receipt."""

    operation: OperationKey


@dataclass(frozen=True, slots=True)
class TokenOpen:
    """Precondition of opening a wait on a token or on children: declined with the facts of the first that has ended."""

    awaits: tuple[str, ...]
    wait_id: str


@dataclass(frozen=True, slots=True)
class TokenNotCompleted:
    """Precondition of timing such a wait out: nothing that it awaits was completed before `deadline_at`."""

    awaits: tuple[str, ...]
    deadline_at: datetime


Precondition = OperationUnused | TokenOpen | TokenNotCompleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush:
    """What a live session asks the ledger to store as one unit.

    Its name is (session_id, epoch, first seq, last hash): the ledger answers one that it holds as done.
    `release` True is the park commit: it clears the head's holder. `checkpoint` is the JSON text of the
    session's state at the last entry's seq. A flush without entries may still carry checkpoint and release;
    then `first_seq` is the next seq and `previous_hash` the last hash.
    """

    session_id: str
    epoch: int
    first_seq: int
    previous_hash: bytes
    entries: tuple[Entry, ...]
    preconditions: tuple[Precondition, ...] = ()
    checkpoint: str | None = None
    release: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The flush is on disk. Its entries have consecutive feed offsets from `first_feed_offset`."""

    first_feed_offset: int
    next_deadline_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """A precondition outside the session does not hold; nothing is stored."""

    precondition: Precondition
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Another actor owns the session (newer epoch, or other entries at that seq); nothing is stored."""

    epoch: int
    seq: int


CommitReply = Committed | Declined | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """What an idempotency key was used for (S-26): the hash of its data and the entry of its record."""

    data_hash: str
    entry: Entry

    def is_of(self, stream: str, key_hash: str) -> bool:
        """It is this key on this stream: the same key on another stream is another key."""
        body = self.entry.body
        return bool((body["stream"], body.get("key_hash")) == (stream, key_hash))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What an adoption needs, read in one call that raises the epoch and marks the session held.

    `entries` follow the checkpoint's seq (all of them if there is no checkpoint), in seq order, with feed
    offsets. `referenced` holds the entries that the checkpoint and its pieces name by feed offset, `pieces` the
    earlier checkpoints that it names; `checkpoint_offset` is its own. Of all this only that offset need be given if
    the caller's own state `is_known` to be the newest.
    """

    epoch: int
    checkpoint: str | None
    entries: tuple[Entry, ...]
    checkpoint_offset: int | None = None
    pieces: Mapping[int, str] = field(default_factory=dict)
    referenced: Mapping[int, Entry] = field(default_factory=dict)
    chain_key: bytes | None = None
    known_operation: FirstReceipt | None = None
    known_key: KnownKey | None = None
    has_older_keys: bool = False
    keys: SessionKeys | None = None
    """What the secrets of the session's tokens are derived from; None in a runtime without master keys."""
    claims: WaitClaims | None = None
    """Who is at its pending wait, and what of that the next entry is to say (S-81)."""
    disabled: DisabledPeople = NO_ONE_DISABLED
    """Whose commands are refused (S-117)."""
    is_known: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSession:
    """Create a session and its first run, unless external id, idempotency key or operation say it exists (S-2)."""

    session_id: str
    run_id: str
    task: str
    payload: Any
    external_id: str | None
    tags: tuple[str, ...]
    metadata: Mapping[str, Any]
    idempotency_key: str | None
    principal: Principal
    operation: OperationKey | None
    request_hash: str
    """Over task and payload: what must be equal for `created: false`."""
    parent: Parent | None = None
    """Whose child it is; refused once that run is over, or in another attempt (S-91)."""
    starters: tuple[str, ...] = ()
    """Of a child: who started those above it, whom `starter` means in it too (S-112)."""
    cause: Mapping[str, Any] | None = None
    """What the feature that starts it says of that in the session's first entry, under its own key."""
    trace: str | None = None
    """As `SessionCommand.trace`."""
    done_by: str | None = None
    """Hash of the code, if its task does nothing: its run has ended as it begins, and no host is asked to run it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLine:
    """A record that the ledger adds to a session which no host holds, in a commit that is about something else.

    Attributes:
        start: Makes the session, or finds it, by its external id.
        send: The record.
    """

    start: StartSession
    send: Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Receipt of a start. `lined`: the line that came with it is in its commit."""

    session_id: str
    run_id: str
    created: bool
    lined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsKept:
    """The claims of a wait as the ledger has them now; `holder`, if someone holds the session, has to hear of them."""

    claims: WaitClaims | None
    holder: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLease:
    """A session whose head the ledger has marked held, by the load of that epoch and holder."""

    session_id: str
    epoch: int
    holder: str


# --- gateway / directory <-> host ----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """How the actor that held a session died; the next adoption commits it as `run.actor_died`."""

    cause: str
    executing: bool
    op: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """Reply to `adopt`.

    Attributes:
        reply: The command's receipt, None without a command.
        released: The session was given up again with what was decided: its code was not to run here.
        wants_own_host: Its task is isolated and this host is shared: code of it runs only in a host of its own.
    """

    epoch: int
    reply: Mapping[str, Any] | None
    released: bool = False
    wants_own_host: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReleased:
    """The session is parked and its slot is free. `next_deadline_at`: of its wait, if any."""

    next_deadline_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """The host can't give the session up now (a step or code runs, or nothing waits)."""

    reason: str


class SlotState(StrEnum):
    """What a live session does."""

    BUSY = "busy"
    PARKABLE = "parkable"
    """Its run waits and nothing else is open, or no run is active."""
    LOST = "lost"
    """The ledger refused it: another holds the session. Its code is being ended."""
    GONE = "gone"
    """Nothing of it is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReport:
    """What became of one live session since the last report. `since`: when it entered that state."""

    session_id: str
    epoch: int
    state: SlotState
    since: datetime
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """What `watch` returns: every live session that has changed, and why the host retires, if it does."""

    version: int
    """Pass to the next `watch` call, which returns when it differs."""
    slots: tuple[SlotReport, ...]
    retiring: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A session that a host holds, and since which adoption."""

    session_id: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupancy:
    """Reply to `who`."""

    name: str
    code_hash: str
    pid: int
    leases: tuple[Lease, ...] = ()
    retiring: str | None = None
    node: str = ""
    """Ray's id of the node that it runs on, if it is not the directory's."""
    memory_max_bytes: int | None = None
    """What it may have allocated before it makes way for another; None where nothing bounds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """Reply to `ping`: what the host has allocated, if that is bounded, and what holds the loop of its async steps.

    And what resumes have taken since the last one: CPU seconds, and what there is to say of a long one.
    """

    memory_bytes: int | None = None
    blocked: str | None = None
    resumes_s: tuple[float, ...] = ()
    long_resume: str | None = None


class PermitChange(StrEnum):
    """What became of a ticket, or of a limit (`helmr_runtime.core.limits`)."""

    ASKED = "asked"
    HELD = "held"
    """The host was given a permit for it; said to a directory that did not give it."""
    LEFT = "left"
    """Its session leaves the host's memory and keeps its place; a permit that was given is not used."""
    ENDED = "ended"
    """It asks no more, and holds none."""
    CLOSED = "closed"
    """The limit is closed until `until`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitLine:
    """One line of what a host says about permits. `op` 0 is the run itself."""

    change: PermitChange
    limit: str
    ticket: str = ""
    key: str = ""
    session_id: str = ""
    op: int = 0
    goes_on: bool = False
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitNews:
    """Reply to `permit_news`: what has happened, in order; if `is_whole`, instead all that there is.

    `version` is passed to the next call, which returns when there is more.
    """

    version: int
    lines: tuple[PermitLine, ...]
    is_whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitGiven:
    """A permit for that ticket. It is not used after `use_by`, as what counts beginnings would not know."""

    ticket: str
    use_by: datetime | None = None


class Host(Protocol):
    """A process that holds live sessions. Each method of a session names it; one that is not here raises `Moved`,
    without effect."""

    async def adopt(
        self,
        session_id: str,
        *,
        command: SessionCommand | None,
        crash: Crash | None,
        catalog_hash: str,
        executes: bool = True,
        term: str | None = None,
    ) -> Adopted:
        """Take a session up; raises what the command raises after a successful adoption too (ask `lease`).

        With `executes` false the command is decided and the session given up in the same commit: there is no room for
        its code. `Moved` if the host takes nothing new, `NotReady` (with fact `code_hash`) if its code hash differs
        from `catalog_hash`.
        """
        ...

    async def command(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]:
        """Decide a command; returns its receipt when durable."""
        ...

    async def release(self, session_id: str, reason: str) -> SessionReleased | Busy:
        """Park and give the session up. reason: linger, evict, drain, shutdown."""
        ...

    async def note_claims(self, session_id: str, claims: WaitClaims) -> None:
        """Who is at the pending wait of a session that this host holds; what is older than it knows changes nothing."""
        ...

    async def dry_run(self, session_id: str, command: AnswerWait | TokenEnded) -> Mapping[str, Any]:
        """What that answer would set off, as `DryRun` in JSON; of any session, which it need not hold (S-87)."""
        ...

    async def watch(self, known: int) -> HostReport:
        """Long poll: returns when the report's version differs from `known`; -1 gives all that there is."""
        ...

    async def chunks(self, known: Mapping[str, ChunkPlace | None], timeout_s: float) -> ChunkNews:
        """Long poll: what those sessions have emitted behind these places; at once for one without a place (S-90)."""
        ...

    async def who(self) -> Occupancy:
        """What this host holds."""
        ...

    async def lease(self, session_id: str) -> Lease | None:
        """Whether it holds that session."""
        ...

    async def ping(self) -> Pulse:
        """Answered by the host's loop: what it has allocated and what blocks it."""
        ...

    async def longest_s(self) -> float:
        """How long a step of what executes there may take."""
        ...

    async def permit_news(self, directory: str, known: int) -> PermitNews:
        """Long poll: what has happened to permits behind version `known`; to a new directory all that there is.

        From then on permits that others have given are refused.
        """
        ...

    async def give_permits(self, directory: str, given: tuple[PermitGiven, ...]) -> None:
        """Give permits; one that was given before, or that no one asks for any more, changes nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """Reply of the directory: the receipt, and which host has the session now (for the caller's cache), if one kept
    it.
    """

    reply: Mapping[str, Any]
    host: str | None


class Directory(Protocol):
    """Knows which session lives where; the only one that adopts and releases."""

    async def route(self, session_id: str, command: SessionCommand) -> Routed:
        """Have the session adopted if need be and the command decided."""
        ...

    async def locate(self, session_id: str) -> str | None:
        """The name of the host that holds the session, if any; adopts nothing."""
        ...

    async def any_host(self) -> str:
        """The name of the host that has the fewest sessions of those that take any; waited for if there is none."""
        ...

    async def status(self) -> Mapping[str, Any]:
        """Pool, queue and warnings, as JSON, for /readyz, `helmr status` and the console."""
        ...

    async def limits(self) -> Mapping[str, Any]:
        """Each limit with what is held and who waits, as JSON: `{"items": […]}` (S-120)."""
        ...

    async def queued(self, session_ids: Sequence[str]) -> Mapping[str, Any] | None:
        """Of those sessions that wait for a limit: `{session_id: {limit, place, key, since}}`; None without limits."""
        ...
