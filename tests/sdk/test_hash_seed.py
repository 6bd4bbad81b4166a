"""One hash seed for each data directory: made once, kept, and given to every process (S-30)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helmr import hash_seed
from helmr.hash_seed import FILE, VARIABLE, fresh_seed, is_seed, kept_seed
from helmr_runtime.launchers.startup import give_seed, keep_seed


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.delenv(VARIABLE, raising=False)
    return []


def test_the_first_start_makes_a_seed_and_later_ones_have_it(tmp_path: Path, said: list[str]):
    give_seed(tmp_path)
    made = os.environ[VARIABLE]
    assert kept_seed(tmp_path) is None, "a start that is refused leaves nothing behind"
    keep_seed(tmp_path, said.append)
    assert kept_seed(tmp_path) == made
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    del os.environ[VARIABLE]
    give_seed(tmp_path)
    keep_seed(tmp_path, said.append)
    assert os.environ[VARIABLE] == made
    assert said == []


def test_a_seed_of_ones_own_stays_and_is_told_if_it_differs(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(VARIABLE, "7")
    give_seed(tmp_path)
    keep_seed(tmp_path, said.append)
    assert (os.environ[VARIABLE], kept_seed(tmp_path), said) == ("7", "7", [])
    monkeypatch.setenv(VARIABLE, "8")
    keep_seed(tmp_path, said.append)
    assert kept_seed(tmp_path) == "7"
    assert said == [
        f"PYTHONHASHSEED is 8, and 7 in {tmp_path / FILE}: sessions that go through a set of texts may be blocked. "
        "Unset it, or remove that file."
    ]


@pytest.mark.parametrize("text", ["", "random", "-1", "4294967296", "1.5", "٣", "7\n8"])
def test_what_is_no_seed_is_passed_over(tmp_path: Path, text: str):
    assert not is_seed(text)
    (tmp_path / FILE).write_text(text)
    assert kept_seed(tmp_path) is None


def test_fresh_seeds_are_seeds():
    assert is_seed(fresh_seed())
    assert len({fresh_seed() for _ in range(20)}) > 15


def test_another_program_is_not_started_again(tmp_path: Path, said: list[str]):
    assert not hash_seed.is_own_program
    hash_seed.start_with_seed(tmp_path)
    assert VARIABLE not in os.environ


PROGRAM = """
import os, sys
from pathlib import Path
from helmr import hash_seed
hash_seed.is_own_program = True
hash_seed.start_with_seed(Path(sys.argv[1]), makes_one=sys.argv[2] == "makes")
print(os.environ.get("PYTHONHASHSEED"), sys.flags.hash_randomization, sys.argv[2:], *{"red", "blue", "green", "black"})
"""


def test_a_program_starts_again_with_the_seed_and_its_own_arguments(
    tmp_path: Path, project_root: Path
):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environ = {k: v for k, v in os.environ.items() if k != VARIABLE}
    environ["PYTHONPATH"] = str(project_root)

    def run(how: str) -> str:
        command = [sys.executable, str(program), str(tmp_path), how, "x"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        return done.stdout

    assert run("only").startswith("None 1 ['only', 'x']")
    assert not run("makes").startswith("None")
    (tmp_path / FILE).write_text("4711\n")
    found = {run("only") for _ in range(3)}
    assert len(found) == 1
    assert found.pop().startswith("4711 1 ['only', 'x']")
