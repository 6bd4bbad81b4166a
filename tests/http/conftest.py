"""A whole runtime in this process, behind a real HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A ready runtime for the tests of a module that leave nothing behind that another of them sees.

    A start takes a tenth of a second of CPU, a refusal thousandths. Such a test runs on the module's loop.
    """
    stack = Stack(tmp_path_factory.mktemp("shared_stack"))
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()
