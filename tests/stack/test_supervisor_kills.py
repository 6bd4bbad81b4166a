"""Each process of a running runtime is killed, and every session goes on."""

from __future__ import annotations

import signal
import time
from functools import partial

import pytest

from helmr import Client
from helmr.client.sync import SessionHandle
from helmr.models import RunStatus
from tests.longer import long_but
from tests.stack.live import LiveRuntime, command, kill, until

pytestmark = [
    pytest.mark.transports,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.allows_blocking,
]

BOUND_S = 60.0
HOSTS = 2


@pytest.fixture
def live(shared: LiveRuntime) -> LiveRuntime:
    """The shared runtime, once it is whole; each test leaves it to heal."""
    until(partial(is_whole, shared), within_s=BOUND_S, what="it is whole")
    return shared


@pytest.fixture
def client(live: LiveRuntime) -> Client:
    return live.client


def is_whole(live: LiveRuntime) -> bool:
    health = live.client.health()
    hosts = health.pool["hosts"]
    return health.ready and hosts["total"] - hosts["starting"] == HOSTS


def asked(client: Client) -> SessionHandle:
    """A session that waits."""
    return client.sessions.start("ask", "Go?", result_timeout="30s")


def answer(client: Client, session: SessionHandle) -> None:
    wait = session.get().wait
    assert wait is not None
    client.waits.answer(wait.id, True)


def assert_succeeds(session: SessionHandle, result: str = "yes") -> None:
    """It ends well, with its wait resolved once and its step run once."""
    (run,) = until(
        lambda: [run for run in session.runs() if run.status.is_final],
        within_s=BOUND_S,
        what="it has ended",
    )
    assert run.status is RunStatus.SUCCEEDED
    kinds = [entry.kind for entry in session.transcript()]
    assert kinds.count("wait.fulfilled") == 1
    assert kinds.count("step.succeeded") == 1


def holder_pid(client: Client, session: SessionHandle) -> int:
    """Of the host that holds the session."""
    hosts = client.health().pool["host_list"]
    return int(next(one["pid"] for one in hosts if session.id in one["session_ids"]))


SHARED = ["ledger", "directory", "gateway"]
ONE_FIRST = [SHARED[0], *(pytest.param(name, marks=pytest.mark.long) for name in SHARED[1:])]


@pytest.mark.parametrize(
    "name", ONE_FIRST
)  # each at a point of its own: tests/stack/test_faults.py
def test_a_shared_actor_is_killed(live: LiveRuntime, client: Client, name: str) -> None:
    session, log = asked(client), live.folder / "up.log"
    said_before = len(log.read_text())
    kill(live.pid_of(name))
    answer(client, session)
    assert_succeeds(session)
    said = f"the {name} died and is back"
    until(
        lambda: said in log.read_text()[said_before:],
        within_s=BOUND_S,
        what=f"it says that {said}",
    )


@pytest.mark.long  # tests/process/test_keeper.py
@pytest.mark.parametrize("name", ONE_FIRST)
def test_a_shared_actor_is_back_before_anybody_asks_for_it(
    live: LiveRuntime, client: Client, name: str
) -> None:
    """The supervisor, which would ask, is stopped."""
    session, supervisor = asked(client), live.pids()[0]
    kill(supervisor, signal.SIGSTOP)
    try:
        kill(live.pid_of(name))
        answer(client, session)
        assert_succeeds(session)
    finally:
        kill(supervisor, signal.SIGCONT)


@pytest.mark.long  # a host that is stopped: test_survival.py; the keeper: tests/process/test_keeper.py
@pytest.mark.parametrize("name", ONE_FIRST)
def test_a_shared_actor_that_is_stopped_is_replaced(
    live: LiveRuntime, client: Client, name: str
) -> None:
    session = asked(client)
    stopped = live.pid_of(name)
    kill(stopped, signal.SIGSTOP)
    until(lambda: {*live.pids_of(name)} - {stopped}, within_s=BOUND_S, what="another one is there")
    answer(client, session)
    assert_succeeds(session)


@pytest.mark.long  # `helmr demo` kills it too: tests/demo/test_demo.py
def test_the_host_of_a_waiting_session_is_killed(client: Client) -> None:
    session = asked(client)
    kill(holder_pid(client, session))
    answer(client, session)
    assert_succeeds(session)
    assert "run.actor_died" not in [entry.kind for entry in session.transcript()]


@long_but(1, ("task", "counts"), [("toils", [1]), ("sleepy", [])])
def test_the_host_of_a_running_step_is_killed(client: Client, task: str, counts: list[int]) -> None:
    """It counts for code that executes, and not for what awaits a reply."""
    session = client.sessions.start(task, 1.0)
    pid = until(lambda: executing_pid(client, session), within_s=BOUND_S, what="it executes")
    kill(pid)
    until(lambda: session.get().wait, within_s=BOUND_S, what="it waits")
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
    kill(holder_pid(client, session), signal.SIGSTOP)
    began = time.monotonic()
    answer(client, session)
    assert time.monotonic() - began < 5.0
    assert_succeeds(session)


@pytest.mark.long  # tests/stack/test_hostile_code.py has such a task too
def test_a_task_that_ends_its_process_is_blocked_at_the_third_crash(client: Client) -> None:
    session = client.sessions.start("vanish", None)
    (run,) = until(
        lambda: [r for r in session.runs() if r.status is RunStatus.BLOCKED],
        within_s=BOUND_S,
        what="it is blocked",
    )
    assert run.error is not None
    assert run.error.code == "actor_died"
    died = [entry for entry in session.transcript() if entry.kind == "run.actor_died"]
    assert [entry.body["count"] for entry in died] == [1, 2, 3]


def test_beside_busy_sessions_answers_and_notes_go_through(client: Client) -> None:
    session = asked(client)
    busy = [client.sessions.start("sleepy", 20.0) for _ in range(2)]

    def has_begun() -> bool:
        return all("step.started" in [e.kind for e in one.transcript()] for one in busy)

    until(has_begun, within_s=BOUND_S, what="both are busy")
    began = time.monotonic()
    answer(client, session)
    assert time.monotonic() - began < 1.0
    for one in busy:
        one.cancel()
    assert_succeeds(session)


def test_the_watchdog_is_replaced(live: LiveRuntime) -> None:
    def watchdogs() -> set[int]:
        running = live.pids()
        return {pid for pid in running if "helmr_runtime.launchers.watchdog" in command(pid)}

    (first,) = until(watchdogs, within_s=BOUND_S, what="it has one")
    kill(first)
    until(lambda: watchdogs() - {first}, within_s=BOUND_S, what="it has another one")
