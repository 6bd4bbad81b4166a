"""Two runtimes with one log: one is at work, the other stands by and takes over, whatever ends or stops the first."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helmr.client import Client, Retry
from helmr.errors import HelmrError, Unavailable
from helmr.hash_seed import FILE as HASH_SEED
from helmr.models import Health
from helmr_runtime.launchers.runtime import SUPERSEDED
from helmr_runtime.process.spec import RING_NAME
from tests.ledger.store_servers import seaweed_program, seaweed_server
from tests.ordinary.stand_in import postgres_server
from tests.stack.live import LiveRuntime, kill, until

pytestmark = [pytest.mark.allows_blocking, pytest.mark.timeout(300)]

ONCE = Retry(total_s=0.0)
YES = {"decision": "approve"}
STORES = [
    pytest.param("folder"),
    pytest.param("postgres", marks=pytest.mark.long),
    pytest.param("seaweed", marks=pytest.mark.long),
]


class Pair:
    """Two machines, by name; the second has the keys of the first."""

    def __init__(self, folder: Path, url: str, *, in_process: bool = True) -> None:
        self._folder = folder
        self._url = url
        self._in_process = in_process
        self._made: list[LiveRuntime] = []
        self.first = self._machine("first")
        try:
            self.first.start()
        except BaseException:
            self.close()
            raise
        self.second = self._machine("second")
        self.second.data_dir.mkdir(mode=0o700)
        for name in (RING_NAME, HASH_SEED):
            shutil.copy(self.first.data_dir / name, self.second.data_dir / name)

    def _machine(self, name: str) -> LiveRuntime:
        folder = self._folder / name
        folder.mkdir()
        arguments = [f"--log={self._url}"]
        self._made.append(LiveRuntime(folder, in_process=self._in_process, arguments=arguments))
        return self._made[-1]

    def stand_by(self, live: LiveRuntime) -> None:
        """Start it beside the other one, and return when it has all that there is."""
        live.launch()
        until(lambda: is_level(live), within_s=60, what="level", seen=lambda: log_of(live))

    def close(self) -> None:
        """End both, also one that is paused."""
        for one in self._made:
            if one._process is not None and one._process.poll() is None:
                signal_all(one, signal.SIGCONT)
            one.stop()


def signal_all(live: LiveRuntime, number: int) -> None:
    """To each of its processes."""
    for pid in live.pids():
        kill(pid, number)


@pytest.fixture(params=STORES)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """The first is at work."""
    with ExitStack() as stack:
        url = f"file://{tmp_path}/store"
        if request.param == "postgres":
            found = stack.enter_context(postgres_server())
            if found is None:
                pytest.skip("PostgreSQL is not installed")
            url = found
        elif request.param == "seaweed":
            if seaweed_program() is None:
                pytest.skip("SeaweedFS is not installed")
            url = stack.enter_context(seaweed_server()).url("log")
        made = Pair(tmp_path, url)
        stack.callback(made.close)
        yield made


def log_of(live: LiveRuntime) -> str:
    return (live.folder / "up.log").read_text()


def health_of(live: LiveRuntime) -> Health | None:
    try:
        return live.client.health()
    except (HelmrError, OSError):
        live._forget_client()
        return None


def is_level(live: LiveRuntime) -> bool:
    health = health_of(live)
    return health is not None and health.degraded == ["standby"] and health.ledger["behind"] == 0


def asking(live: LiveRuntime, name: str = "one") -> str:
    session_id = live.begin("approve", {"name": name})
    live.waiting(session_id)
    return session_id


def answered(live: LiveRuntime, session_id: str) -> None:
    live.client.waits.answer(live.waiting(session_id).id, YES)
    live.ended(session_id)


def is_at_work(live: LiveRuntime) -> None:
    """Return when it has taken over."""
    until(
        lambda: (found := health_of(live)) is not None and found.ready,
        within_s=60,
        what="taken over",
        seen=lambda: log_of(live),
    )


def test_a_standby_says_that_it_is_one_and_refuses_what_it_is_asked(pair: Pair) -> None:
    session_id = asking(pair.first)
    pair.stand_by(pair.second)
    found, key = pair.second.credentials, pair.first.credentials.key
    with (
        Client(url=found.url, key=key, retry=ONCE) as client,
        pytest.raises(HelmrError) as raised,
    ):
        client.sessions.open(session_id).get()
    assert raised.value.code == "standby"
    assert "stands by" in pair.second.client.health().reasons[0]
    answered(pair.first, session_id)
    pair.second.stop()
    answered(pair.first, asking(pair.first, "two"))


def test_a_standby_goes_on_with_every_answer_when_the_primary_was_killed(pair: Pair) -> None:
    sessions = [asking(pair.first, f"n{number}") for number in range(4)]
    answered(pair.first, sessions[0])
    pair.stand_by(pair.second)
    answered(pair.first, sessions[1])
    pair.first.kill_all()
    is_at_work(pair.second)
    for one in sessions[:2]:
        assert pair.second.newest_run(one).status == "succeeded"
    answered(pair.second, sessions[2])
    # The killed one is the next standby, and has what it has missed.
    pair.stand_by(pair.first)
    pair.second.kill_all()
    is_at_work(pair.first)
    answered(pair.first, sessions[3])


@pytest.mark.long  # tests/ledger/test_standby.py
def test_a_goodbye_has_the_standby_take_over_at_once(pair: Pair) -> None:
    session_id = asking(pair.first)
    pair.stand_by(pair.second)
    addresses = [one.credentials.url for one in (pair.first, pair.second)]
    with Client(url=addresses, key=pair.first.credentials.key) as client:
        assert client.people.whoami().role == "admin"
        pair.first.stop()
        is_at_work(pair.second)
        assert client.people.whoami().role == "admin", "it goes on with the other runtime"
    answered(pair.second, session_id)


@pytest.mark.long  # tests/ledger/test_standby.py
def test_a_primary_that_was_paused_ends_and_a_restart_stands_by(pair: Pair) -> None:
    session_id = asking(pair.first)
    pair.stand_by(pair.second)
    assert pair.first._process is not None
    os.kill(pair.first._process.pid, signal.SIGSTOP)
    is_at_work(pair.second)
    answered(pair.second, session_id)
    os.kill(pair.first._process.pid, signal.SIGCONT)
    assert pair.first._process.wait(30) == SUPERSEDED, log_of(pair.first)
    assert "stands by" in log_of(pair.first)
    pair.first._process = None
    pair.stand_by(pair.first)


@pytest.mark.long  # tests/ledger/test_standby.py
def test_an_operator_has_the_standby_take_over(pair: Pair) -> None:
    session_id = asking(pair.first)
    pair.stand_by(pair.second)
    command = [sys.executable, "-m", "helmr.cli", "takeover", "--timeout", "20s"]
    place = f"--data-dir={pair.second.data_dir}"
    done = subprocess.run([*command, place], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + log_of(pair.second)
    assert "has taken over" in done.stdout
    assert pair.first._process is not None
    assert pair.first._process.wait(30) == SUPERSEDED, log_of(pair.first)
    pair.first._process = None
    answered(pair.second, session_id)
    done = subprocess.run([*command, place], check=False, capture_output=True, text=True)
    assert done.returncode == 5, done.stderr


@pytest.mark.long  # tests/ledger/test_standby.py
def test_a_primary_that_was_killed_goes_on_at_once_where_it_was(pair: Pair) -> None:
    """No one else is there: its own lease is no reason to wait."""
    session_id = asking(pair.first)
    pair.first.kill_all()
    pair.first.launch()
    is_at_work(pair.first)
    assert "stands by" not in log_of(pair.first)
    answered(pair.first, session_id)


# --- each on a Ray of its own ---------------------------------------------------------------------


@pytest.fixture
def ray_pair(tmp_path: Path) -> Iterator[Pair]:
    """The first is at work."""
    made = Pair(tmp_path, f"file://{tmp_path}/store", in_process=False)
    yield made
    made.close()


@pytest.mark.long
@pytest.mark.ray
def test_on_ray_a_standby_goes_on_when_every_process_of_the_primary_was_killed(
    ray_pair: Pair,
) -> None:
    first, second = ray_pair.first, ray_pair.second
    sessions = [asking(first, f"n{number}") for number in range(3)]
    ray_pair.stand_by(second)
    until(second.hosts, within_s=60, what="hosts are there before it takes over")
    answered(first, sessions[0])
    first.kill_all()
    is_at_work(second)
    assert second.newest_run(sessions[0]).status == "succeeded"
    answered(second, sessions[1])
    ray_pair.stand_by(first)
    second.stop()
    is_at_work(first)
    answered(first, sessions[2])


@pytest.mark.long
@pytest.mark.ray
def test_on_ray_a_primary_whose_processes_were_paused_ends(ray_pair: Pair) -> None:
    first, second = ray_pair.first, ray_pair.second
    sessions = [asking(first, f"n{number}") for number in range(2)]
    ray_pair.stand_by(second)
    signal_all(first, signal.SIGSTOP)
    is_at_work(second)
    answered(second, sessions[0])
    signal_all(first, signal.SIGCONT)
    assert first._process is not None
    # Ray may have given up its own processes meanwhile.
    assert first._process.wait(60) in (SUPERSEDED, Unavailable.exit_code), log_of(first)
    first._process = None
    answered(second, sessions[1])
    ray_pair.stand_by(first)


@pytest.mark.long
@pytest.mark.ray
def test_on_ray_a_primary_whose_ledger_alone_was_paused_ends_when_it_was_superseded(
    ray_pair: Pair,
) -> None:
    """Its supervisor replaces a process that is stopped; what takes its place finds another runtime at work."""
    first, second = ray_pair.first, ray_pair.second
    session_id = asking(first)
    ray_pair.stand_by(second)
    assert first._process is not None
    kill(first._process.pid, signal.SIGSTOP)  # nothing replaces it
    kill(first.pid_of("ledger"), signal.SIGSTOP)
    is_at_work(second)
    answered(second, session_id)
    kill(first.pid_of("ledger"))
    kill(first._process.pid, signal.SIGCONT)
    assert first._process.wait(60) == SUPERSEDED, log_of(first)
    first._process = None
