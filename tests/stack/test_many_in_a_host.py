"""A thousand sessions in two hosts, and beside them what ends, fills or occupies its host: nobody else pays for it."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.stack import host_tasks
from tests.stack.live import LiveRuntime, kill, until

pytestmark = [
    pytest.mark.ray,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.allows_blocking,
]
SESSIONS = 1000
log = logging.getLogger("helmr.tests")

CALLERS = 8

Start = Callable[..., LiveRuntime]


@pytest.fixture
def start(make_runtime: Start) -> Start:
    """A runtime of two hosts with room for all of them."""

    def make(**options: Any) -> LiveRuntime:
        live = make_runtime(
            tasks=Path(host_tasks.__file__), hosts=2, sessions_per_host=600, **options
        )
        until(lambda: all(one["pid"] for one in live.hosts()), within_s=60, what="both hosts")
        return live

    return make


def crowd(
    live: LiveRuntime, seconds: float, *hostile: tuple[str, Any]
) -> tuple[list[str], list[str]]:
    """Sessions that wait: `SESSIONS` that will await something for so long, and hostile ones."""
    others = [live.begin(task, payload) for task, payload in hostile]
    with ThreadPoolExecutor(CALLERS) as pool:
        sessions = list(pool.map(lambda _: live.begin("agent", seconds), range(SESSIONS)))
    until(
        lambda: live.client.health().counts["waits_pending"] == SESSIONS + len(others),
        within_s=120,
        what="all wait",
    )
    return sessions, others


def send_on(live: LiveRuntime, sessions: Sequence[str]) -> list[float]:
    """Let them go on; how long each call took."""

    def send(session_id: str) -> float:
        began = time.perf_counter()
        live.client.sessions.open(session_id).input("go").send("on")
        return time.perf_counter() - began

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(send, sessions))


def until_all_end(live: LiveRuntime) -> None:
    """Every session but those that are blocked has come to its end, as it should."""
    until(
        lambda: live.client.health().counts["sessions_idle"] >= SESSIONS,
        within_s=150,
        what="all others end",
    )
    ends = {
        one["status"]: one["n"]
        for one in live.client.query(
            "SELECT status, count(*) AS n FROM runs WHERE task = 'agent' GROUP BY status"
        )
    }
    assert ends == {"succeeded": SESSIONS}


def blamed(live: LiveRuntime) -> set[str]:
    """The sessions for which a crash counted."""
    found = live.client.query(
        "SELECT DISTINCT session_id FROM entries WHERE kind = 'run.actor_died'"
    )
    return {one["session_id"] for one in found}


def has_own_hosts(live: LiveRuntime) -> bool:
    """Some session goes on alone."""
    return any(map(is_own, live.hosts()))


def alone(live: LiveRuntime) -> set[str]:
    """The sessions that go on alone."""
    return {one for host in live.hosts() if is_own(host) for one in host["session_ids"]}


def is_own(host: Mapping[str, Any]) -> bool:
    """It is there for one session."""
    return "-own-" in host["name"]


def middle_and_p99(times_s: Sequence[float]) -> str:
    """For whoever reads the output."""
    p99 = statistics.quantiles(times_s, n=100)[98]
    return f"median {statistics.median(times_s) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms"


def test_one_that_ends_its_process_is_blocked_and_nobody_else_pays(start: Start) -> None:
    live = start()
    sessions, [hostile] = crowd(live, 8.0, ("deadly", None))
    send_on(live, [*sessions[:-1], hostile, sessions[-1]])
    run = live.ended(hostile, within_s=90)
    assert run.error is not None
    assert (run.status, run.error.code) == ("blocked", "actor_died")
    until_all_end(live)
    assert blamed(live) == {hostile}
    # Suspects of two crashes go on alone, and their hosts end behind them.
    until(lambda: not has_own_hosts(live), within_s=30, what="no one has its own host")


def test_an_operators_kill_of_a_host_with_hundreds_running_counts_for_none(start: Start) -> None:
    live = start()
    sessions, _ = crowd(live, 20.0)
    send_on(live, sessions)
    fullest = max(live.hosts(), key=lambda one: int(one["sessions"]))
    assert int(fullest["sessions"]) >= SESSIONS // 2
    kill(fullest["pid"])
    until(
        lambda: fullest["pid"] not in [one["pid"] for one in live.hosts()],
        within_s=30,
        what="the crash is known",
    )
    until(
        lambda: has_own_hosts(live) or live.client.health().counts["sessions_idle"] == SESSIONS,
        within_s=150,
        what="all end",
    )
    assert not has_own_hosts(live)
    until_all_end(live)
    assert blamed(live) == set()


def test_a_thread_that_never_ends_costs_its_host_and_nobody_a_run(start: Start) -> None:
    live = start()
    sessions, [hostile] = crowd(live, 8.0, ("holds-a-thread", None))
    send_on(live, [hostile])
    holder = until(lambda: live.holder(hostile), within_s=30, what="it is held")
    send_on(live, sessions[: SESSIONS // 2])
    live.client.sessions.open(hostile).cancel()
    until(
        lambda: live.client.health().pool["hosts"]["retiring"] == 1,
        within_s=30,
        what="its host retires",
    )
    send_on(live, sessions[SESSIONS // 2 :])
    until_all_end(live)
    until(
        lambda: holder["pid"] not in [one["pid"] for one in live.hosts()],
        within_s=60,
        what="the host is gone",
    )
    assert blamed(live) == set()
    assert live.client.health().pool["crashes"] == 0


def test_one_that_spins_slows_the_others_until_it_is_cancelled(start: Start) -> None:
    live = start()
    sessions, [hostile] = crowd(live, 1.0, ("spins", None))
    third = SESSIONS // 3
    before = send_on(live, sessions[:third])
    send_on(live, [hostile])
    beside = send_on(live, sessions[third : 2 * third])
    receipt = live.client.sessions.open(hostile).cancel()
    assert receipt.status == "cancelled"
    until(
        lambda: (
            live.client.health().pool["hosts"]["retiring"] == 0
            and live.client.health().pool["warnings"] == []
        ),
        within_s=90,
        what="the host with the spinning code is gone",
    )
    after = send_on(live, sessions[2 * third :])
    until_all_end(live)
    for name, times_s in (("before", before), ("beside it", beside), ("after", after)):
        log.info("%s: %s", name, middle_and_p99(times_s))
    assert blamed(live) == set()


@pytest.mark.parametrize("way", ["blocks", "awaits"])
def test_a_leak_is_blocked_at_its_third_crash_and_nobody_else_pays(start: Start, way: str) -> None:
    live = start(host_memory="400MB")
    sessions, [hostile] = crowd(live, 8.0, ("leaks", way))
    send_on(live, [*sessions[: SESSIONS // 2], hostile, *sessions[SESSIONS // 2 :]])
    run = live.ended(hostile, within_s=120)
    assert run.error is not None
    assert (run.status, run.error.code) == ("blocked", "actor_died")
    until_all_end(live)
    assert blamed(live) == {hostile}
    # Others that have executed beside it at two crashes go on alone as well, until they have come to their end.
    until(lambda: alone(live) <= {hostile}, within_s=90, what="no one else has its own host")


def test_one_whose_threads_end_its_host_while_it_waits_goes_on_apart(start: Start) -> None:
    live = start()
    beside = [live.begin("agent", 0.0) for _ in range(20)]
    hostile = live.begin("leaves-threads")
    for count in range(1, 5):
        live.waiting(hostile)
        live.client.sessions.open(hostile).input("go").send("on")
        until(
            lambda count=count: live.client.health().pool["crashes"] == count,  # type: ignore[misc]
            within_s=60,
            what="its host dies",
        )
    died = [is_own({"name": one["host"]}) for one in live.client.health().pool["recent_crashes"]]
    assert died == [False, False, True, True]
    send_on(live, beside)
    assert {live.ended(one).status for one in beside} == {"succeeded"}
    assert blamed(live) <= {hostile}
