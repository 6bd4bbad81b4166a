"""Where a session gets room, and when one makes room for another.

Owns the slots: whoever reserves one has it alone until it binds or returns it. Slots are made on demand, in the host
with most room. A waiting session lingers in its slot until its time is over or others need the room, the
longest-waiting first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from helmr.errors import HelmrError, Moved, Overloaded
from helmr_runtime.clock import Clock
from helmr_runtime.directory.hosts import HostState, PoolHost, Slot, Stage
from helmr_runtime.directory.pool import Pool
from helmr_runtime.directory.timing import Limits, Tasks, sleep, within
from helmr_runtime.ports import Busy, SlotState
from helmr_runtime.rpc.calls import ActorDied, CallError

logger = logging.getLogger(__name__)

DECIDING_MAX = 64
"""Commands that are decided at once without room for code: each reads a session and writes it back."""


class Placement:
    """Reserves, releases and hands on slots.

    Args:
        on_free: There may be room now; the queue may move. It looks later, when its caller is done.
        on_moved: A host says that it does not hold what we thought: find out what it holds.
        on_unbound: A host has given up a session.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        clock: Clock,
        limits: Limits,
        on_free: Callable[[], None],
        on_moved: Callable[[Slot], Awaitable[None]],
        on_unbound: Callable[[Slot], None],
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._limits = limits
        self._on_free = on_free
        self._on_moved = on_moved
        self._on_unbound = on_unbound
        self._deciding = asyncio.Semaphore(DECIDING_MAX)
        self._tasks = Tasks()
        self.is_closing = False

    async def stop(self) -> None:
        """End what runs in the background."""
        for slot in self._pool.slots():
            self.disarm(slot)
        await self._tasks.stop()

    # --- reserve ----------------------------------------------------------------------------------

    def slot(self, session_id: str) -> Slot | None:
        """Room for a session's code, in the host that has most; None if there is none."""
        host = max(self._pool.shared(), key=lambda host: host.free, default=None)
        return self.slot_in(host, session_id) if host is not None and host.free > 0 else None

    def slot_in(self, host: PoolHost, session_id: str, *, executes: bool = True) -> Slot:
        """A slot in that host."""
        slot = Slot(host, session_id, Stage.RESERVED, self._clock.now(), executes=executes)
        host.put(slot)
        return slot

    @asynccontextmanager
    async def deciding(self) -> AsyncIterator[PoolHost]:
        """A turn to decide without room for code: in the host with the fewest sessions.

        Raises:
            Overloaded: None came in time.
        """
        try:
            await within(self._clock, self._limits.decide_wait_s, self._deciding.acquire())
        except TimeoutError:
            raise Overloaded("too many commands wait to be decided", retry_after_s=1.0) from None
        try:
            yield await self._any_host()
        finally:
            self._deciding.release()

    async def _any_host(self) -> PoolHost:
        try:
            return await within(self._clock, self._limits.decide_wait_s, self._pool.any_host())
        except TimeoutError:
            raise Overloaded("no host is ready", retry_after_s=1.0) from None

    def give_back(self, slot: Slot) -> None:
        """A slot is empty; its host, if it drains, may have none any more."""
        if slot.stage is Stage.GONE:
            return
        slot.become(Stage.GONE, self._clock.now())
        self.disarm(slot)
        slot.host.drop(slot)
        self._end_if_drained(slot.host)
        self._on_free()

    def session_freed(self) -> None:
        """A session is nobody's any more: it may be one that waits for room, and was passed over as held until now.

        The ledger's list can name it before the answer to its release is here.
        """
        self._on_free()

    # --- release ----------------------------------------------------------------------------------

    async def release(self, slot: Slot, reason: str) -> bool:
        """Ask a host for a session; true if it is parked, and its slot given back."""
        if not slot.is_holding:
            return False
        slot.become(Stage.RELEASING, self._clock.now())
        known = slot.report
        try:
            reply = await slot.host.port.release(slot.session_id, reason)
        except Moved:
            self._still_holds(slot)
            await self._on_moved(slot)
            return False
        except CallError as error:
            if isinstance(error, ActorDied):
                self._pool.fence(slot.host, error.cause)
            else:
                self._still_holds(slot)
                self.arm(slot, self._limits.retry_s * 4)
            return False
        except HelmrError as error:
            logger.info("%s can't park %s now: %s", slot.host.name, slot.session_id, error)
            self._still_holds(slot)
            self.arm(slot, self._limits.retry_s * 4)
            return False
        if slot.is_over:
            return False  # its host died meanwhile
        if isinstance(reply, Busy):
            self._still_holds(slot)
            said = slot.report
            if said is not known and said is not None and said.state is SlotState.PARKABLE:
                self.parkable(slot)  # it was said while the host was asked, and is not said again
            else:
                self.arm(slot, self._limits.linger_s)
            return False
        self._on_unbound(slot)
        self.give_back(slot)
        return True

    def _still_holds(self, slot: Slot) -> None:
        if slot.stage is Stage.RELEASING:
            slot.become(Stage.HOLDING, self._clock.now())
            slot.parkable_at = None

    def parkable(self, slot: Slot) -> None:
        """A session can be parked: at once from a host that drains, else when its time is over."""
        slot.parkable_at = self._clock.now()
        if slot.host.is_draining or self.is_closing:
            self.release_soon(slot, self._reason(slot))
            return
        self.arm(slot, self._limits.linger_s)
        self._on_free()

    def _reason(self, slot: Slot) -> str:
        if self.is_closing:
            return "shutdown"
        return "drain" if slot.host.is_draining else "linger"

    def make_room(self, count: int) -> None:
        """Park so many of the sessions that only wait, the longest-waiting first; some may be on their way already."""
        slots = self._pool.slots()
        count -= sum(1 for slot in slots if slot.stage is Stage.RELEASING)
        lingering = [slot for slot in slots if slot.is_lingering and not slot.host.is_exclusive]
        lingering.sort(key=lambda slot: slot.parkable_at or slot.since)
        for slot in lingering[: max(0, count)]:
            self._evict(slot)

    def end_longest_waiting(self, hosts: Sequence[PoolHost]) -> None:
        """Park one of the sessions that have these hosts alone, whose hosts end with that."""
        slots = [slot for host in hosts for slot in host.slots]
        if any(slot.stage is Stage.RELEASING for slot in slots):
            return
        lingering = [slot for slot in slots if slot.is_lingering]
        if lingering:
            self._evict(min(lingering, key=lambda slot: slot.parkable_at or slot.since))

    def _evict(self, slot: Slot) -> None:
        slot.parkable_at = None  # nobody else is to ask it meanwhile
        self.release_soon(slot, "evict")

    def arm(self, slot: Slot, delay_s: float) -> None:
        """Release the slot's session after that time, if it can be parked then."""
        self.disarm(slot)
        slot.linger = self._clock.call_at(
            self._clock.now() + timedelta(seconds=delay_s), lambda: self._linger_over(slot)
        )

    def disarm(self, slot: Slot) -> None:
        """Forget the linger timer."""
        if slot.linger is not None:
            slot.linger.cancel()
            slot.linger = None

    def _linger_over(self, slot: Slot) -> None:
        slot.linger = None
        self.release_soon(slot, self._reason(slot))

    def release_soon(self, slot: Slot, reason: str) -> None:
        """`release`, in the background."""
        self._tasks.start(self._release(slot, reason))

    async def _release(self, slot: Slot, reason: str) -> None:
        await self.release(slot, reason)

    # --- drain and shutdown -----------------------------------------------------------------------

    def drain(self, host: PoolHost) -> None:
        """Take a host out: what waits in it is parked, a new one starts, and it is ended when it is empty."""
        if host.is_draining or not host.is_alive:
            return
        host.is_draining = True
        self._pool.fill()
        for slot in list(host.slots):
            if slot.is_lingering:
                self.release_soon(slot, "drain")
        self._end_if_drained(host)
        self._tasks.start(self._end_in_time(host))

    def _end_if_drained(self, host: PoolHost) -> None:
        is_over = host.is_draining or host.is_exclusive
        if is_over and not host.slots and host.state is HostState.READY:
            self._pool.end_soon(host, "drained")

    async def _end_in_time(self, host: PoolHost) -> None:
        """Whatever still executes in a host that drains has had its time.

        That is nobody's doing, unless it is the memory for which the host makes way.
        """
        patience_s = self._limits.retire_s
        with suppress(HelmrError, TimeoutError):
            patience_s = await within(self._clock, self._limits.who_s, host.port.longest_s())
        await sleep(self._clock, max(self._limits.retire_min_s, patience_s))
        if host.is_alive:
            await self._pool.end(host, "retired", is_attributed=host.makes_way)

    async def park_all(self) -> list[str]:
        """Park every session that reaches a wait in time; returns those that did not."""
        self.is_closing = True
        deadline = self._clock.now() + timedelta(seconds=self._limits.shutdown_s)
        while self._clock.now() < deadline:
            holding = [slot for slot in self._pool.slots() if slot.stage is not Stage.ENDING]
            if not holding:
                return []
            await asyncio.gather(*(self.release(slot, "shutdown") for slot in holding))
            if any(slot.stage is not Stage.ENDING for slot in self._pool.slots()):
                await sleep(self._clock, self._limits.retry_s)
        return [slot.session_id for slot in self._pool.slots()]
