"""One task's thousands of children leave other callers their turns, in one process and over Ray."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.stack.live import LiveRuntime, until

TASKS = Path(__file__).with_name("tree_tasks.py")
EVERY_S = 0.05
REST_S = 8.0
TIMES_MAX = 3.0


@pytest.fixture(params=[True, False], ids=["one-process", "ray"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LiveRuntime]:
    """A runtime with one host for all."""
    one = LiveRuntime(tmp_path, tasks=TASKS, in_process=request.param, sessions_per_host=500)
    yield one.start()
    one.stop()


def p50_s(live: LiveRuntime, session_id: str, is_over: Callable[[], bool]) -> float:
    """Of sends to a session of one's own, one every 50 ms until it is over."""
    box = live.client.sessions.open(session_id).input("box")
    took: list[float] = []
    while not took or not is_over():
        began = time.monotonic()
        box.send(1)
        took.append(time.monotonic() - began)
        time.sleep(max(0.0, EVERY_S - took[-1]))
    return median(took)


@pytest.mark.allows_blocking
@pytest.mark.perf
@pytest.mark.timeout(600)
@pytest.mark.parametrize("depth", [11])
def test_a_caller_beside_a_tree_of_4095_waits_little_longer_than_at_rest(
    live: LiveRuntime, depth: int
) -> None:
    mine = live.begin("keeper", None)
    live.waiting(mine, within_s=30)

    def after(seconds: float) -> Callable[[], bool]:
        ending = time.monotonic() + seconds
        return lambda: time.monotonic() > ending

    p50_s(live, mine, after(2.0))
    rest_s = p50_s(live, mine, after(REST_S))
    bound_s = TIMES_MAX * rest_s
    top = live.begin("tree", depth)
    beside_s = p50_s(live, mine, after(60.0))
    live.client.sessions.open(top).cancel()
    cancelling_s = p50_s(live, mine, after(20.0))
    sys.stdout.write(
        f"rest {rest_s:.4f} s, beside {beside_s:.4f}, while it ends {cancelling_s:.4f}\n"
    )
    assert beside_s < bound_s, f"beside the tree {beside_s:.3f} s, at rest {rest_s:.3f} s"
    assert cancelling_s < bound_s, f"while it ends {cancelling_s:.3f} s, at rest {rest_s:.3f} s"
    until(
        lambda: live.client.health().counts["sessions_waiting"] <= 1,
        within_s=200,
        what="all of the tree is cancelled",
    )
