"""The command behind `make hour`.

The hours go on at the same time: what else the machine does is the same for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from tests.programs.operators_hour.hour import one_hour
from tests.programs.operators_hour.operators import (
    Before,
    Hurried,
    HurriedNarrow,
    Lines,
    Now,
    NowNarrow,
    Operator,
)
from tests.programs.operators_hour.page import Page
from tests.programs.operators_hour.plan import HURRIED_SHARES, SEED, hundred
from tests.programs.operators_hour.report import Measured, broken_bounds, table

ROOT = Path(__file__).parents[3]
KEPT = ROOT / ".bench" / "operators-hour"
BEFORE_COMMIT = "a7e85b4"
"""The last commit on main without claims, `helmr next`, held sends and the desk."""

BEFORE, NOW, LINES, HURRIED, PAGE = "before", "now", "helmr next", "hurried", "page"
NARROW, HURRIED_NARROW = "80x24", "hurried-80x24"


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"hour: {text}\n")
    sys.stderr.flush()


def checkout(commit: str) -> Path:
    """The files of a commit with what they need installed; made once."""
    folder = KEPT / commit
    if not (folder / ".venv" / "bin" / "helmr").exists():
        say(f"{commit}: its files and what they need")
        folder.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["git", "archive", commit], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "x"], cwd=folder, check=True, input=packed.stdout)
        subprocess.run(["make", ".venv/.stamp-demo"], cwd=folder, check=True, stdout=sys.stderr)
    return folder


def main() -> int:
    """Measure what is asked for, print a table, and say what is not as it is to be."""
    parser = argparse.ArgumentParser(
        prog="make hour", description="An operator's hour, before the desk and now."
    )
    parser.add_argument("--waits", type=int, default=100)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--before", default=BEFORE_COMMIT, metavar="COMMIT")
    choices = (BEFORE, NOW, NARROW, LINES, HURRIED, HURRIED_NARROW, PAGE)
    parser.add_argument("--only", choices=choices, action="append")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go, too")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="a new one for ledgers and all else"
    )
    given = parser.parse_args()
    ways: dict[str, type[Operator]] = {
        BEFORE: Before,
        NOW: Now,
        LINES: Lines,
        NARROW: NowNarrow,
        HURRIED: Hurried,
        HURRIED_NARROW: HurriedNarrow,
        PAGE: Page,
    }
    plans = {name: hundred(given.waits, given.seed) for name in ways}
    for name in (HURRIED, HURRIED_NARROW):
        plans[name] = hundred(given.waits, given.seed, HURRIED_SHARES)
    found: dict[str, Measured] = {}
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = os.getloadavg()[0]
    names = given.only or [BEFORE, NOW, LINES]
    roots = {name: checkout(given.before) if name == BEFORE else ROOT for name in names}

    async def all_hours(folder: Path) -> list[Measured | BaseException]:
        hours = [
            one_hour(
                ways[name],
                roots[name],
                folder / f"hour-{number}",
                plans[name],
                has_desk=name != BEFORE,
            )
            for number, name in enumerate(names)
        ]
        begun = asyncio.gather(*hours, return_exceptions=True)
        # Without a word they would leave their runtimes and consoles behind.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, begun.cancel)
        return await begun

    say(f"{given.waits} waits: {', '.join(names)}; load {load:.1f}")
    with tempfile.TemporaryDirectory(prefix="hour-") as folder:
        try:
            ended = asyncio.run(all_hours(given.keep or Path(folder)))
        except asyncio.CancelledError:
            say("ended by SIGTERM")
            return 128 + signal.SIGTERM
    for name, one in zip(names, ended, strict=True):
        if isinstance(one, BaseException):
            say(f"{name}: {type(one).__name__}: {one}")
        else:
            found[name] = one
    where = f"{os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"
    sys.stdout.write(f"{began}, {where}\n\n{table(found)}\n")
    if given.json is not None:
        figures = {name: asdict(one) for name, one in found.items()}
        given.json.write_text(json.dumps({"began": began, "load": load, **figures}, indent=1))
    broken = broken_bounds(found, BEFORE, NOW)
    for text in broken:
        say(text)
    return 1 if broken or len(found) < len(names) else 0


if __name__ == "__main__":
    sys.exit(main())
