"""A start waits as long as a ledger of an earlier edition is carried over, says how far that is, and can be ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb
import httpx
import pytest

from helmr.errors import Unavailable
from helmr.models import Credentials
from helmr_runtime.launchers import embedded
from helmr_runtime.ledger.tables.schema import SCHEMA
from tests.fixtures.earlier import Earlier
from tests.fixtures.editions import OF_0_1_0
from tests.stack.live import LiveRuntime, until

pytestmark = [pytest.mark.allows_blocking, pytest.mark.timeout(300)]

EARLIER = Earlier("ledger_0_1_0")
SLOW = Path(__file__).with_name("slow_carry")
PROGRESS = "a ledger of an earlier edition is carried over: "

IN_PROCESS = pytest.param(True, id="in-process")
IN_RAY = pytest.param(False, id="ray", marks=[pytest.mark.ray, pytest.mark.long])

Make = Callable[[bool], LiveRuntime]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A runtime over a ledger of 0.1.0, of which carrying it over takes longer than a start may; not started."""
    made: list[LiveRuntime] = []

    def make(in_process: bool) -> LiveRuntime:
        environ = {
            "PYTHONPATH": os.pathsep.join([str(SLOW), *filter(None, sys.path)]),
            "HELMR_TEST_CARRY_PAUSE": "0.5" if in_process else "1.0",
            "HELMR_TEST_START_WITHIN": "4" if in_process else "16",
        }
        live = LiveRuntime(
            tmp_path, tasks=EARLIER.tasks, in_process=in_process, port=free_port(), environ=environ
        )
        EARLIER.unpack(live.data_dir)
        made.append(live)
        return live

    yield make
    for live in made:
        live.stop()


def said(live: LiveRuntime) -> str:
    """What is on the terminal."""
    return (live.folder / "up.log").read_text()


def progress(live: LiveRuntime) -> list[int]:
    """The numbers of entries that it has said are done."""
    lines = [line for line in said(live).splitlines() if PROGRESS in line]
    return [int(line.partition(PROGRESS)[2].split()[0].replace(",", "")) for line in lines]


def helmr(live: LiveRuntime, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command beside it, on the same data directory."""
    return subprocess.run(
        [sys.executable, "-m", "helmr.cli", *arguments, f"--data-dir={live.data_dir}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=live.folder,
        env={**os.environ, "XDG_STATE_HOME": str(live.folder / "state")},
    )


def schema(live: LiveRuntime) -> int:
    """That of its ledger."""
    with duckdb.connect(str(live.data_dir / "ledger.duckdb"), read_only=True) as connection:
        [(number,)] = connection.execute("SELECT number FROM meta WHERE name = 'schema'").fetchall()
    return int(number)


@pytest.mark.long  # callers are told how far it is: tests/ledger/test_carry_over.py
@pytest.mark.parametrize("in_process", [IN_PROCESS, IN_RAY])
def test_it_opens_however_long_that_takes(make: Make, in_process: bool) -> None:
    live = make(in_process)
    process = live.launch()
    until(lambda: len(progress(live)) > 1, within_s=90, what="progress", seen=lambda: said(live))
    with ThreadPoolExecutor() as beside:
        asked = beside.submit(helmr, live, "up", live.tasks.name, "--port=0", "--in-process")
        status = helmr(live, "status")
        second = asked.result()
    assert second.returncode == 5, second.stderr
    assert f"in use by the runtime with pid {process.pid}" in second.stderr
    assert status.returncode != 0, status.stdout
    assert "is starting or stopping" in status.stdout + status.stderr
    if not in_process:
        port = next(one for one in live._arguments if one.startswith("--port=")).partition("=")[2]
        answer = until(lambda: ready(port), within_s=30, what="the gateway")
        assert answer.status_code == 503
        [reason] = [one for one in answer.json()["reasons"] if one.startswith("ledger: ")]
        assert PROGRESS in reason
        assert "of 311 entries are done, about " in reason
    assert schema(live) == OF_0_1_0
    until(live._is_ready, within_s=120, what="ready", seen=lambda: said(live))
    assert progress(live) == sorted(progress(live))
    assert schema_after(live) == SCHEMA


def ready(port: str) -> httpx.Response | None:
    """What a probe gets, once it is of the ledger's progress."""
    key = EARLIER.admin_key
    try:
        answer = httpx.get(
            f"http://127.0.0.1:{port}/readyz",
            headers={"Authorization": f"Bearer {key}"},
            timeout=10,
        )
    except httpx.HTTPError:
        return None
    return answer if PROGRESS in answer.text else None


def schema_after(live: LiveRuntime) -> int:
    """That of its ledger, once it has ended."""
    live.stop()
    return schema(live)


@pytest.mark.long  # tests/ledger/test_carry_over.py
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM]
)
@pytest.mark.parametrize("in_process", [IN_PROCESS, IN_RAY])
def test_a_signal_ends_it_and_the_ledger_is_as_it_was(
    make: Make, in_process: bool, number: signal.Signals
) -> None:
    live = make(in_process)
    process = live.launch()
    until(lambda: len(progress(live)) > 1, within_s=90, what="progress", seen=lambda: said(live))
    began_s = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == 0, said(live)
    assert time.monotonic() - began_s < 15
    assert schema(live) == OF_0_1_0
    beside = {one.name for one in live.data_dir.iterdir() if ".carried" in one.name}
    assert not beside or not in_process, "a process that is killed leaves it to the next start"


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> embedded.RuntimeProcess:
    """A runtime of a program, begun, which only its output and a pipe tell of."""
    monkeypatch.setattr(embedded, "START_WITHIN_S", 0.4)
    begun = embedded.RuntimeProcess({"data_dir": tmp_path}, {})
    begun._process = cast("Any", SimpleNamespace(kill=lambda: None, wait=lambda: None))
    return begun


def test_a_program_waits_for_a_runtime_that_says_something(
    begun: embedded.RuntimeProcess, tmp_path: Path
) -> None:
    ready = Credentials(url="http://127.0.0.1:1", key="k", pid=1, data_dir=str(tmp_path))
    reading, writing = os.pipe()

    def goes_on() -> None:
        with (tmp_path / embedded.LOG_NAME).open("a") as log:
            for number in range(15):
                log.write(f"{PROGRESS}{number} of 15 entries are done\n")
                log.flush()
                time.sleep(0.1)
        os.write(writing, ready.model_dump_json().encode() + b"\n")

    with ThreadPoolExecutor() as beside:
        beside.submit(goes_on)
        assert begun._until_ready(reading) == ready
    os.close(reading)
    os.close(writing)


def test_a_program_gives_up_a_runtime_that_says_nothing_more(
    begun: embedded.RuntimeProcess, tmp_path: Path
) -> None:
    (tmp_path / embedded.LOG_NAME).write_text("Helmr\n")
    reading, writing = os.pipe()
    with pytest.raises(Unavailable, match="was not ready within 0 s"):
        begun._until_ready(reading)
    assert begun._process is None, "it was killed"
    os.close(reading)
    os.close(writing)
