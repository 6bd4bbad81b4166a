"""A manager of services is told what it listens for, and one that does not listen is not a trouble."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from helmr_runtime.launchers.runtime import READY, tell_manager


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_it_is_told_at_its_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    name = f"helmr-test-{os.getpid()}"
    address = {"path": str(tmp_path / name), "abstract": f"@{name}"}[kind]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0", 1))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        tell_manager(READY)
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    "address", ["", "relative", "/nowhere/at/all", "vsock:1:2", "/" + "x" * 300]
)
def test_nobody_there_is_no_trouble(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    tell_manager(READY)
