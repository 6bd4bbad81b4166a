"""The lease of a log that several machines reach, as its primary keeps it (`ledger.standby` watches it).

The lease decides who tries to write, never who may. A primary that finds the lease of a later opening in place of its
own, or of a standby ordered to take over, is superseded, even with nothing to commit. A primary whose store is away
keeps trying: it acknowledges nothing meanwhile.

Invariants: S-97, S-98; at most one request in two seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from helmr.errors import HelmrError, LedgerSuperseded
from helmr_runtime.core.shared_log import RENEW_S, StoreLease, fresh_s
from helmr_runtime.ledger.log.object_log import ObjectLog, superseded_in
from helmr_runtime.ledger.log.objects import ObjectChanged

logger = logging.getLogger(__name__)

Run = Callable[..., Awaitable[Any]]
"""Runs a blocking call in a thread that waits for nothing else."""


class LeaseKeeper:
    """Says that a primary is at work, until it says goodbye.

    Args:
        log: The log that it has opened.
        generation: Of that opening.
        newest: The last record that it knows to be stored.
        run: Where it speaks to the store.
        now: The ledger's time.
    """

    def __init__(
        self,
        log: ObjectLog,
        generation: int,
        newest: Callable[[], int],
        run: Run,
        now: Callable[[], datetime],
    ) -> None:
        self._log = log
        self._lease = StoreLease(log.writer, generation, newest=newest())
        self._newest = newest
        self._run = run
        self._tag: str | None = None
        self._now = now
        self._renewed_s, self.renewed_at = self._times()

    @property
    def fresh_s(self) -> float:
        """Seconds for which no other can be the primary yet. Negative: one may be, since no renewal has succeeded for
        as long as a standby waits (S-102)."""
        return fresh_s(self._renewed_s, self._times()[0])

    def _times(self) -> tuple[float, datetime]:
        # A loop of uvloop knows the time at which its turn began: a pause in the middle of one would not count.
        return time.monotonic(), self._now()

    async def keep(self) -> LedgerSuperseded:
        """Renew the lease while this primary has it; return the error to end with once another has it."""
        while True:
            try:
                if not await self._renew():
                    return superseded_in(self._log.objects.name)
            except HelmrError as error:
                # Also one of a later format: then a commit will say what that means.
                logger.warning("the lease was not renewed: %s", error.message)
            await asyncio.sleep(RENEW_S)

    async def say_goodbye(self) -> None:
        """Give up the lease so that a standby takes over at once. If that fails, it waits until the lease lapses."""
        with suppress(HelmrError):
            lease, tag = self._lease, self._tag
            if tag is None or not await self._wrote(lease, tag):
                # A renewal that was ended on its way has been stored, or another's stands there.
                found = await self._run(self._log.lease)
                if found is not None and found[0].writer == lease.writer:
                    await self._wrote(*found)

    async def _wrote(self, lease: StoreLease, tag: str) -> bool:
        """Say goodbye in place of that lease; False if something else stands there."""
        try:
            await self._run(self._log.write_lease, lease.goodbye(self._newest()), tag)
        except ObjectChanged:
            return False
        return True

    async def _renew(self) -> bool:
        """Write it once more; False if it is another's."""
        lease, began = self._lease.renewed(self._newest()), self._times()
        try:
            self._tag = await self._run(self._log.write_lease, lease, self._tag)
        except ObjectChanged:
            found = await self._run(self._log.lease)
            if found is not None and lease.is_superseded_by(found[0]):
                return False
            # An earlier opening's that came late, or an earlier try of this one: the next renewal takes its place.
            self._tag = found[1] if found is not None else None
            return True
        self._lease, (self._renewed_s, self.renewed_at) = lease, began
        return True
