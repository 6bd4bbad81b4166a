"""Schedules of a real runtime that is killed and started again, and the session that `up --ensure` keeps (S-93)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from helmr_runtime.faults import Point, arm
from tests import warm
from tests.stack.live import LiveRuntime, until

pytestmark = pytest.mark.allows_blocking

WAITS_S = 60.0
TASKS = Path(__file__).with_name("scheduled_tasks.py")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveRuntime]:
    """A runtime in one process, not started; a test may start it again and again."""
    one = LiveRuntime(tmp_path, tasks=TASKS, in_process=True)
    yield one
    one.stop()


def due_times(live: LiveRuntime) -> list[datetime]:
    """For which sessions were started."""
    found = live.client.query(
        "SELECT body->>'$.schedule.due_at' AS due_at FROM entries WHERE kind = 'session.created' "
        "AND body->>'$.schedule.due_at' IS NOT NULL"
    )
    return sorted(datetime.fromisoformat(row["due_at"]) for row in found.rows())


def started(live: LiveRuntime, count: int) -> None:
    """Return when that many sessions more were started."""
    wanted = len(due_times(live)) + count
    until(lambda: len(due_times(live)) >= wanted, within_s=WAITS_S, what="a schedule starts")


@pytest.mark.long  # tests/features/schedules/test_ledger.py
@pytest.mark.timeout(240)
def test_over_kills_each_due_time_starts_one_session(live: LiveRuntime) -> None:
    """Killed before the write of a start, right behind it, and at any time."""
    live.start()
    for point in (Point.LEDGER_BEFORE_WRITE, Point.LEDGER_WRITTEN, None):
        started(live, 1)
        if point is None:
            live.kill_all()
        else:
            arm(live.faults, point)
            assert live._process is not None
            live._process.wait(WAITS_S)
            live._process = None
            live._forget_client()
        live.start()
    started(live, 2)
    live.client.schedules.pause("each_second")
    found = due_times(live)
    assert [at for at, count in Counter(found).items() if count > 1] == []
    gaps = {later - sooner for sooner, later in pairwise(found)}
    assert gaps == {timedelta(seconds=1)}, "nor was one left out"
    live.stop()
    live.start()
    time.sleep(2.5)  # a time that would be due
    assert due_times(live) == found, "a pause survives"


@pytest.mark.timeout(240)
def test_the_session_to_ensure_is_started_once_over_restarts(live: LiveRuntime) -> None:
    live._arguments += ["--ensure=assistant", "--external-id=main", '--payload="hello"']
    live.start()
    first = live.client.sessions.find("main").get()
    assert (first.task, first.external_id) == ("assistant", "main")
    live.stop()
    live.start()
    assert live.client.sessions.find("main").get().id == first.id
    live.client.sessions.open(first.id).cancel()
    live.stop()
    live.start()
    again = live.client.sessions.find("main").get()
    assert again.id != first.id


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ensure=nobody", "--external-id=x"], "no such task"),
        (["--ensure=assistant"], "belong together"),
        *(
            pytest.param(options, said, marks=pytest.mark.long)
            for options, said in [
                (["--ensure=assistant", "--external-id=x"], "--payload that fits"),
                (["--external-id=x"], "belong together"),
                (["--ensure=assistant", "--external-id=x", "--payload={"], "--payload"),
                (["--ensure=assistant", "--external-id=x", "--address=auto"], "in the foreground"),
            ]
        ),
    ],
)
def test_what_can_not_be_ensured_is_refused_before_anything_starts(
    tmp_path: Path, options: list[str], said: str
) -> None:
    up = ["up", str(TASKS), "--in-process", "--port=0", f"--data-dir={tmp_path / 'data'}", *options]
    done = warm.run(*up, env=warm.seeded(), cwd=tmp_path)
    assert done.returncode in (2, 3), done.stderr
    assert said in done.stderr
    assert not (tmp_path / "data" / "ledger.duckdb").exists()
