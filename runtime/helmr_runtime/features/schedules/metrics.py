"""The numbers of schedules: due times as they pass, and how many schedules there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from helmr_runtime.features.schedules.facts import SKIPPED
from helmr_runtime.service.feed import FeedItem


class ScheduleMetrics:
    """Counts what came of due times."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._due_times = Counter(
            "helmr_schedule_times",
            "Due times of schedules, by what came of them",
            ["outcome"],
            registry=registry,
        )
        self.hears = {SKIPPED.value: self._skipped, "session.created": self._created}

    def _skipped(self, item: FeedItem) -> None:
        self._due_times.labels("skipped").inc()

    def _created(self, item: FeedItem) -> None:
        # One that someone runs by hand has no due time.
        if "due_at" in item.entry["body"].get("schedule", {}):
            self._due_times.labels("started").inc()

    def collect(self, numbers: Mapping[str, Any]) -> Iterator[Metric]:
        """The number of schedules by state."""
        family = GaugeMetricFamily("helmr_schedules", "Schedules", labels=["state"])
        for state, count in numbers.items():
            family.add_metric([state], count)
        yield family
