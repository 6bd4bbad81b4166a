"""Which actor a session gets, and when one is taken back from another.

Owns the reservation of actors: whoever gets one from here has it alone until it binds or returns
it. Slots go to whoever asks first after the queue; a waiting session lingers in its slot until its
time is over or others need the slot, the longest-waiting first. Desks are handed on in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta

from helmr.errors import HelmrError, Moved, Overloaded
from helmr_runtime.clock import Clock
from helmr_runtime.directory.pool import ActorState, Pool, PoolActor
from helmr_runtime.directory.timing import Limits, Tasks, sleep
from helmr_runtime.ports import Busy
from helmr_runtime.rpc.protocol import DESK, SLOT, ActorDied, CallError

logger = logging.getLogger(__name__)

DESK_WAITERS_MAX = 10_000
RESERVE_FROM_SLOTS = 3
"""From so many slots on, one is kept free if a waiting session can give its own up: an answer to a
parked session then finds a slot without a parking before it."""


class Placement:
    """Reserves, releases and hands on actors.

    Args:
        on_free: A slot is free now; the queue may move.
        on_moved: An actor says that it does not hold what we thought: find out what it holds.
        on_unbound: An actor has given up its session.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        clock: Clock,
        limits: Limits,
        slots: int,
        on_free: Callable[[], None],
        on_moved: Callable[[PoolActor], Awaitable[None]],
        on_unbound: Callable[[PoolActor], None],
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._limits = limits
        self._reserve = 1 if slots >= RESERVE_FROM_SLOTS else 0
        self._on_free = on_free
        self._on_moved = on_moved
        self._on_unbound = on_unbound
        self._desk_waiters: deque[asyncio.Future[PoolActor]] = deque()
        self._tasks = Tasks()
        self.is_closing = False

    async def stop(self) -> None:
        """End what runs in the background."""
        await self._tasks.stop()

    # --- reserve ----------------------------------------------------------------------------------

    def free_slot(self) -> PoolActor | None:
        """Reserve a free slot, if there is one."""
        return self._reserve_free(SLOT)

    def _reserve_free(self, role: str) -> PoolActor | None:
        for actor in self._pool.of_role(role):
            if actor.state is ActorState.FREE and not actor.is_draining:
                actor.become(ActorState.RESERVED, self._clock.now())
                return actor
        return None

    async def evict(self) -> PoolActor | None:
        """Reserve the slot of the session that has waited longest; None if no slot can be had."""
        while (actor := self.evictable()) is not None:
            if await self.release(actor, "evict"):
                return actor
        return None

    def evictable(self) -> PoolActor | None:
        """The slot whose session has waited longest."""
        waiting = [
            actor
            for actor in self._pool.of_role(SLOT)
            if actor.state is ActorState.HOLDING and actor.parkable_at is not None
        ]
        return min(waiting, key=lambda a: a.parkable_at or a.since, default=None)

    def claim_evictable(self) -> PoolActor | None:
        """As `evictable`, once for each: whoever gets it must try to release it."""
        actor = self.evictable()
        if actor is not None:
            actor.parkable_at = None
        return actor

    async def desk(self) -> PoolActor:
        """Reserve a desk, after those who asked before.

        Raises:
            Overloaded: None became free in time.
        """
        actor = None if self._desk_waiters else self._reserve_free(DESK)
        if actor is not None:
            return actor
        if len(self._desk_waiters) >= DESK_WAITERS_MAX:
            raise Overloaded("too many commands wait for a desk", retry_after_s=1.0)
        waiter: asyncio.Future[PoolActor] = asyncio.get_running_loop().create_future()
        self._desk_waiters.append(waiter)
        timer = self._clock.call_at(
            self._clock.now() + timedelta(seconds=self._limits.desk_wait_s),
            lambda: _give_up(waiter),
        )
        try:
            await asyncio.wait({waiter})
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.give_back(waiter.result())
            raise
        finally:
            timer.cancel()
            _give_up(waiter)
        if waiter.cancelled():
            raise Overloaded("no actor became free in time", retry_after_s=1.0)
        return waiter.result()

    def give_back(self, actor: PoolActor) -> None:
        """An actor holds nothing: hand it on, or end it if its code is old."""
        if not actor.is_alive:
            return
        now = self._clock.now()
        actor.become(ActorState.FREE, now)
        if actor.is_draining or actor.is_ending:
            actor.become(ActorState.RESERVED, now)
            self._tasks.start(self._pool.end(actor, "drained", is_counted=False))
            return
        if actor.role == SLOT:
            self._on_free()
            return
        while self._desk_waiters:
            waiter = self._desk_waiters.popleft()
            if not waiter.done():
                actor.become(ActorState.RESERVED, now)
                waiter.set_result(actor)
                return

    def session_freed(self) -> None:
        """A session is nobody's any more: it may be one that waits for a slot, and was passed over as held until now.

        The ledger's list can name it before the answer to its release is here. Looked at when the caller has said
        what becomes of the actor.
        """
        asyncio.get_running_loop().call_soon(self._on_free)

    # --- release ----------------------------------------------------------------------------------

    async def release(self, actor: PoolActor, reason: str) -> bool:
        """Ask an actor for its session.

        Returns:
            True if the session is parked; the actor is then reserved for the caller.
        """
        session_id = actor.session_id
        if actor.state is not ActorState.HOLDING or session_id is None:
            return False
        actor.become(ActorState.RELEASING, self._clock.now())
        known = actor.report
        try:
            reply = await actor.session.release(session_id, reason)
        except Moved:
            self._still_holds(actor)
            await self._on_moved(actor)
            return False
        except CallError as error:
            if isinstance(error, ActorDied):
                self._pool.fence(actor, error.cause)
            else:
                self._still_holds(actor)
                self.arm(actor, self._limits.retry_s * 4)
            return False
        except HelmrError as error:
            logger.info("%s can't park %s now: %s", actor.name, session_id, error)
            self._still_holds(actor)
            self.arm(actor, self._limits.retry_s * 4)
            return False
        if actor.session_id != session_id:
            return False  # it died meanwhile
        if isinstance(reply, Busy):
            self._still_holds(actor)
            said = actor.report
            if said is not known and said is not None and said.state == "parkable":
                self.parkable(actor)  # it was said while the actor was asked, and is not said again
            else:
                self.arm(actor, self._limits.linger_s)
            return False
        self._on_unbound(actor)
        actor.become(ActorState.RESERVED, self._clock.now())
        return True

    def _still_holds(self, actor: PoolActor) -> None:
        if actor.state is ActorState.RELEASING:
            actor.become(ActorState.HOLDING, self._clock.now())
            actor.parkable_at = None

    def parkable(self, actor: PoolActor) -> None:
        """A session can be parked: at once from a desk or old code, else when its time is over."""
        actor.parkable_at = self._clock.now()
        if actor.role == DESK or actor.is_draining or self.is_closing:
            self._tasks.start(self._release_and_return(actor, self._reason(actor)))
            return
        self.arm(actor, self._limits.linger_s)
        self._on_free()
        self.keep_one_free()

    def _reason(self, actor: PoolActor) -> str:
        if self.is_closing:
            return "shutdown"
        return "drain" if actor.is_draining else "linger"

    def arm(self, actor: PoolActor, delay_s: float) -> None:
        """Release the actor's session after that time, if it can be parked then."""
        self.disarm(actor)
        actor.linger = self._clock.call_at(
            self._clock.now() + timedelta(seconds=delay_s), lambda: self._linger_over(actor)
        )

    def disarm(self, actor: PoolActor) -> None:
        """Forget the linger timer."""
        if actor.linger is not None:
            actor.linger.cancel()
            actor.linger = None

    def _linger_over(self, actor: PoolActor) -> None:
        actor.linger = None
        self._tasks.start(self._release_and_return(actor, self._reason(actor)))

    async def _release_and_return(self, actor: PoolActor, reason: str) -> None:
        if await self.release(actor, reason):
            self.give_back(actor)

    def keep_one_free(self) -> None:
        """Park the longest-waiting session in the background if no slot is free."""
        if not self._reserve or self.is_closing:
            return
        slots = self._pool.of_role(SLOT)
        if any(a.state in (ActorState.FREE, ActorState.RELEASING) for a in slots):
            return
        actor = self.evictable()
        if actor is not None:
            self._tasks.start(self._release_and_return(actor, "evict"))

    def watch_desk(self, actor: PoolActor) -> None:
        """See to it that a desk gives its session up, whatever became of its own release."""
        self._tasks.start(self._watch_desk(actor, actor.session_id))

    async def _watch_desk(self, actor: PoolActor, session_id: str | None) -> None:
        while True:
            await sleep(self._clock, self._limits.desk_hold_s)
            if actor.session_id != session_id or not actor.is_alive:
                return
            await self._release_and_return(actor, "linger")

    # --- drain and shutdown -----------------------------------------------------------------------

    def drain(self, actor: PoolActor) -> None:
        """Take an actor out: when it is free, or its session can be parked."""
        if actor.is_draining or not actor.is_alive:
            return
        actor.is_draining = True
        if actor.state is ActorState.FREE:
            self.give_back(actor)
        elif actor.state is ActorState.HOLDING and actor.parkable_at is not None:
            self._tasks.start(self._release_and_return(actor, "drain"))

    async def park_all(self) -> list[str]:
        """Park every session that reaches a wait in time; returns those that did not."""
        self.is_closing = True
        deadline = self._clock.now() + timedelta(seconds=self._limits.shutdown_s)
        while self._clock.now() < deadline:
            holding = [a for a in self._pool.actors.values() if a.session_id is not None]
            if not holding:
                return []
            await asyncio.gather(*(self._release_and_return(a, "shutdown") for a in holding))
            if any(a.session_id is not None for a in self._pool.actors.values()):
                await sleep(self._clock, self._limits.retry_s)
        return [a.session_id for a in self._pool.actors.values() if a.session_id is not None]


def _give_up(waiter: asyncio.Future[PoolActor]) -> None:
    if not waiter.done():
        waiter.cancel()
