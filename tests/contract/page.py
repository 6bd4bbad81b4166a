"""docs/transports.md: which operation was seen over which way, as the tests see it again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "transports.md"
COLUMNS = ("HTTP", "Ray", "harness")
TICK = "✓"


def rows() -> dict[str, dict[str, bool]]:
    """The page's table: operation, and what is ticked."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `") and len(cells) == len(COLUMNS) + 1:
            ticks = dict(zip(COLUMNS, (cell == TICK for cell in cells[1:]), strict=True))
            found[cells[0].strip("`")] = ticks
    return found


def ticked(column: str) -> list[str]:
    """The operations that the page says were seen over that way."""
    return sorted(name for name, ticks in rows().items() if ticks[column])


def cases() -> list[str]:
    """The cases that the page names, as functions are."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [line[2:].replace(" ", "_") for line in lines if line.startswith("- ")]


def table(operations: Iterable[str]) -> str:
    """The table with a row for each: the ticks that it has, and all of a new one, which tests then have to see."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    known = rows()
    for name in operations:
        ticks = known.get(name, dict.fromkeys(COLUMNS, True))
        marks = (TICK if ticks[column] else "-" for column in COLUMNS)
        lines.append(f"| `{name}` | {' | '.join(marks)} |")
    return "\n".join(lines) + "\n"
