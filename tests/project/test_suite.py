"""How the files of `make test` are shared out, and what a run leaves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import suite
from tests.longer import long_but

SLOW = "import time\n\ndef test_slow():\n    time.sleep(1.1)\n"
SHORT = "def test_b(): pass\n\ndef test_a(): pass\n"


@pytest.fixture
def checkout(tmp_path: Path, project_root: Path) -> Path:
    """A project of three files, with the plugin of this one."""
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "suite.py").write_text((project_root / "tests" / "suite.py").read_text())
    (tests / "__init__.py").touch()
    (tests / "conftest.py").write_text('pytest_plugins = ["tests.suite"]\n')
    (tests / "seconds.json").write_text('{"tests/test_slow.py": 3, "tests/test_gone.py": 9}')
    (tests / "test_early.py").write_text(SHORT)
    (tests / "test_slow.py").write_text(SLOW)
    (tests / "test_zero.py").write_text(SHORT)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\n")
    return tmp_path


def run(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    options = ["-p", "xdist", *words]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=checkout,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_the_longest_file_comes_first_and_the_others_keep_their_order(checkout: Path) -> None:
    done = run(checkout, "--collect-only", "-q")
    assert done.stdout.split()[:5] == [
        "tests/test_slow.py::test_slow",
        "tests/test_early.py::test_b",
        "tests/test_early.py::test_a",
        "tests/test_zero.py::test_b",
        "tests/test_zero.py::test_a",
    ]


@pytest.mark.long  # the test below shows it too
def test_workers_start_with_the_longest_file(checkout: Path) -> None:
    done = run(checkout, "-v", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    assert done.returncode == 0, done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if "PASSED" in line]
    by = {line[-1]: line[0] for line in lines}
    early = by["tests/test_early.py::test_a"]
    assert by["tests/test_early.py::test_b"] == early
    assert by["tests/test_slow.py::test_slow"] != early, "the first two units go to a worker each"


def test_files_that_stay_together_are_one_workers_and_come_first(checkout: Path) -> None:
    (checkout / "tests" / "stack").mkdir()
    for name in [one for one, unit in suite.TOGETHER.items() if unit == "stack"][:3]:
        (checkout / name).write_text(SHORT)
    done = run(checkout, "-v", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
    assert done.returncode == 0, done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if "PASSED" in line]
    [together] = {line[0] for line in lines if "/stack/" in line[-1]}
    [slow] = {line[0] for line in lines if "test_slow" in line[-1]}
    assert slow != together, "they are the first unit, the longest file the second"


@pytest.mark.parametrize(
    ("unit", "asks"),
    [
        ("stack", r"\bshared: LiveRuntime|getfixturevalue"),
        ("ordinary", r"\b(stand|outcomes): (Stand|dict)"),
    ],
)
def test_files_that_share_a_runtime_stay_together(project_root: Path, unit: str, asks: str) -> None:
    files = (project_root / "tests" / unit).glob("test_*.py")
    sharing = {one for one in files if re.search(asks, one.read_text())}
    together = {one for one, name in suite.TOGETHER.items() if name == unit}
    assert {one.relative_to(project_root).as_posix() for one in sharing} == together


@long_but(1, "workers", [(), ("-n", "2", "--dist", "loadfile")], ids=["alone", "two"])
def test_seconds_are_recorded_when_asked_for(checkout: Path, workers: tuple[str, ...]) -> None:
    seconds = checkout / "tests" / "seconds.json"
    before = seconds.read_text()
    assert run(checkout, *workers).returncode == 0
    assert seconds.read_text() == before
    assert run(checkout, "--record-seconds", *workers).returncode == 0
    assert json.loads(seconds.read_text()) == {"tests/test_slow.py": 1}
    assert not seconds.with_name("seconds_long.json").exists()


def test_the_exit_code_is_left_and_none_while_a_run_lasts(checkout: Path) -> None:
    code = checkout / ".pytest_cache" / "v" / suite.EXIT_CODE
    (checkout / "tests" / "test_early.py").write_text(
        f"def test_now():\n    assert open({str(code)!r}).read() != 'null'\n"
    )
    assert run(checkout, "-n", "2").returncode == 1
    assert json.loads(code.read_text()) == 1
    assert run(checkout, "tests/test_zero.py").returncode == 0
    assert json.loads(code.read_text()) == 0


@pytest.mark.parametrize("name", ["seconds.json", "seconds_long.json"])
def test_recorded_files_are_there(name: str, project_root: Path) -> None:
    seconds = json.loads(suite.SECONDS.with_name(name).read_text(encoding="utf-8"))
    assert [file for file in seconds if not (project_root / file).is_file()] == []


@pytest.mark.parametrize("names", ["one", ("one", "other"), "one, other"])
def test_all_but_the_first_values_are_for_the_long_run(names: str | tuple[str, ...]) -> None:
    values = [1, 2, pytest.param(3, id="third")]
    if names != "one":
        values = [(1, 1), (2, 2), pytest.param(3, 3, id="third", marks=pytest.mark.slow)]
    short, second, third = long_but(1, names, values).args[1]
    assert short == values[0]
    assert second.values == ((2,) if names == "one" else (2, 2))
    assert [mark.name for mark in second.marks] == ["long"]
    assert third.id == "third"
    assert [mark.name for mark in third.marks][-1:] == ["long"]
    assert len(third.marks) == (1 if names == "one" else 2)
