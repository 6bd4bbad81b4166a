"""Events of a live session's queue, their effects, and the session's surroundings.

Values and protocols only. `LiveSession` takes the events and passes those about code to its `CodeRunner`, which returns
`Effects`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal, Protocol

from helmr_runtime.catalog import Registered, Registry
from helmr_runtime.clock import Clock
from helmr_runtime.core.decide import DecisionContext
from helmr_runtime.core.entries import Draft
from helmr_runtime.core.requests import WaitRequest
from helmr_runtime.core.run import Run
from helmr_runtime.core.state import SessionState
from helmr_runtime.host_status import SlotMark
from helmr_runtime.ports import CommitReply, Flush, Precondition
from helmr_runtime.ports.ledger import Ledger
from helmr_runtime.replay import Outcome, RunDriver, RunEvent, RunHost
from helmr_runtime.replay.durable_context import Resumes
from helmr_runtime.security.people import PeopleConfig
from helmr_runtime.session.commands import Commanded
from helmr_runtime.session.histories import Histories
from helmr_runtime.session.permits import HostPermits


class SessionPhase(Enum):
    """A live session's phase in its host: `LIVE ⇄ PARKING`, `LIVE → LEAVING`, and `OVER` after any."""

    LIVE = "live"
    """Its code runs, or may begin, here."""
    RETIRING = "retiring"
    """Parts of earlier code did not end: the session is decided here, and its next code runs elsewhere."""
    PARKING = "parking"
    """Its code is being aborted; a decision meanwhile keeps it here."""
    LEAVING = "leaving"
    """One command is decided and the session given up in the same commit; no code runs."""
    OVER = "over"
    """Given up or lost; nothing more is written."""


HEARING = (SessionPhase.LIVE, SessionPhase.RETIRING)
"""Phases in which the code's requests count (S-34)."""


Replays = Literal["never", "first", "always"]
"""Outcomes at which code is replayed: none, the first of a wait, or all; for development and tests."""


@dataclass(frozen=True, slots=True)
class CodeSettings:
    """A host's settings for running code.

    Args:
        code_hash: Hash of its code.
        linger_s: Seconds; a step's longer backoff parks.
        silence_s: Seconds of silence after which a replay counts as different from the journal.
        context: Makes the context that code begins with.
        people: The known people.
    """

    code_hash: str
    linger_s: float
    replays: Replays
    silence_s: float
    context: Callable[[], Context]
    people: PeopleConfig


@dataclass(frozen=True, slots=True)
class HostParts:
    """Parts that all sessions of a host share. `base_url` begins the callback URLs of tokens."""

    ledger: Ledger
    clock: Clock
    registry: Registry
    settings: CodeSettings
    base_url: str
    histories: Histories
    permits: HostPermits
    resumes: Resumes


class SessionPlace(Protocol):
    """A session's place in its host."""

    mark: SlotMark

    def changed(self, is_parkable: bool, op_max: int | None) -> None:
        """The session's report may have changed; `op_max` is the newest op of its run."""
        ...

    def lost(self, reason: str) -> None:
        """Note that the ledger refused an entry, which ends the adoption. Called once."""
        ...

    def retire(self, reason: str) -> None:
        """Retire the host: parts of the session's code did not end."""
        ...


# --- events ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Flushed:
    """The ledger has answered a flush."""

    flush: Flush
    reply: CommitReply


@dataclass(frozen=True, slots=True)
class TimeCame:
    """The time of the session's timer has come: its wait's next escalation step or deadline, or its run's retry."""


@dataclass(slots=True, eq=False)
class PendingOutcome:
    """An outcome on its way to the code; it goes once it is ready and all earlier ones have gone."""

    driver: RunDriver
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The code can start: all that it needs is on disk and read. Without `is_held` the adoption ended before."""

    run: Run
    attempt: int
    histories: Mapping[int, Sequence[Any]]
    is_held: bool


@dataclass(frozen=True, slots=True)
class TryDue:
    """A step's opening is on disk, or its backoff is over."""

    driver: RunDriver
    op: int


@dataclass(frozen=True, slots=True)
class OutcomeReady:
    """The code may get an outcome."""

    pending: PendingOutcome
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PermitCame:
    """An op's permit is here; op 0 is the run. None: check again whether the run only waits for permits."""

    op: int | None


@dataclass(frozen=True, slots=True)
class ThreadsLookedAt:
    """Threads of aborted code are checked again; they have this many seconds left."""

    driver: RunDriver
    left_s: float


@dataclass(frozen=True, slots=True)
class AbortOverdue:
    """Code that was aborted should have ended by now."""

    driver: RunDriver


CodeEvent = (
    RunEvent | Prepared | TryDue | OutcomeReady | PermitCame | ThreadsLookedAt | AbortOverdue
)

Event = Commanded | Flushed | TimeCame | CodeEvent


@dataclass(slots=True)
class Effects:
    """Effects of an event, carried out by the session in this order.

    Attributes:
        drafts: Entries to write.
        flush: Send the buffer now.
        begins: Code begins, and its first request should go into the same flush.
        then: Event to take once all that is decided by now is on disk.
        outside: A request that a fact outside of the session decides.
        has_ended: The code has ended.
        retire: The reason why parts of the code did not end.
    """

    drafts: Sequence[Draft] = ()
    flush: bool = False
    begins: bool = False
    then: TryDue | OutcomeReady | None = None
    outside: tuple[RunDriver, int, WaitRequest] | None = None
    has_ended: bool = False
    retire: str | None = None


NOTHING = Effects()


class SessionView(RunHost, Protocol):
    """A session as its deciding parts see it."""

    state: SessionState
    phase: SessionPhase
    registered: Registered | None
    hold_seq: int

    @property
    def is_over(self) -> bool:
        """Given up or lost."""
        ...

    def context(self, carried: datetime | None = None) -> DecisionContext:
        """Return the circumstances of a decision made now."""
        ...

    def take(self, event: CodeEvent) -> None:
        """Put an event into the queue."""
        ...

    def run_of(self, driver: RunDriver) -> Run | None:
        """Return the active run, if this driver runs it."""
        ...

    async def durable(self, seq: int) -> bool:
        """Wait until that seq is on disk; return false if the adoption ended before."""
        ...

    async def idle(self) -> None:
        """Wait until everything decided is on disk."""
        ...

    async def commit_alone(
        self, drafts: Sequence[Draft], preconditions: tuple[Precondition, ...]
    ) -> CommitReply:
        """Commit, and apply only after the entries are stored."""
        ...
