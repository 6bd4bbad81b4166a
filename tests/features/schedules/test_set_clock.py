"""Schedules while the machine's clock is set: what is due then is due when the clock is right again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.features import FEATURES
from helmr_runtime.features.schedules.facts import SKIPPED
from helmr_runtime.ledger.open import open_ledger
from tests.features.schedules.test_ledger import write
from tests.ledger.sessions import SMALL, parked
from tests.ledger.test_set_clock import HOUR, LATE_S, SOON_S, SetClock, clock

__all__ = ["clock"]


async def test_a_schedule_goes_on_when_the_clock_is_right_again(
    clock: SetClock, tmp_path: Path
) -> None:
    ledger = await open_ledger(
        tmp_path / "ledger.duckdb", clock=clock, settings=SMALL, features=FEATURES
    )

    async def due_times() -> int:
        """How many there were: the first starts a session, and the others find that active."""
        kinds = [one.kind for one in await ledger.entries_after(0, 1_000)]
        return kinds.count(SKIPPED)

    try:
        await ledger.write_catalog({"code_hash": "a", "tasks": []}, RUNTIME)
        await ledger.fact(write(every="1s"))
        async with asyncio.timeout(LATE_S + 2):
            while not await due_times():
                await asyncio.sleep(0.05)
        clock.off = -HOUR
        hand, _ = await parked(
            ledger, clock, timeout_s=2 * 3600
        )  # the next that is due, by this clock
        count = await due_times()
        await asyncio.sleep(SOON_S)
        clock.off = timedelta()
        async with asyncio.timeout(LATE_S):
            while await due_times() <= count:
                await asyncio.sleep(0.05)
        assert ledger.index.heads[hand.session_id].wait is not None
    finally:
        await ledger.close()
