"""The search for live secrets finds what is planted, wherever it is planted, and fails the run for it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PLANTED = """
import logging
import pytest
from helmr.errors import NotFound
from runtime.core.entries import GENESIS, Draft, EntryKind, seal
from runtime.security.secrets import make_secret
from datetime import UTC, datetime

def test_in_a_log_line_which_the_filter_cleans():
    logging.getLogger("helmr.x").warning("%s", make_secret("key"))

def test_in_an_error():
    NotFound(f"there is no {make_secret('cb')}")

def test_in_the_facts_of_an_error():
    NotFound("there is none", token=make_secret("pat"))

def test_in_an_entry():
    draft = Draft(EntryKind.NOTE_ADDED, {"text": make_secret("pat")})
    seal(draft, session_id="s", seq=1, recorded_at=datetime.now(UTC), previous=GENESIS, key=None)

def test_in_the_output():
    print(make_secret("key"))

def test_in_a_failure():
    assert make_secret("key") == "another"

def test_in_a_file(tmp_path):
    (tmp_path / "ledger.duckdb").write_bytes(b"\\x00\\xff" + make_secret("cb").encode() + b"\\x00")

def test_in_a_file_whose_purpose_it_is(tmp_path):
    (tmp_path / "credentials.json").write_text(make_secret("key"))

def test_a_text_that_only_looks_like_one():
    NotFound(make_secret("key")[:-1] + "_")
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_planted.py").write_text(PLANTED)
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), "-p", "no:randomly"),
            *("-c", "/dev/null", "-p", "tests.secret_search"),
            *("--basetemp", str(folder / "tmp"), *words),
            str(folder / "test_planted.py"),
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """Outside pytest's temporary folder: the search over this run shall not find what was planted."""
    with tempfile.TemporaryDirectory(prefix="helmr-planted-") as folder:
        yield Path(folder)


@pytest.mark.allows_blocking
def test_every_planted_secret_is_found_and_no_other(folder: Path) -> None:
    done = run(folder)
    assert done.returncode == 1
    assert set(re.findall(r"^ERROR .*::(\w+)", done.stdout, flags=re.M)) == {
        "test_in_an_error",
        "test_in_the_facts_of_an_error",
        "test_in_an_entry",
        "test_in_the_output",
        "test_in_a_failure",
    }
    left = re.findall(r"LIVE SECRET: hlmr_\w+… in file (\S+)", done.stdout)
    assert left == ["test_in_a_file0/ledger.duckdb"]


@pytest.mark.allows_blocking
def test_a_run_that_passed_fails_for_a_file_that_is_left(folder: Path) -> None:
    done = run(folder, "-k", "test_in_a_file")
    assert "2 passed" in done.stdout
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("LIVE SECRET") == 1
