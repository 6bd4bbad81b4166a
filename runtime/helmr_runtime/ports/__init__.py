"""Contracts between parts of the runtime: values, and the protocols of ledger, session and directory.

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
    """Precondition of opening a wait on a token or on children; declined with the facts of the first that has ended."""

    awaits: tuple[str, ...]
    wait_id: str


@dataclass(frozen=True, slots=True)
class TokenNotCompleted:
    """Precondition of timing out such a wait: nothing that it awaits was completed before `deadline_at`."""

    awaits: tuple[str, ...]
    deadline_at: datetime


Precondition = OperationUnused | TokenOpen | TokenNotCompleted


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush:
    """A unit of entries that a live session asks the ledger to store.

    Its name is (session_id, epoch, first seq, last hash): a repeated one is answered as done.
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
    """The use of an idempotency key (S-26): the hash of its data and the entry of its record."""

    data_hash: str
    entry: Entry

    def is_of(self, stream: str, key_hash: str) -> bool:
        """True for this key on this stream; on another stream it is another key."""
        body = self.entry.body
        return bool((body["stream"], body.get("key_hash")) == (stream, key_hash))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The data of an adoption, read in one call that raises the epoch and marks the session held.

    `entries` follow the checkpoint's seq (all of them if there is no checkpoint), in seq order, with feed
    offsets. `referenced` holds the entries that the checkpoint and its pieces name by feed offset, `pieces` the
    earlier checkpoints that it names; `checkpoint_offset` is its own. Only that offset is needed if the caller's own
    state `is_known` to be the newest.
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
    """Keys for the secrets of the session's tokens; None in a runtime without master keys."""
    claims: WaitClaims | None = None
    """Claims of its pending wait, with the entries to write before the next one (S-81)."""
    disabled: DisabledPeople = NO_ONE_DISABLED
    """People whose commands are refused (S-117), and delegations that were ended (S-142)."""
    is_known: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSession:
    """Create a session and its first run, unless external id, idempotency key or operation show that it exists
    (S-2)."""

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
    """Hash over task and payload, which must be equal for `created: false`."""
    parent: Parent | None = None
    """The parent of a child; refused once the parent's run is over, or in another attempt (S-91)."""
    starters: tuple[str, ...] = ()
    """For a child, the people who started its ancestors; `starter` means them, too (S-112)."""
    cause: Mapping[str, Any] | None = None
    """Facts that the feature that starts it adds to the session's first entry, under the feature's own key."""
    trace: str | None = None
    """As in `SessionCommand.trace`."""
    done_by: str | None = None
    """Hash of the code, if its task does nothing: its run ends as it begins, without a host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLine:
    """A record that the ledger adds to a session that no host holds, in another commit.

    Attributes:
        start: Creates the session, or finds it by its external id.
        send: The record.
    """

    start: StartSession
    send: Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Receipt of a start. `lined`: its commit includes the line that came with it."""

    session_id: str
    run_id: str
    created: bool
    lined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsKept:
    """The current claims of a wait; the session's `holder`, if there is one, must be notified of them."""

    claims: WaitClaims | None
    holder: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLease:
    """A session that the ledger has marked held, with the epoch and holder of its load."""

    session_id: str
    epoch: int
    holder: str


# --- gateway / directory <-> host ----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """The crash of the actor that held a session; the next adoption commits it as `run.actor_died`."""

    cause: str
    executing: bool
    op: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """Reply to `adopt`.

    Attributes:
        reply: The command's receipt, None without a command.
        released: The session was given up with the decision, since its code should not run here.
        wants_own_host: Its task is isolated and this host is shared: its code runs only in a host of its own.
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
    """The host can't give up the session now (a step or code runs, or nothing waits)."""

    reason: str


class SlotState(StrEnum):
    """The state of a live session."""

    BUSY = "busy"
    PARKABLE = "parkable"
    """Its run waits and nothing else is open, or no run is active."""
    LOST = "lost"
    """The ledger refused it: another host holds the session. Its code is being ended."""
    GONE = "gone"
    """The slot is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotReport:
    """The state of one live session; `since` is the time when it entered that state."""

    session_id: str
    epoch: int
    state: SlotState
    since: datetime
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """Reply to `watch`: every live session that has changed, and the reason if the host retires."""

    version: int
    """Pass to the next `watch` call, which returns when it differs."""
    slots: tuple[SlotReport, ...]
    retiring: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A session that a host holds, with the epoch of its adoption."""

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
    """Ray's id of its node, if it is not the directory's."""
    memory_max_bytes: int | None = None
    """Bytes that it may allocate before another host replaces it; None if unbounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """Reply to `ping`: the host's allocated memory, if bounded, and the body that blocks the loop of its async steps.

    It also holds the CPU seconds of resumes since the last ping, and a message about a long one.
    """

    memory_bytes: int | None = None
    blocked: str | None = None
    resumes_s: tuple[float, ...] = ()
    long_resume: str | None = None


class PermitChange(StrEnum):
    """A change of a ticket or of a limit (`helmr_runtime.core.limits`)."""

    ASKED = "asked"
    HELD = "held"
    """The host has a permit for it; reported to a directory that did not give it."""
    LEFT = "left"
    """Its session leaves the host's memory and keeps its place; a given permit is not used."""
    ENDED = "ended"
    """It no longer asks or holds a permit."""
    CLOSED = "closed"
    """The limit is closed until `until`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitLine:
    """One line of a host's report about permits. `op` 0 is the run itself."""

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
    """Reply to `permit_news`: the changes in order, or if `is_whole`, all asks and permits.

    Pass `version` to the next call, which returns when there is more.
    """

    version: int
    lines: tuple[PermitLine, ...]
    is_whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitGiven:
    """A permit for that ticket. It must not be used after `use_by`: a late use would escape the count of beginnings."""

    ticket: str
    use_by: datetime | None = None


class Host(Protocol):
    """A process that holds live sessions. Methods about a session that is not here raise `Moved`, without effect."""

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
        """Adopt a session; an error of the command may follow a successful adoption (ask `lease`).

        With `executes` false the command is decided and the session given up in the same commit, since there is no room
        for its code. `Moved` if the host takes nothing new, `NotReady` (with fact `code_hash`) if its code hash differs
        from `catalog_hash`.
        """
        ...

    async def command(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]:
        """Decide a command; return its receipt once durable."""
        ...

    async def release(self, session_id: str, reason: str) -> SessionReleased | Busy:
        """Park the session and give it up. reason: linger, evict, drain, shutdown."""
        ...

    async def note_claims(self, session_id: str, claims: WaitClaims) -> None:
        """Note the claims of the pending wait of a session that this host holds; older ones are ignored."""
        ...

    async def dry_run(self, session_id: str, command: AnswerWait | TokenEnded) -> Mapping[str, Any]:
        """Try that answer in any session, held or not; return a `DryRun` as JSON (S-87)."""
        ...

    async def watch(self, known: int) -> HostReport:
        """Long poll: return the report once its version differs from `known`; -1 returns the whole report."""
        ...

    async def chunks(self, known: Mapping[str, ChunkPlace | None], timeout_s: float) -> ChunkNews:
        """Long poll: return those sessions' chunks after these places; at once if one has no place (S-90)."""
        ...

    async def who(self) -> Occupancy:
        """Return the sessions that this host holds, and facts of its process."""
        ...

    async def lease(self, session_id: str) -> Lease | None:
        """Return the lease of that session, or None if this host does not hold it."""
        ...

    async def ping(self) -> Pulse:
        """Return the pulse of the host's loop: allocated memory, and the body that blocks it."""
        ...

    async def longest_s(self) -> float:
        """Return the longest time that a step executing there may take, in seconds."""
        ...

    async def permit_news(self, directory: str, known: int) -> PermitNews:
        """Long poll: return changes of permits after version `known`; a new directory gets all permits.

        From then on permits of other directories are refused.
        """
        ...

    async def give_permits(self, directory: str, given: tuple[PermitGiven, ...]) -> None:
        """Give permits; one given before, or no longer asked for, changes nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """Reply of the directory: the receipt, and the host that holds the session now, for the caller's cache."""

    reply: Mapping[str, Any]
    host: str | None


class Directory(Protocol):
    """Knows the host of each session; alone adopts and releases sessions."""

    async def route(self, session_id: str, command: SessionCommand) -> Routed:
        """Adopt the session if necessary, and have the command decided."""
        ...

    async def locate(self, session_id: str) -> str | None:
        """Return the name of the host that holds the session, if any; adopts nothing."""
        ...

    async def any_host(self) -> str:
        """Return the name of the host with the fewest sessions of those that take any; waits until there is one."""
        ...

    async def status(self) -> Mapping[str, Any]:
        """Return pool, queue and warnings, as JSON, for /readyz, `helmr status` and the console."""
        ...

    async def limits(self) -> Mapping[str, Any]:
        """Return each limit with its held permits and its queue, as JSON: `{"items": […]}` (S-120)."""
        ...

    async def queued(self, session_ids: Sequence[str]) -> Mapping[str, Any] | None:
        """Return those of the sessions that wait for a limit: `{session_id: {limit, place, key, since}}`; None without
        limits."""
        ...
