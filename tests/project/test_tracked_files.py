"""No tracked file says where packages are fetched from or where somebody's checkout lies."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from helmr_runtime.security.payloads import find_secrets

# In pieces, so that this file passes its own test.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("deb", "debian", "org"),
        ("crates", "io"),
    )
]
REGISTRY_OPTIONS = ["--" + name for name in ("index-url", "extra-index-url", "trusted-host")]
HOLD_SECRETS = {
    "tests/fixtures/ledger_0_2_0/admin.key": "opens a copy of that ledger, and nothing else",
    "tests/fixtures/ledger_0_1_0/admin.key": "opens a copy of that ledger, and nothing else",
    "tests/fixtures/ledger_0_1_0/secrets.json": "what was shown when that ledger was made; opens copies of it",
    "tests/security/test_keys.py": "derived from a key of known bytes, which opens nothing",
}
"""Tracked files that hold live secrets, file by file, and why they may."""

HOME_PATH = re.compile(r"/(?:home|Users)/[A-Za-z]|/root/")


@pytest.fixture(scope="module")
def tracked_texts(project_root: Path) -> dict[str, str]:
    """Path and content of each file that git knows and that is still there."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=project_root, check=True, capture_output=True, text=True
    ).stdout
    paths = [project_root / name for name in listing.split("\0") if name]
    return {
        str(path.relative_to(project_root)): path.read_text(encoding="utf-8", errors="replace")
        for path in paths
        if path.is_file()
    }


def test_no_registry_is_named(tracked_texts: dict[str, str]) -> None:
    banned = [*REGISTRY_HOSTS, *REGISTRY_OPTIONS]
    found = [
        (name, word) for name, text in tracked_texts.items() for word in banned if word in text
    ]
    assert found == []


def test_no_path_of_a_machine_is_named(tracked_texts: dict[str, str], project_root: Path) -> None:
    here = {str(path) for path in (project_root, Path.home()) if len(path.parts) > 2}
    found = [
        (name, match[0])
        for name, text in tracked_texts.items()
        for match in [
            HOME_PATH.search(text),
            *(re.search(re.escape(p) + r"\b", text) for p in here),
        ]
        if match
    ]
    # This file holds the pattern itself.
    assert [hit for hit in found if hit[0] != "tests/project/test_tracked_files.py"] == []


def test_no_live_secret_is_tracked_but_where_it_has_a_reason(tracked_texts: dict[str, str]) -> None:
    holding = {
        name for name, text in tracked_texts.items() if any(True for _ in find_secrets(text))
    }
    assert holding == set(HOLD_SECRETS)
