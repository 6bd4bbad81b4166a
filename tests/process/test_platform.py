"""What operating systems do in their own ways, done both ways; nothing else asks for what only Linux has."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helmr import platform
from helmr.client.whereabouts import is_live
from tests.programs.gauges.shape import sources

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
NOBODY = 2**22 + 1
"""A pid above the highest that Linux gives."""
BOUND_S = 10.0

LINUX_ONLY = re.compile(
    r"/proc/|\"/proc\"|\"proc\"|pidfd_|SO_PEERCRED|posix_fallocate|fdatasync|/sys/fs/|CLOCK_BOOTTIME|prctl|memfd"
    r"|\bos\.fsync"
)


@pytest.fixture(params=["linux", "portable"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(platform, "IS_LINUX", request.param == "linux")
    return str(request.param)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    environ = {**os.environ, "HELMR_TEST_PLATFORM": "a1"}
    process = subprocess.Popen(SLEEPER, env=environ, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def until_state(pid: int, letters: str) -> None:
    deadline = time.monotonic() + BOUND_S
    while (found := platform.look(pid)) is None or found[0] not in letters:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


@pytest.mark.usefixtures("way")
def test_a_process_is_seen_to_begin_stop_and_end(sleeper: subprocess.Popen[bytes]) -> None:
    found = platform.look(sleeper.pid)
    assert found is not None
    began = platform.started_at_s(sleeper.pid)
    assert began is not None
    assert abs(began - time.time()) < 60
    assert platform.parents()[sleeper.pid] == os.getpid()
    assert "time.sleep(600)" in platform.command(sleeper.pid)
    assert list(platform.with_variable("HELMR_TEST_PLATFORM", "a1")) == [sleeper.pid]
    assert platform.send_signal(sleeper.pid, signal.SIGSTOP, started=found[1])
    until_state(sleeper.pid, platform.STOPPED)
    assert not platform.await_end(sleeper.pid, started=found[1], within_s=0.05)
    assert platform.send_signal(sleeper.pid, signal.SIGKILL)
    assert platform.await_end(sleeper.pid, started=found[1], within_s=BOUND_S)
    until_state(sleeper.pid, platform.ENDED)
    assert platform.started_at_s(sleeper.pid) is None
    assert not platform.send_signal(sleeper.pid, signal.SIGKILL), "its remains get no signal"


@pytest.mark.usefixtures("way")
def test_a_later_process_with_the_same_pid_gets_no_signal(sleeper: subprocess.Popen[bytes]) -> None:
    found = platform.look(sleeper.pid)
    assert found is not None
    assert not platform.send_signal(sleeper.pid, signal.SIGKILL, started=found[1] + 1)
    assert platform.await_end(sleeper.pid, started=found[1] + 1, within_s=BOUND_S)
    now = platform.look(sleeper.pid)  # its state may be another: it begins to sleep meanwhile
    assert now is not None
    assert now[1] == found[1]
    assert now[0] != platform.ENDED


@pytest.mark.usefixtures("way")
def test_nobody_is_nobody() -> None:
    assert platform.look(NOBODY) is None
    assert platform.started_at_s(NOBODY) is None
    assert platform.command(NOBODY) == ""
    assert list(platform.open_files(NOBODY)) == []
    assert not platform.send_signal(NOBODY, signal.SIGKILL)
    assert platform.await_end(NOBODY, started=1, within_s=BOUND_S)


def test_a_file_gets_its_length_and_keeps_its_bytes(way: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before")
    descriptor = os.open(path, os.O_RDWR)
    try:
        platform.allocate(descriptor, 3 << 20)
        platform.allocate(descriptor, 1 << 20)
        (platform.sync_data if way == "linux" else platform._sync)(descriptor)
    finally:
        os.close(descriptor)
    assert path.stat().st_size == 3 << 20
    assert path.read_bytes().rstrip(b"\0") == b"before"
    assert path.stat().st_blocks * 512 >= 3 << 20, "no hole"


@pytest.mark.usefixtures("way")
def test_numbers_of_the_machine() -> None:
    assert 1 << 20 < platform.anonymous_bytes() < platform.machine_bytes()
    before = platform.elapsed_s()
    assert platform.elapsed_s() >= before > 0
    assert platform.boot_id() == platform.boot_id() != ""


def test_a_process_that_the_system_does_not_show_counts_as_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "IS_LINUX", True)
    monkeypatch.setattr(platform, "PROC", tmp_path)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert is_live(os.getpid(), written_at_s=0)
    (tmp_path / str(os.getpid())).mkdir()
    shown = Path(f"/proc/{os.getpid()}/stat").read_bytes()
    (tmp_path / str(os.getpid()) / "stat").write_bytes(shown)  # and no boot time
    assert is_live(os.getpid(), written_at_s=0)
    assert not is_live(NOBODY, written_at_s=time.time())


def test_a_peer_is_its_user() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert platform.peer_uid(one) == os.getuid()


def test_nothing_else_asks_for_what_only_linux_has() -> None:
    code = re.compile(r"(?m)^\s*#.*$|\"\"\".*?\"\"\"", re.S)
    found = {
        one.name: LINUX_ONLY.findall(code.sub("", one.text))
        for one in sources()
        if one.name != "helmr/platform.py"
    }
    assert {name: names for name, names in found.items() if names} == {}
