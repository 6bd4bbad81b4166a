"""Staleness of reads: another runtime of a pair may have acknowledged writes that a read here lacks.

One answer of the ledger serves all reads of a second: it says for how long no other runtime can be at work, and reads
within that time ask nothing. A ledger whose log no other machine reaches is asked once.

Invariants: S-102, for every way in: HTTP, event streams, MCP and programs in a Ray cluster ask here.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from datetime import datetime

from helmr.errors import HelmrError, Standby
from helmr_runtime.core.entries import iso
from helmr_runtime.ports.ledger import ReadFreshness

ASK_S = 1.0
"""Longest that an answer about a shared log counts: an operator's takeover changes it before the lease ends."""


LOOK_S = 0.1
"""Least time between two looks of a streaming read."""


class Staleness:
    """The staleness of reads in one process.

    It uses the monotonic clock directly: under uvloop the loop's time stands still within a turn, and the process may
    be paused in the middle of one.

    Args:
        ask: Asks the ledger.
        now: The time.
    """

    def __init__(
        self, ask: Callable[[], Awaitable[ReadFreshness]], now: Callable[[], datetime]
    ) -> None:
        self._ask = ask
        self._now = now
        self._believed_until_s = -math.inf
        self._fresh_until_s = -math.inf
        self._fresh_at: datetime | None = None
        """Time of the last question to a ledger with a shared log that was at work."""

    async def as_of(self) -> str | None:
        """A finished read contains everything up to this time (ISO 8601). None: no other runtime can have written
        since. If the ledger can't be asked, its last answer counts.
        """
        read_s = time.monotonic()
        if read_s < self._believed_until_s:
            return None
        try:
            return (await self.look()).stale_as_of
        except HelmrError:
            if self._fresh_at is None or read_s < self._fresh_until_s:
                return None
            return iso(self._fresh_at)

    async def at_work(self) -> None:
        """Return unless this runtime stands by; also return if the ledger can't be asked.

        Raises:
            Standby: This runtime stands by.
        """
        if time.monotonic() >= self._believed_until_s:
            try:
                await self.look()
            except Standby:
                raise
            except HelmrError:
                return

    async def look(self) -> ReadFreshness:
        """Ask the ledger now.

        Raises:
            Standby: This runtime stands by.
            HelmrError: The ledger can't be asked.
        """
        asked_s, asked_at = time.monotonic(), self._now()
        found = await self._ask()
        # Counted from before the question: a slow answer may be partly outdated.
        self._fresh_until_s = asked_s + found.for_s
        self._believed_until_s = self._fresh_until_s
        if found.for_s < math.inf:
            self._believed_until_s = asked_s + min(found.for_s, ASK_S)
            self._fresh_at = asked_at if found.stale_as_of is None else self._fresh_at
        return found

    async def lapsed(self) -> None:
        """Return once further reads may be stale; for streaming reads."""
        while await self.as_of() is None:
            left_s = self._fresh_until_s - time.monotonic()
            if left_s == math.inf:
                await asyncio.Event().wait()
            await asyncio.sleep(max(LOOK_S, left_s))
