"""The only home of wall-clock time. Everything else is handed a clock, so that tests can hand out theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """A pending call that can be taken back."""

    def cancel(self) -> None:
        """Do not make the call. Harmless once it was made."""
        ...


class Clock(Protocol):
    """Tells the time and makes calls at a time, on the running event loop."""

    def now(self) -> datetime:
        """The time, aware, UTC, with microseconds. May be called from any thread."""
        ...

    def call_at(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Make `call` on the running loop at `when`, at once if that has passed."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time, aware, UTC."""
        return datetime.now(UTC)

    def call_at(self, when: datetime, call: Callable[[], None]) -> Timer:
        """Arm a timer of the running loop."""
        delay_s = max(0.0, (when - self.now()).total_seconds())
        return asyncio.get_running_loop().call_later(delay_s, call)
