"""What follows an actor's death: its session is abandoned in the ledger, and how it died is kept for
the next adoption, which commits it before any task code runs (S-3).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from helmr.errors import HelmrError, NotFound
from helmr_runtime.clock import Clock
from helmr_runtime.directory.pool import HostLocation, Spawner
from helmr_runtime.directory.timing import Limits, Tasks, sleep
from helmr_runtime.faults import Point, reach
from helmr_runtime.ports import Death, HeldLease, Ledger

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Failover:
    """Sessions whose holder is gone.

    While a session is in here nobody may adopt it: the adoption would not know of the death.

    Attributes:
        deaths: By session, the death that the next adoption commits; only of actors that executed
            task code, so each is taken by the resume that follows.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        spawner: Spawner,
        clock: Clock,
        limits: Limits,
        on_fenced: Callable[[], None],
    ) -> None:
        self.deaths: dict[str, Death] = {}
        self._ledger = ledger
        self._spawner = spawner
        self._clock = clock
        self._limits = limits
        self._on_buried = on_fenced
        self._under_way: set[str] = set()
        self._tasks = Tasks()

    def __contains__(self, session_id: str) -> bool:
        """The session's last holder is not abandoned yet."""
        return session_id in self._under_way

    async def stop(self) -> None:
        """End what runs in the background."""
        await self._tasks.stop()

    def start(
        self,
        session_id: str,
        epoch: int | None,
        actor: HostLocation,
        cause: str,
        *,
        is_counted: bool,
    ) -> None:
        """`fence` in the background; the session counts as being fenced at once."""
        self._under_way.add(session_id)
        self._tasks.start(self.fence(session_id, epoch, actor, cause, is_counted=is_counted))

    async def fence(
        self,
        session_id: str,
        epoch: int | None,
        actor: HostLocation,
        cause: str,
        *,
        is_counted: bool,
    ) -> None:
        """The ledger knows that the holder is gone, however long it takes to say so.

        Args:
            session_id: What the actor held.
            epoch: Of its adoption; None if it died before it told.
            actor: Where it ran.
            cause: How it died.
            is_counted: False for what the runtime ended itself on purpose.
        """
        self._under_way.add(session_id)
        try:
            status = await self._spawner.status(actor)
            if status is not None and status.session_id == session_id:
                epoch = epoch if epoch is not None else status.epoch
                if status.executing and is_counted:
                    self.deaths[session_id] = Death(cause=cause, executing=True, op=status.op)
            if epoch is None:
                held = await self.held()
                epochs = (
                    h.epoch for h in held if (h.session_id, h.holder) == (session_id, actor.name)
                )
                epoch = next(epochs, None)
            if epoch is not None:
                reach(Point.DIRECTORY_ABANDONING)
                await self._until_answered(partial(self._ledger.abandon, session_id, epoch))
        except NotFound:
            logger.info("%s is not in the ledger", session_id)
        finally:
            self._under_way.discard(session_id)
        self._on_buried()

    async def held(self) -> Sequence[HeldLease]:
        """What the ledger believes held, as soon as it answers."""
        return await self._until_answered(self._ledger.held)

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                return await ask()
            except NotFound:
                raise
            except HelmrError as error:
                logger.info("the ledger does not answer: %s", error)
                await sleep(self._clock, self._limits.backoff_s(failures))
                failures += 1
