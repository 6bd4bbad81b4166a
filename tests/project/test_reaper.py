"""A run of tests that is broken off, or killed, leaves nothing running and none of its folders."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import reaper
from tests.longer import long_but
from tests.ordinary.stand_in import postgres_programs
from tests.stack.live import command, descendants, is_alive, until

STARTS = '''
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.reaper import folder

PIDS = Path(__file__).parent.parent / "pids"
SAYS = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(str(os.getpid()));"
WAITS = "import time; time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
PARENT = "import subprocess; subprocess.run(sys.argv[2:], env={})"


def python(does, name, *words):
    return [sys.executable, "-S", "-c", does, str(PIDS / name), *words]


@pytest.fixture(scope="session")
def started():
    """What a runtime and a database are: daemons, what ignores signals, what has no environment of ours."""
    (PIDS / "left-behind").write_text(str(folder("left-behind-", within=str(PIDS.parent))))
    begins = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
    daemon = [sys.executable, "-S", "-c", begins]
    subprocess.run([*daemon, *python(SAYS + WAITS, "daemon")], check=True)
    subprocess.Popen(python(STUBBORN + SAYS + WAITS, "stubborn"), start_new_session=True)
    child = python(SAYS + WAITS, "bare")
    subprocess.Popen(python(SAYS + PARENT, "parent", *child))
    yield


def test_hangs(started):
    (PIDS / "worker").write_text(str(os.getpid()))
    time.sleep(600)
'''
STARTED = ("daemon", "stubborn", "bare", "parent", "worker")


@pytest.fixture
def checkout(tmp_path: Path, project_root: Path) -> Path:
    """A project of one test, which starts processes and hangs."""
    tests = tmp_path / "tests"
    tests.mkdir()
    source = (project_root / "tests" / "reaper.py").read_text()
    sooner = source.replace("ENDS_WITHIN_S = 20.0", "ENDS_WITHIN_S = 1.0")
    assert sooner != source
    (tests / "reaper.py").write_text(sooner)
    (tests / "__init__.py").touch()
    (tests / "conftest.py").write_text("from tests.reaper import watched\n\nwatched()\n")
    (tests / "test_one.py").write_text(textwrap.dedent(STARTS))
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    (tmp_path / "pids").mkdir()
    return tmp_path


@contextmanager
def running(checkout: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    environ = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    with (checkout / "said").open("wb") as said:
        one = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "xdist", *words],
            cwd=checkout,
            env=environ,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            yield one
        finally:
            one.kill()
            one.wait()


def pids(checkout: Path) -> dict[str, int]:
    """What has started, by name; none before all has."""
    found = {name: checkout / "pids" / name for name in STARTED}
    texts = {name: path.read_text() for name, path in found.items() if path.exists()}
    return {name: int(text) for name, text in texts.items() if text}


@long_but(
    2,
    ("workers", "whose", "number"),
    [
        ((), "run", signal.SIGKILL),
        (("-n", "1"), "all", signal.SIGINT),
        (("-n", "1"), "run", signal.SIGTERM),
        (("-n", "1"), "worker", signal.SIGKILL),
    ],
    ids=["killed", "Ctrl-C", "terminated", "worker killed"],
)
@pytest.mark.timeout(180)
def test_what_a_run_started_ends_with_it(
    checkout: Path, workers: tuple[str, ...], whose: str, number: int
) -> None:
    with running(checkout, *workers) as run:
        said = checkout / "said"
        until(
            lambda: set(pids(checkout)) == set(STARTED),
            within_s=90,
            what="all is there",
            seen=said.read_text,
        )
        started = pids(checkout)
        left = Path((checkout / "pids" / "left-behind").read_text())
        assert left.is_dir()
        assert all(map(is_alive, started.values()))
        ends = {"run": run.pid, "all": -run.pid, "worker": started["worker"]}
        os.kill(ends[whose], number)
        until(
            lambda: not any(map(is_alive, started.values())),
            within_s=90,
            what="nothing is left",
            seen=lambda: {name: pid for name, pid in started.items() if is_alive(pid)},
        )
        until(lambda: not left.exists(), within_s=30, what="its folder is gone")


def test_what_another_run_started_is_left_alone(checkout: Path) -> None:
    environ = {**os.environ, reaper.VARIABLE: "1234"}
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], env=environ, stdin=-1) as other:
        reaper.end("123")
        assert other.poll() is None
        other.terminate()


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_runtimes_and_databases_of_a_run_that_is_broken_off_end_with_it(
    tmp_path: Path, project_root: Path, number: int
) -> None:
    words = ["-m", "pytest", "-n", "1", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'run'}"]
    word = secrets.token_hex(8)
    with (tmp_path / "said").open("wb") as said:
        run = subprocess.Popen(
            [sys.executable, *words, "tests/ordinary/test_habits.py", "-m", "long"],
            cwd=project_root,
            env={**os.environ, reaper.VARIABLE: f"{os.environ[reaper.VARIABLE]} {word}"},
            stdout=said,
            stderr=said,
        )
    try:
        ready = tmp_path / "run"
        until(
            lambda: any(ready.rglob("credentials.json")), within_s=120, what="the runtime is there"
        )
        started = {*descendants(run.pid), *(one.pid for one in reaper.started_under(word))}
        assert any("postgres" in command(pid) for pid in started) or not postgres_programs()
        assert any("raylet" in command(pid) for pid in started)
        run.send_signal(number)
        until(
            lambda: not any(map(is_alive, started)),
            within_s=90,
            what="nothing is left",
            seen=lambda: [pid for pid in started if is_alive(pid)],
        )
    finally:
        run.kill()
        run.wait()
