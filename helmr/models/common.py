"""Shared by all models: principals, states of things, and limits of lengths and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from helmr.wire.people import PERSON_MAX as PERSON_MAX


class Wire(BaseModel):
    """Base of answers. Like all models here, one is built at first use, since a command needs few of them."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


@dataclass(frozen=True, slots=True)
class Shown:
    """The presentation of an answer's field to people; annotates its type.

    Attributes:
        label: Its label in lists of facts; None if it has a presentation of its own.
        find: The word of the filter grammar that compares it (`helmr.person.filters`).
        at_end: True if it is known only after the end.
    """

    label: str | None = None
    find: str | None = None
    at_end: bool = False


def shown_fields(model: type[BaseModel]) -> Iterator[tuple[str, Shown]]:
    """Return the fields of an answer that have a `Shown`, in order."""
    for name, one in model.model_fields.items():
        for said in one.metadata:
            if isinstance(said, Shown):
                yield name, said


def shown_facts(of: BaseModel, *, at_end: bool = False) -> Iterator[tuple[str, str, Any]]:
    """Return the labelled fields with a value, as (field, label, value); enums as their word."""
    for name, said in shown_fields(type(of)):
        value = getattr(of, name)
        is_plain = value == type(of).model_fields[name].get_default(call_default_factory=True)
        if said.label is not None and said.at_end == at_end and not is_plain:
            yield name, said.label, value.value if isinstance(value, Enum) else value


class PrincipalInfo(Wire):
    """The principal that acted (S-51). A `person` is verified, by `via`; `on_behalf_of` is self-declared.

    For a `person`, `on_behalf_of` is whose deputy they were: the runtime has checked it (S-142).
    """

    type: str
    id: str | None = None
    name: str | None = None
    on_behalf_of: str | None = None
    via: str | None = None

    @property
    def person(self) -> str | None:
        """The person behind it, verified or self-declared."""
        return self.id if self.type == "person" else self.on_behalf_of

    @property
    def label(self) -> str:
        """The principal for people: `ada`, `bo for ada`, `ada, said by key local`, `ada by link`, `api_key app`."""
        if self.type == "person":
            own = self.id or self.type
            return f"{own} for {self.on_behalf_of}" if self.on_behalf_of else own
        if self.type == "link" and self.on_behalf_of:
            return f"{self.on_behalf_of} by link"
        kind = "key" if self.type == "api_key" and self.on_behalf_of else self.type
        name = f"{kind} {self.name}" if self.name else kind
        return f"{self.on_behalf_of}, said by {name}" if self.on_behalf_of else name


SUBJECT_MAX = 200
BODY_MAX_BYTES = 1024 * 1024
NOTE_MAX_BYTES = 20_000
CORRELATION_ID_MAX = 512
EXTERNAL_ID_MAX = 256
IDEMPOTENCY_KEY_MAX = 256
RECORD_BYTES_MAX = 256 * 1024
CHUNK_BYTES_MAX = 16 * 1024
VALUE_BYTES_MAX = 1024 * 1024
HTTP_BODY_BYTES_MAX = 1_310_720
UNCONSUMED_RECORDS_MAX = 10_000
UNCONSUMED_BYTES_MAX = 32 * 1024 * 1024
LIST_LIMIT_MAX = 200
LIST_LIMIT_DEFAULT = 50
"""Limits of the contract (S-2, S-17, S-23, S-26, S-28, S-90)."""

BODY_SHOWN_BYTES = 20_000
"""Most characters of a wait's body in notices and cards."""

BODY_DRAWN_CHARS = 64 * 1024
"""Longest body of a wait that is rendered as Markdown; a longer one is offered as text."""

STALE_HEADER = "Helmr-Stale-As-Of"
"""Header of an answer that may lack data acknowledged by another runtime since that time (S-102)."""

WAIT_TAGS_MAX = 20
WAIT_TAG_MAX = 64
ASSIGNEE_MAX = 128
ESCALATION_STEPS_MAX = 20
BATCH_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
"""Limits of a wait's details (S-72, S-82)."""

CLAIM_S = 900.0
CLAIM_MAX_S = 86_400.0
"""Default and longest lifetime of a claim, in seconds (S-81)."""

TOKEN_TAGS_MAX = 50
TOKEN_TAG_MAX = 128
TOKEN_METADATA_BYTES_MAX = 16 * 1024
NAME_MAX = 100
SIGNATURE_CHARS_MAX = 8_192
"""An armored SSH signature; one by the longest RSA key has 3,600."""
REASON_MAX = 500
"""Limits of tags, metadata and names, which exist to find things again."""

PRUNE_AGE_MIN_S = 86_400.0
"""Seconds that a session must be over before a prune; until then its operations can be repeated."""

PRUNE_AGE_MAX_S = 3_660 * 86_400.0
"""Greatest age."""

CHILDREN_AWAITED_MAX = 1_000
"""Most child sessions of one wait (S-91)."""

OP_MAX = 2**53 - 1
"""Largest op and attempt, far beyond real ones; JSON readers lose precision above it."""

QUERY_TEXT_MAX = 65_536
QUERY_ROWS_DEFAULT = 10_000
QUERY_ROWS_MAX = 100_000
QUERY_BYTES_MAX = 32 * 1024 * 1024
QUERY_TIMEOUT_S = 30.0
"""Limits of `POST /v1/query`: characters of SQL, rows and bytes of a result, seconds."""

SCHEDULE_NAME_MAX = 64
TIMING_TEXT_MAX = 200
"""Most characters of a cron expression or a time zone."""


class SessionStatus(StrEnum):
    """S-1."""

    OPEN = "open"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class Activity(StrEnum):
    """The activity of an open session, derived from its newest run (S-1)."""

    IDLE = "idle"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    BLOCKED = "blocked"


class RunStatus(StrEnum):
    """S-3."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"

    @property
    def is_final(self) -> bool:
        """True once the run can't change except by `retry`."""
        return self in (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)


class WaitKind(StrEnum):
    """S-10."""

    INPUT = "input"
    TOKEN = "token"
    TIMER = "timer"
    SESSION = "session"

    @property
    def asks_people(self) -> bool:
        """True when someone answers such a wait; the other kinds end by time or by other sessions."""
        return self in (WaitKind.INPUT, WaitKind.TOKEN)


class WaitStatus(StrEnum):
    """S-11."""

    PENDING = "pending"
    FULFILLED = "fulfilled"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


class WaitPriority(StrEnum):
    """The urgency of a wait, set by the code that asks (S-72)."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class AnswerMode(StrEnum):
    """The way of an answer (S-73), set by the runtime and never by the answerer."""

    PERSON = "person"
    """With a key, or from a job, that named a person."""
    LINK = "link"
    """Through an answer link or the page behind a callback URL."""
    DEFAULT = "default"
    """An escalation's default."""
    PROGRAM = "program"
    """From any other caller."""


class SendOutcome(StrEnum):
    """The outcome of a send (S-25)."""

    FULFILLED = "fulfilled"
    BUFFERED = "buffered"
    LATE = "late"
    UNMATCHED = "unmatched"


class VoteOutcome(StrEnum):
    """The outcome of an answer or its withdrawal on a wait that several people must agree on (S-113)."""

    VOTED = "voted"
    WITHDRAWN = "withdrawn"


class CompletionOutcome(StrEnum):
    """The outcome of a completion (S-41)."""

    COMPLETED = "completed"
    ALREADY_COMPLETED = "already_completed"


class TokenStatus(StrEnum):
    """S-40; all but pending are final."""

    PENDING = "pending"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


T = TypeVar("T")


class Page(Wire, Generic[T]):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[T]
    next_cursor: str | None = None
