"""What an OpenTelemetry collector is sent: the numbers of `/metrics`, under their names, as its own kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum
from prometheus_client import CollectorRegistry, Counter
from prometheus_client import Gauge as PrometheusGauge
from prometheus_client import Histogram as PrometheusHistogram

from helmr_runtime.http import otlp
from helmr_runtime.http.otlp import INTERVAL, INTERVAL_MIN_S, INTERVAL_S, interval_s
from helmr_runtime.http.otlp_points import points
from helmr_runtime.process.gateway import GatewayActor
from tests.http.scrape import Scrape, scrape
from tests.service.stack import Stack, until
from tests.tracing.collector import Collector, collector

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
NOW = BEGAN + timedelta(seconds=10)
NS = 1_000_000_000
BEGAN_NS = round(BEGAN.timestamp()) * NS


def translated(registry: CollectorRegistry) -> dict[str, Any]:
    return {one.name: one for one in points(registry.collect(), BEGAN, NOW)}


def test_a_counter_is_a_sum_that_only_rises_since_the_process_began() -> None:
    registry = CollectorRegistry()
    counter = Counter("runs", "Runs", ["status"], registry=registry)
    counter.labels("failed").inc(3)
    (metric,) = translated(registry).values()
    assert (metric.name, metric.description) == ("runs_total", "Runs")
    assert isinstance(metric.data, Sum)
    assert metric.data.is_monotonic
    (point,) = metric.data.data_points
    assert (point.attributes, point.value) == ({"status": "failed"}, 3)
    assert (point.start_time_unix_nano, point.time_unix_nano) == (BEGAN_NS, BEGAN_NS + 10 * NS)


def test_a_gauge_is_a_gauge_and_what_has_no_samples_is_not_sent() -> None:
    registry = CollectorRegistry()
    PrometheusGauge("room", "Room", registry=registry).set(7)
    PrometheusGauge("hosts", "Hosts", ["state"], registry=registry)
    (metric,) = translated(registry).values()
    assert isinstance(metric.data, Gauge)
    assert [point.value for point in metric.data.data_points] == [7]


def test_buckets_hold_what_is_between_their_bounds() -> None:
    registry = CollectorRegistry()
    seconds = PrometheusHistogram("took", "Took", ["way"], buckets=(1, 5), registry=registry)
    for value in (0.5, 1, 3, 70):
        seconds.labels("live").observe(value)
    seconds.labels("parked").observe(2)
    (metric,) = translated(registry).values()
    assert isinstance(metric.data, Histogram)
    live, parked = metric.data.data_points
    assert live.attributes == {"way": "live"}
    assert (live.explicit_bounds, live.bucket_counts) == ([1, 5], [2, 1, 1])
    assert (live.count, live.sum) == (4, 74.5)
    assert parked.bucket_counts == [0, 1, 0]


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("", INTERVAL_S), ("5000", 5.0), ("0", INTERVAL_MIN_S), ("soon", INTERVAL_S)],
)
def test_the_interval_is_opentelemetrys_and_nonsense_is_a_minute(told: str, seconds: float) -> None:
    assert interval_s({INTERVAL: told}) == seconds
    assert interval_s({}) == INTERVAL_S


@pytest.fixture
def taken() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture
async def sending(
    tmp_path: Path, taken: Collector, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stack]:
    """A runtime whose gateway sends ten times a second."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.url)
    monkeypatch.setenv(INTERVAL, "100")
    stack = Stack(tmp_path)
    stack.gateway = GatewayActor(stack.service, stack.settings(), sends_metrics=True)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


async def test_a_collector_has_what_prometheus_is_shown(sending: Stack, taken: Collector) -> None:
    started = await sending.started("return", 1)
    await sending.run_until(started["run"]["id"], "succeeded")
    await until(lambda: "helmr_runs_total" in taken.metrics)
    shown = await scrape(sending)

    def value(name: str) -> float:
        (point,) = taken.metrics[name].gauge.data_points
        return float(point.as_double)

    await until(lambda: value("helmr_sessions_open") == shown["helmr_sessions_open"] == 1)
    (runs,) = taken.metrics["helmr_runs_total"].sum.data_points
    assert runs.as_double == shown["helmr_runs_total", {"status": "succeeded"}] == 1
    assert [(one.key, one.value.string_value) for one in runs.attributes] == [
        ("status", "succeeded")
    ]
    (commits,) = taken.metrics["helmr_commit_seconds"].histogram.data_points
    assert commits.count >= 2
    assert sum(commits.bucket_counts) == commits.count
    assert not commits.HasField("min")
    assert _names(shown) == taken.metrics.keys()


def _names(shown: Scrape) -> set[str]:
    """As they are sent: without what OpenTelemetry has as the start of a point."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in shown.families
        if family.samples and not family.name.endswith("_created")
    }


async def test_what_was_counted_last_is_sent_when_the_gateway_ends(
    tmp_path: Path, taken: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taken.url)
    stack = Stack(tmp_path)
    stack.gateway = GatewayActor(stack.service, stack.settings(), sends_metrics=True)
    await stack.start()
    assert taken.metrics == {}, "the first minute is not over"
    await stack.stop()
    assert "helmr_ready" in taken.metrics


async def test_a_collector_that_takes_nothing_holds_nobody_up(
    sending: Stack, taken: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "LAST_SEND_S", 0.2)
    taken.refuses = True
    started = await sending.started("return", 1)
    assert (await sending.run_until(started["run"]["id"], "succeeded"))["status"] == "succeeded"
    taken.refuses = False
    await until(lambda: "helmr_runs_total" in taken.metrics)
