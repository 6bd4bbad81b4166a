"""Each process of a running runtime is killed, and every session goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helmr import Client
from helmr.client.sync import SessionHandle
from helmr.models import RunStatus
from helmr_runtime.launchers.embedded import RuntimeProcess
from tests.stack.live import TRANSPORT

pytestmark = [
    pytest.mark.transports,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(240),
]

BOUND_S = 60.0


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """One runtime for all tests here; each finds and leaves it whole."""
    folder = tmp_path_factory.mktemp("kills")
    with RuntimeProcess.start(
        data_dir=folder / "data",
        tasks=["work.py"],
        folder=Path(__file__).parent,
        hosts=2,
        transport=TRANSPORT,
        environment={"XDG_STATE_HOME": str(folder / "state")},
    ) as runtime:
        yield runtime


@pytest.fixture
def client(runtime: RuntimeProcess) -> Iterator[Client]:
    with Client(url=runtime.url, key=runtime.key) as client:
        until(lambda: is_whole(client))
        yield client


def is_whole(client: Client) -> bool:
    health = client.health()
    return health.ready and health.pool["hosts"]["total"] - health.pool["hosts"]["starting"] == 2


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + BOUND_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
    return found


def asked(client: Client) -> SessionHandle:
    """A session that waits."""
    return client.sessions.start("ask", "Go?", result_timeout="30s")


def answer(client: Client, session: SessionHandle) -> None:
    wait = session.get().wait
    assert wait is not None
    client.waits.answer(wait.id, True)


def assert_succeeds(session: SessionHandle, result: str = "yes") -> None:
    """It ends well, with its wait resolved once and its step run once."""
    (run,) = until(lambda: [run for run in session.runs() if run.status.is_final])
    assert run.status is RunStatus.SUCCEEDED
    kinds = [entry.kind for entry in session.transcript()]
    assert kinds.count("wait.fulfilled") == 1
    assert kinds.count("step.succeeded") == 1


def holder_pid(client: Client, session: SessionHandle) -> int:
    """Of the host that holds the session."""
    hosts = client.health().pool["host_list"]
    return int(next(one["pid"] for one in hosts if session.id in one["session_ids"]))


SHARED = ["helmr-ledger", "helmr-directory", "helmr-gateway"]
ONE_FIRST = [SHARED[0], *(pytest.param(name, marks=pytest.mark.long) for name in SHARED[1:])]


@pytest.mark.parametrize(
    "name", ONE_FIRST
)  # each at a point of its own: tests/stack/test_faults.py
def test_a_shared_actor_is_killed(runtime: RuntimeProcess, client: Client, name: str) -> None:
    session = asked(client)
    os.kill(runtime.pids()[name], signal.SIGKILL)
    answer(client, session)
    assert_succeeds(session)
    until(lambda: f"the {name.removeprefix('helmr-')} died and is back" in runtime.output())


@pytest.mark.parametrize("name", ONE_FIRST)
def test_a_shared_actor_is_back_before_anybody_asks_for_it(
    runtime: RuntimeProcess, client: Client, name: str
) -> None:
    """Whoever started it, and would ask, is stopped."""
    session, supervisor = asked(client), runtime.pids()["supervisor"]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(runtime.pids()[name], signal.SIGKILL)
        answer(client, session)
        assert_succeeds(session)
    finally:
        os.kill(supervisor, signal.SIGCONT)


@pytest.mark.parametrize("name", ONE_FIRST)
def test_a_shared_actor_that_is_stopped_is_replaced(
    runtime: RuntimeProcess, client: Client, name: str
) -> None:
    session = asked(client)
    stopped = runtime.pids()[name]
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: runtime.pids().get(name) not in (None, stopped))
    answer(client, session)
    assert_succeeds(session)


@pytest.mark.long  # `helmr demo` kills it too: tests/demo/test_demo.py
def test_the_host_of_a_waiting_session_is_killed(client: Client) -> None:
    session = asked(client)
    os.kill(holder_pid(client, session), signal.SIGKILL)
    answer(client, session)
    assert_succeeds(session)
    assert "run.actor_died" not in [entry.kind for entry in session.transcript()]


@pytest.mark.parametrize(("task", "counts"), [("toils", [1]), ("sleepy", [])])
def test_the_host_of_a_running_step_is_killed(client: Client, task: str, counts: list[int]) -> None:
    """It counts for code that executes, and not for what awaits a reply."""
    session = client.sessions.start(task, 1.0)
    pid = until(lambda: executing_pid(client, session))
    os.kill(pid, signal.SIGKILL)
    until(lambda: session.get().wait)
    answer(client, session)
    assert_succeeds(session)
    died = [entry for entry in session.transcript() if entry.kind == "run.actor_died"]
    assert [entry.body["count"] for entry in died] == counts


def executing_pid(client: Client, session: SessionHandle) -> int | None:
    kinds = [entry.kind for entry in session.transcript()]
    return holder_pid(client, session) if "step.started" in kinds else None


@pytest.mark.long  # tests/stack/test_survival.py stops one too
def test_a_stopped_host_is_replaced_within_five_seconds(client: Client) -> None:
    session = asked(client)
    os.kill(holder_pid(client, session), signal.SIGSTOP)
    began = time.monotonic()
    answer(client, session)
    assert time.monotonic() - began < 5.0
    assert_succeeds(session)


@pytest.mark.long  # tests/stack/test_hostile_code.py has such a task too
def test_a_task_that_ends_its_process_is_blocked_at_the_third_crash(client: Client) -> None:
    session = client.sessions.start("vanish", None)
    (run,) = until(lambda: [r for r in session.runs() if r.status is RunStatus.BLOCKED])
    assert run.error is not None
    assert run.error.code == "actor_died"
    died = [entry for entry in session.transcript() if entry.kind == "run.actor_died"]
    assert [entry.body["count"] for entry in died] == [1, 2, 3]


def test_beside_busy_sessions_answers_and_notes_go_through(client: Client) -> None:
    session = asked(client)
    busy = [client.sessions.start("sleepy", 20.0) for _ in range(2)]

    def has_begun() -> bool:
        return all("step.started" in [e.kind for e in one.transcript()] for one in busy)

    until(has_begun)
    began = time.monotonic()
    answer(client, session)
    assert time.monotonic() - began < 1.0
    for one in busy:
        one.cancel()
    assert_succeeds(session)


def test_the_watchdog_is_replaced(runtime: RuntimeProcess, client: Client) -> None:
    def watchdog() -> int | None:
        for process in runtime.processes():
            command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            if b"helmr_runtime.launchers.watchdog" in command:
                return process.pid
        return None

    first = until(watchdog)
    os.kill(first, signal.SIGKILL)
    until(lambda: watchdog() not in (None, first))
