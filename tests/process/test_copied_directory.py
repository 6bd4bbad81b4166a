"""A copy of a data directory is not started while the runtime works that it was copied from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helmr import platform
from helmr.client.discovery import LOCK_FILE, _holder
from helmr.errors import RuntimeHeld
from helmr_runtime.launchers.startup import lock

HOLDS = """
import sys
from pathlib import Path
from helmr_runtime.launchers.startup import lock
with lock(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


def said(text: str) -> None:
    """Nothing needs to be said."""


def take(data_dir: Path) -> str:
    """What the lock's file says while this process holds it."""
    with lock(data_dir, said):
        return (data_dir / LOCK_FILE).read_text()


@pytest.fixture
def original(tmp_path: Path) -> Path:
    folder = tmp_path / "original"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def holder(original: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that works on the original."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(original)], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.stdin.close()
            process.wait(30)


def copied(original: Path) -> Path:
    copy = original.with_name("copy")
    shutil.copytree(original, copy)
    return copy


def test_a_copy_of_a_live_directory_is_refused_and_says_what_to_do(
    original: Path, holder: subprocess.Popen[str]
) -> None:
    copy = copied(original)
    for _ in range(2):  # being refused is no way in
        with pytest.raises(RuntimeHeld) as refused:
            take(copy)
        error = refused.value
        assert error.message.startswith(f"{copy} is a copy of a data directory that the runtime")
        assert error.facts["pid"] == holder.pid
        assert "helmr backup" in (error.hint or "")
        assert f"delete {copy / LOCK_FILE}" in (error.hint or "")
    (copy / LOCK_FILE).unlink()
    assert take(copy)


def test_a_directory_that_was_moved_is_no_copy(
    original: Path, holder: subprocess.Popen[str]
) -> None:
    moved = original.rename(original.with_name("moved"))
    with pytest.raises(RuntimeHeld, match=f"is in use by the runtime with pid {holder.pid}"):
        take(moved)
    assert _holder(moved) == holder.pid


@pytest.mark.parametrize("ends", ["killed", "closed"])
def test_a_copy_starts_when_its_original_has_ended(
    original: Path, holder: subprocess.Popen[str], ends: str
) -> None:
    copy = copied(original)
    if ends == "killed":
        holder.kill()
    else:
        holder.stdin.close()  # type: ignore[union-attr]
    holder.wait(30)
    assert take(copy)
    assert take(original)


def test_a_pid_that_another_process_has_now_holds_nothing(original: Path) -> None:
    """Of a machine that has booted again, of a restored backup, of a container."""
    os.makedirs(copy := original.with_name("copy"), mode=0o700)
    started = platform.look(os.getppid())[1]  # type: ignore[index]
    boot = platform.boot_id()
    for process in (f"{boot}:{started - 1}", f"earlier:{started}", "", "?"):
        (copy / LOCK_FILE).write_text(f"{os.getppid()}\n{process}\n1:1\n")
        assert take(copy)
    (copy / LOCK_FILE).write_text(f"{os.getppid()}\n{boot}:{started}\n1:1\n")
    with pytest.raises(RuntimeHeld, match="is a copy"):
        take(copy)


@pytest.mark.parametrize("text", ["", "1", "own", "1\n2", "no pid\n\n\n", "\udcff", "9" * 5000])
def test_whatever_stands_in_the_file_a_free_directory_can_be_taken(
    original: Path, text: str
) -> None:
    text = str(os.getpid()) if text == "own" else text
    (original / LOCK_FILE).write_text(text, errors="surrogateescape")
    (original / LOCK_FILE).chmod(0o600)
    assert take(original).splitlines()[0] == str(os.getpid())
    assert _holder(original) is None


def test_a_process_that_goes_on_holds_no_copy_of_what_it_has_given_back(original: Path) -> None:
    """A test or a notebook that ran a runtime and copies its directory afterwards."""
    with pytest.raises(ValueError, match="x"), lock(original, said):
        raise ValueError("x")
    assert take(copied(original))
