"""Prometheus' families as OpenTelemetry's data: the same names, labels as attributes, all cumulative.

Loaded only by a sender that starts: it needs the extra `otel`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
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

from helmr_runtime.tracing.otel import resource_of

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
