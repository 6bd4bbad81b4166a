"""Processes are found, judged and ended by what the system says of them, never by a pid alone."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helmr import platform
from helmr.errors import Unavailable
from helmr_runtime.launchers import watchdog
from helmr_runtime.launchers.watchdog import ProcessRecord, Watchdog
from helmr_runtime.process import processes
from helmr_runtime.process.processes import MARKER, OsProcess, RuntimeMark

BOUND_S = 10.0
SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]

NOBODY = OsProcess(2**22 + 1, 1)
"""A pid above the highest that Linux gives."""

MARK = RuntimeMark("a1", Path("/nowhere"))

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts processes that wait, and ends what is left of them."""
    started: list[subprocess.Popen[bytes]] = []

    def go(marker: str = "", *, command: list[str] = SLEEPER) -> subprocess.Popen[bytes]:
        environment = {**os.environ, MARKER: marker}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield go
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)


def known(process: subprocess.Popen[bytes]) -> OsProcess:
    found = processes.process(process.pid)
    assert found is not None
    return found


def test_a_stopped_process_is_told_from_one_that_runs(start: Start) -> None:
    process = start()
    assert not processes.is_stopped(process.pid)
    process.send_signal(signal.SIGSTOP)
    until(lambda: processes.is_stopped(process.pid))
    assert processes.is_running(known(process))
    process.send_signal(signal.SIGCONT)
    until(lambda: not processes.is_stopped(process.pid))


PTRACE_ATTACH, PTRACE_DETACH = 16, 17


def test_a_process_that_is_looked_at_is_not_taken_for_a_stopped_one(start: Start) -> None:
    """A profiler holds it for a moment many times a second, a debugger for as long as somebody reads."""
    process, trace = start(), ctypes.CDLL(None).ptrace
    assert trace(PTRACE_ATTACH, process.pid, None, None) == 0
    os.waitpid(process.pid, 0)
    found = processes.look(process.pid)
    assert found is not None
    assert found[0] == "t"
    assert not processes.is_stopped(process.pid)
    assert trace(PTRACE_DETACH, process.pid, None, None) == 0


def test_a_zombie_does_not_run(start: Start) -> None:
    process = start()
    one = known(process)
    process.kill()
    until(lambda: not processes.is_running(one))
    assert processes.look(process.pid) is not None


def test_another_process_with_the_same_pid_is_not_killed(start: Start) -> None:
    process = start()
    one = known(process)
    processes.kill(OsProcess(one.pid, one.started + 1))
    assert processes.is_running(one)
    processes.kill(one)
    assert process.wait(BOUND_S) == -signal.SIGKILL


def test_what_carries_the_marker_is_ended_and_nothing_else(start: Start) -> None:
    mine = [start("a1"), start("a1")]
    other = start("a12")
    mine[0].send_signal(signal.SIGSTOP)
    assert {one.pid for one in processes.marked(MARK)} == {p.pid for p in mine}
    left = processes.end_all(MARK, spare=[mine[1].pid], within_s=BOUND_S)
    assert left == []
    assert mine[0].wait(BOUND_S) == -signal.SIGKILL
    assert mine[1].poll() is None
    assert other.poll() is None


def test_who_ends_a_runtime_spares_itself(start: Start) -> None:
    process = start("a1")
    me = processes.process(os.getpid())
    assert me is not None
    assert processes.end_all(MARK, [me, known(process)], within_s=BOUND_S) == []
    assert process.wait(BOUND_S) == -signal.SIGKILL


@pytest.mark.skipif(not platform.IS_LINUX, reason="the form on Ray is for Linux")
def test_an_agent_without_its_environment_is_known_by_its_files(
    tmp_path: Path, start: Start
) -> None:
    log = tmp_path / "agent.log"
    script = f"file = open({str(log)!r}, 'w'); import time; print(flush=True); time.sleep(600)"
    agent = start(command=["bash", "-c", 'exec -a ray::Agent "$0" -c "$1"', sys.executable, script])
    other = start(command=["bash", "-c", 'exec -a other "$0" -c "$1"', sys.executable, script])
    assert [one.pid for one in processes.marked(RuntimeMark("none", tmp_path))] == [agent.pid]
    assert other.poll() is None


def test_leftovers_are_ended_by_pid_and_start_time(tmp_path: Path, start: Start) -> None:
    run_dir = tmp_path / "helmr-run"
    run_dir.mkdir()
    recorded, reused, marked = start(), start(), start("m1")
    one = known(recorded)
    watchdog.write_record(
        tmp_path,
        ProcessRecord(
            mark=RuntimeMark("m1", run_dir),
            supervisor=OsProcess(known(reused).pid, 1),
            processes=(one,),
        ),
    )
    assert (tmp_path / watchdog.RECORD_NAME).stat().st_mode & 0o777 == 0o600
    watchdog.end_leftovers(tmp_path)
    assert recorded.wait(BOUND_S) == -signal.SIGKILL
    assert marked.wait(BOUND_S) == -signal.SIGKILL
    assert reused.poll() is None
    assert not run_dir.exists()
    assert watchdog.read_record(tmp_path) is None


def test_a_record_cannot_have_another_folder_removed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    watchdog.write_record(
        tmp_path, ProcessRecord(mark=RuntimeMark("m2", precious), supervisor=NOBODY)
    )
    watchdog.end_leftovers(tmp_path)
    assert precious.exists()


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"marker": "x"}'):
        (tmp_path / watchdog.RECORD_NAME).write_text(text)
        assert watchdog.read_record(tmp_path) is None
        assert watchdog.end_leftovers(tmp_path) == 0


def test_what_cannot_be_ended_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = OsProcess(4711, 1)
    monkeypatch.setattr(watchdog, "end_all", lambda *a, **k: [stuck])
    watchdog.write_record(
        tmp_path, ProcessRecord(mark=RuntimeMark("m3", tmp_path / "helmr-x"), supervisor=stuck)
    )
    with pytest.raises(Unavailable, match="4711"):
        watchdog.end_leftovers(tmp_path)


SUPERVISOR = """
import sys, time
from pathlib import Path
from helmr_runtime.process.processes import RuntimeMark
from helmr_runtime.launchers.watchdog import Watchdog
watchdog = Watchdog(Path(sys.argv[1]), RuntimeMark(sys.argv[2], Path(sys.argv[1]) / "helmr-run"))
watchdog.start()
print(watchdog.pid, flush=True)
time.sleep(600)
"""


def test_the_watchdog_ends_everything_when_its_supervisor_is_killed(
    tmp_path: Path, start: Start, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(project_root))
    run_dir = tmp_path / "helmr-run"
    run_dir.mkdir()
    watchdog.write_record(
        tmp_path, ProcessRecord(mark=RuntimeMark("m4", run_dir), supervisor=NOBODY)
    )
    worker, strangers = start("m4"), [start() for _ in range(8)]
    worker.send_signal(signal.SIGSTOP)
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path), "m4"], stdout=subprocess.PIPE
    )
    assert supervisor.stdout is not None
    watching = processes.process(int(supervisor.stdout.readline()))
    assert watching is not None
    watchdog.write_record(
        tmp_path,
        ProcessRecord(
            mark=RuntimeMark("m4", run_dir),
            supervisor=NOBODY,
            processes=(watching, *[known(one) for one in strangers]),
        ),
    )
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    for stranger in strangers:
        assert stranger.wait(BOUND_S) == -signal.SIGKILL
    assert worker.wait(BOUND_S) == -signal.SIGKILL
    until(lambda: not run_dir.exists())
    until(lambda: not processes.is_running(watching))


def test_a_dismissed_watchdog_ends(
    tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(project_root))
    watchdog = Watchdog(tmp_path, RuntimeMark("m5", tmp_path / "helmr-run"))
    watchdog.start()
    assert watchdog.is_alive
    watchdog.dismiss(timeout_s=BOUND_S)
    assert not watchdog.is_alive
