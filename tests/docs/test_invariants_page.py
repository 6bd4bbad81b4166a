"""Each invariant names code and tests that exist, and every rule that docstrings name has its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROW = re.compile(r"^\| (?:S-(\d+) \| )?(.+?) \| (`.+?) \| (`tests/.+?) \|$", flags=re.M)
NAMED = re.compile(r"\bS-(\d+)(?:…S-(\d+))?")


@pytest.fixture(scope="module")
def rows(project_root: Path) -> list[tuple[str, str, str, str]]:
    found = ROW.findall((project_root / "docs" / "invariants.md").read_text(encoding="utf-8"))
    assert len(found) > 50
    return found


def test_the_code_that_keeps_a_rule_exists(
    rows: list[tuple[str, str, str, str]], project_root: Path
) -> None:
    named = {path for _, _, kept_by, _ in rows for path in re.findall(r"`([^`]+)`", kept_by)}
    assert sorted(path for path in named if not (project_root / path).is_file()) == []


def test_the_tests_that_would_notice_exist(
    rows: list[tuple[str, str, str, str]], project_root: Path
) -> None:
    missing = []
    for _, _, _, noticed_by in rows:
        for path, name in re.findall(r"`([^`:]+)::(\w+)`", noticed_by):
            file = project_root / path
            pattern = rf"^\s*(?:async )?def {name}\("
            if not file.is_file() or not re.search(pattern, file.read_text("utf-8"), flags=re.M):
                missing.append(f"{path}::{name}")
    assert missing == []


def test_every_rule_stands_once(rows: list[tuple[str, str, str, str]]) -> None:
    numbers = [int(number) for number, *_ in rows if number]
    assert numbers == sorted(set(numbers))


def test_every_rule_that_docstrings_name_has_its_line(
    rows: list[tuple[str, str, str, str]], project_root: Path
) -> None:
    told = {int(number) for number, *_ in rows if number}
    unknown = {}
    for folder in ("helmr", "runtime", "console"):
        for path in sorted((project_root / folder).rglob("*.py")):
            named = NAMED.findall(path.read_text(encoding="utf-8"))
            if lacks := {int(n) for pair in named for n in pair if n} - told:
                unknown[str(path.relative_to(project_root))] = lacks
    assert unknown == {}
