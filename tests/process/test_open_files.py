"""A runtime in one process that may open few files, beside clients that take all they can get."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.stack.live import LiveRuntime

pytestmark = pytest.mark.allows_blocking

FILES_MAX = 256
HALF_REQUESTS = 300
SESSIONS = 40
BOUND_S = 15.0


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveRuntime]:
    """A runtime in one process that may open 256 files."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nulimit -n {FILES_MAX}\nexec {sys.executable} "$@"\n')
    python.chmod(0o700)
    one = LiveRuntime(
        tmp_path,
        tasks=Path(__file__).with_name("alone_tasks.py"),
        in_process=True,
        python=str(python),
    )
    yield one.start()
    one.stop()


def test_half_requests_that_would_take_every_file_keep_no_caller_out(live: LiveRuntime) -> None:
    ids = [live.begin("ask", {"about": str(n)}) for n in range(SESSIONS)]
    found = live.credentials
    key = {"Authorization": f"Bearer {found.key}"}
    address = found.url.rpartition("/")[2].partition(":")
    with ExitStack() as held, httpx.Client(base_url=found.url, headers=key) as connected:
        assert connected.get("/readyz").json()["degraded"] == []
        for _ in range(HALF_REQUESTS):
            half = held.enter_context(socket.socket())
            half.setblocking(False)
            half.connect_ex((address[0], int(address[2])))
        began = time.monotonic()
        for _ in range(10):
            assert connected.get("/v1/sessions?limit=1").status_code == 200
            assert httpx.get(f"{found.url}/healthz", timeout=BOUND_S).status_code == 200
        assert time.monotonic() - began < BOUND_S
        said = connected.get("/readyz").json()
        assert said["degraded"] == ["files_low"]
        assert f"may open {FILES_MAX} files" in said["warnings"][0]
    for session_id in ids:
        live.waiting(session_id, within_s=BOUND_S)
    live.client.sessions.open(ids[0]).input("yes").send(True)
    assert live.ended(ids[0], within_s=BOUND_S).result["answer"] is True
    log = (live.data_dir / "logs" / "in-process.log").read_text()
    assert log.count("short of them") == 1
    assert "Traceback" not in log
