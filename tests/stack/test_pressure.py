"""More sessions than room: parked ones cost nothing, and full hosts never stop an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.service import parking_tasks
from tests.service.parking_tasks import WAYS
from tests.stack.live import LiveRuntime, until

pytestmark = pytest.mark.allows_blocking
Make = Callable[..., LiveRuntime]


@pytest.fixture(
    scope="module",
    params=["in-process", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.long])],
)
def small(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveRuntime]:
    """A runtime of two hosts with room for three sessions each; each test leaves it empty."""
    live = LiveRuntime(
        tmp_path_factory.mktemp("small"),
        hosts=2,
        sessions_per_host=3,
        in_process=request.param == "in-process",
    )
    try:
        live.start()
        until(lambda: has_whole_pool(live), within_s=60, what="a full pool")
        yield live
    finally:
        live.stop()


def has_whole_pool(live: LiveRuntime) -> bool:
    """Both hosts are there, each in its process."""
    hosts = live.hosts()
    return len(hosts) == 2 and (live.is_in_process or all(one["pid"] for one in hosts))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "sessions",
    [
        24,
        pytest.param(150, marks=pytest.mark.long),
        pytest.param(1000, marks=pytest.mark.soak),
    ],
)
def test_many_sessions_park_in_little_room_and_all_complete(
    small: LiveRuntime, sessions: int
) -> None:
    live = small
    before = len(live.pids())
    with ThreadPoolExecutor(8) as pool:
        started = list(
            pool.map(lambda n: live.begin("approve", {"name": f"s{n}"}), range(sessions))
        )
        waits = dict(zip(started, pool.map(live.waiting, started), strict=True))
        assert len(live.pids()) <= before + 2, "processes grow with sessions"
        list(
            pool.map(
                lambda w: live.client.waits.answer(w.id, {"decision": "approve"}), waits.values()
            )
        )
        results = list(pool.map(lambda s: live.ended(s, within_s=300).result, started))
    assert results == ["approve"] * sessions
    ended = [
        entry.body["wait_id"]
        for session_id in started
        for entry in live.transcript(session_id)
        if entry.kind in ("wait.fulfilled", "wait.timed_out", "wait.cancelled")
    ]
    assert len(ended) == len(set(ended)) == sessions


@pytest.mark.ray
@pytest.mark.long  # tests/service/test_parking.py does so kind by kind, with all actors in one process
@pytest.mark.timeout(240)
def test_more_waits_of_every_kind_than_there_is_room_for_and_everything_goes_on(
    make_runtime: Make,
) -> None:
    live = make_runtime(tasks=Path(parking_tasks.__file__), sessions_per_host=2, linger="3s")
    client = live.client

    def begin(way: str, number: int) -> str:
        payload = {"way": way, "name": f"{way} {number}"}
        if way == "token of a client":
            payload["token"] = client.tokens.create(subject="Is it done?").id
        return live.begin("waits", payload)

    for way in WAYS:
        waiting = [begin(way, number) for number in range(4)]
        until(partial(have_begun, live, waiting), within_s=60, what=f"all wait: {way}")
    late = begin("input", 99)
    live.waiting(late, within_s=20)
    for wait in client.waits.list(limit=200):
        client.waits.answer(wait.id, "done")
    runs = [live.ended(session.id) for session in client.sessions.list()]
    assert [(run.status, run.result) for run in runs] == [("succeeded", "done")] * 33


def have_begun(live: LiveRuntime, sessions: list[str]) -> bool:
    """Each waits, or waits for its next attempt, or has ended after that."""
    runs = [live.newest_run(session) for session in sessions]
    return all(run.status in ("waiting", "succeeded") or run.retry_at is not None for run in runs)


@pytest.mark.long  # tests/service/test_parking.py
@pytest.mark.timeout(180)
def test_all_room_in_long_steps_and_parked_sessions_are_still_served(small: LiveRuntime) -> None:
    live = small
    parked = [live.begin("approve", {"name": f"p{n}"}) for n in range(3)]
    waits = [live.waiting(session_id) for session_id in parked]
    soon = live.begin("approve", {"name": "soon", "timeout": "12s"})
    live.waiting(soon)
    names = [f"hold{n}" for n in range(6)]
    held = [live.begin("long_step", {"name": name, "duration_s": 60}) for name in names]
    until(
        lambda: all(live.marked(f"{name}-began") for name in names),
        within_s=40,
        what="there is no room",
    )

    def timed(call: Callable[[], object]) -> float:
        began = time.monotonic()
        call()
        return time.monotonic() - began

    client = live.client
    times = [
        timed(lambda: client.sessions.open(parked[0]).input("messages").send("noted")),
        timed(lambda: client.waits.answer(waits[1].id, {"decision": "approve"})),
        timed(lambda: client.sessions.open(parked[2]).cancel()),
    ]
    assert max(times) < 1, times
    entry = until(
        lambda: next((e for e in live.transcript(soon) if e.kind == "wait.timed_out"), None),
        within_s=20,
        what="the deadline is recorded",
    )
    assert entry is not None
    for session_id in held:
        client.sessions.open(session_id).cancel()
    until(lambda: only_lingers(live), within_s=30, what="no code executes")


def only_lingers(live: LiveRuntime) -> bool:
    """No code of any session executes."""
    sessions = live.client.health().pool["sessions"]
    return bool(sessions["live"] == sessions["lingering"])
