"""A process that was paused in the middle of a turn of its loop does not take what it reads then for fresh (S-102)."""

from __future__ import annotations

import time
from typing import Any

import pytest
import uvloop

from helmr_runtime.clock import SystemClock
from helmr_runtime.ledger.log.lease import LeaseKeeper
from helmr_runtime.ledger.log.object_log import ObjectLog
from helmr_runtime.ports.ledger import ReadFreshness
from helmr_runtime.service.staleness import Staleness
from tests.ledger.shared_objects import FakeObjects

pytestmark = pytest.mark.allows_blocking

PAUSE_S = 0.02
NOW = SystemClock().now


def pause() -> None:
    """In which uvloop's own time stands still, as it does when the process is stopped and continued."""
    ends_s = time.monotonic() + PAUSE_S
    while time.monotonic() < ends_s:
        pass


def test_it_asks_the_ledger_again() -> None:
    asked = 0

    async def ask() -> ReadFreshness:
        nonlocal asked
        asked += 1
        return ReadFreshness(for_s=PAUSE_S)

    async def read_twice() -> None:
        staleness = Staleness(ask, NOW)
        assert await staleness.as_of() is None
        pause()
        assert await staleness.as_of() is None

    uvloop.run(read_twice())
    assert asked == 2


def test_the_lease_is_older_by_the_pause() -> None:
    async def run(ask: Any, *given: Any) -> Any:
        return ask(*given)

    async def look_twice() -> float:
        keeper = LeaseKeeper(ObjectLog(FakeObjects()), 1, lambda: 0, run, NOW)
        before_s = keeper.fresh_s
        pause()
        return before_s - keeper.fresh_s

    assert uvloop.run(look_twice()) >= PAUSE_S
