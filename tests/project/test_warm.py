"""A forked `helmr` has what a started one has: streams, environment, folder, exit code, and an end by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from helmr.hash_seed import VARIABLE as SEED
from tests import warm
from tests.warm import Warm

BOUND_S = 60.0


def said(folder: Path, *words: str, **env: str) -> tuple[int, str, str]:
    """How a command ended, and what it wrote."""
    done = warm.run(*words, env={**os.environ, **env}, cwd=folder)
    return done.returncode, done.stdout, done.stderr


def test_it_writes_and_ends_as_the_command_does(tmp_path: Path) -> None:
    code, out, _ = said(tmp_path, "--version")
    assert (code, out[:6]) == (0, "helmr ")
    code, out, err = said(tmp_path, "session", "lost")
    assert (code, out) == (2, "")
    assert "No such command" in err


def test_its_environment_and_folder_are_those_given(tmp_path: Path) -> None:
    code, _, err = said(tmp_path, "session", "list", HELMR_URL="http://127.0.0.1:1")
    assert code == 6
    assert "no runtime answers at http://127.0.0.1:1" in err
    (tmp_path / "data").mkdir()
    _, _, err = said(tmp_path, "session", "list", "--data-dir=data")
    assert "data" in err


def test_a_signal_ends_it_and_its_exit_code_says_which(tmp_path: Path) -> None:
    with Path(os.devnull).open("r+") as nothing:
        files = [nothing.fileno()] * 3
        words = ["--data-dir", str(tmp_path), "up", "--in-process", "--port=0", "nothing.py"]
        one = Warm(words, env=os.environ, files=files, cwd=tmp_path)
        os.kill(one.pid, signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            one.wait(0.01)
        assert one.poll() is None
        one.kill()
        assert one.wait(BOUND_S) == -signal.SIGKILL


def test_what_python_imports_at_its_start_is_no_forks(tmp_path: Path) -> None:
    (tmp_path / warm.AT_STARTS).write_text("")
    paths = os.pathsep.join(["", str(tmp_path)])
    with pytest.raises(AssertionError, match=warm.AT_STARTS):
        said(tmp_path, "--version", PYTHONPATH=paths)


def test_one_that_starts_itself_again_is_the_same_command(tmp_path: Path) -> None:
    # Without a hash seed it takes that of its data directory, which only a fresh interpreter does.
    environ = {name: value for name, value in os.environ.items() if name != SEED}
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hash-seed").write_text("7")
    up = warm.run("up", "nothing.py", "--in-process", "--data-dir=data", env=environ, cwd=tmp_path)
    assert up.returncode == 2
    assert "nothing.py" in up.stderr
