"""The runtime's own things on the wire: schedules and when they are due, notices, and work on a whole ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from helmr.models.common import SCHEDULE_NAME_MAX, TIMING_TEXT_MAX, Wire
from helmr.models.requests import Request
from helmr.wire.durations import spell
from helmr.wire.truth import NoTruth

NOTICE_TARGET_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
NOTICE_TARGET_NAME_MAX = 64


class NoticeTargetInfo(Wire):
    """A notice target and its progress (S-84), without its URL, addresses and secrets.

    Attributes:
        type: `webhook`, `slack`, `email`, `ntfy` or `command`; a later runtime may know more.
        events: The events that it receives, also those that follow from its settings.
        offset: Feed offset up to which it took or skipped everything; None until its first look.
        behind: Entries of the feed after that.
        queued: Events that wait for it, in order.
        late: Skipped events that are still retried.
        given_up: Events that are no longer retried, since the gateway started.
        failing_since: Time of the first failure since its last success.
    """

    name: str
    type: str
    events: list[str]
    filter: str
    detail: Literal["none", "subject", "full"]
    offset: int | None = None
    behind: int | None = None
    queued: int = 0
    late: int = 0
    given_up: int = 0
    failing_since: datetime | None = None
    last_error: str | None = None
    last_taken_at: datetime | None = None


class LimitKeyInfo(Wire):
    """The number of runs and steps that wait under a limit for one key; keys take turns."""

    key: str
    waiting: int


class LimitInfo(Wire):
    """A limit and its current use (S-119). Lists leave out limits without a bound.

    Attributes:
        in_use: Tries of steps, or runs, that hold a permit.
        begun: Permits given in the last `within_s`, at most a fiftieth of that time short, since the directory began;
            None without `per`.
        waiting: Tries of steps, or runs, that wait for one.
        oldest_at: Time since which the first of them waits.
        closed_until: The provider accepts no calls before then; None if it is open.
        keys: Keys with most waiting, 20 at most.
    """

    name: str
    at_once: int | None = None
    per: int | None = None
    within_s: float | None = None
    in_use: int
    begun: int | None = None
    waiting: int
    oldest_at: datetime | None = None
    closed_until: datetime | None = None
    keys: list[LimitKeyInfo] = Field(default_factory=list)


class LimitPlace(Wire):
    """The place of a run in the queue for a permit of a limit, at the time of the read (S-120)."""

    limit: str
    place: int
    since: datetime

    @property
    def text(self) -> str:
        """`queued for limit openai, 14th`."""
        teens, last = self.place % 100 // 10 == 1, self.place % 10
        ending = {1: "st", 2: "nd", 3: "rd"}.get(last, "th") if not teens else "th"
        return f"queued for limit {self.limit}, {self.place}{ending}"


class NoticeTestReceipt(NoTruth, Wire):
    """The receipt of a test notice: `taken` if the target took it, else `error` has the reason.

    `remark` says what to know of a target that took it all the same.
    """

    _ask: ClassVar[str] = ".taken"

    target: str
    taken: bool
    error: str | None = None
    remark: str | None = None


class NoticeRetryReceipt(NoTruth, Wire):
    """The number of a target's events that are retried now."""

    _ask: ClassVar[str] = ".count"

    target: str
    count: int


class Health(NoTruth, Wire):
    """GET /readyz. `ready` False comes with status 503 and the reasons."""

    _ask: ClassVar[str] = ".ready"

    ready: bool
    reasons: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    """Faults that do not prevent answers to calls."""
    degraded: list[str] = Field(default_factory=list)
    """The states behind reasons and warnings, by name: `disk_low`, `queue_old` and so on (docs/monitoring.md)."""
    version: str
    pid: int | None = None
    data_dir: str | None = None
    started_at: datetime | None = None
    now: datetime | None = None
    """The server's time at this answer; the console counts deadlines from it."""
    feed_offset: int | None = None
    """The ledger's newest feed offset."""
    counts: dict[str, int] = Field(default_factory=dict)
    """Counts of things: `waits_pending`, `sessions_open`, `sessions_waiting` and the like."""
    pool: dict[str, Any] = Field(default_factory=dict)
    ledger: dict[str, Any] = Field(default_factory=dict)


class PruneReceipt(NoTruth, Wire):
    """One page of old sessions that were removed, or would be (S-69).

    Attributes:
        entries: Number of their entries.
        is_last: True if no more sessions can be removed.
        archive: Name of the Parquet file with them, in the data directory's folder `pruned`.
    """

    _ask: ClassVar[str] = ".sessions, or .is_last"

    sessions: int
    entries: int
    is_last: bool
    archive: str | None = None


Missed = Literal["skip", "latest", "all"]
Overlap = Literal["skip", "allow"]


class Timing(BaseModel):
    """The due times of a schedule, and the handling of missed and overlapping ones (S-93).

    Either `cron`, five fields read in `zone`, or `every_s`, whole multiples of that many seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    cron: str | None = None
    every_s: float | None = None
    zone: str = "UTC"
    missed: Missed = "latest"
    overlap: Overlap = "skip"


class TaskSchedule(Timing):
    """The schedule in a task's declaration."""

    payload: Any = None


SCHEDULE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"


class ScheduleRequest(Request):
    """POST /v1/schedules. Exactly one of `cron` and `every`."""

    name: str = Field(min_length=1, max_length=SCHEDULE_NAME_MAX, pattern=SCHEDULE_NAME)
    task: str = Field(min_length=1, max_length=200)
    cron: str | None = Field(default=None, max_length=TIMING_TEXT_MAX)
    every: str | float | None = Field(
        default=None, description='Seconds, or a duration text like "15m".'
    )
    zone: str = Field(default="UTC", max_length=TIMING_TEXT_MAX)
    missed: Missed = "latest"
    overlap: Overlap = "skip"
    payload: Any = None


class ScheduleReceipt(NoTruth, Wire):
    """A schedule that was deleted."""

    _ask: ClassVar[str] = ".name"

    name: str


class ScheduleInfo(Wire):
    """A schedule, with its next due time.

    `status` is `gone` while the code that declared it, or its task, is missing. An inactive one has no `next_due_at`.
    """

    name: str
    task: str
    payload: Any = None
    cron: str | None = None
    every_s: float | None = None
    zone: str
    missed: Missed
    overlap: Overlap
    declared_in: Literal["code", "api"]
    status: Literal["active", "paused", "gone"]
    next_due_at: datetime | None = None
    last_due_at: datetime | None = None
    last_outcome: Literal["started", "missed", "overlap"] | None = None
    last_session_id: str | None = None
    created_at: datetime

    @property
    def when(self) -> str:
        """Its times in a few words: `every 15m`, `0 3 * * mon-fri (Europe/Berlin)`."""
        if self.every_s is not None:
            return f"every {spell(self.every_s)}"
        return f"{self.cron} ({self.zone})"


class EventName(StrEnum):
    """The events of notices. Entries cause all of them but `wait.due_soon`, which the clock causes."""

    WAIT_OPENED = "wait.opened"
    WAIT_REMINDED = "wait.reminded"
    WAIT_DUE_SOON = "wait.due_soon"
    WAIT_ASSIGNED = "wait.assigned"
    WAIT_RESOLVED = "wait.resolved"
    WAIT_TIMED_OUT = "wait.timed_out"
    RUN_FAILED = "run.failed"
    RUN_BLOCKED = "run.blocked"


_TELLS: Mapping[str, EventName] = {
    "wait.opened": EventName.WAIT_OPENED,
    "wait.reminded": EventName.WAIT_REMINDED,
    "wait.assigned": EventName.WAIT_ASSIGNED,
    "wait.fulfilled": EventName.WAIT_RESOLVED,
    "wait.cancelled": EventName.WAIT_RESOLVED,
    "wait.timed_out": EventName.WAIT_TIMED_OUT,
    "run.failed": EventName.RUN_FAILED,
    "run.blocked": EventName.RUN_BLOCKED,
}
"""Events by kind of entry."""


def event_name(kind: str, body: Mapping[str, Any]) -> EventName | None:
    """Return the event of an entry, if any. A fork's copied entries give none: their originals did (S-86)."""
    return None if "copied_from" in body else _TELLS.get(kind)
