"""One runtime for the folder: the sessions of all habits are started, parked, killed and ended before the tests.

In each run it is one process, of which a kill is one of everything; in the long run also Ray, where each habit's
process is killed alone.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ordinary.stand_in import http_server, postgres_server
from tests.stack.live import LiveRuntime, until

HERE = Path(__file__).parent
THEMES = ("clients", "coordination", "subprocesses", "structure", "values", "frameworks")
WITHIN_S = 120.0


@dataclass(frozen=True)
class Stand:
    """The runtime and what its sessions talk to."""

    live: LiveRuntime
    places: dict[str, Any]


@pytest.fixture(
    scope="session",
    params=["in-process", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.long])],
)
def stand(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stand]:
    """The servers and the runtime."""
    is_alone = request.param == "in-process"
    live = LiveRuntime(
        tmp_path_factory.mktemp("ordinary"),
        modules=[f"tests.ordinary.{theme}" for theme in THEMES],
        sessions_per_host=50 if is_alone else 3,
        linger="300ms",
        in_process=is_alone,
    )
    with http_server() as http, postgres_server() as postgres:
        places = {"http": http, "postgres": postgres, "mcp_server": str(HERE / "mcp_server.py")}
        try:
            live.start()
            yield Stand(live, places)
        finally:
            live.stop()


@pytest.fixture(scope="session")
def outcomes(stand: Stand) -> dict[str, list[Any]]:
    """What each habit came to: at first, after a park, after a kill -9 of its session's process."""
    live = stand.live
    sessions = {theme: live.begin(theme, stand.places) for theme in THEMES}
    for session_id in sessions.values():
        live.waiting(session_id, within_s=WITHIN_S)
    until(
        lambda: not any(live.holder(session_id) for session_id in sessions.values()),
        within_s=WITHIN_S,
        what="all are parked",
    )
    for session_id in sessions.values():
        live.client.sessions.open(session_id).input("go-on").send("on")
    if live.is_in_process:
        kill_all_at_once(live)
    else:
        kill_each_once(live)
    said: dict[str, list[Any]] = {}
    for session_id in sessions.values():
        run = live.ended(session_id, within_s=WITHIN_S)
        assert run.status == "succeeded", run
        said |= run.result
    return said


def middle(live: LiveRuntime, theme: str) -> int:
    """The process of a theme that is in its middle; 0 before it gets there."""
    path = live.marks / f"{theme}-pid"
    return int((path.read_text() if path.exists() else "") or 0)


def kill_all_at_once(live: LiveRuntime) -> None:
    """Kill the one process when every theme is in its middle, and start it again."""
    until(
        lambda: all(middle(live, theme) for theme in THEMES),
        within_s=WITHIN_S,
        what="all are in their middle",
        seen=lambda: [theme for theme in THEMES if not middle(live, theme)],
    )
    live.kill_all()
    live.start()


def kill_each_once(live: LiveRuntime) -> None:
    """Kill the process of every theme in its middle, whenever it gets there."""
    left, ending = set(THEMES), time.monotonic() + WITHIN_S
    while left:
        assert time.monotonic() < ending, f"never came to their middle: {sorted(left)}"
        for theme in sorted(left):
            if pid := middle(live, theme):
                os.kill(pid, signal.SIGKILL)
                left.remove(theme)
        time.sleep(0.05)
