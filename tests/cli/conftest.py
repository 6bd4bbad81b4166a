"""Runs commands: in this process for what they say, in one of their own for what they are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from helmr.cli.main import invoke
from tests.client.gateway import KEY, Gateway, running
from tests.warm import Piped

PROCESS_BOUND_S = 30.0


@dataclass
class Said:
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running(Gateway()) as one:
        yield one


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which no runtime is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("HELMR_URL", "HELMR_API_KEY", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    return tmp_path


@pytest.fixture
def here(gateway: Gateway, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """The gateway, as the one that HELMR_URL names."""
    monkeypatch.setenv("HELMR_URL", gateway.url)
    monkeypatch.setenv("HELMR_API_KEY", KEY)
    return gateway


@pytest.fixture
def helmr(nowhere: Path, capsysbinary: pytest.CaptureFixture[bytes]):
    """Run a command in this process."""

    def run(*arguments: str) -> Said:
        code = invoke(arguments)
        captured = capsysbinary.readouterr()
        return Said(code, captured.out.decode(), captured.err.decode())

    return run


def spawn(*arguments: str, **given) -> Piped:
    """Start a command in a process of its own, forked from one that has imported it."""
    return Piped(arguments, env=os.environ | given.pop("env", {}), **given)


def process(*arguments: str, **given) -> Said:
    """Run a command in a process of its own, forked from one that has imported it."""
    stdin = given.pop("input", b"")
    with spawn(*arguments, stdin=subprocess.PIPE, **given) as one:
        out, err = one.communicate(stdin, timeout=PROCESS_BOUND_S)
    return _said(one.returncode, out, err)


def started(*arguments: str, **given) -> Said:
    """Run a command in a Python that starts: what depends on how that opens and leaves its streams."""
    done = subprocess.run(
        [sys.executable, "-m", "helmr.cli", *arguments],
        stdout=given.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        input=given.pop("input", b""),
        env=os.environ | given.pop("env", {}),
        timeout=PROCESS_BOUND_S,
        check=False,
        **given,
    )
    return _said(done.returncode, done.stdout, done.stderr)


def _said(code: int | None, out: bytes | None, err: bytes | None) -> Said:
    assert code is not None
    return Said(code, (out or b"").decode(), (err or b"").decode())
