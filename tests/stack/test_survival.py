"""What was acknowledged is there after any kill (S-60…S-63)."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from helmr.errors import RuntimeHeld
from tests.stack.live import LiveRuntime, kill, until

pytestmark = [
    pytest.mark.transports,
    pytest.mark.ray,
    pytest.mark.timeout(240),
    pytest.mark.allows_blocking,
]
Make = Callable[..., LiveRuntime]
YES = {"decision": "approve"}


@pytest.mark.long  # `helmr demo` kills both too: tests/demo/test_demo.py; each process: test_supervisor_kills.py
def test_host_then_everything_killed_and_the_wait_is_answered(make_runtime: Make) -> None:
    live = make_runtime()
    session_id = live.begin("approve", {"name": "all"})
    wait = live.waiting(session_id)
    host = until(lambda: live.holder(session_id), within_s=10, what="it is held")
    kill(host["pid"])
    assert live.waiting(session_id).id == wait.id
    live.kill_all()
    live.start()
    assert live.waiting(session_id).id == wait.id
    receipt = live.client.waits.answer(wait.id, YES)
    assert receipt.outcome == "fulfilled"
    assert live.ended(session_id).result == "approve"
    assert (live.marked("all-before"), live.marked("all-after")) == (1, 1)


def test_ledger_killed_while_a_step_runs_and_the_step_runs_once(shared: LiveRuntime) -> None:
    live = shared
    session_id = live.begin("long_step", {"name": "once", "duration_s": 4})
    until(lambda: live.marked("once-began"), within_s=20, what="the step runs")
    kill(live.pid_of("ledger"))
    assert live.ended(session_id).result == "once"
    assert live.marked("once-began") == 1


@pytest.mark.long  # one at a time: test_supervisor_kills.py
def test_directory_and_gateway_killed_and_sends_go_on(shared: LiveRuntime) -> None:
    live = shared
    session_id = live.begin("echo")
    live.waiting(session_id)
    handle = live.client.sessions.open(session_id).input("messages")
    for kind in ("directory", "gateway"):
        kill(live.pid_of(kind))
        assert handle.send(f"after {kind}").outcome == "fulfilled"
        live.waiting(session_id)
    live.client.sessions.open(session_id).close(end_input=True)
    assert live.ended(session_id).result == 2


def test_stopped_host_is_replaced_and_its_late_write_is_refused(shared: LiveRuntime) -> None:
    live = shared
    session_id = live.begin("approve", {"name": "stopped"})
    wait = live.waiting(session_id)
    # The directory learns who holds it from the end of the adoption, a moment after the wait is on disk.
    host = until(lambda: live.holder(session_id), within_s=10, what="it is held")
    kill(host["pid"], signal.SIGSTOP)
    began = time.monotonic()
    assert live.client.waits.answer(wait.id, YES).outcome == "fulfilled"
    assert time.monotonic() - began < 5
    kill(host["pid"], signal.SIGCONT)
    assert live.ended(session_id).result == "approve"
    assert live.marked("stopped-after") == 1
    kinds = [entry.kind for entry in live.transcript(session_id)]
    assert kinds.count("wait.fulfilled") == 1


@pytest.mark.long  # another process is refused: tests/ledger/test_files.py
def test_second_runtime_on_the_same_data_is_refused_and_names_the_holder(
    shared: LiveRuntime,
) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "helmr.cli", "up", *shared._arguments],
        cwd=shared.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == RuntimeHeld.exit_code
    assert str(shared.credentials.pid) in second.stderr
    assert shared.client.health().ready
