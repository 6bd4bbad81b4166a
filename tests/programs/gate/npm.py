"""Clients and servers from npm that long tests run for real: `make test-long` installs them where npm is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
INSTALLED = ROOT / ".bench" / "node_modules"
VERSIONS: dict[str, str] = json.loads(Path(__file__).with_name("package.json").read_text())[
    "dependencies"
]


def program(name: str) -> Path:
    """A program of one of the packages."""
    return INSTALLED / ".bin" / name


def needs(name: str) -> pytest.MarkDecorator:
    """Skips tests where this program is not installed."""
    path = program(name)
    return pytest.mark.skipif(not path.exists(), reason=f"{path} is missing: make npm")
