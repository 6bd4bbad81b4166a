"""Schedules on the wire: when sessions are started by the clock."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from helmr.durations import spell
from helmr.models.limits import SCHEDULE_NAME_MAX, SCHEDULE_TEXT_MAX
from helmr.models.people import Wire
from helmr.models.requests import Request
from helmr.models.timing import Missed, Overlap

SCHEDULE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"


class ScheduleRequest(Request):
    """POST /v1/schedules. Exactly one of `cron` and `every`."""

    name: str = Field(min_length=1, max_length=SCHEDULE_NAME_MAX, pattern=SCHEDULE_NAME)
    task: str = Field(min_length=1, max_length=200)
    cron: str | None = Field(default=None, max_length=SCHEDULE_TEXT_MAX)
    every: str | float | None = Field(
        default=None, description='Seconds, or a duration text like "15m".'
    )
    zone: str = Field(default="UTC", max_length=SCHEDULE_TEXT_MAX)
    missed: Missed = "latest"
    overlap: Overlap = "skip"
    payload: Any = None


class ScheduleReceipt(Wire):
    """A schedule that was deleted."""

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
