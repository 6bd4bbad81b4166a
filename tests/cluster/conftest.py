"""One Ray cluster of three nodes for the tests of this folder; each starts and ends runtimes in it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helmr.client import Client
from helmr.client.discovery import read_credentials
from tests import reaper

TASKS = Path(__file__).parent.parent / "stack" / "stack_tasks.py"
NODES = Path(__file__).with_name("nodes.py")
JOB_WITHIN_S = 120.0


class RayCluster:
    """A head and two more nodes with room for three hosts each; `marks` is where the stack's tasks leave theirs."""

    def __init__(self, *, hosts: int = 3, more_nodes: int = 2) -> None:
        self._hosts = hosts
        # Ray's socket paths have 107 bytes.
        self.folder = reaper.folder("hc-", within="/tmp")
        self.marks = self.folder / "marks"
        self.marks.mkdir()
        self.environment = {
            **os.environ,
            "RAY_TMPDIR": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            # 0 makes Ray take 127.0.0.1 for the address of this machine's nodes.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "HELMR_TEST_MARKS": str(self.marks),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }
        self._log = (self.folder / "nodes.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(NODES), str(hosts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=self.environment,
            text=True,
        )
        started = self._answer()
        self.address: str = started["address"]
        self.head: str = started["head"]
        self.nodes = {self.head, *(self.add_node() for _ in range(more_nodes))}

    def add_node(self) -> str:
        """Ray's id of a new node."""
        return str(self._ask(f"add {self._hosts}")["node"])

    def kill_node(self, node: str) -> None:
        """All its processes at once; another one takes its place."""
        self._ask(f"kill {node}")
        self.nodes = self.nodes - {node} | {self.add_node()}

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (self.folder / "nodes.log").read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End every node."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0, (self.folder / "nodes.log").read_text()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()
        shutil.rmtree(self.folder)

    # --- programs in it ---------------------------------------------------------------------------

    def helmr(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command, run in a folder."""
        return subprocess.run(
            [sys.executable, "-m", "helmr.cli", *arguments],
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=JOB_WITHIN_S,
            check=False,
        )

    def up(self, folder: Path, *arguments: str) -> str:
        """`helmr up` in this cluster, which must succeed; what it said."""
        done = self.helmr(folder, "up", "--address", self.address, "--port=0", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def program(self, text: str, *arguments: str) -> subprocess.Popen[str]:
        """A Python program as a job of this cluster; `ADDRESS` is defined in it."""
        return subprocess.Popen(
            [sys.executable, "-c", f"ADDRESS = {self.address!r}\n{text}", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, text: str, *arguments: str) -> str:
        """What such a program prints; it must succeed."""
        process = self.program(text, *arguments)
        try:
            out, errors = process.communicate(timeout=JOB_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(process.communicate()) from None
        assert process.returncode == 0, errors
        return out


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """The cluster."""
    started = RayCluster()
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def folder(cluster: RayCluster, tmp_path: Path) -> Iterator[Path]:
    """A folder with the stack's tasks; the runtime in it is ended afterwards."""
    shutil.copy(TASKS, tmp_path / "tasks.py")
    yield tmp_path
    if (tmp_path / ".helmr" / "joined.json").exists():
        done = cluster.helmr(tmp_path, "down")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def connect(folder: Path) -> Iterator[Callable[[], Client]]:
    """Clients over HTTP of the runtime in the folder."""
    made: list[Client] = []

    def make() -> Client:
        found = read_credentials(folder / ".helmr" / "credentials.json")
        assert found is not None, "the gateway runs"
        made.append(Client(url=found.url, key=found.key))
        return made[-1]

    yield make
    for client in made:
        client.close()
