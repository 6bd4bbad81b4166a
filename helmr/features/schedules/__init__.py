"""Schedules: sessions that start by the clock."""

from __future__ import annotations

from helmr.feature import Feature

_HERE = "helmr.features.schedules"

FEATURE = Feature(
    name="schedules",
    about="Start sessions by the clock.",
    operations=f"{_HERE}.operations",
    commands={"schedule": f"{_HERE}.commands:app"},
    client={"schedules": (f"{_HERE}.client:AsyncSchedules", f"{_HERE}.blocking:Schedules")},
    words={"schedule": "what starts sessions of a task by the clock"},
    page="schedules.md",
)
