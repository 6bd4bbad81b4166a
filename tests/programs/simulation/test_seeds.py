"""A seed is a whole history: event by event the same, whatever the machine and the interpreter do meanwhile."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.programs.simulation.test_simulation import simulate

SEEDS = ("11", "12")


CHOSEN = [argument for seed in SEEDS for argument in ("--seed", seed)]


def told(output: str) -> dict[str, str]:
    """By seed, what its events come to."""
    lines = (line.split(maxsplit=1) for line in output.splitlines())
    return {seed: what for seed, what in lines if " after " in what}


def digests(root: Path, hash_seed: str, *arguments: str) -> dict[str, str]:
    """The same of a process with its own addresses and its own hashes of texts."""
    hashed = {"PYTHONHASHSEED": hash_seed}
    ran = simulate(root, *CHOSEN, "--digests", "--no-shrink", *arguments, environment=hashed)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return told(ran.stdout)


@pytest.mark.parametrize(
    "feed_pause_s", ["0.2", *(pytest.param(s, marks=pytest.mark.long) for s in ("0.05", "1.0"))]
)
def test_a_seed_is_the_same_events_each_time(project_root: Path, feed_pause_s: str) -> None:
    arguments = ("--steps", "2500", "--feed-pause", feed_pause_s)
    first = digests(project_root, "1", *arguments)
    again = digests(project_root, "2", *arguments, "--unsettled")
    assert set(first) == set(SEEDS)
    assert len(set(first.values())) == len(SEEDS)
    assert again == first


@pytest.mark.long
def test_a_seed_is_the_same_events_wherever_the_sources_stand(
    project_root: Path, tmp_path: Path
) -> None:
    parts = ("helmr", "runtime", "tests/core", "tests/programs/figures")
    for part in (*parts, "tests/programs/simulation"):
        source, copied = project_root / part, tmp_path / "elsewhere" / part
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__"))
    moved = tmp_path / "elsewhere" / "tests" / "programs" / "simulation"
    for name in ("code.py", "world.py"):  # what fails there does so in another line
        (moved / name).write_text("# moved\n\n" + (moved / name).read_text())
    paths = os.pathsep.join(str(tmp_path / "elsewhere" / part) for part in ("", "runtime"))
    arguments = (*CHOSEN, "--digests", "--no-shrink", "--steps", "2000")
    there = simulate(tmp_path / "elsewhere", *arguments, environment={"PYTHONPATH": paths})
    here = simulate(project_root, *arguments)
    assert here.returncode == there.returncode == 0, here.stdout + there.stdout + there.stderr
    assert told(there.stdout) == told(here.stdout)


@pytest.mark.long
def test_what_happens_is_written_as_lines(project_root: Path, tmp_path: Path) -> None:
    traces = [tmp_path / "one", tmp_path / "again"]
    for trace in traces:
        simulate(project_root, "--seed", "11", "--steps", "500", "--trace", str(trace))
    one, again = (trace.read_text().splitlines() for trace in traces)
    assert any("session.created" in line for line in one)
    assert len(one) > 500
    assert one == again
