"""What CI says of tests that fail once, and the list of known ones, which may only shrink."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import flaky
from tests.flaky import KNOWN, Run, known_of, missing, refusal, table, verdict

KNOWN_MAX = 0
"""How many tests may be known to be flaky. Lower it when one is mended; it is never raised."""

ONE, TWO = "tests/a/test_a.py::test_one", "tests/a/test_a.py::test_two[x]"
PASSED = Run({"others": [], "seen": []}, {"others": 0, "seen": 5})


def failed(*tests: str) -> Run:
    return Run({"others": list(tests), "seen": []}, {"others": 1, "seen": 0})


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
    "code",
    [
        pytest.param(1, id="without a failed test"),
        pytest.param(2, id="not collected"),
        pytest.param(-9, id="killed"),
    ],
)
def test_what_is_no_tests_failure_is_not_forgiven(code: int) -> None:
    first = Run({"others": [ONE], "seen": []}, {"others": 1, "seen": code})
    assert first.broken() == ["seen"]
    assert verdict(first, PASSED) == 1
    assert "seen" in refusal(first)[0]
    assert any("BROKEN" in line and "seen" in line for line in table(first, PASSED, ()))


def test_a_second_run_that_was_cut_off_or_broke_is_not_believed() -> None:
    assert verdict(failed(ONE), Run()) == 1
    assert verdict(failed(ONE), Run({"others": []}, {"others": 2})) == 1


def test_nothing_is_run_again_for_what_it_cannot_mend() -> None:
    assert "no test failed" in refusal(Run({"others": []}, {"others": 0}))[0]
    assert "over" in refusal(failed(*(f"{ONE}-{number}" for number in range(41))))[0]


ONCE = """
from pathlib import Path

def test_once():
    mark = Path(__file__).with_name("mark")
    was_there = mark.exists()
    mark.touch()
    assert was_there
"""


def test_a_real_test_that_fails_once_is_remembered_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    for name, path in (("CACHE", cache), ("CODES", cache / "codes"), ("FIRST", cache / "first")):
        monkeypatch.setattr(flaky, name, path)
    (tmp_path / "test_it.py").write_text(ONCE)

    def run(*arguments: str) -> int:
        options = ["-q", *arguments]
        command = [sys.executable, "-m", "pytest", *options, "-o", f"cache_dir={cache / 'others'}"]
        done = subprocess.run([*command, "test_it.py"], cwd=tmp_path, check=False, timeout=50)
        (cache / "codes").write_text(json.dumps({"others": done.returncode}))
        return done.returncode

    assert run() == 1
    assert flaky.main(["remember"]) == 0
    assert run("--last-failed", "--last-failed-no-failures", "none") == 0
    assert flaky.main(["report"]) == 0
    said = capsys.readouterr().out
    assert "CI:   FLAKY (new)    test_it.py::test_once" in said
    assert run("--last-failed", "--last-failed-no-failures", "none") == flaky.NONE_COLLECTED
    assert flaky.main(["remember"]) == 1
    assert "no test failed" in capsys.readouterr().out
