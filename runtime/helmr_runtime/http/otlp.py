"""Sends the numbers of `/metrics` to an OpenTelemetry collector, again and again.

There is one list of instruments, `helmr_runtime.http.metrics`: what Prometheus would be shown is translated and sent,
under the same names. Nothing of OpenTelemetry is imported until a sender starts.

Prometheus' families become OpenTelemetry's data: the same names, labels as attributes, all cumulative.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import Metric as Family
from prometheus_client.samples import Sample

from helmr_runtime.http.metrics import Metrics
from helmr_runtime.service import Service
from helmr_runtime.tracing.resource import resource_of

logger = logging.getLogger(__name__)

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
INTERVAL_S = 60.0
INTERVAL_MIN_S = 0.1
"""Each time costs what a scrape does."""

LAST_SEND_S = 3.0
"""Longest that the end of the gateway waits for a collector."""


class MetricsSender:
    """Sends what one gateway counts; where to, the OTEL_ variables say.

    Args:
        metrics: Of the gateway.
        service: Asked for the rest.
        process: Names the gateway's process among others of the service.
    """

    def __init__(self, metrics: Metrics, service: Service, process: str) -> None:
        self._metrics = metrics
        self._service = service
        self._process = process
        self._interval_s = interval_s(os.environ)
        self._translation: Translation | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; the first numbers go after one interval."""
        self._translation = await asyncio.to_thread(_loaded, self._process, self._service.now())
        self._task = asyncio.create_task(self._run(), name="metrics for OpenTelemetry")

    async def stop(self) -> None:
        """Send what was counted since, if someone takes it soon, and no more."""
        if self._task is None or self._translation is None:
            return
        self._task.cancel()
        await asyncio.wait({self._task})
        self._task = None
        try:
            async with asyncio.timeout(LAST_SEND_S):
                await self._send()
        except TimeoutError:
            logger.info("the last metrics were not taken")
        self._translation.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._send()

    async def _send(self) -> None:
        """A collector that takes nothing is in the log of the exporter, which has tried again by then."""
        assert self._translation is not None
        registries = await self._metrics.scraped(self._service)
        families = [family for registry in registries for family in registry.collect()]
        await asyncio.to_thread(self._translation.send, families, self._service.now())


def _loaded(process: str, began_at: datetime) -> Translation:
    """OpenTelemetry is loaded for anyone who has asked for it, and on no loop: that takes a while."""
    from helmr_runtime.http.otlp import Translation  # noqa: PLC0415

    return Translation(process, began_at)


def interval_s(environ: Mapping[str, str]) -> float:
    """How long to wait between two sends: `OTEL_METRIC_EXPORT_INTERVAL`, in milliseconds, or a minute."""
    told = environ.get(INTERVAL, "")
    try:
        return max(INTERVAL_MIN_S, float(told) / 1000) if told else INTERVAL_S
    except ValueError:
        logger.warning("%s=%r is no number of milliseconds: sending every minute", INTERVAL, told)
        return INTERVAL_S


CUMULATIVE = AggregationTemporality.CUMULATIVE


class Translation:
    """Makes and sends the data of one process.

    Args:
        process: Its name.
        began_at: Since when its counters count.
    """

    def __init__(self, process: str, began_at: datetime) -> None:
        self._resource = resource_of(process)
        self._scope = InstrumentationScope("helmr")
        self._began_at = began_at
        self._exporter = OTLPMetricExporter()

    def send(self, families: Iterable[Family], now: datetime) -> None:
        """Send them as they are now; blocks while the exporter tries."""
        metrics = list(points(families, self._began_at, now))
        scope = ScopeMetrics(self._scope, metrics, "")
        self._exporter.export(MetricsData([ResourceMetrics(self._resource, [scope], "")]))

    def close(self) -> None:
        """Let go of the connection."""
        self._exporter.shutdown()


def points(families: Iterable[Family], began_at: datetime, now: datetime) -> Iterable[Metric]:
    """Each family that has samples, in OpenTelemetry's terms.

    A counter keeps the `_total` that Prometheus knows it by, so that one dashboard does for both ways.
    """
    times = _nanoseconds(began_at), _nanoseconds(now)
    for family in families:
        if not family.samples:
            continue
        if family.type == "histogram":
            data: Any = Histogram(list(_histogram(family, *times)), CUMULATIVE)
            yield Metric(family.name, family.documentation, None, data)
        elif family.type == "counter":
            counted = [one for one in family.samples if one.name.endswith("_total")]
            data = Sum([_number(one, *times) for one in counted], CUMULATIVE, is_monotonic=True)
            yield Metric(f"{family.name}_total", family.documentation, None, data)
        else:
            data = Gauge([_number(one, *times) for one in family.samples])
            yield Metric(family.name, family.documentation, None, data)


def _number(sample: Sample, began_ns: int, now_ns: int) -> NumberDataPoint:
    return NumberDataPoint(sample.labels, began_ns, now_ns, float(sample.value))


def _histogram(family: Family, began_ns: int, now_ns: int) -> Iterable[HistogramDataPoint]:
    """One for each set of labels. Prometheus' buckets hold those below them, OpenTelemetry's do not."""
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    for labels, below in buckets.items():
        counts = [after[1] - before[1] for before, after in pairwise([(0.0, 0.0), *below])]
        yield HistogramDataPoint(
            dict(labels),
            began_ns,
            now_ns,
            count=int(below[-1][1]),
            sum=sums[labels],
            bucket_counts=[int(count) for count in counts],
            explicit_bounds=[bound for bound, _ in below if not math.isinf(bound)],
            min=None,  # type: ignore[arg-type]  # no one has noted it, and the wire has it optional
            max=None,  # type: ignore[arg-type]
        )


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1_000
