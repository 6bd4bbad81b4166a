"""An earlier commit beside this one: its checkout, its environment, its place in the turns and in the tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs.benchmarks import beside, report
from tests.programs.benchmarks.measures import summarize
from tests.programs.benchmarks.systems import SYSTEMS, Helmr, Missing
from tests.programs.benchmarks.test_measures import measured

PYTHON = Path("/checkouts/0123456789ab/.venv/bin/python")


def test_each_helmr_that_a_command_starts_has_a_twin_behind_it() -> None:
    names = ("restate", "helmr", "helmr-ray", "helmr-in-process")
    found = beside.twins(names, "v1", PYTHON)
    assert list(found) == ["helmr@v1", "helmr-in-process@v1"]
    assert beside.paired(names, "v1", found) == (
        *("restate", "helmr", "helmr@v1"),
        *("helmr-ray", "helmr-in-process", "helmr-in-process@v1"),
    )
    twin = found["helmr-in-process@v1"]
    assert issubclass(twin, Helmr)
    assert (twin.python, twin.commit) == (str(PYTHON), "0123456789ab")
    assert twin.arguments == ("--in-process",)
    assert twin.cannot("a", 1) is None
    assert "ledger" in str(twin.cannot("h", 1))
    assert SYSTEMS["helmr"].cannot("h", 1) is None


def test_without_a_helmr_there_is_nothing_to_run_beside() -> None:
    with pytest.raises(Missing, match="no Helmr among the systems"):
        beside.twins(("restate", "helmr-ray"), "v1", PYTHON)


def test_an_earlier_commits_ratios_are_to_the_same_system_of_today() -> None:
    rounds = {"helmr": 1.0, "helmr-in-process": 2.0, "helmr-in-process@v1": 4.0}
    summaries = [
        summarize("a", 1, name, [measured(elapsed_s=took_s)]) for name, took_s in rounds.items()
    ]
    text = report.markdown(summaries, {"a": "title"}, {})
    [line] = [one for one in text.splitlines() if "@v1" in one]
    assert [cell.strip() for cell in line.split("|")][-3:-1] == ["0.50", "1.00"]


def test_a_commit_that_is_not_there_is_named(tmp_path: Path, project_root: Path) -> None:
    with pytest.raises(Missing, match="rev-parse"):
        beside.checkout("no-such-commit", tmp_path, source=project_root)


def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.programs.benchmarks import __main__ as program

    monkeypatch.setattr(os, "getloadavg", lambda: (1.6, 1.0, 1.0))
    assert program.main(["--systems=helmr", "--cases=a"]) == 2


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_commit_runs_in_turns_with_this_one(tmp_path: Path, project_root: Path) -> None:
    program = [sys.executable, "-m", "tests.programs.benchmarks", "--quick", "--rounds=2"]
    ran = subprocess.run(
        [*program, "--cases=a", "--systems=helmr-in-process", "--beside=HEAD", f"--out={tmp_path}"],
        cwd=tmp_path,  # the checkout goes below it
        env={**os.environ, "PYTHONPATH": str(project_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    turns = [line for line in ran.stderr.splitlines() if "round " in line]
    assert [line.rsplit(": ", 1)[1] for line in turns] == [
        *("helmr-in-process", "helmr-in-process@HEAD"),
        *("helmr-in-process@HEAD", "helmr-in-process"),
    ]
    found = json.loads((tmp_path / "bench.json").read_text())
    assert {one["system"]: one["rounds"] for one in found["summaries"]} == {
        "helmr-in-process": 2,
        "helmr-in-process@HEAD": 2,
    }
