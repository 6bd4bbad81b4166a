"""The status file of a host: what it says after a kill is what was true at the kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from helmr.wire.ids import new_id
from helmr_runtime.host_status import Executing, SlotMark, SlotStatus, StatusFile, read

CHILD = """
import sys, threading
from pathlib import Path
from helmr_runtime.host_status import Executing, StatusFile

file = StatusFile(Path(sys.argv[1]), slots=8)
marks = []
for number, name in enumerate(sys.argv[2:]):
    mark = file.take()
    mark.hold(name, epoch=number + 1)
    marks.append(mark)
run, step, threads, waiting, long_ago, parked = marks
long_ago.executes(Executing.RUN, is_so=True)
long_ago.executes(Executing.RUN, is_so=False)
file.is_past()
run.asked(3)
run.executes(Executing.RUN, is_so=True)
step.executes(Executing.STEP, is_so=True)
threads.thread_begins()
threads.thread_begins()
threads.thread_ends()
waiting.executes(Executing.RUN, is_so=True)
waiting.asked(9)
waiting.executes(Executing.RUN, is_so=False)
file.give_back(parked)
print("set", flush=True)
while True:
    pass
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "helmr-host-1.status"


def test_what_a_killed_process_had_set_is_read(path: Path) -> None:
    """With no system call between the last byte and the kill."""
    ids = [new_id("sess") for _ in range(6)]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), *ids],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"set\n"
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    run, step, threads, waiting, long_ago, _ = ids
    assert read(path) == {
        run: SlotStatus(epoch=1, executing=True, op=3, recent=True),
        step: SlotStatus(epoch=2, executing=True, op=None, recent=True),
        threads: SlotStatus(epoch=3, executing=True, op=None, recent=True),
        waiting: SlotStatus(epoch=4, executing=False, op=9, recent=True),
        long_ago: SlotStatus(epoch=5, executing=False, op=None, recent=False),
    }


def test_no_file_says_nothing(path: Path) -> None:
    assert read(path) == {}


def test_an_empty_file_of_a_host_that_held_nothing_says_nothing(path: Path) -> None:
    StatusFile(path, slots=4)
    assert read(path) == {}


def test_a_file_that_was_cut_off_says_what_is_whole(path: Path) -> None:
    file = StatusFile(path, slots=4)
    for name in ("s1", "s2"):
        file.take().hold(name, epoch=1)
    path.write_bytes(path.read_bytes()[:100])
    assert set(read(path)) == {"s1"}


@pytest.mark.parametrize("what", Executing)
def test_each_part_of_the_code_counts_alone(path: Path, what: Executing) -> None:
    mark = StatusFile(path, slots=1).take()
    mark.hold("s1", epoch=5)
    assert not read(path)["s1"].executing
    mark.executes(what, is_so=True)
    assert read(path)["s1"].executing
    mark.executes(what, is_so=False)
    assert not read(path)["s1"].executing


def test_the_code_executes_until_its_last_thread_has_ended(path: Path) -> None:
    mark = StatusFile(path, slots=1).take()
    mark.hold("s1", epoch=1)
    mark.thread_begins()
    both = threading.Barrier(2)

    def step() -> None:
        mark.thread_begins()
        both.wait(5)
        both.wait(5)
        mark.thread_ends()

    thread = threading.Thread(target=step)
    thread.start()
    both.wait(5)
    mark.thread_ends()
    assert read(path)["s1"].executing
    both.wait(5)
    thread.join(5)
    assert not read(path)["s1"].executing


def test_a_new_session_in_a_slot_begins_with_nothing(path: Path) -> None:
    mark = StatusFile(path, slots=1).take()
    mark.hold("s1", epoch=1)
    mark.asked(4)
    for what in Executing:
        mark.executes(what, is_so=True)
    mark.hold("s2", epoch=2)
    assert read(path) == {"s2": SlotStatus(epoch=2, executing=False, op=None)}


def test_a_slot_that_is_given_back_is_empty_and_used_again(path: Path) -> None:
    file = StatusFile(path, slots=2)
    first, second = file.take(), file.take()
    first.hold("s1", epoch=1)
    second.hold("s2", epoch=1)
    file.give_back(first)
    assert set(read(path)) == {"s2"}
    third = file.take()
    third.hold("s3", epoch=1)
    # What is left of s1's code is noted nowhere, and a slot is given back once.
    first.executes(Executing.RUN, is_so=True)
    first.asked(8)
    file.give_back(first)
    assert read(path) == {
        "s2": SlotStatus(epoch=1, executing=False, op=None),
        "s3": SlotStatus(epoch=1, executing=False, op=None),
    }


def test_a_slot_beyond_the_files_end_is_noted_nowhere(path: Path) -> None:
    file = StatusFile(path, slots=1)
    file.take().hold("s1", epoch=1)
    beyond = file.take()
    beyond.hold("s2", epoch=1)
    beyond.executes(Executing.STEP, is_so=True)
    file.give_back(beyond)
    assert set(read(path)) == {"s1"}


def test_a_mark_without_a_file_takes_everything() -> None:
    mark = SlotMark()
    mark.hold(new_id("sess"), epoch=1)
    mark.asked(1)
    mark.thread_begins()
    mark.thread_ends()
    mark.detach()


def test_the_file_is_for_its_owner(path: Path) -> None:
    StatusFile(path, slots=2)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_an_earlier_file_said_is_gone(path: Path) -> None:
    path.write_bytes(b"x" * 1000)
    StatusFile(path, slots=2)
    assert read(path) == {}


def test_ids_of_sessions_fit(path: Path) -> None:
    session_id = new_id("sess")
    StatusFile(path, slots=1).take().hold(session_id, epoch=2**40)
    assert read(path) == {session_id: SlotStatus(epoch=2**40, executing=False, op=None)}


def test_a_record_stays_while_threads_of_its_own_live(path: Path) -> None:
    file = StatusFile(path, slots=2)
    first, second = new_id("sess"), new_id("sess")
    mark = file.take()
    mark.hold(first, epoch=1)
    mark.own_thread_begins()
    assert not mark.is_executing
    file.give_back(mark)
    assert read(path)[first].has_threads
    again = file.take()  # the session is back, in another slot
    again.hold(first, epoch=2)
    assert read(path) == {first: SlotStatus(epoch=2, executing=False, op=None, has_threads=True)}
    mark.own_thread_ends()
    assert not read(path)[first].has_threads
    file.give_back(again)
    for _ in range(2):  # both records are there for others
        file.take().hold(second, epoch=3)
    assert set(read(path)) == {second}
