"""Metrics for Prometheus: of HTTP, of entries on the feed, and at each scrape of ledger and pool.

Invariants: a label's values are bounded, by the code (routes, streams, kinds, states) or by `LABELS_MAX`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pkgutil import resolve_name
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from helmr.models import Activity, Health
from helmr_runtime.core.entries import from_iso
from helmr_runtime.feature import Features
from helmr_runtime.service import Service
from helmr_runtime.service.feed import FeedItem
from helmr_runtime.service.health import DegradedState

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Around the 9 ms of a hot answer, up to a start that waits for its result."""

LABELS_MAX = 100
"""Streams with a label of their own; the others share `other`."""

OTHER = "other"

ENDED_MAX = 10_000
"""Ended waits whose run has not gone on yet; beyond that the oldest are not measured."""

RUN_ENDS = {f"run.{status}": status for status in ("succeeded", "failed", "cancelled", "blocked")}
WAIT_ENDS = {f"wait.{status}": status for status in ("fulfilled", "timed_out", "cancelled")}
STEP_ENDS = {f"step.{status}": status for status in ("succeeded", "failed", "abandoned")}

BY_OTHERS = frozenset({"wait.claimed", "wait.claim_ended", "wait.assigned", "input.accepted"})
"""Entries of a run that do not show that its code went on."""


class Metrics:
    """The numbers of one gateway.

    Args:
        features: Those that may have numbers too.
    """

    def __init__(self, features: Features = ()) -> None:
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
        self._of_features = {
            one.name: resolve_name(one.metrics)(self._registry) for one in features if one.metrics
        }
        self.entries = EntryMetrics(self._registry, self._of_features.values())

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

    async def scraped(self, service: Service) -> tuple[CollectorRegistry, CollectorRegistry]:
        """Two registries: numbers counted as they happen, and those read now from ledger and directory."""
        health, numbers = await asyncio.gather(service.health.ready(), service.health.numbers())
        self._followers.set(service.hub.followers)
        self._in_flight.set(service.router.in_flight)
        asked = CollectorRegistry(auto_describe=False)
        steps = service.health.clock_watch.steps
        asked.register(_Scraped(health, numbers, service.now(), steps))
        asked.register(_FromFeatures(self._of_features, numbers))
        return self._registry, asked

    async def render(self, service: Service) -> bytes:
        """Everything as text for Prometheus."""
        return b"".join(map(generate_latest, await self.scraped(service)))


class FeatureMetrics(Protocol):
    """The metrics of a feature."""

    @property
    def hears(self) -> Mapping[str, Callable[[FeedItem], None]]:
        """Functions that count an entry, by its kind."""
        ...

    def collect(self, numbers: Mapping[str, Any]) -> Iterable[Metric]:
        """The metrics of one scrape, from the feature's numbers."""


class _FromFeatures:
    """Metrics of features at one scrape.

    Args:
        features: The features' metrics, by name.
        numbers: The result of `HealthView.numbers`.
    """

    def __init__(self, features: Mapping[str, FeatureMetrics], numbers: Mapping[str, Any]) -> None:
        self._features = features
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        """The metrics of each feature that answered."""
        for name, one in self._features.items():
            if name in self._numbers:
                yield from one.collect(self._numbers[name])


class EntryMetrics:
    """Counters of entries on the feed, since this gateway began to follow it.

    Copies in forks are skipped: they were counted when they happened.

    Args:
        registry: Keeps the counters.
        features: Features that count entries too.
    """

    def __init__(
        self, registry: CollectorRegistry, features: Iterable[FeatureMetrics] = ()
    ) -> None:
        self._hearers: dict[str, list[Callable[[FeedItem], None]]] = defaultdict(list)
        for one in features:
            for kind, hear in one.hears.items():
                self._hearers[kind].append(hear)
        self._runs = Counter(
            "helmr_runs", "Runs that ended or were blocked", ["status"], registry=registry
        )
        self._opened = Counter(
            "helmr_waits_opened", "Waits opened", ["kind", "stream"], registry=registry
        )
        self._ended = Counter(
            "helmr_waits_ended", "Waits that ended", ["outcome"], registry=registry
        )
        self._steps = Counter(
            "helmr_steps", "Steps with an outcome", ["outcome"], registry=registry
        )
        self._tries = Counter(
            "helmr_step_tries_failed",
            "Tries of steps that failed and are repeated",
            registry=registry,
        )
        self._pruned_sessions = Counter(
            "helmr_pruned_sessions", "Sessions that were pruned", registry=registry
        )
        self._pruned_entries = Counter(
            "helmr_pruned_entries", "Entries that they had", registry=registry
        )
        self._went_on = Histogram(
            "helmr_answer_to_run_seconds",
            "From the end of a wait to the next entry of its run",
            ["way"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._streams: set[str] = set()
        self._ended_at: OrderedDict[str, tuple[datetime, str]] = OrderedDict()

    def seen(self, items: Sequence[FeedItem]) -> None:
        """Count entries."""
        for item in items:
            self._seen(item)

    def _seen(self, item: FeedItem) -> None:
        kind, body = item.kind, item.entry["body"]
        if "copied_from" in body:
            return
        run_id = item.entry["run_id"]
        if run_id in self._ended_at and kind not in BY_OTHERS:
            self._goes_on(run_id, from_iso(item.entry["recorded_at"]))
        if kind == "step.try_failed":
            self._tries.inc()
        elif kind == "wait.opened" and not body.get("backoff"):
            self._opened.labels(body["kind"], self._stream(body.get("stream"))).inc()
        elif kind in WAIT_ENDS:
            self._ended.labels(WAIT_ENDS[kind]).inc()
            if body.get("next") in ("running", "queued"):
                way = "live" if body["next"] == "running" else "parked"
                self._ended_at[run_id] = from_iso(item.entry["recorded_at"]), way
                if len(self._ended_at) > ENDED_MAX:
                    self._ended_at.popitem(last=False)
        elif kind == "sessions.pruned":
            self._pruned_sessions.inc(len(body["sessions"]))
            self._pruned_entries.inc(body["entries"])
        elif kind in RUN_ENDS:
            self._runs.labels(RUN_ENDS[kind]).inc()
        elif kind in STEP_ENDS:
            self._steps.labels(STEP_ENDS[kind]).inc()
        for hear in self._hearers.get(kind, ()):
            hear(item)

    def _goes_on(self, run_id: str, at: datetime) -> None:
        ended_at, way = self._ended_at.pop(run_id)
        self._went_on.labels(way).observe((at - ended_at).total_seconds())

    def _stream(self, name: str | None) -> str:
        if name is None or name in self._streams:
            return name or ""
        if len(self._streams) >= LABELS_MAX:
            return OTHER
        self._streams.add(name)
        return name


class _Scraped:
    """Metrics of ledger and directory at one scrape; a part that does not answer has none.

    Args:
        health: As `/readyz` with a key.
        numbers: The result of `HealthView.numbers`.
        now: The time from which ages are counted.
        clock_steps: The number of clock steps seen.
    """

    def __init__(
        self, health: Health, numbers: Mapping[str, Any], now: datetime, clock_steps: int
    ) -> None:
        self._health = health
        self._numbers = numbers
        self._now = now
        self._clock_steps = clock_steps

    def collect(self) -> Iterator[Metric]:
        """All metrics, for the registry."""
        health = self._health
        yield _gauge("helmr_ready", "1 if /readyz says ready", int(health.ready))
        states = {(state.value,): int(state in health.degraded) for state in DegradedState}
        yield _gauges("helmr_degraded", "1 while the runtime is in that state", ["state"], states)
        steps = "Times that the machine's clock was set, as the gateway saw it"
        yield CounterMetricFamily("helmr_clock_steps", steps, value=self._clock_steps)
        if health.pool:
            yield from _of_pool(health.pool)
        if "feed_offset" in health.ledger:
            yield from _of_ledger(health.ledger)
        yield from _of_limits(self._numbers.get("limits", ()), self._now)
        yield from _of_notices(self._numbers.get("notices", {}))
        if "waits" in self._numbers:
            yield from self._of_numbers()

    def _of_numbers(self) -> Iterator[Metric]:
        counts, ages = _bounded(self._numbers["waits"], self._now)
        of_what = ["kind", "stream"]
        yield _gauges("helmr_waits_open", "Pending waits", of_what, counts)
        yield _gauges("helmr_wait_oldest_seconds", "Age of the oldest of them", of_what, ages)
        yield _gauge("helmr_claims", "Waits that someone has claimed", self._numbers["claims"])
        for key, about in (
            ("commit_seconds", "Time of a transaction of the ledger"),
            ("commit_jobs", "Writes that shared a transaction of the ledger"),
        ):
            if key in self._numbers:
                yield _histogram(f"helmr_{key}", about, self._numbers[key])


def _of_pool(pool: Mapping[str, Any]) -> Iterator[Metric]:
    hosts, sessions = pool["hosts"], pool["sessions"]
    by_state = {
        ("ready",): hosts["total"] - hosts["starting"] - hosts["retiring"],
        ("starting",): hosts["starting"],
        ("retiring",): hosts["retiring"],
    }
    yield _gauges("helmr_hosts", "Hosts", ["state"], by_state)
    yield _gauge("helmr_sessions_live", "Sessions that hosts hold", sessions["live"])
    yield _gauge("helmr_sessions_lingering", "Those that only wait", sessions["lingering"])
    yield _gauge("helmr_sessions_room", "Sessions that hosts have room for", sessions["room"])
    yield _gauge("helmr_queue_runs", "Runs that wait for room", pool["queue"])
    oldest = "How long the oldest of them has waited"
    yield _gauge("helmr_queue_oldest_seconds", oldest, pool["queue_oldest_s"])
    yield _gauge("helmr_queue_failing_runs", "Those that can't be resumed", pool["failing"])
    yield CounterMetricFamily("helmr_host_crashes", "Hosts that died", value=pool["crashes"])
    # No entry counts this: a parked session that is answered goes on without `run.resumed`.
    about, count = "Runs that a host went on with", sum(pool["resumes"]["counts"])
    yield CounterMetricFamily("helmr_run_resumes", about, value=count)
    about = "CPU in which the code of a run came to where it had been"
    yield _histogram("helmr_resume_seconds", about, pool["resumes"])
    for key, name, about in (
        ("sessions", "helmr_host_sessions", "Sessions of a host"),
        ("memory_bytes", "helmr_host_memory_bytes", "What a host has allocated"),
        ("memory_max_bytes", "helmr_host_memory_max_bytes", "What it may allocate"),
    ):
        of_hosts = {
            (host["name"],): host[key] for host in pool["host_list"] if host[key] is not None
        }
        yield _gauges(name, about, ["host"], of_hosts)


def _of_limits(limits: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[Metric]:
    for key, name, about in (
        (
            "in_use",
            "helmr_limit_in_use",
            "Tries of steps, or runs, that hold a permit of the limit",
        ),
        ("at_once", "helmr_limit_at_once", "How many may"),
        ("begun", "helmr_limit_begun", "Permits given in the last time of the limit's `within`"),
        ("per", "helmr_limit_per", "How many may be"),
        ("waiting", "helmr_limit_waiting", "Tries of steps, or runs, that wait for a permit"),
    ):
        values = {(one["name"],): one[key] for one in limits if one[key] is not None}
        if values:
            yield _gauges(name, about, ["limit"], values)
    if limits:
        ages = {(one["name"],): _age_s(one["oldest_at"], now) for one in limits}
        about = "How long the first of them has waited"
        yield _gauges("helmr_limit_oldest_seconds", about, ["limit"], ages)
        closed = {(one["name"],): int(one["closed_until"] is not None) for one in limits}
        about = "1 while the provider behind the limit takes nothing"
        yield _gauges("helmr_limit_closed", about, ["limit"], closed)


def _age_s(since: str | None, now: datetime) -> float:
    return max(0.0, (now - from_iso(since)).total_seconds()) if since is not None else 0.0


def _of_notices(targets: Mapping[str, Mapping[str, int]]) -> Iterator[Metric]:
    for key, name, about in (
        ("waiting", "helmr_notices_waiting", "Notices that a target has yet to take"),
        ("failing", "helmr_notices_failing", "1 while a target does not take notices"),
    ):
        values = {(target,): numbers[key] for target, numbers in targets.items()}
        yield _gauges(name, about, ["target"], values)
    about = "Notices that a target has not taken for such a time that they are tried no more"
    given_up = CounterMetricFamily("helmr_notices_given_up", about, labels=["target"])
    for target, numbers in targets.items():
        given_up.add_metric([target], numbers["given_up"])
    yield given_up


def _of_ledger(ledger: Mapping[str, Any]) -> Iterator[Metric]:
    counts = ledger["counts"]
    by_activity = {(activity.value,): counts[activity.value] for activity in Activity}
    yield _gauges("helmr_sessions", "Sessions by what they do", ["activity"], by_activity)
    yield _gauge("helmr_sessions_open", "Open sessions", counts["open"])
    about = "Open sessions whose newest run failed"
    yield _gauge("helmr_sessions_failed", about, counts["failed"])
    yield _gauge("helmr_sessions_parked", "Sessions that wait on disk alone", counts["parked"])
    yield _gauge("helmr_feed_offset", "Entries since the ledger began", ledger["feed_offset"])
    failing = int(ledger.get("failure") is not None)
    yield _gauge("helmr_ledger_failing", "1 while the ledger can't commit", failing)
    for key, name, about in (
        ("size_bytes", "helmr_ledger_size_bytes", "The database and its write-ahead log"),
        ("log_bytes", "helmr_ledger_log_bytes", "Commits that the database has yet to take"),
        ("wal_bytes", "helmr_ledger_wal_bytes", "What the database has yet to put into its file"),
        ("engine_bytes", "helmr_ledger_engine_bytes", "What the database's engine holds in memory"),
        ("disk_free_bytes", "helmr_disk_free_bytes", "Room left on the disk of the data directory"),
        ("disk_total_bytes", "helmr_disk_size_bytes", "Its size"),
    ):
        if key in ledger:
            yield _gauge(name, about, ledger[key])


def _bounded(
    waits: list[Mapping[str, Any]], now: datetime
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]:
    """Counts and ages in seconds of the oldest, by kind and stream; the smallest streams share one label."""
    counts: dict[tuple[str, str], float] = {}
    ages: dict[tuple[str, str], float] = {}
    for number, wait in enumerate(sorted(waits, key=lambda one: -one["count"])):
        key = wait["kind"], (wait["stream"] or "") if number < LABELS_MAX else OTHER
        counts[key] = counts.get(key, 0) + wait["count"]
        ages[key] = max(ages.get(key, 0.0), _age_s(wait["oldest_at"], now))
    return counts, ages


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=value)


def _gauges(
    name: str,
    about: str,
    labels: list[str],
    values: Mapping[tuple[str], float] | Mapping[tuple[str, str], float],
) -> Metric:
    family = GaugeMetricFamily(name, about, labels=labels)
    for of, value in values.items():
        family.add_metric(of, value)
    return family


def _histogram(name: str, about: str, measured: Mapping[str, Any]) -> Metric:
    buckets, through = [], 0
    for bound, count in zip((*measured["bounds"], "+Inf"), measured["counts"], strict=True):
        through += count
        buckets.append((str(bound), through))
    return HistogramMetricFamily(name, about, buckets=buckets, sum_value=measured["sum"])
