"""Seeding gives sessions in every state, and a second time adds nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helmr.client import Client
from helmr.errors import Unavailable
from helmr.examples.seed import Seeder
from helmr.models import Activity, SessionInfo
from tests import reaper
from tests.stack.live import LiveRuntime, until

MODULES = ("publish_review", "chat", "release", "troubled")
READY_S = 120


@pytest.fixture
def client() -> Iterator[Client]:
    """Of a runtime with the examples."""
    # Ray's sockets need a short path, which pytest's own folders are not.
    folder = reaper.folder("hs-")
    tasks = [f"helmr.examples.{name}" for name in MODULES]
    options = ["--data-dir", str(folder / "data"), "--port", "0", "--hosts", "1"]
    with (folder / "log").open("wb") as log:
        up = subprocess.Popen(
            [sys.executable, "-m", "helmr.cli", "up", *tasks, *options],
            env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield _connected(folder, up)
    finally:
        up.terminate()
        up.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _connected(folder: Path, up: subprocess.Popen[bytes]) -> Client:
    ends_at_s = time.monotonic() + READY_S
    while time.monotonic() < ends_at_s:
        assert up.poll() is None, (folder / "log").read_text()
        try:
            client = Client(data_dir=folder / "data")
            if client.health().ready:
                return client
        except Unavailable:
            time.sleep(0.1)
    raise AssertionError((folder / "log").read_text())


ENDED_OR_WAITING = {
    "waiting": 7,
    "waiting for a timer": 1,
    "succeeded": 3,
    "cancelled": 1,
    "timed out": 1,
    "failed": 1,
    "idle": 1,
    "closed": 1,
}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[LiveRuntime]:
    """A runtime in one process, without the tasks that end theirs."""
    modules = [f"helmr.examples.{name}" for name in MODULES if name != "troubled"]
    one = LiveRuntime(tmp_path, modules=modules, in_process=True)
    yield one.start()
    one.stop()


@pytest.mark.slow
@pytest.mark.allows_blocking
@pytest.mark.timeout(120)
def test_there_is_a_session_in_every_state_that_code_in_order_leads_to(alone: LiveRuntime) -> None:
    assert_seeded(alone.client, ENDED_OR_WAITING)


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_there_is_a_session_in_every_state(client: Client) -> None:
    with client:
        told = assert_seeded(client, {**ENDED_OR_WAITING, "blocked": 1, "running": 1})
        assert told["blocked"] == {"blocked"}
        assert told["running"] == {"running"}


def assert_seeded(client: Client, wanted: dict[str, int]) -> dict[str, set[Activity]]:
    """Seed twice; what the sessions of each state do."""
    seeded = Seeder(client).seed(1)
    assert seeded.counts == wanted
    assert len(list(client.sessions.list())) == sum(seeded.counts.values())

    def rested() -> dict[str, SessionInfo] | None:
        found = {one.id: one for one in client.sessions.list()}
        waiting = (*seeded.sessions["waiting"], *seeded.sessions["waiting for a timer"])
        return found if {found[one].activity for one in waiting} == {"waiting"} else None

    # A record that the code has taken a moment ago makes it execute once more.
    sessions = until(rested, within_s=30, what="all that were to wait wait")
    told = {s: {sessions[i].activity for i in ids} for s, ids in seeded.sessions.items()}
    assert told["idle"] == told["failed"] == told["timed out"] == told["succeeded"] == {"idle"}
    assert {sessions[i].status for i in seeded.sessions["closed"]} == {"closed"}
    assert {sessions[i].status for i in seeded.sessions["cancelled"]} == {"cancelled"}
    failed = next(client.runs.list(session_id=seeded.sessions["failed"][0]))
    assert failed.status == "failed"
    waits = list(client.waits.list())
    assert len(waits) == wanted["waiting"]
    assert len({wait.deadline_at is None for wait in waits}) == 2
    assert Seeder(client).seed(1).counts == {}
    assert len(list(client.sessions.list())) == len(sessions)
    return told
