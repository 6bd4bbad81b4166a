"""Clocks, freshness of the data, and back-off; the console reads wall-clock time only here.

Deadlines follow the server's clock, carried on by a monotonic one: a wrong clock on the operator's machine must not
move them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

SKEW_SHOWN_S = 2.0
"""A difference between this machine and the server that System points out."""


class ConsoleClock(Protocol):
    """Source of time; tests pass their own."""

    def wall(self) -> datetime:
        """This machine's time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
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
        """Return after that many seconds."""
        await asyncio.sleep(seconds)


class ServerClock:
    """Carries the server's time on between two of its answers.

    Until the first answer it is this machine's time.
    """

    def __init__(self, clock: ConsoleClock) -> None:
        self.clock = clock
        self._server_at = clock.wall()
        self._taken_s = clock.monotonic()
        self.skew_s = 0.0

    def set(self, server_at: datetime) -> None:
        """Set the clock: the server said it is `server_at` now."""
        self._server_at = server_at
        self._taken_s = self.clock.monotonic()
        self.skew_s = (server_at - self.clock.wall()).total_seconds()

    def now(self) -> datetime:
        """The server's time, as far as known."""
        return self._server_at + timedelta(seconds=self.clock.monotonic() - self._taken_s)


BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 10.0)
JITTER = 0.25
STALE_AFTER_S = 12.0
"""Two missed pings (one every 5 s) and a margin: a half-open link reports no error."""


class LinkState(StrEnum):
    """The state of the connection; the value is the word in the header."""

    CONNECTING = "connecting"
    LIVE = "live"
    STALE = "STALE"
    REFUSED = "REFUSED"


def backoff_s(attempt: int, jitter: float) -> float:
    """Seconds before try number `attempt` (from 1): 1, 2, 4, 8, 10, 10, … give or take a quarter.

    Args:
        jitter: Position in the spread, 0 to 1.
    """
    base = BACKOFF_S[min(max(attempt, 1), len(BACKOFF_S)) - 1]
    return base * (1 - JITTER + 2 * JITTER * jitter)


@dataclass(frozen=True, slots=True)
class Freshness:
    """The gateway's last answer, by the monotonic clock, and the next try."""

    heard_s: float | None = None
    failing: bool = False
    refused: bool = False
    attempt: int = 0
    next_try_s: float | None = None
    error: str = ""

    def heard(self, now_s: float) -> Freshness:
        """Record an answer of the gateway."""
        return Freshness(heard_s=now_s)

    def failed(
        self, now_s: float, error: str, jitter: float, *, refused: bool = False
    ) -> Freshness:
        """Record a failed try; `refused` when the gateway rejected the key."""
        attempt = self.attempt + 1
        return replace(
            self,
            failing=True,
            refused=refused,
            attempt=attempt,
            next_try_s=now_s + backoff_s(attempt, jitter),
            error=error,
        )

    def link(self, now_s: float) -> LinkState:
        """The state at that time."""
        if self.refused:
            return LinkState.REFUSED
        if self.heard_s is None:
            return LinkState.STALE if self.failing else LinkState.CONNECTING
        if self.failing or now_s - self.heard_s > STALE_AFTER_S:
            return LinkState.STALE
        return LinkState.LIVE

    def age_s(self, now_s: float) -> float | None:
        """Seconds since the gateway's last answer; None before the first."""
        return None if self.heard_s is None else max(0.0, now_s - self.heard_s)

    def text(self, now_s: float) -> str:
        """`live 1s`, `STALE 14s`, `connecting`."""
        link, age_s = self.link(now_s), self.age_s(now_s)
        return link.value if age_s is None else f"{link.value} {int(age_s)}s"

    def writable(self, now_s: float) -> bool:
        """True on a live link; answers may be sent only then."""
        return self.link(now_s) is LinkState.LIVE
