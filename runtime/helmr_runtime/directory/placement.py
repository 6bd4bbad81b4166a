"""Which host gets a session, and which session makes room for another. Chooses, and holds nothing (`Holds` does)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from helmr.errors import Overloaded
from helmr_runtime.clock import Clock
from helmr_runtime.directory.hosts import PoolHost, Slot, Stage
from helmr_runtime.directory.pool import Pool
from helmr_runtime.directory.timing import Limits, within

DECIDING_MAX = 64
"""Commands that are decided at once without room for code: each reads a session and writes it back."""


class Placement:
    """Chooses among the hosts of a pool and the sessions in them."""

    def __init__(self, pool: Pool, *, clock: Clock, limits: Limits) -> None:
        self._pool = pool
        self._clock = clock
        self._limits = limits
        self._deciding = asyncio.Semaphore(DECIDING_MAX)

    def host_with_room(self) -> PoolHost | None:
        """The host that has room for the code of most sessions; None if none has any."""
        host = max(self._pool.shared(), key=lambda host: host.free, default=None)
        return host if host is not None and host.free > 0 else None

    @asynccontextmanager
    async def deciding(self) -> AsyncIterator[PoolHost]:
        """A turn to decide without room for code: in the host with the fewest sessions.

        Raises:
            Overloaded: None came in time.
        """
        wait_s = self._limits.decide_wait_s
        try:
            await within(self._clock, wait_s, self._deciding.acquire())
        except TimeoutError:
            raise Overloaded("too many commands wait to be decided", retry_after_s=1.0) from None
        try:
            try:
                host = await within(self._clock, wait_s, self._pool.any_host())
            except TimeoutError:
                raise Overloaded("no host is ready", retry_after_s=1.0) from None
            yield host
        finally:
            self._deciding.release()

    def making_room(self, count: int) -> Sequence[Slot]:
        """Whose sessions make room for so many: those that only wait, the longest-waiting first.

        Some may be on their way already.
        """
        slots = self._pool.slots()
        count -= sum(1 for slot in slots if slot.stage is Stage.RELEASING)
        lingering = [slot for slot in slots if slot.is_lingering and not slot.host.is_exclusive]
        return sorted(lingering, key=_waits_since)[: max(0, count)]

    def ending_own_host(self, hosts: Sequence[PoolHost]) -> Slot | None:
        """Whose session ends one of these hosts, which have one session each: the longest-waiting; None if one ends."""
        slots = [slot for host in hosts for slot in host.slots]
        if any(slot.stage is Stage.RELEASING for slot in slots):
            return None
        return min((slot for slot in slots if slot.is_lingering), key=_waits_since, default=None)


def _waits_since(slot: Slot) -> datetime:
    return slot.parkable_at or slot.since
