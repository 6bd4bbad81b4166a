"""Two runtimes with one log: one is at work, the other stands by and takes over, whatever ends or stops the first."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from helmr.client import Client, Retry
from helmr.errors import HelmrError, Unavailable
from helmr_runtime.core.shared_log import LEASE_S, RENEW_S
from helmr_runtime.launchers.runtime import SUPERSEDED
from tests.ordinary.stand_in import own_postgres
from tests.stack.live import LiveRuntime, kill, until
from tests.stack.paired import (
    Machines,
    ends_superseded,
    is_at_work,
    log_of,
    open_store,
    signal_all,
)

pytestmark = [pytest.mark.allows_blocking, pytest.mark.timeout(300)]

ONCE = Retry(total_s=0.0)
YES = {"decision": "approve"}
SETTLES_S = 5.0
IDLE_S = 20.0
EACH_S = 0.05
GONE_S = 30.0
GOODBYE_S = 2.0
"""At most, from a goodbye to the next answer; and after a kill, from the end of the lease."""

TAKES_OVER_S = 4.0
STORES = [
    pytest.param("folder"),
    pytest.param("postgres", marks=pytest.mark.long),
    pytest.param("seaweed", marks=pytest.mark.long),
]


@pytest.fixture(params=STORES)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machines]:
    """The first is at work."""
    with ExitStack() as stack:
        store = stack.enter_context(open_store(request.param, tmp_path))
        if store is None:
            pytest.skip(f"{request.param} is not installed")
        made = Machines(tmp_path, store.urls, in_process=True)
        stack.callback(made.close)
        made.start()
        yield made


def asking(live: LiveRuntime, name: str = "one") -> str:
    session_id = live.begin("approve", {"name": name})
    live.waiting(session_id)
    return session_id


def answered(live: LiveRuntime, session_id: str) -> None:
    live.client.waits.answer(live.waiting(session_id).id, YES)
    live.ended(session_id)


def test_a_standby_says_that_it_is_one_and_refuses_what_it_is_asked(pair: Machines) -> None:
    session_id = asking(pair.first)
    peer = pair.first.credentials.url
    (pair.second.folder / "helmr.toml").write_text(f'[log]\npeer = "{peer}"\n')
    pair.stand_by(pair.second)
    found, key = pair.second.credentials, pair.first.credentials.key
    for path in ("/inbox?tag=a%2Fb", "/sign-in"):
        answer = httpx.get(found.url + path)
        assert (answer.status_code, answer.headers["location"]) == (307, peer + path)
    assert httpx.get(found.url + "/sign-in", follow_redirects=True).url.port == urlsplit(peer).port
    numbers = httpx.get(f"{found.url}/metrics", headers={"Authorization": f"Bearer {found.key}"})
    assert numbers.status_code == 200, numbers.text
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


def test_a_standby_goes_on_with_every_answer_when_the_primary_was_killed(pair: Machines) -> None:
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
def test_a_goodbye_has_the_standby_take_over_at_once(pair: Machines) -> None:
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
def test_a_primary_that_was_paused_ends_and_a_restart_stands_by(pair: Machines) -> None:
    session_id = asking(pair.first)
    pair.stand_by(pair.second)
    assert pair.first._process is not None
    os.kill(pair.first._process.pid, signal.SIGSTOP)
    is_at_work(pair.second)
    answered(pair.second, session_id)
    os.kill(pair.first._process.pid, signal.SIGCONT)
    ends_superseded(pair.first)
    assert "stands by" in log_of(pair.first)
    pair.stand_by(pair.first)


@pytest.mark.long  # tests/ledger/test_standby.py
def test_an_operator_has_the_standby_take_over(pair: Machines) -> None:
    session_id = asking(pair.first)
    pair.stand_by(pair.second)
    command = [sys.executable, "-m", "helmr.cli", "takeover", "--timeout", "20s"]
    place = f"--data-dir={pair.second.data_dir}"
    done = subprocess.run([*command, place], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + log_of(pair.second)
    assert "has taken over" in done.stdout
    ends_superseded(pair.first)
    answered(pair.second, session_id)
    done = subprocess.run([*command, place], check=False, capture_output=True, text=True)
    assert done.returncode == 5, done.stderr


@pytest.mark.long  # tests/ledger/test_standby.py
def test_a_primary_that_was_killed_goes_on_at_once_where_it_was(pair: Machines) -> None:
    """No one else is there: its own lease is no reason to wait."""
    session_id = asking(pair.first)
    pair.first.kill_all()
    pair.first.launch()
    is_at_work(pair.first)
    assert "stands by" not in log_of(pair.first)
    answered(pair.first, session_id)


# --- how long callers wait --------------------------------------------------------------------------


def longest_gap_s(pair: Machines, client: Client, session_id: str, how: str) -> float:
    """Of a caller that sends without end while the first runtime is told to end, or is killed."""
    stream = client.sessions.open(session_id).input("messages")
    began_s = time.monotonic()
    stream.send("before")
    answered_s, gaps = time.monotonic(), [time.monotonic() - began_s]
    process = pair.first._process
    assert process is not None
    if how == "goodbye":
        process.send_signal(signal.SIGTERM)
    else:
        pair.first.kill_all()
    while urlsplit(client.endpoint.url).port != urlsplit(pair.second.credentials.url).port:
        stream.send("meanwhile")
        gaps.append(time.monotonic() - answered_s)
        answered_s = time.monotonic()
        time.sleep(EACH_S)
    process.wait(GONE_S)
    return max(gaps)


@pytest.mark.parametrize("how", ["goodbye", pytest.param("kill", marks=pytest.mark.long)])
@pytest.mark.parametrize("is_parked", [False, True], ids=["hot", "parked"])
@pytest.mark.parametrize("is_standby_first", [False, True], ids=["primary first", "standby first"])
def test_whichever_address_comes_first_a_caller_waits_for_the_takeover_and_no_longer(
    tmp_path: Path, how: str, is_parked: bool, is_standby_first: bool
) -> None:
    with ExitStack() as stack:
        url = f"file://{tmp_path}/store"
        pair = Machines(tmp_path, (url, url), in_process=True, linger="0s" if is_parked else "30s")
        stack.callback(pair.close)
        pair.start()
        session_id = pair.first.begin("echo")
        pair.first.waiting(session_id)
        pair.stand_by(pair.second)
        addresses = [one.credentials.url for one in pair.both]
        client = stack.enter_context(
            Client(
                url=addresses[::-1] if is_standby_first else addresses,
                key=pair.first.credentials.key,
                retry=Retry(total_s=60.0),
            )
        )
        gap_s = longest_gap_s(pair, client, session_id, how)
        assert gap_s <= (GOODBYE_S if how == "goodbye" else LEASE_S + TAKES_OVER_S)


# --- each on a Ray of its own ---------------------------------------------------------------------


@pytest.fixture
def ray_pair(tmp_path: Path) -> Iterator[Machines]:
    """The first is at work."""
    url = f"file://{tmp_path}/store"
    made = Machines(tmp_path, (url, url))
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.mark.long
@pytest.mark.ray
def test_on_ray_a_standby_goes_on_when_every_process_of_the_primary_was_killed(
    ray_pair: Machines,
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
def test_on_ray_a_primary_whose_processes_were_paused_ends(ray_pair: Machines) -> None:
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
    ray_pair: Machines,
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
    ends_superseded(first)


@pytest.mark.long
def test_an_idle_pair_sends_postgresql_one_statement_in_two_seconds_each(tmp_path: Path) -> None:
    """By the log of the server; the first snapshot is made before."""
    with own_postgres({"log_statement": "all"}) as server, ExitStack() as stack:
        if server is None:
            pytest.skip("postgres is not installed")
        made = Machines(tmp_path, (server.url(), server.url()), in_process=True)
        stack.callback(made.close)
        made.start()
        made.stand_by(made.second)
        time.sleep(SETTLES_S)

        def count() -> int:
            text = (server.folder / "log").read_text()
            return len(re.findall(r"LOG:  (?:statement|execute .*?): ", text))

        before, began_s = count(), time.monotonic()
        time.sleep(IDLE_S)
        sent, lasted_s = count() - before, time.monotonic() - began_s
    assert IDLE_S / RENEW_S <= sent <= 2 * (lasted_s / RENEW_S + 1)
