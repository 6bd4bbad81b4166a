"""Each dependency says why it is there and is pinned; no word on where it came from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.+!]+)(?: ; (?P<marker>.+))?")


@pytest.fixture
def pins(project_root: Path) -> dict[str, set[Version]]:
    """The pinned versions by package; markers may give one package several."""
    found: dict[str, set[Version]] = {}
    for line in (project_root / "constraints.txt").read_text().splitlines():
        if match := PIN.fullmatch(line):
            name = canonicalize_name(match["name"])
            found.setdefault(name, set()).add(Version(match["version"]))
    return found


def test_constraints_hold_only_pins(project_root: Path) -> None:
    comment, *lines = (project_root / "constraints.txt").read_text().splitlines()
    assert comment.startswith("# Compiled by 'make lock'")
    assert [line for line in lines if not PIN.fullmatch(line)] == []


def test_every_direct_dependency_is_pinned_in_its_range(
    project_root: Path, pins: dict[str, set[Version]]
) -> None:
    project = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for extra in extras.values() for text in extra)]
    stale = []
    for requirement in map(Requirement, texts):
        if requirement.name == project["name"]:  # an extra of extras
            continue
        versions = pins.get(canonicalize_name(requirement.name), set())
        if not versions or not all(requirement.specifier.contains(v) for v in versions):
            stale.append(f"{requirement}: pinned {sorted(map(str, versions)) or 'nowhere'}")
    assert stale == [], "run 'make lock'"


def test_every_dependency_line_says_why(project_root: Path) -> None:
    lines = (project_root / "pyproject.toml").read_text().splitlines()
    dependency = re.compile(r'(?:requires = \[| {4})"(?P<text>[^"]+)"\]?,?(?P<rest>.*)')
    section = key = ""
    seen, silent = [], []
    for line in lines:
        if line.startswith("["):
            section = line.strip("[]")
        elif match := re.match(r"([a-z-]+) = \[", line):
            key = match[1]
        in_list = section == "project.optional-dependencies" or key in {"dependencies", "requires"}
        if in_list and (match := dependency.fullmatch(line)):
            seen.append(match["text"])
            if not re.fullmatch(r" +# \S.*", match["rest"]):
                silent.append(line.strip())
        if line == "]":
            key = ""
    assert len(seen) > 20, "the pattern no longer finds the dependency lines"
    assert silent == []
