"""What the operator snoozed, as the lists see it: read beside the screens, as other programs snooze waits too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime

from helmr.review import words
from helmr.review.personal import Snoozes


class Snoozed:
    """The waits that are snoozed.

    Args:
        kept: On disk.
        now: The server's time.
    """

    def __init__(self, kept: Snoozes, now: Callable[[], datetime]) -> None:
        self._kept = kept
        self._now = now
        self._until: Mapping[str, datetime] = {}

    def until(self, wait_id: str) -> datetime | None:
        """Until when this wait is snoozed; None if it is not."""
        until = self._until.get(wait_id)
        return until if until is not None and until > self._now() else None

    def text(self, wait_id: str) -> str:
        """`back in 20m`; empty if it is not snoozed."""
        until = self.until(wait_id)
        if until is None:
            return ""
        return f"back in {words.span((until - self._now()).total_seconds())}"

    async def look(self) -> bool:
        """Read what is snoozed; whether that has changed."""
        before = self._until
        self._until = await asyncio.to_thread(self._kept.read, self._now())
        return self._until != before

    async def snooze(self, wait_id: str, until: datetime) -> None:
        """Hide this wait until then.

        Raises:
            OSError: It can't be kept.
        """
        await asyncio.to_thread(self._kept.snooze, wait_id, until)
        await self.look()

    async def wake(self, wait_id: str) -> None:
        """Show it again."""
        await asyncio.to_thread(self._kept.wake, wait_id)
        await self.look()
