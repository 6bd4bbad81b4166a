"""What task code asks of its session: one value per durable op, with the kind and name that replay compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from helmr.wait_details import NOTHING_SAID, WaitDetails
from helmr_runtime.core.public_tokens import Scope
from helmr_runtime.core.tokens import NewToken


@dataclass(frozen=True, slots=True)
class OpRequest:
    """Base of all asks. `kind` and `name` are what S-30 compares with the journal."""

    kind: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """What this op is about, within its kind."""
        return ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()

    def fits(self, recorded: str) -> bool:
        """The journal's text for an op is this ask's."""
        return recorded == str(self)


@dataclass(frozen=True, slots=True)
class StepRequest(OpRequest):
    """Run a step (S-32). The callable stays with the run's driver."""

    kind: ClassVar[str] = "step"
    step: str
    retries: int = 0
    backoff_s: float = 1.0
    timeout_s: float | None = None
    formerly: tuple[str, ...] = ()
    """Names that the step had: a journal that holds one of them fits."""
    rehearsable: bool = False
    """Its body may be executed for a rehearsal (S-87)."""

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step

    def fits(self, recorded: str) -> bool:
        """The journal's text names the step by its name or an earlier one."""
        names = (self.step, *self.formerly)
        return any(recorded == f"{self.kind} {name}" for name in names)


@dataclass(frozen=True, slots=True)
class WaitRequest(OpRequest):
    """Open a wait (S-10). `until` fixes a timer's deadline, `timeout_s` any wait's."""

    kind: ClassVar[str] = "wait"
    wait_kind: str
    wait_id: str
    stream: str | None = None
    correlation_id: str | None = None
    token_id: str | None = None
    session_ids: tuple[str, ...] = ()
    timeout_s: float | None = None
    until: datetime | None = None
    details: WaitDetails = NOTHING_SAID

    @property
    def name(self) -> str:
        """The stream of an input wait, else the wait's kind."""
        return f"{self.wait_kind} {self.stream}" if self.stream is not None else self.wait_kind

    @property
    def awaits(self) -> tuple[str, ...]:
        """The token, or the child sessions, of which the first to end resolves the wait."""
        return (self.token_id,) if self.token_id is not None else self.session_ids


@dataclass(frozen=True, slots=True)
class OutputRequest(OpRequest):
    """Append to an output stream."""

    kind: ClassVar[str] = "output"
    stream: str
    record_id: str
    data: Any = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The stream."""
        return self.stream


@dataclass(frozen=True, slots=True)
class PeekRequest(OpRequest):
    """Read the unconsumed records of an input stream."""

    kind: ClassVar[str] = "peek"
    stream: str

    @property
    def name(self) -> str:
        """The stream."""
        return self.stream


@dataclass(frozen=True, slots=True)
class HistoryRequest(OpRequest):
    """Read all records of an input stream up to now."""

    kind: ClassVar[str] = "history"
    stream: str

    @property
    def name(self) -> str:
        """The stream."""
        return self.stream


@dataclass(frozen=True, slots=True)
class ClockRequest(OpRequest):
    """Read the clock; the value was taken where the code asked."""

    kind: ClassVar[str] = "clock"
    now: datetime


@dataclass(frozen=True, slots=True)
class PatchRequest(OpRequest):
    """Record that the code took a patch's new way. No op: it stands under the op asked last (S-88)."""

    kind: ClassVar[str] = "patch"
    patch: str

    @property
    def name(self) -> str:
        """The patch's name."""
        return self.patch


@dataclass(frozen=True, slots=True)
class TokenRequest(OpRequest):
    """Make a token (S-40)."""

    kind: ClassVar[str] = "token"
    new: NewToken


@dataclass(frozen=True, slots=True)
class PublicTokenRequest(OpRequest):
    """Make a public token (S-44). Its secret is derived by who has the keys; its hash is here."""

    kind: ClassVar[str] = "public_token"
    public_token_id: str
    key_id: str
    secret_hash: str
    scope: Scope
    max_uses: int | None
    expires_in_s: float
    allowed_origins: tuple[str, ...]

    @property
    def name(self) -> str:
        """The scope's type."""
        return self.scope.type.value


@dataclass(frozen=True, slots=True)
class EmitRequest(OpRequest):
    """Show a chunk to followers (S-90). No op: nothing of it is recorded, and a replay passes it over."""

    kind: ClassVar[str] = "emit"
    stream: str

    @property
    def name(self) -> str:
        """The stream's name."""
        return self.stream


@dataclass(frozen=True, slots=True)
class ContinueRequest(OpRequest):
    """End this run and begin the next with another payload (S-8)."""

    kind: ClassVar[str] = "continue"
    payload: Any
    next_run_id: str
