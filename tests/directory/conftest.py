"""A directory's world for every test here."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.directory.fakes import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Fakes around a directory; what the test starts is stopped."""
    world = World()
    yield world
    await world.stop()
