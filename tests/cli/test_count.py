"""`helmr waiting --count` answers the plain case without the command line; all else is left to that."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from helmr.cli import count
from tests.cli.conftest import started
from tests.client.gateway import KEY, Gateway


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def asked(gateway: Gateway) -> Gateway:
    """With two waits for people."""
    for _ in range(2):
        gateway.wait(gateway.session(), subject="Mine?")
    return gateway


def write(folder: Path, gateway: Gateway, **parts: object) -> Path:
    (folder / ".helmr").mkdir()
    path = folder / ".helmr" / "credentials.json"
    said = {"url": gateway.url, "key": KEY, "pid": os.getpid(), "data_dir": "x"}
    path.write_text(json.dumps(said | parts))
    path.chmod(0o600)
    return path


def test_a_named_runtime_is_counted(
    asked: Gateway, environ: dict[str, str], tmp_path: Path
) -> None:
    named = environ | {"HELMR_URL": asked.url, "HELMR_API_KEY": KEY}
    assert count.count(named, tmp_path) == 2
    assert count.count(named | {"HELMR_URL": f"{asked.url}/"}, tmp_path) == 2


def test_the_nearest_data_directory_is_counted(
    asked: Gateway, environ: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path, asked)
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert count.count(environ, inner) == 2


@pytest.mark.parametrize(
    "more",
    [
        {"HELMR_AT": "home"},
        {"HELMR_URL": "http://127.0.0.1:9"},
        {"HELMR_URL": "http://127.0.0.1:9", "HELMR_API_KEY": "k"},
        {"HELMR_URL": "https://127.0.0.1:9", "HELMR_API_KEY": "k"},
        {"HELMR_URL": "http://127.0.0.1:x", "HELMR_API_KEY": "k"},
        {"HELMR_URL": "ray", "HELMR_API_KEY": "k"},
        {"HELMR_API_KEY": "k"},
    ],
)
def test_what_says_more_is_left_to_the_command(
    asked: Gateway, environ: dict[str, str], tmp_path: Path, more: dict[str, str]
) -> None:
    write(tmp_path, asked)
    assert count.count(environ | more, tmp_path) is None


def test_a_person_who_has_signed_in_is_left_to_the_command(
    asked: Gateway, environ: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path, asked)
    (tmp_path / "state" / "helmr" / "sign-ins").mkdir(parents=True)
    assert count.count(environ, tmp_path) is None


def test_credentials_that_are_not_this_users_alone_or_of_no_process_are_not_used(
    asked: Gateway, environ: dict[str, str], tmp_path: Path
) -> None:
    path = write(tmp_path, asked)
    path.chmod(0o640)
    assert count.count(environ, tmp_path) is None
    path.chmod(0o600)
    assert count.count(environ, tmp_path) == 2
    os.utime(path, (1, 1))  # its process had another number then
    assert count.count(environ, tmp_path) is None
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert count.count(environ, tmp_path) is None
    path.unlink()
    path.write_text("[1]")
    assert count.count(environ, tmp_path) is None
    assert count.count(environ, tmp_path / ".." / "gone") is None


def test_more_than_a_page_is_left_to_the_command(
    gateway: Gateway, environ: dict[str, str], tmp_path: Path
) -> None:
    session = gateway.session()
    for _ in range(201):
        gateway.wait(session)
    named = environ | {"HELMR_URL": gateway.url, "HELMR_API_KEY": KEY}
    assert count.count(named, tmp_path) is None


def test_it_says_the_number_and_loads_no_command_line(asked: Gateway, nowhere: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "helmr.cli", "waiting", "--count"],
        env={**os.environ, "HELMR_URL": asked.url, "HELMR_API_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "2\n"
    assert "helmr.cli.count" in done.stderr
    assert not {"typer", "pydantic", "httpx", "helmr.models"} & {*done.stderr.split()}
    assert done.stderr.count("import time:") <= 200  # the interpreter's own are 26


@pytest.mark.perf
@pytest.mark.parametrize("words", ["--version", "waiting --count"])
def test_what_status_lines_run_takes_little_of_a_processor(
    asked: Gateway, nowhere: Path, words: str
) -> None:
    """Under 150 ms, the best of ten: what else runs on the machine adds to it."""
    took_s = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "helmr.cli", *words.split()],
            env={**os.environ, "HELMR_URL": asked.url, "HELMR_API_KEY": KEY},
            capture_output=True,
            timeout=30,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took_s) < 0.15, words


def test_what_is_left_to_the_command_gets_its_error(nowhere: Path) -> None:
    said = started("waiting", "--count", env={"HELMR_URL": "http://127.0.0.1:9"})
    assert said.code == 6
    assert said.err.startswith("helmr: no runtime answers at http://127.0.0.1:9")
