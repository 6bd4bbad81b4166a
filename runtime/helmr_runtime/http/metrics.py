"""Numbers for Prometheus: of the HTTP face itself, and at each scrape those of ledger and pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from helmr.models import Health

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Around the 9 ms of a hot answer, up to a start that waits for its result."""


class Metrics:
    """The numbers of one gateway."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "helmr_http_requests", "Answered requests", ["method", "route", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "helmr_http_request_seconds",
            "Time to the first byte of the answer",
            ["method", "route"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._of_route: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._followers = Gauge(
            "helmr_followers", "Clients that follow a feed", registry=self._registry
        )
        self._in_flight = Gauge(
            "helmr_commands_in_flight", "Commands under way", registry=self._registry
        )
        self._ready = Gauge("helmr_ready", "1 if /readyz says ready", registry=self._registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        found = self._of_route.get((method, route, status))
        if found is None:
            found = (
                self._requests.labels(method, route, str(status)),
                self._seconds.labels(method, route),
            )
            self._of_route[method, route, status] = found
        count, time_taken = found
        count.inc()
        time_taken.observe(seconds)

    def render(self, health: Health, *, followers: int, in_flight: int) -> bytes:
        """Everything as text."""
        self._followers.set(followers)
        self._in_flight.set(in_flight)
        self._ready.set(1 if health.ready else 0)
        scraped = CollectorRegistry(auto_describe=False)
        scraped.register(_Numbers("helmr_ledger", health.ledger))
        scraped.register(_Numbers("helmr_pool", health.pool))
        return generate_latest(self._registry) + generate_latest(scraped)


class _Numbers:
    """The numbers of a nested mapping as gauges, named by their path."""

    def __init__(self, prefix: str, numbers: Mapping[str, Any]) -> None:
        self._prefix = prefix
        self._numbers = numbers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, number in sorted(_flat(self._prefix, self._numbers)):
            yield GaugeMetricFamily(name, name.replace("_", " "), value=number)


def _flat(prefix: str, numbers: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in numbers.items():
        name = f"{prefix}_{key}"
        if isinstance(value, Mapping):
            yield from _flat(name, value)
        elif isinstance(value, int | float) and name.isidentifier():
            yield name, float(value)
