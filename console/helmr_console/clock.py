"""The console's only home of wall-clock time: the server's clock, carried on by a monotonic one.

Deadlines are the server's; a wrong clock on the operator's machine must not move them.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

SKEW_SHOWN_S = 2.0
"""A difference between this machine and the server that System points out."""


class ConsoleClock(Protocol):
    """Where time comes from; tests hand out theirs."""

    def wall(self) -> datetime:
        """This machine's time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that long."""
        ...


class MachineClock:
    """The machine's clocks."""

    def wall(self) -> datetime:
        """This machine's time, aware, UTC."""
        return datetime.now(UTC)  # noqa: TID251  # the console's home of wall-clock time

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after that long."""
        await asyncio.sleep(seconds)


class ServerClock:
    """Tells the server's time between two answers of the server.

    Until the first answer it is this machine's time.
    """

    def __init__(self, clock: ConsoleClock) -> None:
        self.clock = clock
        self._server_at = clock.wall()
        self._taken_s = clock.monotonic()
        self.skew_s = 0.0

    def set(self, server_at: datetime) -> None:
        """The server said it is `server_at` now."""
        self._server_at = server_at
        self._taken_s = self.clock.monotonic()
        self.skew_s = (server_at - self.clock.wall()).total_seconds()

    def now(self) -> datetime:
        """The server's time, as far as known."""
        return self._server_at + timedelta(seconds=self.clock.monotonic() - self._taken_s)
