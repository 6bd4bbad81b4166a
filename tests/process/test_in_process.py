"""`helmr up --in-process` and `helmr dev`: started, killed, interrupted, reloaded, and opened by either way."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helmr import Client, embedded
from helmr.cli.logs import Logs
from helmr.client import Retry
from helmr.errors import Conflict, Overloaded, RuntimeNotFound
from helmr_runtime.launchers.foreground import RUN
from helmr_runtime.launchers.in_process import LEFTOVERS_MAX
from helmr_runtime.process.gateway import GatewayActor
from tests.stack.live import LiveRuntime, is_alive, kill, until

pytestmark = pytest.mark.allows_blocking

TASKS = Path(__file__).with_name("alone_tasks.py")
WAITS_S = 15.0


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveRuntime]:
    """A runtime in one process, not started; a test may start it again and again."""
    one = LiveRuntime(tmp_path, tasks=TASKS, in_process=True)
    yield one
    one.stop()


def asking(live: LiveRuntime, about: str = "?") -> str:
    """A session that waits for its answer."""
    session_id = live.begin("ask", {"about": about})
    live.waiting(session_id, within_s=WAITS_S)
    return session_id


def answered(live: LiveRuntime, session_id: str) -> Any:
    """The run of a session that gets its answer."""
    live.client.sessions.open(session_id).input("yes").send(True)
    return live.ended(session_id, within_s=WAITS_S)


def ended(live: LiveRuntime) -> None:
    """Return when the process has died of itself."""
    assert live._process is not None
    live._process.wait(WAITS_S)
    live._process = None
    live._forget_client()


def marks(live: LiveRuntime, name: str) -> int:
    """How often task code did this."""
    path = live.folder / name
    return len(path.read_text()) if path.exists() else 0


def output(live: LiveRuntime) -> str:
    """What is on the terminal."""
    return (live.folder / "up.log").read_text()


@pytest.fixture
def cold(tmp_path: Path) -> Iterator[LiveRuntime]:
    """One that Python starts, as a user's shell does."""
    one = LiveRuntime(tmp_path, tasks=TASKS, in_process=True, is_cold=True)
    yield one.start()
    one.stop()


def test_a_session_is_answered_where_no_ray_is_loaded(cold: LiveRuntime) -> None:
    live = cold
    assert len(live.pids()) == 1
    session_id = asking(live)
    run = answered(live, session_id)
    assert run.result == {"answer": True, "ray": False}
    [payload] = [e.body["payload"] for e in live.transcript(session_id) if "payload" in e.body]
    assert payload == {"about": "?"}, "what code does to its payload is its own"


def test_what_tasks_say_has_their_session_in_front(live: LiveRuntime) -> None:
    live.start()
    session_id = asking(live, "me")
    lines = output(live).splitlines()
    assert f"{session_id} | it asks" in lines
    assert f"{session_id} INFO helmr.task.ask: asks me" in lines
    log = (live.data_dir / "logs" / "in-process.log").read_text()
    assert f"{session_id} | it asks\n" in log
    assert f" INFO {session_id} helmr.task.ask: asks me\n" in log


@pytest.mark.parametrize("way", ["Ctrl-C", pytest.param("helmr down", marks=pytest.mark.long)])
def test_a_signal_parks_and_ends_it(live: LiveRuntime, way: str) -> None:
    live.start()
    session_id = asking(live)
    process = live._process
    assert process is not None
    if way == "Ctrl-C":
        process.send_signal(signal.SIGINT)
    else:
        command = [sys.executable, "-m", "helmr.cli", "down", f"--data-dir={live.data_dir}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert process.wait(10) == 0
    assert "stopping: waiting sessions are parked" in output(live)
    with pytest.raises(RuntimeNotFound):
        Client(data_dir=live.data_dir)
    live.start()
    kinds = [entry.kind for entry in live.transcript(session_id)]
    assert kinds[-1] == "wait.opened"
    assert "run.actor_died" not in kinds
    assert answered(live, session_id).result["answer"] is True
    assert marks(live, "looked") == 1


@pytest.mark.long  # the first one: test_a_signal_parks_and_ends_it
def test_a_second_signal_ends_it_at_once(live: LiveRuntime) -> None:
    live.start()
    live.begin("long_step", "held")
    until(lambda: marks(live, "held"), within_s=WAITS_S, what="the step runs")
    process = live._process
    assert process is not None
    process.send_signal(signal.SIGINT)
    until(lambda: "stopping" in output(live), within_s=WAITS_S, what="it stops")
    began_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 0
    assert time.monotonic() - began_s < 4, "it did not wait for the step"


def test_after_a_kill_everything_goes_on(live: LiveRuntime) -> None:
    live.start()
    waiting = asking(live)
    running = live.begin("long_step", "held")
    until(lambda: marks(live, "held"), within_s=WAITS_S, what="the step runs")
    live.kill_all()
    live.start()
    assert [one.session_id for one in live.client.waits.list()] == [waiting]
    until(lambda: marks(live, "held") == 2, within_s=WAITS_S, what="the step runs again")
    (live.folder / "held-go").touch()
    assert live.ended(running, within_s=WAITS_S).result == "held"
    assert answered(live, waiting).result["answer"] is True
    died = [e for e in live.transcript(running) if e.kind == "run.actor_died"]
    assert len(died) == 1, "its code executed alone: the crash counts for it"
    assert not any(e.kind == "run.actor_died" for e in live.transcript(waiting))


@pytest.mark.long  # with a process for each host: tests/stack/test_hostile_code.py
def test_code_that_ends_the_process_is_blocked_at_its_third_crash(live: LiveRuntime) -> None:
    live.start()
    session_id = live.begin("deadly")
    for count in range(1, 4):
        with (live.folder / "ended-go").open("a") as file:
            file.write("x")
        ended(live)
        live.start()
        if count < 3:
            until(lambda: marks(live, "ended") > count, within_s=WAITS_S, what="again")  # noqa: B023
    run = live.ended(session_id, within_s=WAITS_S)
    assert (run.status, marks(live, "ended")) == ("blocked", 3)


@pytest.mark.long  # tests/directory/test_suspects.py
def test_several_suspects_run_one_after_the_other(live: LiveRuntime) -> None:
    live.start()
    names = ["first", "second", "third"]
    sessions = [live.begin("long_step", name) for name in names]
    for name in names:
        until(lambda name=name: marks(live, name), within_s=WAITS_S, what=f"{name} runs")  # type: ignore[misc]
    live.kill_all()
    live.start()

    def again() -> list[str]:
        return [name for name in names if marks(live, name) == 2]

    for count in range(1, 4):
        running = until(
            lambda count=count: again() if len(again()) >= count else None,  # type: ignore[misc]
            within_s=WAITS_S,
            what=f"{count} have run again",
        )
        assert len(running) == count
        assert any("one run at a time" in one for one in live.client.health().warnings)
        for name in running:
            (live.folder / f"{name}-go").touch()
    for session_id in sessions:
        assert live.ended(session_id, within_s=WAITS_S).status == "succeeded"
        assert not any(e.kind == "run.actor_died" for e in live.transcript(session_id))
    until(lambda: not live.client.health().warnings, within_s=WAITS_S, what="all is as before")


@pytest.mark.long
def test_a_forked_child_holds_neither_data_directory_nor_port(live: LiveRuntime) -> None:
    live.start()
    session_id = live.begin("forks")
    child = live.ended(session_id, within_s=WAITS_S).result
    try:
        assert live._process is not None
        live._process.kill()
        ended(live)
        live.start()
        assert is_alive(child)
        asking(live)
    finally:
        kill(child)


@pytest.mark.long  # tests/stack/test_hostile_code.py
def test_code_that_does_not_end_is_shown_and_the_others_go_on(live: LiveRuntime) -> None:
    live.start()
    session_id = live.begin("spins")
    until(lambda: marks(live, "spins"), within_s=WAITS_S, what="it spins")
    live.client.sessions.open(session_id).cancel()
    until(
        lambda: any("cut off" in one for one in live.client.health().warnings),
        within_s=20,
        what="health says so",
    )
    assert answered(live, asking(live)).result["answer"] is True
    (live.folder / "spins-go").touch()
    until(lambda: not live.client.health().warnings, within_s=WAITS_S, what="it has ended")


@pytest.mark.long
def test_no_new_run_starts_while_too_much_of_cut_off_code_executes(live: LiveRuntime) -> None:
    live.start()
    sessions = [live.begin("spins") for _ in range(LEFTOVERS_MAX)]
    until(lambda: marks(live, "spins") == LEFTOVERS_MAX, within_s=WAITS_S, what="all spin")
    waiting = asking(live)
    for session_id in sessions:
        live.client.sessions.open(session_id).cancel()
    shown = f"{LEFTOVERS_MAX} parts of code"
    until(
        lambda: any(one.startswith(shown) for one in live.client.health().warnings),
        within_s=30,
        what="all are counted",
    )
    found = live.credentials
    with (
        Client(url=found.url, key=found.key, retry=Retry(tries_max=1)) as client,
        pytest.raises(Overloaded),
    ):
        client.sessions.start("ask", {"about": "?"})
    receipt = live.client.sessions.open(waiting).input("yes").send(True)
    assert receipt.outcome == "fulfilled", "commands are decided"
    (live.folder / "spins-go").touch()
    assert live.ended(waiting, within_s=WAITS_S).result["answer"] is True
    asking(live)


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_data_directory_is_opened_by_either_way_in_turn(tmp_path: Path) -> None:
    sessions: list[str] = []
    for in_process in (True, False, True):
        live = LiveRuntime(tmp_path, tasks=TASKS, in_process=in_process)
        live.start()
        try:
            if sessions:
                assert answered(live, sessions[-1]).result["answer"] is True
            sessions.append(asking(live))
        finally:
            live.stop()
    logs = (tmp_path / ".helmr" / "logs").glob("helmr-host-*.log")
    said = "".join(path.read_text() for path in logs)
    assert f"{sessions[1]} | it asks\n" in said
    assert f" INFO {sessions[1]} helmr.task.ask: asks ?\n" in said


# --- helmr dev ------------------------------------------------------------------------------------


@pytest.fixture
def develop(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts `helmr dev` over a task file with that text."""
    started: list[subprocess.Popen[bytes]] = []

    def start(text: str) -> subprocess.Popen[bytes]:
        (tmp_path / "my_tasks.py").write_text(text)
        with (tmp_path / "dev.log").open("wb") as log:
            one = subprocess.Popen(
                [sys.executable, "-m", "helmr.cli", "dev", "my_tasks.py", "--port=0"],
                cwd=tmp_path,
                env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
                stdout=log,
                stderr=log,
            )
        started.append(one)
        return one

    yield start
    for one in started:
        one.terminate()
        one.wait(15)


SAYS = """
from helmr import task

@task
async def say(payload: None) -> str:
    return {!r}
"""


def test_a_changed_task_file_starts_it_again(
    tmp_path: Path, develop: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    path, log = tmp_path / "my_tasks.py", tmp_path / "dev.log"
    process = develop(SAYS.format("one"))

    def said() -> str | None:
        try:
            with Client(data_dir=tmp_path / ".helmr") as client:
                started = client.sessions.start_and_wait("say", None, timeout="5s")
                result: str = client.runs.get(started.started_run.id).result
                return result
        except Exception:
            return None

    until(lambda: said() == "one", within_s=WAITS_S, what="it runs")
    url = log.read_text().partition("ready on ")[2].split()[0]
    path.write_text("def (")
    until(lambda: "my_tasks.py: " in log.read_text(), within_s=WAITS_S, what="the error is told")
    assert said() == "one"
    path.write_text(SAYS.format("two"))
    until(lambda: said() == "two", within_s=WAITS_S, what="the new code runs")
    assert log.read_text().count(f"ready on {url} ") == 2
    path.write_text("import nothing_of_that_name\n")
    until(lambda: "waiting for it" in log.read_text(), within_s=WAITS_S, what="it waits")
    path.write_text(SAYS.format("three"))
    until(lambda: said() == "three", within_s=WAITS_S, what="it is mended")
    assert process.poll() is None
    assert "`helmr console` in another terminal" in log.read_text()


FAILS = """
from helmr import step, task

@step
async def look(what: str) -> str:
    raise ValueError(f"there is no {what}")

@task
async def fails(payload: str) -> str:
    return await look(payload)
"""


@pytest.mark.long  # tests/process/test_session_output.py
def test_what_fails_is_told_on_the_terminal_with_its_place_in_the_code(
    tmp_path: Path, develop: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    log = tmp_path / "dev.log"
    develop(FAILS)
    until(lambda: "ready on " in log.read_text(), within_s=WAITS_S, what="it is up")
    with Client(data_dir=tmp_path / ".helmr") as client:
        started = client.sessions.start_and_wait("fails", "file", timeout="10s")
    run_id = started.started_run.id
    until(lambda: f"{run_id} failed" in log.read_text(), within_s=WAITS_S, what="it is told")
    step_failed = f"{run_id}: step look (op 1) failed: ValueError: there is no file\n"
    told = log.read_text()
    assert f"{started.id} WARNING helmr.failures: {step_failed}" in told
    assert f"{started.id} ERROR helmr.failures: {run_id} failed: StepFailed: step look" in told
    line = 1 + FAILS.splitlines().index("    return await look(payload)")
    assert f'my_tasks.py", line {line}, in fails\n' in told
    with closing(Logs(tmp_path / ".helmr")) as logs:
        kept = [one.text for one in logs.read(started.id)]
    assert any(text.endswith(step_failed.rstrip()) for text in kept)


# --- embedded -------------------------------------------------------------------------------------

SCRIPT = """
import sys
from helmr import embedded
runtime = embedded.start("forgetful_tasks.py", data_dir="data", in_process=True)
client = runtime.client()
started = client.sessions.start_and_wait("ask", {"about": "?"}, timeout="10s")
print(started.id, "ray" in sys.modules)
client.close()
"""


@pytest.mark.long  # tests/stack/test_embedded.py
def test_a_script_that_forgets_it_leaves_everything_parked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "forgetful_tasks.py").write_text(TASKS.read_text())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )
    assert done.returncode == 0, done.stderr
    [session_id, has_ray] = done.stdout.splitlines()[-1].split()
    assert has_ray == "False"
    with (
        embedded.start("forgetful_tasks.py", data_dir="data", in_process=True) as runtime,
        runtime.client() as client,
    ):
        session = client.sessions.open(session_id)
        assert [entry.kind for entry in session.transcript()][-1] == "wait.opened"
        session.input("yes").send(True)
        run = next(iter(session.runs()))
        assert client.runs.wait(run.id, timeout="10s").result["answer"] is True


def test_one_that_can_not_start_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    tasks = "tests.process.alone_tasks"
    start = partial(embedded.start, tasks, data_dir=tmp_path / "data", in_process=True)
    with monkeypatch.context() as patch:
        patch.setattr(GatewayActor, "start", _refuse)
        with pytest.raises(Conflict, match="taken"):
            start()
    with start():
        with pytest.raises(Conflict, match="in use by the runtime with pid"):
            start()
        assert start(join=True).is_joined
    assert not any(thread.name == "helmr" for thread in threading.enumerate())


def test_one_without_a_loop_or_a_folder_fails_and_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    data_dir = tmp_path / "data"
    start = partial(embedded.start, "tests.process.alone_tasks", data_dir=data_dir, in_process=True)
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.events, "new_event_loop", _no_descriptors)
        with pytest.raises(OSError, match="Too many open files"):
            start()
    statuses = data_dir / RUN / "statuses"
    shutil.rmtree(statuses, ignore_errors=True)
    statuses.parent.mkdir(exist_ok=True)
    statuses.touch()
    with pytest.raises(NotADirectoryError, match="statuses"):
        start()
    statuses.unlink()
    with start() as runtime, runtime.client() as client:
        assert client.health().ready
    assert not any(thread.name == "helmr" for thread in threading.enumerate())


def _no_descriptors() -> asyncio.AbstractEventLoop:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def _refuse(*_: object) -> int:
    raise Conflict("the port is taken")
