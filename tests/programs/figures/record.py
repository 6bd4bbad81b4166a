"""Figures on record: written by the commands that measured them, and by nobody else."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PATH = ROOT / "docs" / "reliability-figures.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a command.

    Args:
        command: How it was started.
        date: Of its end, UTC.
        commit: Of the sources; with a `+` if they had changes beside it.
        version: Theirs.
        machine: Where.
        figures: What it counted.
    """

    command: str
    date: str
    commit: str
    version: str
    machine: str
    figures: Mapping[str, Any]


def put(
    source: str, command: str, figures: Mapping[str, Any], *, commit_: str = "", path: Path = PATH
) -> None:
    """Write down a run that stands for all runs of its kind before it."""
    _write({**read(path), source: [_run(command, figures, commit_)]}, path)


def add(source: str, command: str, figures: Mapping[str, Any], *, path: Path = PATH) -> None:
    """Write down a run that counts beside those before it."""
    found = read(path)
    _write({**found, source: [*found.get(source, []), _run(command, figures, "")]}, path)


def read(path: Path = PATH) -> dict[str, list[Run]]:
    """All runs, by what was run."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    return {source: [Run(**run) for run in runs] for source, runs in found.items()}


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--record`, of a command that ends with `put` or `add`."""
    parser.add_argument(
        "--record", action=_Record, nargs=0, default=False,
        help="put it on record for docs/reliability.md",
    )  # fmt: skip


class _Record(argparse.Action):
    """Sets it, and looks at the sources as they are when the command begins."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, *rest: Any) -> None:
        commit()
        setattr(namespace, self.dest, True)


@cache
def commit() -> str:
    """Of this checkout, when it was first asked for: it may be another before a long run has ended."""
    name = _git("rev-parse", "--short", "HEAD")
    return f"{name}+" if _git("status", "--porcelain", "--untracked-files=no") else name


def machine() -> str:
    """This machine, as far as it matters."""
    processors = os.cpu_count()
    return f"{processors} processors, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"


def _run(command: str, figures: Mapping[str, Any], commit_: str) -> Run:
    return Run(
        command=command,
        date=datetime.now(UTC).date().isoformat(),
        commit=commit_ or commit(),
        version=str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]),
        machine=machine(),
        figures=figures,
    )


def _write(runs: Mapping[str, list[Run]], path: Path) -> None:
    text = {source: [asdict(run) for run in some] for source, some in sorted(runs.items())}
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(json.dumps(text, indent=1) + "\n")
    fresh.rename(path)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )  # fmt: skip
    return done.stdout.strip()
