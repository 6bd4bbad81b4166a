"""A gated runtime and a terminal, for clients that are real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs.gate.runtime import LOOKS, gated_runtime
from tests.programs.gate.tmux import TmuxTerminal
from tests.stack.live import LiveRuntime


@pytest.fixture
def rules() -> str:
    """Of the gate."""
    return LOOKS


@pytest.fixture
def runtime(tmp_path: Path, rules: str) -> Iterator[LiveRuntime]:
    with gated_runtime(tmp_path, rules) as live:
        yield live


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[TmuxTerminal]:
    """Of the client."""
    found = TmuxTerminal(tmp_path / "tmux")
    try:
        yield found
    finally:
        found.end()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[TmuxTerminal]:
    """Of the operator."""
    found = TmuxTerminal(tmp_path / "console")
    try:
        yield found
    finally:
        found.end()
