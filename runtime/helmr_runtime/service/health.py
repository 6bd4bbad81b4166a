"""Health: the runtime's readiness, its troubles and its numbers (S-65).

A trouble is a fault of a runtime that still answers calls, with a name that alerts can rely on. Troubles are pure
functions of the status of ledger and directory, except `ClockWatch`, which has memory.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from helmr.errors import HelmrError, Standby
from helmr.models import Activity, Health, RunStatus
from helmr.wire.durations import spell, spell_bytes
from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import from_iso, iso
from helmr_runtime.ports import Directory
from helmr_runtime.service.feed import FeedHub
from helmr_runtime.service.shared import Shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """Facts about the gateway's process, for `/readyz`, and for a Ray job that does without the gateway."""

    version: str
    started_at: datetime
    data_dir: str | None = None
    base_url: str = ""
    pid: int = field(default_factory=os.getpid)


STALL_S = 5.0
"""Free room is handed on within a second; a run that waits longer than this is stuck."""

QUEUE_OLD_S = 60.0
"""A runtime with enough room starts every run within this time."""

DISK_LOW_BYTES = 1024**3
DISK_LOW_SHARE = 0.05
"""The disk is low below the smaller of both: DuckDB needs room for its checkpoint beside the file."""

CLOCK_STEP_S = 2.0
CLOCK_DRIFT = 0.001
"""A slewed clock moves by at most 0.5 ms a second; more than that is a step."""

STEP_TOLD_FOR = timedelta(hours=1)

CODE_MISSING = frozenset({"task_missing", "nondeterminism", "schema_mismatch"})
"""Codes of blocked runs that a change of code would unblock."""

BLOCKED_LOOKED_AT = 200


class DegradedState(StrEnum):
    """A way in which a runtime can be degraded."""

    NOT_READY = "not_ready"
    LEDGER_FAILING = "ledger_failing"
    DISK_LOW = "disk_low"
    FILES_LOW = "files_low"
    HOST_RETIRING = "host_retiring"
    HOST_MEMORY = "host_memory"
    HOST_SILENT = "host_silent"
    HOST_START_FAILED = "host_start_failed"
    LOOP_BLOCKED = "loop_blocked"
    ROOM_REDUCED = "room_reduced"
    QUEUE_OLD = "queue_old"
    QUEUE_STALLED = "queue_stalled"
    RESUMES_FAILING = "resumes_failing"
    CODE_MISSING = "code_missing"
    CLOCK_STEPPED = "clock_stepped"
    NOTICES_FAILING = "notices_failing"
    STANDBY = "standby"
    STORE_AWAY = "store_away"


OF_POOL = {
    "blocked": DegradedState.LOOP_BLOCKED,
    "memory": DegradedState.HOST_MEMORY,
    "retire": DegradedState.HOST_RETIRING,
    "room": DegradedState.ROOM_REDUCED,
    "silent": DegradedState.HOST_SILENT,
    "start": DegradedState.HOST_START_FAILED,
    "take-over": DegradedState.HOST_START_FAILED,
}
"""The state for each kind of the directory's own warnings."""


class Trouble(NamedTuple):
    """A state and its text."""

    state: DegradedState
    text: str


def of_pool(pool: Mapping[str, Any]) -> set[DegradedState]:
    """The states behind the directory's warnings."""
    found = {OF_POOL[kind] for kind in pool.get("states", ()) if kind in OF_POOL}
    return found | ({DegradedState.RESUMES_FAILING} if pool.get("failing") else set())


def troubles(
    ledger: Mapping[str, Any],
    pool: Mapping[str, Any],
    now: datetime,
    *,
    blocked: Sequence[Mapping[str, Any]] = (),
) -> list[Trouble]:
    """Return the troubles that ledger and directory do not report themselves.

    Args:
        ledger: Its `stats`.
        pool: The directory's `status`.
        now: The time.
        blocked: Up to `BLOCKED_LOOKED_AT` of the blocked runs, as `RunInfo` in JSON.
    """
    found = (
        _disk(ledger),
        _stall(ledger, pool, now) or _old_queue(pool),
        _code(blocked),
    )
    return [one for one in found if one is not None]


def _disk(ledger: Mapping[str, Any]) -> Trouble | None:
    free, total = ledger.get("disk_free_bytes"), ledger.get("disk_total_bytes")
    if free is None or total is None or free >= min(DISK_LOW_BYTES, DISK_LOW_SHARE * total):
        return None
    return Trouble(
        DegradedState.DISK_LOW,
        f"the disk of the data directory has {spell_bytes(free)} left of {spell_bytes(total)}; "
        "when it is full, nothing more is accepted: make room on it",
    )


def _stall(ledger: Mapping[str, Any], pool: Mapping[str, Any], now: datetime) -> Trouble | None:
    """Report that runs wait for room while hosts hold sessions that only wait.

    The two figures have two sources. The directory believes its hosts; the ledger knows from its entries that a
    session only waits. So this also catches a host that did not report that a session can be parked.
    """
    oldest_s, since = pool.get("queue_oldest_s", 0.0), ledger.get("waiting_held_since")
    if oldest_s <= STALL_S or since is None or (now - from_iso(since)).total_seconds() <= STALL_S:
        return None
    held = ledger.get("counts", {}).get("waiting_held", 0)
    return Trouble(
        DegradedState.QUEUE_STALLED,
        f"{_queued(pool)}, while hosts hold {held} {'session' if held == 1 else 'sessions'} that only "
        f"{'waits' if held == 1 else 'wait'}; see the logs",
    )


def _old_queue(pool: Mapping[str, Any]) -> Trouble | None:
    if pool.get("queue_oldest_s", 0.0) <= QUEUE_OLD_S:
        return None
    return Trouble(
        DegradedState.QUEUE_OLD,
        f"{_queued(pool)}; raise --sessions-per-host or --hosts, or shorten steps",
    )


def _queued(pool: Mapping[str, Any]) -> str:
    runs = pool.get("queue", 0)
    waiting = "run waits" if runs == 1 else "runs wait"
    return f"{runs} {waiting} for room, the oldest for {spell(pool['queue_oldest_s'])}"


def _code(blocked: Sequence[Mapping[str, Any]]) -> Trouble | None:
    errors = [run.get("error") or {} for run in blocked]
    for_code = [error["code"] for error in errors if error.get("code") in CODE_MISSING]
    if not for_code:
        return None
    count = f"{len(for_code)}{' or more' if len(blocked) >= BLOCKED_LOOKED_AT else ''}"
    return Trouble(
        DegradedState.CODE_MISSING,
        f"{count} {'run is' if count == '1' else 'runs are'} blocked because of this code "
        f"({', '.join(sorted(set(for_code)))}): see `helmr run list --status blocked`",
    )


class ClockWatch:
    """Compares the wall clock with the monotonic clock at each look.

    Deadlines are wall-clock times: a clock set forward ends waits early, a clock set back delays their end.

    Args:
        clock: Has both.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.now(), clock.elapsed_s()
        self._step: tuple[datetime, float] | None = None
        self.steps = 0
        """Steps seen."""

    def look(self) -> Trouble | None:
        """Look at both clocks; returns the last step for an hour after it was seen."""
        now, elapsed_s = self._clock.now(), self._clock.elapsed_s()
        before, before_s = self._last
        self._last = now, elapsed_s
        passed_s = elapsed_s - before_s
        step_s = (now - before).total_seconds() - passed_s
        if abs(step_s) > CLOCK_STEP_S + CLOCK_DRIFT * passed_s:
            self._step = now, step_s
            self.steps += 1
        if self._step is None or not timedelta(0) <= now - self._step[0] < STEP_TOLD_FOR:
            return None
        at, by_s = self._step
        way, effect = ("forward", "end early") if by_s > 0 else ("back", "come late")
        return Trouble(
            DegradedState.CLOCK_STEPPED,
            f"the machine's clock was set {way} by {abs(by_s):.0f} s (seen {iso(at)[:19]}Z); "
            f"deadlines from before {effect}",
        )


ANSWER_TIMEOUT_S = 2.0
"""A part that is silent for longer counts as away."""

SESSION_COUNTS = ("open", "held", "parked", "failed", *(activity.value for activity in Activity))


class NoticeNumbers(Protocol):
    """The numbers and troubles of notices."""

    def numbers(self) -> Mapping[str, Mapping[str, int]]:
        """Counters by target."""
        ...

    def troubles(self) -> Sequence[Trouble]:
        """Targets that take nothing."""
        ...


class HealthView:
    """Asks ledger and directory; see the module."""

    def __init__(
        self,
        shared: Shared,
        directory: Directory,
        hub: FeedHub,
        *,
        host: Introduction,
        is_published: Callable[[], bool],
        notices: NoticeNumbers,
    ) -> None:
        self._ledger = shared.ledger
        self._catalog = shared.catalog
        self._clock = shared.clock
        self._directory = directory
        self._hub = hub
        self._host = host
        self._is_published = is_published
        self._notices = notices
        self._was_published = False
        self._watched: list[Callable[[], Sequence[Trouble]]] = []
        self.clock_watch = ClockWatch(shared.clock)

    def watch(self, troubles: Callable[[], Sequence[Trouble]]) -> None:
        """Add the troubles of a part of this process to those of the runtime."""
        self._watched.append(troubles)

    async def ready(self) -> Health:
        """Report readiness: the ledger is open, the catalog written, a host alive, the runtime can be found, and no
        other can have taken its log."""
        (ledger, ledger_trouble), (pool, pool_trouble), (_, catalog_trouble) = await asyncio.gather(
            _asked("ledger", self._ledger.stats()),
            _asked("directory", self._directory.status()),
            _asked("catalog", self._catalog.get()),
        )
        stands_by = ledger.get("code") == Standby.code
        reasons = [*ledger_trouble, *pool_trouble, *catalog_trouble, *_lacks(ledger, pool)]
        if stands_by:  # the rest is not started before it takes over
            reasons = [f"standby: {ledger['failure']}"]
        self._was_published = self._was_published or self._is_published()
        if not self._was_published:
            reasons.append("starting: local programs can't find it yet")
        if self._hub.is_closed:
            reasons.append("the gateway is stopping")
        found = await self._troubles(ledger, pool)
        states = {*of_pool(pool), *(trouble.state for trouble in found)}
        states |= {DegradedState.NOT_READY} if reasons else set()
        states |= {DegradedState.STORE_AWAY} if ledger.get("store_away_since") else set()
        states |= (
            {DegradedState.LEDGER_FAILING} if ledger.get("failure") or ledger_trouble else set()
        )
        if stands_by:
            states = {DegradedState.STANDBY}
        return Health(
            ready=not reasons,
            reasons=reasons,
            warnings=[*pool.get("warnings", ()), *(trouble.text for trouble in found)],
            degraded=sorted(states),
            version=self._host.version,
            pid=self._host.pid,
            data_dir=self._host.data_dir,
            started_at=self._host.started_at,
            now=self._clock.now(),
            feed_offset=ledger.get("feed_offset"),
            counts=counted(ledger.get("counts", {})),
            pool=dict(pool),
            ledger=dict(ledger),
        )

    async def numbers(self) -> Mapping[str, Any]:
        """Numbers for `/metrics` only: the ledger's, `limits`, and `notices` by target; silent parts are left out."""
        (numbers, _), (limits, _) = await asyncio.gather(
            _asked("ledger", self._ledger.numbers()),
            _asked("directory", self._directory.limits()),
        )
        return {
            **numbers,
            "limits": limits.get("items", ()),
            "notices": self._notices.numbers(),
        }

    async def _troubles(self, ledger: Mapping[str, Any], pool: Mapping[str, Any]) -> list[Trouble]:
        blocked: Mapping[str, Any] = {}
        if ledger.get("counts", {}).get(Activity.BLOCKED.value):
            status = RunStatus.BLOCKED.value
            reading = self._ledger.list_runs(status=status, limit=BLOCKED_LOOKED_AT)
            blocked, _ = await _asked("ledger", reading)
        stepped = self.clock_watch.look()
        found = troubles(ledger, pool, self._clock.now(), blocked=blocked.get("items", ()))
        for ask in (self._notices.troubles, *self._watched):
            found += ask()
        return [*found, stepped] if stepped is not None else found


async def _asked(name: str, asking: Awaitable[Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The answer, and the reasons if there is none."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            answer = await asking
    except HelmrError as error:
        return {}, [f"{name}: {error.message}"]
    except TimeoutError:
        return {}, [f"{name}: no answer in {ANSWER_TIMEOUT_S:g} s"]
    return (answer if isinstance(answer, Mapping) else {}), []


def counted(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by the names of `Health`. A waiting session has one pending wait (S-10), but a wait whose token has ended
    takes no answer and is not counted."""
    named = {f"sessions_{name}": counts[name] for name in SESSION_COUNTS if name in counts}
    if "waiting" in counts:
        named["waits_pending"] = counts["waiting"] - counts.get("resolving", 0)
    return named


def _lacks(ledger: Mapping[str, Any], pool: Mapping[str, Any]) -> list[str]:
    lacks = []
    if ledger.get("store_away_since"):
        lacks.append(
            f"the store of the log has not answered since {ledger['store_away_since'][:19]}Z: nothing is accepted, "
            "and another runtime may be at work"
        )
    if ledger.get("failure"):
        lacks.append(f"ledger: {ledger['failure']}")
    if pool and not pool.get("ready", True):
        lacks.append("directory: starting or stopping")
    hosts = pool.get("hosts")
    if isinstance(hosts, Mapping) and hosts.get("total", 0) - hosts.get("starting", 0) < 1:
        lacks.append("no host lives")
    return lacks
