"""The way to the screens of schedules."""

from __future__ import annotations

from tests.console.flow.bench import Bench
from tests.console.flow.steps import FeatureWalk


async def fill(bench: Bench, words: str) -> None:
    """A schedule whose sessions say these words."""
    yearly = {
        "name": "yearly",
        "task": "talk",
        "cron": "17 3 1 1 *",
        "payload": {"subject": words},
    }
    (await bench.stack.http.post("/v1/schedules", json=yearly)).raise_for_status()


WALK = FeatureWalk(
    steps=(
        ("s", "SchedulesScreen", "17 3 1 1 *"),
        ("Z", "SchedulesScreen", "Payload"),
        ("Z", "SchedulesScreen", "17 3 1 1 *"),
        ("P", "ConfirmScreen", "Pause yearly ─"),
        ("escape", "SchedulesScreen", "17 3 1 1 *"),
        ("n", "PickScreen", "talk"),
        ("t a l k enter", "NewScheduleScreen", "starts"),
        ("paste", "NewScheduleScreen", "starts"),
        ("escape", "SchedulesScreen", "17 3 1 1 *"),
        ("escape", "SystemScreen", "Runtime"),
    ),
    fill=fill,
)
