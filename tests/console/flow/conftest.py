"""One console over one runtime per test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from helmr_runtime.clock import FakeClock
from tests.console.flow import tasks
from tests.console.flow.bench import Bench
from tests.service import stack as service_stack


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A runtime with the console's tasks; the console is opened by the test."""
    clock = FakeClock(datetime(2026, 11, 24, 14, 0, tzinfo=UTC))
    monkeypatch.setattr(service_stack, "SystemClock", lambda: clock)
    # The gateway's comments follow the fake clock: on a busy machine a long walk would find its feed dead.
    monkeypatch.setattr("helmr.client.http.FEED_SILENCE_S", 600.0)
    monkeypatch.delenv("NO_COLOR", raising=False)
    stack = service_stack.Stack(tmp_path / "data", registry=tasks.REGISTRY)
    (tmp_path / "data").mkdir()
    found = Bench(stack, clock, tmp_path)
    try:
        await stack.start(sessions_per_host=4)
        yield found
    finally:
        await found.close()
        await stack.stop()
