"""A clock that is set while something waits: what is due by the clock as it is then, comes then.

Invariants: S-14.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from helmr_runtime.clock import LOOK_EVERY_S, SystemClock
from helmr_runtime.ledger.log.group import Alarm
from helmr_runtime.ledger.open import open_ledger
from tests.ledger.sessions import SMALL, Hand, parked

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SOON_S = 0.2
LATE_S = LOOK_EVERY_S + 1.0
"""How long after it is due something may come on a busy machine; a look a minute later would not do."""


class SetClock(SystemClock):
    """The machine's clock, off by so much."""

    off = timedelta()

    def now(self) -> datetime:
        return super().now() + self.off


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


async def within(seconds: float, is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("off", [-HOUR, HOUR, -DAY, DAY])
async def test_a_call_comes_when_the_clock_that_is_right_again_says_so(
    clock: SetClock, off: timedelta
) -> None:
    called = list[datetime]()
    due = clock.now() + timedelta(seconds=SOON_S)
    if off < timedelta():
        clock.off = off  # armed while it was wrong
    clock.call_when(due, lambda: called.append(clock.now()))
    if off > timedelta():
        clock.off = off
        await within(LATE_S, lambda: bool(called))  # it says that this is over
        return
    await asyncio.sleep(SOON_S * 2)
    assert called == [], "by the clock it is not due"
    clock.off = timedelta()
    await within(LATE_S, lambda: bool(called))
    assert called[0] >= due


async def test_a_call_never_comes_before_its_time(clock: SetClock) -> None:
    called = list[datetime]()
    due = clock.now() + timedelta(seconds=SOON_S)
    clock.call_when(due, lambda: called.append(clock.now()))
    clock.off = -HOUR
    await asyncio.sleep(SOON_S * 3)
    assert called == []
    timer = clock.call_when(due, lambda: called.append(clock.now()))
    timer.cancel()
    clock.off = timedelta()
    await within(LATE_S, lambda: bool(called))
    assert len(called) == 1, "one was taken back"


async def test_a_pause_is_not_made_longer_by_a_clock_that_is_set(clock: SetClock) -> None:
    called = list[datetime]()
    clock.call_at(clock.now() + timedelta(seconds=SOON_S), lambda: called.append(clock.now()))
    clock.off = -DAY
    await within(LATE_S, lambda: bool(called))


async def test_an_alarm_of_a_clock_that_was_back_keeps_none_from_ringing(clock: SetClock) -> None:
    escalation_step = list[datetime]()
    alarm = Alarm(clock, lambda: escalation_step.append(clock.now()))
    clock.off = -HOUR
    alarm.arm(clock.now() + 2 * HOUR)  # so it looks again in a minute
    clock.off = timedelta()
    alarm.arm(clock.now() + timedelta(seconds=SOON_S))
    await within(LATE_S, lambda: bool(escalation_step))


@pytest.mark.parametrize("off", [-HOUR, HOUR], ids=["back", "ahead"])
async def test_a_parked_wait_times_out_when_the_clock_is_right_again(
    clock: SetClock, tmp_path: Path, off: timedelta
) -> None:
    ledger = await open_ledger(tmp_path / "ledger.duckdb", clock=clock, settings=SMALL)

    def waits(hand: Hand) -> bool:
        return ledger.index.heads[hand.session_id].wait is not None

    try:
        before, _ = await parked(ledger, clock, timeout_s=SOON_S)
        clock.off = off
        meanwhile, _ = await parked(ledger, clock, timeout_s=3 * 3600)
        await asyncio.sleep(SOON_S * 2)
        clock.off = timedelta()
        after, _ = await parked(ledger, clock, timeout_s=SOON_S)
        await within(LATE_S, lambda: not waits(before) and not waits(after))
        assert waits(meanwhile)
    finally:
        await ledger.close()
