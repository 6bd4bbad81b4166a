"""The run that the calling code belongs to: what the SDK asks of it.

The SDK knows the protocol `DurableRun` only; the runtime's replay driver implements it. A durable call outside a run,
or inside a step, has no run to ask and raises `NotInTask`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from random import Random  # noqa: TID251 - seeded by the place in the run
from typing import Any, Literal, Protocol

from helmr.errors import NotInTask, SchemaMismatch
from helmr.made_calls import MadeCalls
from helmr.wait_details import NOTHING_SAID, WaitDetails


@dataclass(frozen=True, slots=True)
class SessionRef:
    """The session a run belongs to."""

    id: str
    external_id: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run."""

    id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StepRef:
    """The step whose body is executing; `key` is stable over tries, attempts and processes."""

    name: str
    key: str
    tries: int
    op: int


@dataclass(frozen=True, slots=True)
class Record:
    """One item that people sent on an input stream; `data` is JSON as it was sent."""

    id: str
    stream: str
    seq: int
    data: Any
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitCall:
    """What the code waits for. One of stream, token_id, session_ids and a time (timeout_s or until, kind timer)."""

    kind: str
    stream: str | None = None
    correlation_id: str | None = None
    token_id: str | None = None
    session_ids: tuple[str, ...] = ()
    timeout_s: float | None = None
    until: datetime | None = None
    details: WaitDetails = NOTHING_SAID


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCall:
    """A child session that the code starts; JSON types only. `leaves`: it goes on when the run is cancelled."""

    task: str
    payload: Any
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    leaves: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCall:
    """A token that the code makes; JSON types only."""

    timeout_s: float
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    schema: Any = None
    is_raw: bool = False
    verify: Mapping[str, Any] | None = field(default=None, repr=False)
    subject: str | None = None
    body: str | None = None
    initial: Any = None
    allowed_origins: tuple[str, ...] = ()
    escalation: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMade:
    """A token with its secrets, which no repr shows."""

    id: str
    expires_at: datetime
    callback_url: str = field(repr=False)
    public_access_token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTokenCall:
    """A public token that the code makes. `scope` as on the wire; without a session it is the run's own."""

    scope: Mapping[str, Any]
    max_uses: int | None
    expires_in_s: float
    allowed_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTokenMade:
    """A public token with its secret, which no repr shows."""

    id: str
    expires_at: datetime
    public_access_token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOutcome:
    """How a wait ended. `status`: fulfilled, timed_out or cancelled; `reason` says why it was cancelled."""

    op: int
    wait_id: str
    status: str
    record: Record | None = None
    data: Any = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCall:
    """One call of a step. `encode` and `decode` translate its value to JSON types and back."""

    name: str
    call: Callable[[], Any]
    is_async: bool
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    retries: int
    backoff_s: float
    retry_on: tuple[type[Exception], ...] | Callable[[Exception], bool]
    timeout_s: float | None
    formerly: tuple[str, ...] = ()
    """Names that the step had: a journal that holds one of them fits."""
    dry_run_safe: bool = False
    """Its body may be executed for a dry run."""
    loop: Literal["steps", "run"] = "steps"
    """Where an async body runs: on the loop that all of them share, or on its run's own."""
    arguments: tuple[Sequence[Any], Mapping[str, Any]] | None = None
    """What a replay compares; None compares nothing."""

    def retries_on(self, raised: Exception) -> bool:
        """Whether this failure is tried again, if tries are left."""
        on = self.retry_on
        return isinstance(raised, on) if isinstance(on, tuple) else on(raised)


class DurableRun(Protocol):
    """A run as its own code sees it."""

    session: SessionRef
    run: RunRef
    made: MadeCalls
    """What its code has called and not awaited yet."""

    @property
    def replaying(self) -> bool:
        """True while recorded outcomes are being delivered again."""
        ...

    @property
    def is_muted(self) -> bool:
        """What the code logs has been logged before, or is not to be: the code is only tried."""
        ...

    def look_at_run(self) -> RunRef:
        """The run, of which the code may tell what it asks: its attempt is another one after a failure."""
        ...

    def now(self) -> datetime:
        """The time, recorded."""
        ...

    def patched(self, name: str) -> bool:
        """Whether the code takes a patch's new way at this place."""
        ...

    def uuid(self) -> uuid.UUID:
        """A UUID that is the same at each replay."""
        ...

    def random(self) -> Random:
        """A random generator that is the same at each replay."""
        ...

    async def wait(self, call: WaitCall) -> WaitOutcome:
        """Open a wait and await its outcome."""
        ...

    async def step(self, call: StepCall) -> Any:
        """Run a step once, or return its recorded value."""
        ...

    async def append(self, stream: str, data: Any, *, compare: bool = True) -> int:
        """Append to an output stream; the record's seq. `compare`: a replay compares the data."""
        ...

    def emit(self, stream: str, data: Any) -> None:
        """Let a chunk out to anyone who follows an output stream, unrecorded; in steps too."""
        ...

    async def create_token(self, call: TokenCall) -> TokenMade:
        """Make a token; a replay gets the same one with the same secrets."""
        ...

    async def create_public_token(self, call: PublicTokenCall) -> PublicTokenMade:
        """Make a public token; a replay gets the same one with the same secret."""
        ...

    async def start_child(self, call: ChildCall) -> str:
        """Start a child session, recorded once; its id."""
        ...

    async def token_call(
        self, method: str, token_id: str | None, arguments: Mapping[str, Any]
    ) -> Any:
        """Ask the runtime about tokens (get, list, complete, cancel); recorded once, as a step is."""
        ...

    async def peek(self, stream: str) -> list[Record]:
        """The unconsumed records of an input stream."""
        ...

    async def history(self, stream: str) -> list[Record]:
        """All records of an input stream."""
        ...

    async def continue_as(self, payload: Any) -> None:
        """End this run and begin the next; does not return."""
        ...

    def unreadable(self, op: int, message: str, refused: SchemaMismatch) -> BaseException:
        """Recorded data that the code's types refuse now: blocks the run; raise what this returns."""
        ...


current_run: ContextVar[DurableRun | None] = ContextVar("helmr_current_run", default=None)
current_step: ContextVar[StepRef | None] = ContextVar("helmr_current_step", default=None)
"""The step whose body is executing, if any."""


def in_run() -> bool:
    """True where steps and waits are recorded: in a run's code, but not in the body of a step."""
    return current_run.get() is not None and current_step.get() is None


def require_run(
    what: str, *, in_step: str = "Durable calls belong in the task; a step only touches the world."
) -> DurableRun:
    """The run that the calling code belongs to; `in_step` says what to do instead inside a step.

    Raises:
        NotInTask: There is none, or a step's body is executing.
    """
    step = current_step.get()
    if step is not None:
        raise NotInTask(
            f"{what} was called inside step {step.name}",
            hint=in_step,
        )
    run = current_run.get()
    if run is None:
        raise NotInTask(
            f"{what} was called outside a run",
            hint="Call it from a @task that a runtime or helmr.testing executes.",
        )
    return run
