"""The numbers of schedules."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from helmr_runtime.features.schedules.metrics import ScheduleMetrics
from helmr_runtime.http.metrics import EntryMetrics
from helmr_runtime.service.feed import FeedItem
from tests.http.scrape import Scrape, scrape
from tests.service.stack import Stack


def test_a_due_time_starts_a_session_or_is_skipped_and_a_start_by_hand_is_none() -> None:
    registry = CollectorRegistry()
    metrics = EntryMetrics(registry, [ScheduleMetrics(registry)])

    def entry(kind: str, **body: Any) -> None:
        said = {"kind": kind, "run_id": None, "recorded_at": "2030-01-01T00:00:00Z", "body": body}
        metrics.seen([FeedItem({"feed_offset": 1, "session_id": "ses_1", **said})])

    entry("session.created", schedule={"name": "nightly", "due_at": "2030-01-01T00:00:00Z"})
    entry("session.created", schedule={"name": "nightly"})
    entry("session.created", task="review")
    entry("schedule.skipped", name="nightly")
    found = Scrape(generate_latest(registry).decode())
    assert found["helmr_schedule_times_total", {"outcome": "started"}] == 1
    assert found["helmr_schedule_times_total", {"outcome": "skipped"}] == 1


async def test_a_scrape_counts_them_by_state(stack: Stack) -> None:
    assert (await scrape(stack))["helmr_schedules", {"state": "active"}] == 0
    body = {"name": "hourly", "task": "return", "every": "1h", "payload": 1}
    await stack.http.post("/v1/schedules", json=body)
    await stack.http.post("/v1/schedules/hourly/pause")
    found = await scrape(stack)
    assert found["helmr_schedules", {"state": "active"}] == 0
    assert found["helmr_schedules", {"state": "paused"}] == 1
