"""A feature is taken out by deleting its folders and its lines: the kernel and the other features do not miss it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helmr.features.names import NAMES

ROOT = Path(__file__).resolve().parents[2]
HOUSES = ("helmr", "runtime/helmr_runtime", "console/helmr_console", "tests")
COPIED = (*HOUSES, "docs", "pyproject.toml", "CONTRIBUTING.md", "README.md")
LISTS = ("helmr/features/names.py", "helmr/features/__init__.py")
"""Where a line names each feature: the tuple, and the parts of clients for type checkers."""

QUICK = (
    "tests/core/test_sends.py",
    "tests/core/test_repeats.py",
    "tests/ledger/test_tokens.py",
    "tests/ledger/test_port.py",
    "tests/http/test_health.py",
    "tests/http/test_rights.py",
    "tests/client/test_faces.py",
    "tests/cli/test_lists.py",
    "tests/console/pure",
    "tests/sdk/test_timing.py",
    "tests/features/test_missing.py",
)
"""Of each room a test that imports most of it."""

EVERY_MODULE = """
import importlib, pkgutil
for package in ("helmr.cli", "helmr.client", "helmr.features", "helmr_runtime", "helmr_console"):
    for one in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not one.name.endswith("__main__"):
            importlib.import_module(one.name)
"""

LOADED = """
import sys
import helmr_console, helmr_runtime.ledger.open, helmr_runtime.process.gateway, helmr_runtime.service
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
LedgerIndex()
print(*(one for one in sys.modules if one.startswith("helmr_runtime.features.") and one.count(".") > 2))
"""


def run(code: str, folder: Path) -> str:
    """What Python prints, with the packages of that checkout."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environ_of(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    return done.stdout


def environ_of(folder: Path) -> dict[str, str]:
    paths = (folder, folder / "runtime", folder / "console")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


def without(name: str, folder: Path) -> Path:
    """A copy of the checkout that lacks a feature."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    for one in COPIED:
        if (ROOT / one).is_dir():
            shutil.copytree(ROOT / one, folder / one, ignore=ignored)
        else:
            shutil.copy(ROOT / one, folder / one)
    for house in HOUSES:
        shutil.rmtree(folder / house / "features" / name, ignore_errors=True)
    word = re.compile(rf"\b{name}\b")
    for path in (folder / one for one in LISTS):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(one for one in lines if not word.search(one)), encoding="utf-8")
    return folder


def test_a_process_loads_no_part_of_a_feature_that_it_is_not_given() -> None:
    assert run(LOADED, ROOT).split() == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.allows_blocking
@pytest.mark.parametrize("name", NAMES)
def test_everything_else_passes_without_it(name: str, tmp_path: Path) -> None:
    folder = without(name, tmp_path)
    run(EVERY_MODULE, folder)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *QUICK],
        cwd=folder,
        env=environ_of(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=850,
    )
    assert done.returncode == 0, done.stdout[-6_000:]
