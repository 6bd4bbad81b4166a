"""What a live session takes and what follows: the events of its queue, their effects, and the session's surroundings.

Values and protocols only. `LiveSession` takes the events; those about code it gives to its `CodeRunner`, which answers
with `Effects`.
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
    """How a live session stands to its host: `LIVE ⇄ PARKING`, `LIVE → LEAVING`, and `OVER` after any."""

    LIVE = "live"
    """Its code runs, or may begin, here."""
    RETIRING = "retiring"
    """Parts of earlier code did not end: it is decided here, and what is to run runs elsewhere."""
    PARKING = "parking"
    """Its code is being cut off; what is decided meanwhile keeps it here."""
    LEAVING = "leaving"
    """One command is decided and the session given up in the same commit; no code runs."""
    OVER = "over"
    """Given up or lost; nothing more is written."""


HEARING = (SessionPhase.LIVE, SessionPhase.RETIRING)
"""In these what the session's code asks for counts (S-34)."""


Replays = Literal["never", "first", "always"]
"""At the first outcome of a wait, or at every outcome: for development and tests."""


@dataclass(frozen=True, slots=True)
class CodeSettings:
    """How a host runs code.

    Args:
        code_hash: Of the code that it has.
        linger_s: A step's longer backoff parks.
        replays: When the code begins again from its journal while it is in memory.
        silence_s: How long a replay may be silent before it counts as different from the journal.
        context: Makes the context that code begins with.
        people: Who there is.
    """

    code_hash: str
    linger_s: float
    replays: Replays
    silence_s: float
    context: Callable[[], Context]
    people: PeopleConfig


@dataclass(frozen=True, slots=True)
class HostParts:
    """What all sessions of a host share. What the callback URLs of tokens begin with is `base_url`."""

    ledger: Ledger
    clock: Clock
    registry: Registry
    settings: CodeSettings
    base_url: str
    histories: Histories
    permits: HostPermits
    resumes: Resumes


class SessionPlace(Protocol):
    """Where a session is in its host."""

    mark: SlotMark

    def changed(self, is_parkable: bool, op_max: int | None) -> None:
        """The session's report may have changed; `op_max` is the newest op of its run."""
        ...

    def lost(self, reason: str) -> None:
        """The ledger refused an entry: the adoption is over against our will. Told once."""
        ...

    def retire(self, reason: str) -> None:
        """Parts of the session's code did not end."""
        ...


# --- events ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Flushed:
    """The ledger has answered a flush."""

    flush: Flush
    reply: CommitReply


@dataclass(frozen=True, slots=True)
class TimeCame:
    """The time has come that the session waited for: its wait's next escalation step or deadline, or its run's
    retry."""


@dataclass(slots=True, eq=False)
class PendingOutcome:
    """An outcome on its way to the code; goes when it is ready and those before it have gone."""

    driver: RunDriver
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that a start of the code needs is on disk and read; without `is_held` the adoption ended before."""

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
    """The code may have an outcome."""

    pending: PendingOutcome
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PermitCame:
    """An op's permit is here; of op 0 the run's. None: it is looked at again whether all that is left waits for one."""

    op: int | None


@dataclass(frozen=True, slots=True)
class ThreadsLookedAt:
    """A while has passed since threads of aborted code were seen to execute; they have this much time left."""

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
    """What an event sets off, carried out by the session in this order.

    Attributes:
        drafts: Written.
        flush: What is buffered is sent now.
        begins: Code begins: what it asks for first is to go into the same flush.
        then: Taken when all that is decided by now is on disk.
        outside: The request is decided by a fact outside of the session.
        has_ended: No more comes of the code that was here.
        retire: Parts of the code did not end, for this reason.
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
    """What decides for a session sees of it."""

    state: SessionState
    phase: SessionPhase
    registered: Registered | None
    hold_seq: int

    @property
    def is_over(self) -> bool:
        """Given up or lost."""
        ...

    def context(self, carried: datetime | None = None) -> DecisionContext:
        """The circumstances of a decision made now."""
        ...

    def take(self, event: CodeEvent) -> None:
        """Put an event into the queue."""
        ...

    def run_of(self, driver: RunDriver) -> Run | None:
        """The active run, if this driver is the one that runs it."""
        ...

    async def durable(self, seq: int) -> bool:
        """Wait until that seq is on disk; false if the adoption ended before."""
        ...

    async def idle(self) -> None:
        """Wait until everything decided is on disk."""
        ...

    async def commit_alone(
        self, drafts: Sequence[Draft], preconditions: tuple[Precondition, ...]
    ) -> CommitReply:
        """Commit, and apply only what was stored: this decision never runs ahead."""
        ...
