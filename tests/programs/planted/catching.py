"""Running what catches a bug, in a copy of the sources that Python imports instead of the installed ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COPIED = ("helmr", "runtime", "console", "tests", "pyproject.toml")
IGNORED = shutil.ignore_patterns("__pycache__", ".hypothesis")
IMPORTED = ("helmr", "helmr_runtime", "helmr_console", "tests.programs.planted")
"""A package of each folder; all must come from the copy."""

LONGEST_S = 900.0
"""Of one command. What hangs catches nothing."""

PYTEST = ("-q", "-x", "-rf", "--tb=short", "-p", "no:randomly", "-p", "no:cacheprovider")
_COUNT = re.compile(r"(\d+) (passed|failed|errors?)\b")
_FAILED = re.compile(r"^FAILED (\S+)(?: - (\w+))?", re.MULTILINE)
_RULE = re.compile(r"^(S-\d+) after (\d+) steps", re.MULTILINE)
_STEPS = re.compile(r"^\d+ seeds, (\d+) steps", re.MULTILINE)

NOT_RUN = frozenset(
    {"AttributeError", "ImportError", "ModuleNotFoundError", "NameError", "SyntaxError"}
)
"""A test that fails so has found that the patch does not fit, and no bug."""


@dataclass(frozen=True, slots=True)
class Caught:
    """What caught a bug, after what, in how many seconds."""

    by: str
    after: str
    took_s: float


@dataclass(frozen=True, slots=True)
class Missed:
    """Nothing was caught; `said` is the end of what the command said."""

    why: str
    said: str


def copy_sources(root: Path, to: Path) -> None:
    """Copy what is patched and what catches it."""
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=IGNORED)
        else:
            shutil.copy2(source, to / name)


def environment(root: Path) -> dict[str, str]:
    """In which Python imports the sources of `root`."""
    left_out = {"PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS"}
    inherited = {name: value for name, value in os.environ.items() if name not in left_out}
    paths = (root, root / "runtime", root / "console")
    # Wide, or pytest's summary would be cut before it says why a test failed.
    return {**inherited, "PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "400"}


def require_imported(root: Path) -> None:
    """Return if Python imports the sources of `root`.

    Raises:
        RuntimeError: It imports others.
    """
    program = f"import {', '.join(IMPORTED)}"
    program += "".join(f"; print({name}.__file__)" for name in IMPORTED)
    ran = _run([sys.executable, "-c", program], root)
    files = ran.stdout.split()
    if len(files) != len(IMPORTED) or not all(
        Path(file).resolve().is_relative_to(root.resolve()) for file in files
    ):
        raise RuntimeError(f"not the copy in {root} is imported, but {files}\n{ran.stderr}")


def fault_without_patch(commands: Sequence[Sequence[str]], root: Path) -> str | None:
    """Run all of these in unpatched sources; what the first that fails says, None if all succeed."""
    tests = list(dict.fromkeys(test for one in commands if one[0] == "pytest" for test in one[1:]))
    others = dict.fromkeys(tuple(one) for one in commands if one[0] != "pytest")
    for command in [("pytest", *tests)] * bool(tests) + list(others):
        ran = _run(_arguments(command), root)
        if ran.returncode != 0:
            return f"{' '.join(command)} fails without a patch:\n{_end(ran)}"
    return None


def catch(command: Sequence[str], root: Path) -> Caught | Missed:
    """Run what is to catch the bug in `root`."""
    began_s = time.monotonic()
    try:
        ran = _run(_arguments(command), root)
    except subprocess.TimeoutExpired:
        return Missed(f"it did not end in {LONGEST_S:.0f} s", "")
    found = _judged(command, ran.returncode, ran.stdout)
    if isinstance(found, str):
        return Missed(found, _end(ran))
    return Caught(*found, took_s=time.monotonic() - began_s)


def _judged(command: Sequence[str], code: int, output: str) -> tuple[str, str] | str:
    """What caught it and after what, or why nothing did."""
    if code != 1:
        return "it succeeds" if code == 0 else f"it ends with {code}"
    if command[0] == "pytest":
        return _judged_tests(output)
    if (rule := _RULE.search(output)) is not None:
        steps = _STEPS.search(output)
        return rule[1], f"{int(steps[1] if steps is not None else rule[2]):,} steps"
    return "no rule is named"


def _judged_tests(output: str) -> tuple[str, str] | str:
    counts = {kind.rstrip("s"): int(count) for count, kind in _COUNT.findall(output)}
    failed = _FAILED.search(output)
    if failed is None or "error" in counts:
        return "no test fails: what runs them does"
    if failed[2] in NOT_RUN:
        return f"{failed[1]} has an {failed[2]}: the patch does not fit"
    return failed[1], f"{counts['failed'] + counts.get('passed', 0):,} tests"


def _arguments(command: Sequence[str]) -> list[str]:
    if command[0] == "pytest":
        return [sys.executable, "-m", "pytest", *PYTEST, *command[1:]]
    if command[:2] == ("python", "-m"):
        return [sys.executable, *command[1:]]
    raise ValueError(f"neither 'pytest …' nor 'python -m …': {' '.join(command)}")


def _run(arguments: list[str], root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        cwd=root,
        env=environment(root),
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_S,
    )


def _end(ran: subprocess.CompletedProcess[str]) -> str:
    return (ran.stdout + ran.stderr)[-3_000:]
