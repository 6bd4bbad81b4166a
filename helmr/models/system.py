"""The runtime's own things on the wire: schedules and when they are due, notices, and work on a whole ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from helmr.durations import spell
from helmr.models.common import SCHEDULE_NAME_MAX, TIMING_TEXT_MAX, Wire
from helmr.models.requests import Request
from helmr.truth import NoTruth

NOTICE_TARGET_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
NOTICE_TARGET_NAME_MAX = 64


class NoticeTargetInfo(Wire):
    """A notice target, and how far it is (S-84). Says no URL, no address and no secret.

    Attributes:
        offset: Feed offset up to which everything is taken or passed by; None until its first look.
        behind: Entries of the feed after that.
        queued: Events that wait for it, in order.
        late: Events that it was passed by and that are still tried.
        given_up: Events that are tried no more, since the gateway began.
        failing_since: When its first try failed of those since the last that was taken.
    """

    name: str
    type: Literal["webhook", "slack", "email", "command"]
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
    """How many wait under a limit for one key, with which they take turns."""

    key: str
    waiting: int


class LimitInfo(Wire):
    """A limit, and what goes on under it now (S-119). One that bounds nothing is not listed.

    Attributes:
        in_use: Tries of steps, or runs, that hold a permit.
        begun: Permits given in the last `within_s`, at most a fiftieth of that time short, since the directory began;
            None without `per`.
        waiting: Tries of steps, or runs, that wait for one.
        oldest_at: Since when the first of them waits.
        closed_until: The provider takes nothing before then; None if it does.
        keys: Those with most waiting, 20 at most.
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
    """Where a run is that waits for a permit of a limit, as what number in turn, when it was asked (S-120)."""

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
    """Whether a target took the notice of a test; `error` says why not."""

    _ask: ClassVar[str] = ".taken"

    target: str
    taken: bool
    error: str | None = None


class NoticeRetryReceipt(NoTruth, Wire):
    """How many events of a target are tried now."""

    _ask: ClassVar[str] = ".count"

    target: str
    count: int


class Health(NoTruth, Wire):
    """GET /readyz. `ready` False comes with status 503 and the reasons."""

    _ask: ClassVar[str] = ".ready"

    ready: bool
    reasons: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    """What is wrong although calls are answered."""
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
    """What there is: `waits_pending`, `sessions_open`, `sessions_waiting` and the like."""
    pool: dict[str, Any] = Field(default_factory=dict)
    ledger: dict[str, Any] = Field(default_factory=dict)


class PruneReceipt(NoTruth, Wire):
    """Old sessions that were removed, or would be; one page of them (S-69).

    Attributes:
        entries: How many entries they had.
        is_last: Nothing that may go is left.
        archive: Name of the Parquet file that has them now, in the data directory's folder `pruned`.
    """

    _ask: ClassVar[str] = ".sessions, or .is_last"

    sessions: int
    entries: int
    is_last: bool
    archive: str | None = None


Missed = Literal["skip", "latest", "all"]
Overlap = Literal["skip", "allow"]


class Timing(BaseModel):
    """When a schedule is due, and what becomes of times that come at a bad moment (S-93).

    Either `cron`, five fields read in `zone`, or `every_s`: at whole multiples of so many seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    cron: str | None = None
    every_s: float | None = None
    zone: str = "UTC"
    missed: Missed = "latest"
    overlap: Overlap = "skip"


class TaskSchedule(Timing):
    """What a task's declaration says of its schedule."""

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
    """A schedule, and when it is due next.

    `status` is `gone` while the code that declared it, or its task, is not there. `next_due_at` is None unless it is
    active.
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
    """What a notice can tell. All but `wait.due_soon`, which the clock makes, are made of entries."""

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
"""By kind of entry."""


def event_name(kind: str, body: Mapping[str, Any]) -> EventName | None:
    """The event of an entry, if it is one. A fork's copied entries are none: their originals were (S-86)."""
    return None if "copied_from" in body else _TELLS.get(kind)
