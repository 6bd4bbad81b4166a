"""The engine suite: real deciding, replay and session actors over a memory ledger. Everything runs twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helmr.testing import Harness
from tests.engine.adopting import go_on


@pytest.fixture(params=[False, True], ids=["live", "replay_always"])
def replay_always(request: pytest.FixtureRequest) -> bool:
    """The second time every outcome is met by a full replay (a switch that forces one)."""
    return bool(request.param)


@pytest.fixture
def harness(replay_always: bool) -> Callable[..., Harness]:
    """Makes a harness for tasks."""

    def make(*tasks: Any, **options: Any) -> Harness:
        return Harness(*tasks, replay_always=replay_always, **options)

    return make


@pytest.fixture(autouse=True)
def threads_wait() -> Iterator[None]:
    """Threads of `in_a_thread` wait for the test, and end with it."""
    go_on.clear()
    yield
    go_on.set()
