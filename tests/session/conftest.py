"""The engine suite: real deciding, replay and session actors over a memory ledger. Everything runs twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helmr.testing import Harness
from helmr_runtime.ports import SlotState
from tests.session.adopting import go_on


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
def what_is_told_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test does: when all is calm, each host has told whether its session can be parked.

    One that told nothing when its session became parkable would keep its slot for ever, and no call would fail.
    """
    settle = Harness.settle

    async def and_look(self: Harness) -> None:
        await settle(self)
        for host in self._hosts.values():
            for slot in host.slots.values():
                if slot.is_settled and slot.report is not None:
                    is_parkable = slot.report.state is SlotState.PARKABLE
                    assert is_parkable == slot.live.is_parkable, slot.session_id

    monkeypatch.setattr(Harness, "settle", and_look)


@pytest.fixture(autouse=True)
def threads_wait() -> Iterator[None]:
    """Threads of `in_a_thread` wait for the test, and end with it."""
    go_on.clear()
    yield
    go_on.set()
