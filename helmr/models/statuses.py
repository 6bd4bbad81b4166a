"""The states that things are in, and what a send did."""

from __future__ import annotations

from enum import StrEnum


class SessionStatus(StrEnum):
    """S-1."""

    OPEN = "open"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class Activity(StrEnum):
    """What an open session is doing, derived from its newest run (S-1)."""

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
        """Somebody answers such a wait; another ends by time, or by other sessions."""
        return self in (WaitKind.INPUT, WaitKind.TOKEN)


class WaitStatus(StrEnum):
    """S-11."""

    PENDING = "pending"
    FULFILLED = "fulfilled"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


class WaitPriority(StrEnum):
    """How urgent a wait is to whoever asked (S-72)."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class AnswerMode(StrEnum):
    """How an answer came (S-73): set by the runtime, never by who answers."""

    PERSON = "person"
    """With a key or from a job that named a person."""
    LINK = "link"
    """Through an answer link or the page behind a callback URL."""
    DEFAULT = "default"
    """An escalation's default."""
    PROGRAM = "program"
    """From any other caller."""


class SendOutcome(StrEnum):
    """What a send did (S-25)."""

    FULFILLED = "fulfilled"
    BUFFERED = "buffered"
    LATE = "late"
    UNMATCHED = "unmatched"


class CompletionOutcome(StrEnum):
    """What a completion did (S-41)."""

    COMPLETED = "completed"
    ALREADY_COMPLETED = "already_completed"


class TokenStatus(StrEnum):
    """S-40; all but pending are final."""

    PENDING = "pending"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
