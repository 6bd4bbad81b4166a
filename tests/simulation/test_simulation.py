"""Some seeds, other ones each time and each a whole history; `make simulate` tries as many as there is time for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def simulate(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own: what it forks has no threads beside it."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_always_holds_holds_whatever_goes_wrong(project_root: Path) -> None:
    ran = simulate(project_root, "--total", "60000", "--no-shrink")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_seed_is_a_whole_history(project_root: Path) -> None:
    one, again = (
        simulate(project_root, "--seed", "11", "--steps", "3000", "--counts").stdout for _ in "12"
    )
    counts = [line for line in one.splitlines() if " in " not in line]
    assert len(counts) > 30
    assert counts == [line for line in again.splitlines() if " in " not in line]
