"""The README's commands exist, and CI runs the one that it gives for the tests."""

from __future__ import annotations

import re
from pathlib import Path


def test_every_make_command_in_the_readme_is_a_target(project_root: Path) -> None:
    makefile = (project_root / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", (project_root / "README.md").read_text(), re.M))
    assert {"demo", "test"} <= named
    assert named - targets == set()


def test_ci_runs_the_test_command_of_the_readme(project_root: Path) -> None:
    commands = (project_root / ".ci" / "run").read_text().splitlines()
    assert "make test" in commands
    assert "make test" in (project_root / "README.md").read_text().splitlines()
