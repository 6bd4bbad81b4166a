"""A runtime whose commits stand in a store: its machine is lost, and an empty one goes on with all answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from helmr.client import Client, Retry
from helmr.errors import HelmrError
from helmr_runtime.process.spec import LEDGER_NAME, RING_NAME
from tests.ledger.store_servers import seaweed_program, seaweed_server
from tests.ordinary.stand_in import postgres_server
from tests.stack.live import LiveRuntime, until

pytestmark = [pytest.mark.allows_blocking, pytest.mark.timeout(300)]

YES = {"decision": "approve"}
Make = Callable[[str], LiveRuntime]


@pytest.fixture(
    params=[
        pytest.param("folder"),
        pytest.param("postgres", marks=pytest.mark.long),
        pytest.param("seaweed", marks=pytest.mark.long),
    ]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The store."""
    with ExitStack() as stack:
        if request.param == "folder":
            yield f"file://{tmp_path}/store"
            return
        if request.param == "postgres":
            found = stack.enter_context(postgres_server())
            if found is None:
                pytest.skip("PostgreSQL is not installed")
            yield found
            return
        if seaweed_program() is None:
            pytest.skip("SeaweedFS is not installed")
        yield stack.enter_context(seaweed_server()).url("log")


@pytest.fixture
def machine(tmp_path: Path, url: str) -> Iterator[Make]:
    """A runtime on a machine of its own, by its name; not started."""
    made: list[LiveRuntime] = []

    def make(name: str) -> LiveRuntime:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        made.append(LiveRuntime(folder, in_process=True, arguments=[f"--log={url}"]))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def helmr(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "helmr.cli", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def copy_keys(source: LiveRuntime, target: LiveRuntime) -> None:
    target.data_dir.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(source.data_dir / RING_NAME, target.data_dir / RING_NAME)


def asking(live: LiveRuntime, name: str = "one") -> str:
    """A session that waits for its answer."""
    session_id = live.begin("approve", {"name": name})
    live.waiting(session_id)
    return session_id


def answered(live: LiveRuntime, session_id: str) -> None:
    """Answer what the session asks."""
    wait = live.waiting(session_id)
    live.client.waits.answer(wait.id, YES)


def test_an_empty_machine_goes_on_where_a_killed_one_has_answered(
    machine: Make, url: str, tmp_path: Path
) -> None:
    """Answers until the kill: each that was acknowledged is there, on a machine that has nothing but the keys."""
    first = machine("first").start()
    sessions = [asking(first, f"n{number}") for number in range(6)]
    acknowledged: list[str] = []

    waits = [first.waiting(one).id for one in sessions[1:]]
    found = first.credentials
    impatient = Client(url=found.url, key=found.key, retry=Retry(total_s=0.0))

    def answer() -> None:
        with impatient, suppress(HelmrError):
            for wait_id in waits:
                impatient.waits.answer(wait_id, YES)
                acknowledged.append(wait_id)

    thread = threading.Thread(target=answer)
    thread.start()
    until(lambda: len(acknowledged) > 1, within_s=60, what="answers")
    first.kill_all()
    thread.join(60)
    second = machine("second")
    copy_keys(first, second)
    second.start()
    for wait_id in acknowledged:
        assert second.client.waits.get(wait_id).status == "fulfilled"
    answered(second, sessions[0])
    second.ended(sessions[0])
    assert second.client.health().ledger["log_store"].startswith(url.partition(":")[0])
    second.kill_all()
    # What a machine keeps is a cache: gone, and cut off, it is made again.
    database = second.data_dir / LEDGER_NAME
    database.unlink()
    second.start()
    second.ended(sessions[0])
    second.stop()
    done = helmr("verify", "--log", url, "--keys", str(first.data_dir / RING_NAME), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sessions"] >= len(sessions)


@pytest.mark.long  # tests/toolbox/test_other_keys.py
def test_without_the_keys_of_its_log_no_machine_starts(machine: Make) -> None:
    first = machine("first").start()
    first.stop()
    second = machine("second")
    second.launch()
    assert second._process is not None
    assert second._process.wait(60) == 2
    said = (second.folder / "up.log").read_text()
    assert "there are no master keys here" in said
    assert not (second.data_dir / RING_NAME).exists()
    second._process = None


def test_a_ledger_of_its_own_starts_with_no_store_and_a_cache_with_none_but_its_own(
    machine: Make, tmp_path: Path
) -> None:
    first = machine("first").start()
    first.stop()
    plain = LiveRuntime(first.folder, in_process=True)
    plain.launch()
    assert plain._process is not None
    assert plain._process.wait(60) == 2
    assert "stand in" in (plain.folder / "up.log").read_text()


@pytest.mark.long  # tests/ledger/test_shared_ledger.py
def test_a_runtime_moves_into_a_store_and_back(machine: Make, url: str, tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    plain = LiveRuntime(folder, in_process=True).start()
    sessions = [asking(plain, f"n{number}") for number in range(3)]
    answered(plain, sessions[0])
    plain.ended(sessions[0])
    plain.stop()
    done = helmr("log", "move", url, "--data-dir", str(plain.data_dir), "--json")
    assert done.returncode == 0, done.stderr
    there = machine("first").start()
    answered(there, sessions[1])
    there.ended(sessions[1])
    there.stop()
    keys = str(there.data_dir / RING_NAME)
    command = ["log", "move", "disk", "--log", url, "--keys", keys]
    done = helmr(*command, "--data-dir", str(there.data_dir))
    assert done.returncode == 0, done.stderr
    assert "stand beside its database" in done.stdout
    plain.start()
    answered(plain, sessions[2])
    for one in sessions:
        plain.ended(one)
    plain.stop()
