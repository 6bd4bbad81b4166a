"""One console over one runtime per test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from helmr_runtime.catalog import Registry
from tests.console.flow import tasks
from tests.console.flow.bench import Bench, benched
from tests.service.stack import Stack


@pytest.fixture
def registry() -> Registry:
    """The tasks that the runtime has; a module may have others."""
    return tasks.REGISTRY


@pytest.fixture
async def bench(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    """A runtime with the console's tasks; the console is opened by the test."""
    async with benched(
        lambda folder: Stack(folder, registry=registry), tmp_path, monkeypatch
    ) as found:
        yield found
