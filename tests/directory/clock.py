"""Time that moves when told, and waiting for what that sets off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from helmr_runtime.clock import FakeClock

BOUND_S = 5.0
"""Real time that a condition may take to come true."""


class Clock(FakeClock):
    """The fake clock, moved in steps."""

    async def advance(self, duration_s: float, *, step_s: float = 0.25) -> None:
        """Move on in steps, and let everything run that a step wakes."""
        end = self.now() + timedelta(seconds=duration_s)
        while self.now() < end:
            self.move_to(min(end, self.now() + timedelta(seconds=step_s)))
            await settle()


async def settle(turns: int = 40) -> None:
    """Let what is ready run."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fail after a bound."""
    async with asyncio.timeout(BOUND_S):
        while not condition():
            await asyncio.sleep(0.001)
