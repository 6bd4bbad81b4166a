"""The words that name schedules in code."""

from __future__ import annotations

from tests.programs.gauges.named import Named

NAMED = Named(
    "schedules",
    ("schedules?", "scheduled"),
    outside_max=2,  # `@task(schedule=…)` and `Harness(schedules=True)`
)
