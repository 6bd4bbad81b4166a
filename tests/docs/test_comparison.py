"""The table of the comparison counts its programs by one rule."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
DRIVES = re.compile(r"async def main\b|def main\b|if __name__")
ROWS = re.findall(
    r"^\| (\w+)[^|]* \| (\d+)(?:, of which (\d+) drive it)? \| yes",
    (DOCS / "comparison.md").read_text("utf-8"),
    flags=re.M,
)


def counted(program: str) -> tuple[int, int]:
    """Its lines, and those of them that drive it."""
    lines = [one for one in program.splitlines() if one.strip() and one.strip()[0] != "#"]
    driving, is_driving = 0, False
    for line in lines:
        if not line.startswith((" ", ")")):
            is_driving = DRIVES.match(line) is not None
        driving += is_driving
    return len(lines), driving


@pytest.mark.parametrize(("name", "lines", "driving"), ROWS, ids=[row[0] for row in ROWS])
def test_lines_are_counted_alike(name: str, lines: str, driving: str) -> None:
    program = (DOCS / "comparison" / f"{name.lower()}_approval.py").read_text("utf-8")
    assert counted(program) == (int(lines), int(driving or 0))


def test_all_five_are_counted() -> None:
    assert len(ROWS) == 5
