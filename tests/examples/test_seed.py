"""Seeding gives sessions in every state, and a second time adds nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helmr.client import Client
from helmr.errors import Unavailable
from helmr.examples.seed import Seeder

MODULES = ("publish_review", "chat", "release", "troubled")
READY_S = 120


@pytest.fixture
def client() -> Iterator[Client]:
    """Of a runtime with the examples."""
    # Ray's sockets need a short path, which pytest's own folders are not.
    folder = Path(tempfile.mkdtemp(prefix="hs-"))
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


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_there_is_a_session_in_every_state(client: Client) -> None:
    with client:
        seeded = Seeder(client).seed(1)
        assert seeded.counts == {
            "waiting": 7,
            "waiting for a timer": 1,
            "succeeded": 3,
            "cancelled": 1,
            "timed out": 1,
            "failed": 1,
            "idle": 1,
            "closed": 1,
            "blocked": 1,
            "running": 1,
        }
        sessions = {one.id: one for one in client.sessions.list()}
        assert len(sessions) == sum(seeded.counts.values())
        told = {s: {sessions[i].activity for i in ids} for s, ids in seeded.sessions.items()}
        assert told["waiting"] == told["waiting for a timer"] == {"waiting"}
        assert told["blocked"] == {"blocked"}
        assert told["running"] == {"running"}
        assert told["idle"] == told["failed"] == told["timed out"] == told["succeeded"] == {"idle"}
        assert {sessions[i].status for i in seeded.sessions["closed"]} == {"closed"}
        assert {sessions[i].status for i in seeded.sessions["cancelled"]} == {"cancelled"}
        failed = next(client.runs.list(session_id=seeded.sessions["failed"][0]))
        assert failed.status == "failed"
        waits = list(client.waits.list())
        assert len(waits) == 7
        assert len({wait.deadline_at is None for wait in waits}) == 2
        assert Seeder(client).seed(1).counts == {}
        assert len(list(client.sessions.list())) == len(sessions)
