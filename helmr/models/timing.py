"""When a schedule is due, as a task declares it and as it stands in the ledger."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Missed = Literal["skip", "latest", "all"]
Overlap = Literal["skip", "allow"]


class Timing(BaseModel):
    """When a schedule is due, and what becomes of times that come at a bad moment (S-93).

    Either `cron`, five fields read in `zone`, or `every_s`: at whole multiples of so many seconds since 1970.
    """

    model_config = ConfigDict(frozen=True)

    cron: str | None = None
    every_s: float | None = None
    zone: str = "UTC"
    missed: Missed = "latest"
    overlap: Overlap = "skip"


class TaskSchedule(Timing):
    """What a task's declaration says of its schedule."""

    payload: Any = None
