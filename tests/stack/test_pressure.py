"""More sessions than room: parked ones cost nothing, and full hosts never stop an answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import duckdb
import pytest

from tests.service import parking_tasks
from tests.service.parking_tasks import WAYS
from tests.stack.live import LiveRuntime, until

pytestmark = [pytest.mark.ray, pytest.mark.allows_blocking]
Make = Callable[..., LiveRuntime]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "sessions",
    [
        40,
        pytest.param(150, marks=pytest.mark.long),
        pytest.param(1000, marks=pytest.mark.soak),
    ],
)
def test_many_sessions_park_in_little_room_and_all_complete(
    make_runtime: Make, sessions: int
) -> None:
    live = make_runtime(hosts=2, sessions_per_host=3)
    until(lambda: all(one["pid"] for one in live.hosts()), within_s=60, what="a full pool")
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
    live.stop()
    with duckdb.connect(str(live.data_dir / "ledger.duckdb"), read_only=True) as file:
        rows = file.execute(
            """
            SELECT count(*), count(DISTINCT body ->> 'wait_id') FROM entries
            WHERE kind IN ('wait.fulfilled', 'wait.timed_out', 'wait.cancelled')
            """
        ).fetchone()
    assert rows == (sessions, sessions)


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


@pytest.mark.timeout(180)
def test_all_room_in_long_steps_and_parked_sessions_are_still_served(make_runtime: Make) -> None:
    live = make_runtime(sessions_per_host=2)
    parked = [live.begin("approve", {"name": f"p{n}"}) for n in range(3)]
    waits = [live.waiting(session_id) for session_id in parked]
    soon = live.begin("approve", {"name": "soon", "timeout": "12s"})
    live.waiting(soon)
    for n in range(2):
        live.begin("long_step", {"name": f"hold{n}", "duration_s": 60})
    until(
        lambda: live.marked("hold0-began") and live.marked("hold1-began"),
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
