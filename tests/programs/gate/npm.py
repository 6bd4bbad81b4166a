"""Clients and servers from npm that long tests run for real: `make test-long` installs them where npm is.

`make gate-newest` installs the newest of the clients in another folder, which HELMR_GATE_CLIENTS names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NEWEST = os.environ.get("HELMR_GATE_CLIENTS", "")
INSTALLED = Path(NEWEST or ROOT / ".bench") / "node_modules"
_DECLARED = INSTALLED.parent if NEWEST else Path(__file__).parent


def _versions() -> dict[str, str]:
    names: dict[str, str] = json.loads((_DECLARED / "package.json").read_text())["dependencies"]
    if not NEWEST:
        return names
    found = {one: INSTALLED / one / "package.json" for one in names}
    return {one: str(json.loads(path.read_text())["version"]) for one, path in found.items()}


VERSIONS = _versions()


def program(name: str) -> Path:
    """A program of one of the packages."""
    return INSTALLED / ".bin" / name


def needs(name: str) -> pytest.MarkDecorator:
    """Skips tests where this program is not installed."""
    path = program(name)
    return pytest.mark.skipif(not path.exists(), reason=f"{path} is missing: make npm")
