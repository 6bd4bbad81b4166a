"""Processes are named by pid and start time, found below their parent, and killed at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from helmr.examples import demo
from helmr.examples.demo import DemoProcess

PARENT = (
    "import subprocess, sys; "
    "child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'],"
    " stdin=subprocess.PIPE); print(child.pid, flush=True); child.wait()"
)


def test_a_family_is_found_and_killed_and_no_later_process_of_its_pids() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    found = demo.family(parent.pid)
    assert [one.pid for one in found] == sorted([parent.pid, child])
    later = [DemoProcess(one.pid, one.started + 1) for one in found]
    assert demo.alive(later) == []
    demo.kill(later, within_s=0)
    assert demo.alive(found) == found
    assert demo.kill(found, within_s=10) == []
    parent.stdout.close()
    assert parent.wait(10) == -9


def test_a_process_that_is_gone_has_no_start() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    assert demo.started_at(os.getpid()) is not None
    done.wait(30)
    assert demo.started_at(done.pid) is None
    assert demo.family(done.pid) == []


def test_the_record_of_a_runtime(tmp_path: Path) -> None:
    assert demo.recorded(tmp_path) == []
    record = {"supervisor": [7, 1], "processes": [[8, 2]], "marker": "m"}
    (tmp_path / demo.RECORD).write_text(json.dumps(record))
    assert demo.recorded(tmp_path) == [DemoProcess(7, 1), DemoProcess(8, 2)]
    (tmp_path / demo.RECORD).write_text("{")
    assert demo.recorded(tmp_path) == []
