"""Whether what is read may lack what another runtime of a pair has acknowledged since.

One answer of the ledger serves all reads of a second: it says for how long no other runtime can be at work, and a read
within that time needs no question. A ledger whose log no other machine reaches is asked once.

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
"""An answer of a ledger whose log is shared is believed no longer: if an operator has another runtime take over, it
changes before the lease has run out."""


LOOK_S = 0.1
"""Between two looks of a read that goes on, at least."""


class Staleness:
    """Of one process that serves reads.

    It goes by the monotonic clock itself: a loop of uvloop knows the time at which its turn began, and a process may be
    paused in the middle of one.

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
        """When a ledger whose log is shared was asked that was at work."""

    async def as_of(self) -> str | None:
        """The time, in ISO 8601, up to which a read that has been made has everything, if another runtime may have gone
        on since; None if none can. If the ledger can't be asked, its last answer says that.
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
        """Return, unless this runtime stands by; also if the ledger can't be asked.

        Raises:
            Standby: It does.
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
            HelmrError: It can't be asked.
        """
        asked_s, asked_at = time.monotonic(), self._now()
        found = await self._ask()
        # Counted from before the question: a slow answer promises nothing that has passed since.
        self._fresh_until_s = asked_s + found.for_s
        self._believed_until_s = self._fresh_until_s
        if found.for_s < math.inf:
            self._believed_until_s = asked_s + min(found.for_s, ASK_S)
            self._fresh_at = asked_at if found.stale_as_of is None else self._fresh_at
        return found

    async def lapsed(self) -> None:
        """Return when what is read from now on may be stale; for reads that go on."""
        while await self.as_of() is None:
            left_s = self._fresh_until_s - time.monotonic()
            if left_s == math.inf:
                await asyncio.Event().wait()
            await asyncio.sleep(max(LOOK_S, left_s))
