"""One runtime for the folder: the sessions of all habits are started, parked, killed and ended before the tests."""

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


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The servers and the runtime."""
    live = LiveRuntime(
        tmp_path_factory.mktemp("ordinary"),
        modules=[f"tests.ordinary.{theme}" for theme in THEMES],
        sessions_per_host=3,
        linger="300ms",
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
    kill_each_once(live)
    said: dict[str, list[Any]] = {}
    for session_id in sessions.values():
        run = live.ended(session_id, within_s=WITHIN_S)
        assert run.status == "succeeded", run
        said |= run.result
    return said


def kill_each_once(live: LiveRuntime) -> None:
    """Kill the process of every theme in its middle, whenever it gets there."""
    left, ending = set(THEMES), time.monotonic() + WITHIN_S
    while left:
        assert time.monotonic() < ending, f"never came to their middle: {sorted(left)}"
        for theme in sorted(left):
            path = live.marks / f"{theme}-pid"
            text = path.read_text() if path.exists() else ""
            if text:
                os.kill(int(text), signal.SIGKILL)
                left.remove(theme)
        time.sleep(0.05)
