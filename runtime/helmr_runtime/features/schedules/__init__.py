"""Schedules in a runtime: facts of the system stream, what is due, their operations."""

from __future__ import annotations

from helmr.features import schedules
from helmr_runtime.feature import Feature

_HERE = "helmr_runtime.features.schedules"

FEATURE = Feature(
    face=schedules.FEATURE,
    ledger=f"{_HERE}.memory:PART",
    service={"schedules": f"{_HERE}.service:part"},
    metrics=f"{_HERE}.metrics:ScheduleMetrics",
)
