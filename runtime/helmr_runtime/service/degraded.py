"""What is wrong with a runtime although calls are answered, each with a name that alerts can rely on.

Pure but for `ClockWatch`, which remembers: functions from what ledger and directory say of themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from helmr.durations import spell
from helmr.sizes import spell_bytes
from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import from_iso, iso

STALL_S = 5.0
"""Room is handed on within a second; what takes longer than this does not come by itself."""

QUEUE_OLD_S = 60.0
"""People have been answered by then in a runtime that has room for its work."""

DISK_LOW_BYTES = 1024**3
DISK_LOW_SHARE = 0.05
"""Less than either, whichever is smaller: DuckDB needs room for its checkpoint beside the file."""

CLOCK_STEP_S = 2.0
CLOCK_DRIFT = 0.001
"""A clock that is slewed moves by at most 0.5 ms a second; what is more is a step."""

STEP_TOLD_FOR = timedelta(hours=1)

CODE_MISSING = frozenset({"task_missing", "nondeterminism", "schema_mismatch"})
"""Codes of blocked runs that other code would let go on."""

BLOCKED_LOOKED_AT = 200


class State(StrEnum):
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
    FOLLOWER_BEHIND = "follower_behind"
    NOTICES_FAILING = "notices_failing"


OF_POOL = {
    "blocked": State.LOOP_BLOCKED,
    "memory": State.HOST_MEMORY,
    "retire": State.HOST_RETIRING,
    "room": State.ROOM_REDUCED,
    "silent": State.HOST_SILENT,
    "start": State.HOST_START_FAILED,
    "take-over": State.HOST_START_FAILED,
}
"""The directory's own warnings, by the kind that it gives them."""


class Trouble(NamedTuple):
    """A state and what is said of it."""

    state: State
    text: str


def of_pool(pool: Mapping[str, Any]) -> set[State]:
    """The states behind the directory's warnings."""
    found = {OF_POOL[kind] for kind in pool.get("states", ()) if kind in OF_POOL}
    return found | ({State.RESUMES_FAILING} if pool.get("failing") else set())


def troubles(
    ledger: Mapping[str, Any],
    pool: Mapping[str, Any],
    now: datetime,
    *,
    blocked: Sequence[Mapping[str, Any]] = (),
) -> list[Trouble]:
    """What is wrong that neither part says itself.

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
        State.DISK_LOW,
        f"the disk of the data directory has {spell_bytes(free)} left of {spell_bytes(total)}; "
        "when it is full, nothing more is accepted: make room on it",
    )


def _stall(ledger: Mapping[str, Any], pool: Mapping[str, Any], now: datetime) -> Trouble | None:
    """Runs wait for room while hosts hold sessions that only wait: one of both sides is wrong.

    The two figures have two sources. The directory believes what hosts report; that a session only waits the ledger
    knows from its entries, and so it shows also a host that has not told that a session can be parked.
    """
    oldest_s, since = pool.get("queue_oldest_s", 0.0), ledger.get("waiting_held_since")
    if oldest_s <= STALL_S or since is None or (now - from_iso(since)).total_seconds() <= STALL_S:
        return None
    held = ledger.get("counts", {}).get("waiting_held", 0)
    return Trouble(
        State.QUEUE_STALLED,
        f"{_queued(pool)}, while hosts hold {held} {'session' if held == 1 else 'sessions'} that only "
        f"{'waits' if held == 1 else 'wait'}; see the logs",
    )


def _old_queue(pool: Mapping[str, Any]) -> Trouble | None:
    if pool.get("queue_oldest_s", 0.0) <= QUEUE_OLD_S:
        return None
    return Trouble(
        State.QUEUE_OLD,
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
        State.CODE_MISSING,
        f"{count} {'run is' if count == '1' else 'runs are'} blocked because of this code "
        f"({', '.join(sorted(set(for_code)))}): see `helmr run list --status blocked`",
    )


class ClockWatch:
    """Compares the wall clock with one that nobody sets, whenever it is asked.

    Deadlines are times of the wall clock: one that is set forward ends waits early, one that is set back holds them.

    Args:
        clock: Tells both.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.now(), clock.elapsed_s()
        self._step: tuple[datetime, float] | None = None
        self.steps = 0
        """How many it has seen."""

    def look(self) -> Trouble | None:
        """The last step, for an hour after it was seen."""
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
            State.CLOCK_STEPPED,
            f"the machine's clock was set {way} by {abs(by_s):.0f} s (seen {iso(at)[:19]}Z); "
            f"deadlines from before {effect}",
        )
