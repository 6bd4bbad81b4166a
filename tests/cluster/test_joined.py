"""`helmr up --address`: a runtime in a Ray cluster that was there before, and what a lost node does to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helmr.client import Client
from helmr.client.discovery import read_credentials
from helmr.errors import HelmrError
from tests.cluster.conftest import TASKS, RayCluster
from tests.stack.live import LiveRuntime, until
from tests.stack.paired import ends_superseded, is_level

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

FOREIGN = """
import ray
ray.init(address=ADDRESS, namespace="helmr", log_to_driver=False)
@ray.remote(num_cpus=0)
class Other:
    def ping(self): return "pong"
handle = Other.options(name="other", lifetime="detached", get_if_exists=True).remote()
print(ray.get(handle.ping.remote()))
"""

NAMES = """
import ray
from ray.util import list_named_actors
ray.init(address=ADDRESS, log_to_driver=False)
print(*sorted(one["name"] for one in list_named_actors(all_namespaces=True)))
"""

KILL_FOR_GOOD = """
import sys, ray
ray.init(address=ADDRESS, namespace="helmr", log_to_driver=False)
ray.kill(ray.get_actor(sys.argv[1]), no_restart=True)
"""

REVIEWER = """
import sys, time, ray
from helmr import Client
ray.init(address=ADDRESS, log_to_driver=False)
wanted, answered = int(sys.argv[1]), 0
with Client(url="ray") as client:
    while answered < wanted:
        for wait in client.waits.list():
            client.waits.answer(wait.id, {"accept": wait.correlation_id.endswith("0")})
            answered += 1
    sessions = list(client.sessions.list(task="assess-document"))
    entries = [one for session in sessions for one in client.sessions.open(session.id).transcript()]
    print(len(sessions), *sorted({one.principal.type for one in entries}))
"""


def pid_of(folder: Path, name: str) -> int:
    """The process of a shared actor."""
    return int((folder / ".helmr" / "run" / "statuses" / f"helmr-{name}.pid").read_text())


def is_another(folder: Path, name: str, killed: int) -> bool:
    return pid_of(folder, name) != killed


def is_ready(client: Client) -> bool:
    try:
        return client.health().ready
    except HelmrError:
        return False


def hosts(client: Client) -> list[dict[str, Any]]:
    return list(client.health().pool["host_list"])


@pytest.mark.long
def test_a_cluster_without_room_for_hosts_is_refused(tmp_path: Path) -> None:
    shutil.copy(TASKS, tmp_path / "tasks.py")
    cluster = RayCluster(hosts=0, more_nodes=0)
    try:
        refused = cluster.helmr(
            tmp_path, "up", "--address", cluster.address, "--port=0", "tasks.py"
        )
        assert cluster.run(NAMES) == "\n"
    finally:
        cluster.close()
    assert refused.returncode == 2
    assert f"no node of the Ray cluster at {cluster.address} offers session_host" in refused.stderr
    assert """--resources '{"session_host": 10}'""" in refused.stderr
    assert not (tmp_path / ".helmr" / "joined.json").exists()


@pytest.mark.long
def test_a_runtime_is_started_put_right_replaced_and_ended(
    cluster: RayCluster, folder: Path, connect: Callable[[], Client], tmp_path_factory: Any
) -> None:
    assert cluster.run(FOREIGN) == "pong\n"
    said = cluster.up(folder, "--hosts=3", "tasks.py")
    assert "ready on http://127.0.0.1:" in said
    client = connect()
    until(lambda: len(hosts(client)) == 3, within_s=60, what="three hosts")
    until(lambda: all(one["pid"] for one in hosts(client)), within_s=60, what="all have started")
    assert len({one["node"] for one in hosts(client)}) == 3
    session = client.sessions.start_and_wait("approve", {"name": "joined"}, timeout="30s")
    wait = next(iter(client.waits.list()))

    # It is put right by itself: Ray restarts what exists once, and nobody has to ask.
    for name in ("gateway", "ledger", "directory"):
        killed = pid_of(folder, name)
        os.kill(killed, signal.SIGKILL)
        is_back = partial(is_another, folder, name, killed)
        until(is_back, within_s=60, what=f"{name} is back")
    credentials = folder / ".helmr" / "credentials.json"
    until(lambda: read_credentials(credentials) is not None, within_s=60, what="it listens again")
    client = connect()
    until(lambda: is_ready(client), within_s=60, what="ready again")

    # Run again: all is there; what Ray has given up is started again; changed code replaces it.
    assert "all is there" in cluster.up(folder, "--hosts=3", "tasks.py")
    cluster.run(KILL_FOR_GOOD, "helmr-directory")
    said = cluster.up(folder, "--hosts=3", "tasks.py")
    assert "started again: directory" in said
    with (folder / "tasks.py").open("a") as file:
        file.write("# changed\n")
    said = cluster.up(folder, "--hosts=2", "tasks.py")
    assert "this has changed: the tasks' code, hosts" in said

    refuses_elsewhere(cluster, folder, f"--log=file://{folder}/store", hint="`helmr log move`")

    # One cluster holds one runtime.
    other = tmp_path_factory.mktemp("other")
    (other / "tasks.py").write_text((folder / "tasks.py").read_text())
    refused = cluster.helmr(other, "up", "--address", cluster.address, "--port=0", "tasks.py")
    assert refused.returncode == 5
    assert f"has a runtime already, on {folder}" in refused.stderr

    client = connect()
    client.waits.answer(wait.id, {"decision": "approve"})
    assert client.runs.wait(session.started_run.id, timeout="60s").result == "approve"

    done = cluster.helmr(folder, "down")
    assert (done.returncode, done.stderr) == (0, "")
    assert cluster.run(NAMES).split() == ["other"]
    assert cluster.run(FOREIGN) == "pong\n"
    assert not (folder / ".helmr" / "credentials.json").exists()
    assert not (folder / ".helmr" / "run").exists()
    assert not is_ready(client)
    again = cluster.helmr(folder, "down")
    assert again.returncode == 6
    assert "no runtime is running" in again.stderr


@pytest.mark.long
def test_up_refused_for_a_second_data_directory_leaves_no_fresh_keys(
    cluster: RayCluster, folder: Path, tmp_path: Path
) -> None:
    cluster.up(folder, "--hosts=1", "tasks.py")
    second = tmp_path / "second"
    done = cluster.helmr(
        folder, "up", "--address", cluster.address, "--port=0", f"--data-dir={second}", "tasks.py"
    )
    assert done.returncode == 5, done.stderr
    assert "has a runtime already" in done.stderr
    left = {str(path.relative_to(second)) for path in second.rglob("*")}
    assert left <= {"up.lock", "logs", "logs/up.log"}, left


@pytest.mark.long
def test_a_runtime_that_serves_no_http_any_more_leaves_no_word_of_where_it_did(
    cluster: RayCluster, folder: Path, connect: Callable[[], Client]
) -> None:
    options = ("--hosts=1", "tasks.py")
    assert "places for" not in cluster.up(folder, *options)
    pointers = cluster.folder / "state" / "helmr" / "runtimes"
    assert [json.loads(one.read_text())["data_dir"] for one in pointers.iterdir()] == [
        str(folder / ".helmr")
    ]
    before = connect()
    said = cluster.up(folder, "--no-http", *options)
    assert "this has changed: HTTP" in said
    assert list(pointers.iterdir()) == []
    assert not (folder / ".helmr" / "credentials.json").exists()
    assert not is_ready(before)
    assert "ready on http://127.0.0.1:" in cluster.up(folder, *options)
    assert is_ready(connect())


@pytest.mark.long  # a killed host: tests/stack/test_supervisor_kills.py; a lost node: tests/directory/test_lost.py
def test_a_lost_node_costs_its_live_sessions_nothing_that_was_acknowledged(
    cluster: RayCluster, folder: Path, connect: Callable[[], Client]
) -> None:
    cluster.up(folder, "--hosts=3", "--linger=0s", "tasks.py")
    client = connect()
    until(lambda: len(hosts(client)) == 3, within_s=60, what="three hosts")
    until(lambda: all(one["pid"] for one in hosts(client)), within_s=90, what="all have started")
    parked = client.sessions.start_and_wait("approve", {"name": "parked"}, timeout="30s")
    until(lambda: not holders(client), within_s=30, what="it is parked")
    before = [one.seq for one in parked_entries(client, parked.id)]

    live = [
        client.sessions.start("long_step", {"name": f"live-{number}"}).id for number in range(4)
    ]
    # Each host is in a step; that it has begun is on disk, and in the mark.
    until(
        lambda: all((cluster.marks / f"live-{n}-began").exists() for n in range(4)),
        within_s=60,
        what="every step has begun",
    )
    held = holders(client)
    lost = next(
        node for node in cluster.nodes - {cluster.head} if any(node == one for one in held.values())
    )
    moved = [session for session, node in held.items() if node == lost]
    receipts = {
        session: client.sessions.open(session).input("messages").send(f"for {session}")
        for session in live
    }
    cluster.kill_node(lost)
    for number in range(len(live)):
        (cluster.marks / f"live-{number}-go").touch()

    for session in live:
        run = next(iter(client.runs.list(session_id=session)))
        assert client.runs.wait(run.id, timeout="90s").status == "succeeded", session
        entries = list(client.sessions.open(session).transcript())
        # A lost machine is nothing that the task's code did: it does not count towards `blocked`.
        assert "run.actor_died" not in [one.kind for one in entries]
        [record] = client.sessions.open(session).input("messages").list()
        assert record.id == receipts[session].record_id
        assert [one.seq for one in entries] == list(range(1, len(entries) + 1))
    assert moved
    for number, session in enumerate(live):
        began = len((cluster.marks / f"live-{number}-began").read_text())
        assert began == (2 if session in moved else 1), session
    assert [one.seq for one in parked_entries(client, parked.id)] == before
    wait = next(iter(client.waits.list(session_id=parked.id)))
    client.waits.answer(wait.id, {"decision": "reject"})
    assert client.runs.wait(parked.started_run.id, timeout="60s").result == "reject"


def holders(client: Client) -> dict[str, str]:
    """The node that holds each live session."""
    return {session: one["node"] for one in hosts(client) for session in one["session_ids"]}


def parked_entries(client: Client, session_id: str) -> list[Any]:
    return list(client.sessions.open(session_id).transcript())


@pytest.mark.long
def test_a_job_fans_documents_out_and_nothing_listens(cluster: RayCluster, folder: Path) -> None:
    said = cluster.up(folder, "--hosts=3", "--linger=1s", "--no-http", "helmr.examples.fan_out")
    assert "no port" in said
    assert not (folder / ".helmr" / "credentials.json").exists()
    assert all(not speaks_http(port) for port in listening(pid_of(folder, "gateway")))

    reviewer = cluster.program(REVIEWER, "4")
    done = cluster.run(
        "import sys\nsys.argv[1:] = ['--address', ADDRESS, '--documents', '20']\n"
        "import runpy\nrunpy.run_module('helmr.examples.fan_out_job', run_name='__main__')\n"
    )
    lines = done.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "16 accepted, 2 accepted_by_review, 2 rejected"
    assert {line.split()[3] for line in lines[:-1]} == {f"document-{n}:" for n in range(1, 21)}
    out, errors = reviewer.communicate(timeout=60)
    assert reviewer.returncode == 0, errors
    assert out.split()[0] == "20"
    # Who started and answered was the job, by no key; the rest is the runtime's and the tasks'.
    assert set(out.split()[1:]) <= {"ray_job", "runtime", "task"}
    assert "ray_job" in out.split()
    refused = cluster.helmr(folder, "wait", "list")
    assert refused.returncode == 6
    assert "only programs in the cluster" in refused.stderr


def listening(pid: int) -> list[int]:
    """The ports that a process listens on."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(link))
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(int(fields[1].rpartition(":")[2], 16))
    return found


def speaks_http(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        try:
            return connection.recv(64).startswith(b"HTTP/")
        except (TimeoutError, ConnectionError):
            return False


@pytest.mark.long
def test_what_can_not_be_joined_is_said_in_one_line(cluster: RayCluster, folder: Path) -> None:
    cases = [
        (["up", "--address", "127.0.0.1:1", "tasks.py"], 6, "127.0.0.1:1"),
        (["up", "--no-http", "tasks.py"], 2, "--address"),
    ]
    for arguments, code, words in cases:
        done = cluster.helmr(folder, *arguments)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("helmr: Helmr")]
        assert done.returncode == code, done.stderr
        assert any(words in line for line in lines), done.stderr
        assert "Traceback" not in done.stderr
    # A record of a cluster that is gone: the runtime is gone with it, and that is said.
    data_dir = folder / ".helmr"
    (data_dir / "joined.json").write_text(json.dumps({"address": "127.0.0.1:1", "pointer": None}))
    done = cluster.helmr(folder, "down")
    assert done.returncode == 0, done.stderr
    assert "the cluster has ended" in done.stderr
    assert not (data_dir / "joined.json").exists()


@pytest.mark.long
def test_a_runtime_whose_log_is_in_a_store_starts_on_any_node_and_stands_by_another(
    cluster: RayCluster, folder: Path, tmp_path_factory: Any
) -> None:
    log = f"--log=file://{folder}/store"
    cluster.up(folder, "--hosts=1", "--linger=0s", log, "tasks.py")
    with found_in(folder) as client:
        session = client.sessions.start_and_wait("approve", {"name": "moved"}, timeout="60s")
    refuses_elsewhere(cluster, folder, hint="Name it with --log")

    # Another node, with the keys alone, after what ran on the first one is gone.
    other = tmp_path_factory.mktemp("other")
    shutil.copy(TASKS, other / "tasks.py")
    place = other / ".helmr"
    place.mkdir(mode=0o700)
    refused = cluster.helmr(other, "up", "--address", cluster.address, "--port=0", log, "tasks.py")
    assert refused.returncode == 2, refused.stderr
    assert "master keys" in refused.stderr
    shutil.copy(folder / ".helmr" / "master-keys.json", place)
    refused = cluster.helmr(other, "up", "--address", cluster.address, "--port=0", log, "tasks.py")
    assert refused.returncode == 5, refused.stderr
    assert f"has a runtime already, on {folder}" in refused.stderr
    for name in ("directory", "gateway", "ledger"):
        cluster.run(KILL_FOR_GOOD, f"helmr-{name}")
    cluster.up(other, "--hosts=1", "--linger=0s", log, "tasks.py")
    with found_in(other) as client:
        [wait] = client.waits.list(session_id=session.id)
        client.waits.answer(wait.id, {"decision": "approve"})
        assert client.runs.wait(session.started_run.id, timeout="60s").result == "approve"
        second = client.sessions.start_and_wait("approve", {"name": "second"}, timeout="60s")

    # A runtime beside the cluster takes over. Run again, `up` has the cluster's stand by, and take over in turn.
    beside = LiveRuntime(
        tmp_path_factory.mktemp("beside"), in_process=True, linger="0s", arguments=[log]
    )
    beside.data_dir.mkdir(mode=0o700)
    shutil.copy(place / "master-keys.json", beside.data_dir)
    with ThreadPoolExecutor(1) as threads:
        try:
            beside.launch()
            until(lambda: is_level(beside), within_s=60, what="stands by")
            done = cluster.helmr(beside.folder, "takeover")
            assert done.returncode == 0, done.stderr
            again = threads.submit(cluster.up, other, "--hosts=1", "--linger=0s", log, "tasks.py")
            until(lambda: stands_by(other), within_s=90, what="the cluster's stands by")
            done = cluster.helmr(other, "takeover")
            assert done.returncode == 0, done.stderr
            said = again.result(timeout=90)
            assert "this has changed: the runtime at work on its log" in said
            ends_superseded(beside)
        finally:
            beside.stop()
    with found_in(other) as client:
        [wait] = client.waits.list(session_id=second.id)
        client.waits.answer(wait.id, {"decision": "reject"})
        assert client.runs.wait(second.started_run.id, timeout="60s").result == "reject"
    assert cluster.helmr(other, "down").returncode == 0


def refuses_elsewhere(cluster: RayCluster, folder: Path, *options: str, hint: str) -> None:
    """A ledger whose log is not where these options have it; what runs on it goes on."""
    at_work = pid_of(folder, "ledger")
    refused = cluster.helmr(
        folder, "up", "--address", cluster.address, "--port=0", *options, "tasks.py"
    )
    assert refused.returncode == 2, refused.stderr
    assert hint in refused.stderr
    assert pid_of(folder, "ledger") == at_work
    with found_in(folder) as client:
        assert is_ready(client)


def found_in(folder: Path) -> Client:
    """A client of the runtime whose data directory is in that folder."""
    found = read_credentials(folder / ".helmr" / "credentials.json")
    assert found is not None, "the gateway runs"
    return Client(url=found.url, key=found.key)


def stands_by(folder: Path) -> bool:
    if read_credentials(folder / ".helmr" / "credentials.json") is None:
        return False
    try:
        with found_in(folder) as client:
            return client.health().degraded == ["standby"]
    except HelmrError:
        return False
