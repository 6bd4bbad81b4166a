"""Degraded states: when each is told, by what name, and when it is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helmr_runtime.clock import Timer
from helmr_runtime.service import health
from helmr_runtime.service.health import (
    BLOCKED_LOOKED_AT,
    ClockWatch,
    DegradedState,
    of_pool,
    troubles,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
GIB = 1024**3


def states(ledger: Any = None, pool: Any = None, blocked: Any = ()) -> list[DegradedState]:
    return [one.state for one in troubles(ledger or {}, pool or {}, NOW, blocked=blocked)]


@pytest.mark.parametrize(
    ("free", "total", "is_low"),
    [
        (GIB - 1, 1000 * GIB, True),
        (GIB, 1000 * GIB, False),
        (GIB // 2 - 1, 10 * GIB, True),
        (GIB // 2, 10 * GIB, False),
        (0, 0, False),
    ],
)
def test_a_disk_is_low_below_a_gibibyte_or_a_twentieth(free: int, total: int, is_low: bool) -> None:
    found = states({"disk_free_bytes": free, "disk_total_bytes": total})
    assert (found == [DegradedState.DISK_LOW]) is is_low


def test_a_queue_is_old_after_a_minute_and_stalled_where_hosts_hold_what_only_waits() -> None:
    assert states(pool={"queue": 3, "queue_oldest_s": 60.0}) == []
    assert states(pool={"queue": 3, "queue_oldest_s": 60.1}) == [DegradedState.QUEUE_OLD]
    held = {"waiting_held_since": "2029-12-31T23:59:00.000000Z", "counts": {"waiting_held": 2}}
    assert states(held, {"queue": 3, "queue_oldest_s": 60.1}) == [DegradedState.QUEUE_STALLED]


def test_runs_are_blocked_for_code_or_for_something_else() -> None:
    runs = [{"error": {"code": code}} for code in ("actor_died", "task_missing", "nondeterminism")]
    assert states(blocked=runs[:1]) == []
    assert states(blocked=[{"error": None}]) == [], "its entry can't be read"
    (found,) = troubles({}, {}, NOW, blocked=runs)
    assert found.state is DegradedState.CODE_MISSING
    assert found.text.startswith(
        "2 runs are blocked because of this code (nondeterminism, task_missing)"
    )
    (many,) = troubles({}, {}, NOW, blocked=runs[1:2] * BLOCKED_LOOKED_AT)
    assert many.text.startswith(f"{BLOCKED_LOOKED_AT} or more runs are")


def test_each_kind_of_the_directorys_warnings_has_a_state() -> None:
    assert of_pool({"states": ["blocked", "silent"], "failing": 1}) == {
        DegradedState.LOOP_BLOCKED,
        DegradedState.HOST_SILENT,
        DegradedState.RESUMES_FAILING,
    }
    assert of_pool({}) == set()


class TwoClocks:
    """The wall clock, which can be set, and one that can't."""

    def __init__(self) -> None:
        self.wall, self.passed_s = NOW, 0.0

    def now(self) -> datetime:
        return self.wall

    def elapsed_s(self) -> float:
        return self.passed_s

    def call_at(self, when: datetime, call: Any) -> Timer:
        raise AssertionError("nobody waits")

    def call_when(self, when: datetime, call: Any) -> Timer:
        raise AssertionError("nobody waits")

    def goes(self, seconds: float, *, wall: float | None = None) -> None:
        self.passed_s += seconds
        self.wall += timedelta(seconds=seconds if wall is None else wall)


@pytest.mark.parametrize(("step_s", "way"), [(3600.0, "forward"), (-3600.0, "back")])
def test_a_clock_that_was_set_is_told_for_an_hour(step_s: float, way: str) -> None:
    clocks = TwoClocks()
    watch = ClockWatch(clocks)
    clocks.goes(10)
    assert watch.look() is None
    clocks.goes(10, wall=10 + step_s)
    found = watch.look()
    assert found is not None
    assert f"was set {way} by 3600 s" in found.text
    clocks.goes(3599)
    assert watch.look() is not None
    clocks.goes(2)
    assert watch.look() is None
    assert watch.steps == 1


def test_a_clock_that_is_slewed_was_not_set() -> None:
    clocks = TwoClocks()
    watch = ClockWatch(clocks)
    clocks.goes(86_400, wall=86_400 + 43)
    assert watch.look() is None
    clocks.goes(1, wall=1 + health.CLOCK_STEP_S)
    assert watch.look() is None
    assert watch.steps == 0
