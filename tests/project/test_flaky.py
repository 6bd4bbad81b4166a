"""What CI says of tests that fail once, and the list of known ones, which may only shrink."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import flaky
from tests.flaky import KNOWN, Run, known_of, missing, refusal, table, verdict
from tests.secret_search import SECRETS_LEFT

KNOWN_MAX = 0
"""How many tests may be known to be flaky. Lower it when one is mended; it is never raised."""

ONE, TWO = "tests/a/test_a.py::test_one", "tests/a/test_a.py::test_two[x]"
PASSED = Run(frozenset(), 0)


def failed(*tests: str) -> Run:
    return Run(frozenset(tests), 1)


def test_the_list_only_shrinks() -> None:
    assert len(known_of(KNOWN.read_text())) <= KNOWN_MAX


def test_each_listed_test_exists_and_says_what_was_seen(project_root: Path) -> None:
    known = known_of(KNOWN.read_text())
    assert missing(known, project_root) == []
    assert [test for test, seen in known.items() if not seen] == []


def test_a_listed_test_that_is_gone_is_found(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(
        "async def test_there(): ...\nclass TestIt:\n    def test_in(self): ...\n"
    )
    gone = ["test_a.py::test_gone", "test_b.py::test_there", "test_a.py", "test_a.py::TestIt::no"]
    there = ["test_a.py::test_there[a::b]", "test_a.py::TestIt::test_in"]
    assert missing([*gone, *there], tmp_path) == gone


def test_lines_of_the_list() -> None:
    assert known_of(f"# about\n\n{ONE}  # a port was taken\n{TWO}\n") == {
        ONE: "a port was taken",
        TWO: "",
    }


def test_a_test_that_passes_when_run_again_is_shown_and_stops_nothing() -> None:
    lines = table(failed(ONE, TWO), PASSED, {ONE})
    assert f"CI:   FLAKY (new)    {TWO}" in lines
    assert f"CI:   flaky (known)  {ONE}" in lines
    assert lines[-1] == "CI: flaky 2, of them new 1; twice 0; known 1"
    assert verdict(failed(ONE, TWO), PASSED) == 0


def test_a_listed_test_stands_for_all_its_parameters() -> None:
    listed = TWO.partition("[")[0]
    assert f"CI:   flaky (known)  {TWO}" in table(failed(TWO), PASSED, {listed})


def test_a_test_that_fails_twice_fails_ci() -> None:
    assert verdict(failed(ONE, TWO), failed(TWO)) == 1
    lines = table(failed(ONE, TWO), failed(TWO), ())
    assert f"CI:   FAILED TWICE   {TWO}" in lines
    assert f"CI:   FLAKY (new)    {ONE}" in lines


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(Run(frozenset(), 1), id="without a failed test"),
        pytest.param(Run(frozenset({ONE}), 2), id="interrupted"),
        pytest.param(Run(frozenset({ONE}), SECRETS_LEFT), id="a secret was left"),
        pytest.param(Run(frozenset({ONE}), None), id="killed"),
    ],
)
def test_what_is_no_tests_failure_is_not_forgiven(run: Run) -> None:
    assert run.is_broken
    assert verdict(run, PASSED) == 1
    assert f"ended with {run.code}" in str(refusal(run))


def test_a_second_run_that_was_cut_off_or_broke_is_not_believed() -> None:
    assert verdict(failed(ONE), Run(frozenset(), None)) == 1
    assert verdict(failed(ONE), Run(frozenset(), 2)) == 1


def test_a_second_run_is_refused_for_what_it_cannot_mend() -> None:
    assert refusal(failed(ONE)) is None
    assert refusal(PASSED) == "no test failed"
    assert "over" in str(refusal(failed(*(f"{ONE}-{number}" for number in range(41)))))


ONCE = """
from pathlib import Path

def test_once():
    mark = Path(__file__).with_name("mark")
    was_there = mark.exists()
    mark.touch()
    assert was_there
"""


@pytest.mark.long
def test_a_real_test_that_fails_once_is_remembered_and_reported(
    tmp_path: Path,
    project_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = tmp_path / "cache"
    names = {name: getattr(flaky, name) for name in ("CODE", "FAILURES", "FIRST")}
    for name, path in names.items():
        monkeypatch.setattr(flaky, name, cache / path.relative_to(flaky.CACHE))
    (tmp_path / "test_it.py").write_text(ONCE)
    (tmp_path / "pytest.ini").touch()
    environ = {
        **os.environ,
        "PYTHONPATH": str(project_root),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }

    def run(*arguments: str) -> int:
        options = [
            "-q",
            "-p",
            "xdist",
            "-n",
            "2",
            "-p",
            "tests.suite",
            *arguments,
            "-o",
            f"cache_dir={cache}",
        ]
        command = [sys.executable, "-m", "pytest", *options, "test_it.py"]
        done = subprocess.run(command, cwd=tmp_path, env=environ, check=False, timeout=50)
        assert flaky.read_run().code == done.returncode
        return done.returncode

    assert run() == 1
    assert flaky.main(["remember"]) == 0
    assert run("--last-failed", "--last-failed-no-failures", "none") == 0
    assert flaky.main(["report"]) == 0
    said = capsys.readouterr().out
    assert "CI:   FLAKY (new)    test_it.py::test_once" in said
    assert flaky.main(["remember"]) == 1
    assert "no test failed" in capsys.readouterr().out
