"""A whole runtime in this process, behind a real HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service.stack import Stack


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A ready runtime."""
    stack = Stack(tmp_path)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()
