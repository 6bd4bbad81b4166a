"""Which slot of which host holds which session, and how that comes to be and ends.

Keeps: a session has one holder at a time and is adopted under its own lock (single flight); nobody adopts a session
whose last holder is not fenced yet; what a host says it holds goes before what was believed of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from weakref import WeakValueDictionary

from helmr.errors import HelmrError, Moved, NotReady, OutcomeUnknown, Unavailable
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import Command, Deadline, Resume, TokenEnded
from helmr_runtime.directory.failover import Failover
from helmr_runtime.directory.hosts import PoolHost, Slot, Stage
from helmr_runtime.directory.placement import Placement
from helmr_runtime.directory.pool import Pool
from helmr_runtime.directory.timing import Limits, Tasks, sleep
from helmr_runtime.faults import Point, reach
from helmr_runtime.ports import Adopted, Lease, SlotReport, SlotState
from helmr_runtime.rpc.calls import ActorDied, ActorNotFound, CallError

logger = logging.getLogger(__name__)

ISOLATED_MAX = 10_000
"""Sessions remembered as isolated; when there are more, all are forgotten and found out again."""

UNREACHABLE_TRIES = 8
"""How often a host that gave no answer to an adoption is asked whether it holds the session, before it is ended."""

ADOPT_TRIES_MAX = 6
"""Slots that are tried for one adoption; the host of each but the last died or drained over it."""


class Bindings:
    """Sessions and their holders.

    Args:
        pool: The hosts.
        failover: Where a holder's crash goes.
        on_adopted: Called with each session that is adopted.
        on_released: Called with each that was given up in the commit of the command that it was adopted with, and the
            trace of that command.

    Attributes:
        placing: Reserves slots; set by the directory, which makes both.
        isolated: Sessions whose code runs only in a host of their own.
    """

    placing: Placement

    def __init__(
        self,
        pool: Pool,
        failover: Failover,
        *,
        clock: Clock,
        limits: Limits,
        on_adopted: Callable[[str], None],
        on_released: Callable[[str, str | None], None],
    ) -> None:
        self.holders: dict[str, Slot] = {}
        self.isolated: set[str] = set()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._pool = pool
        self._failover = failover
        self._clock = clock
        self._limits = limits
        self._on_adopted = on_adopted
        self._on_released = on_released
        self._tasks = Tasks()

    async def stop(self) -> None:
        """End what runs in the background."""
        await self._tasks.stop()

    # --- looking ----------------------------------------------------------------------------------

    def holder(self, session_id: str) -> Slot | None:
        """The slot that holds the session and can be asked."""
        slot = self.holders.get(session_id)
        asked = (Stage.HOLDING, Stage.RELEASING)
        return slot if slot is not None and slot.stage in asked else None

    def is_free(self, session_id: str) -> bool:
        """Nobody holds, adopts or fences the session."""
        if not self.can_adopt(session_id):
            return False
        lock = self._locks.get(session_id)
        return lock is None or not lock.locked()

    def can_adopt(self, session_id: str) -> bool:
        """Nobody holds or fences the session; for whoever has its lock."""
        return session_id not in self.holders and session_id not in self._failover

    def lock(self, session_id: str) -> asyncio.Lock:
        """The lock under which a session is adopted."""
        lock = self._locks.get(session_id)
        if lock is None:
            lock = self._locks[session_id] = asyncio.Lock()
        return lock

    def needs_own_host(self, session_id: str) -> bool:
        """Its code runs in no host with others: its task is isolated, or two hosts have died with it."""
        return any(session_id in some for some in self._apart())

    @property
    def some_need_own_host(self) -> bool:
        """There are such sessions, waiting for room or not."""
        return any(self._apart())

    def _apart(self) -> tuple[set[str], ...]:
        suspects = self._failover.suspects
        return self.isolated, suspects.alone, suspects.apart

    # --- adopting ---------------------------------------------------------------------------------

    async def adopt(
        self, session_id: str, command: Command, place: Callable[[], Awaitable[Slot]]
    ) -> tuple[Slot, Adopted] | None:
        """Bind the session to a slot that `place` gives; the caller has the session's lock.

        A host that dies over it is fenced here, and another one tried. None: the session is held, and what became of
        the command is not known; it is to be sent to the holder again.

        Raises:
            OutcomeUnknown: It died over a command that can't be repeated.
            Unavailable: None of the hosts tried could adopt it.
            HelmrError: What the command or the ledger says.
        """
        for _ in range(ADOPT_TRIES_MAX):
            slot = await place()
            self._bind(slot)
            crash = self._failover.crashes.get(session_id)
            try:
                reach(Point.DIRECTORY_BEFORE_ADOPT)
                adopted = await slot.host.port.adopt(
                    session_id,
                    command=command,
                    crash=crash,
                    catalog_hash=self._pool.catalog_hash,
                    executes=slot.executes,
                    term=self._failover.term,
                )
                reach(Point.DIRECTORY_ADOPTED)
            except CallError as error:
                if not isinstance(error, ActorNotFound):
                    self._failover.may_have_told(session_id, crash)
                await self._lost_while_adopting(slot, error)
                check_repeatable(session_id, command, error)
                if session_id in self.holders:
                    return None
            except HelmrError as error:
                if not await self._settle_failed(slot, error):
                    raise
            else:
                self._adopted(slot, adopted, command.trace)
                return slot, adopted
        raise Unavailable(f"{session_id} could not be adopted", retry_after_s=1.0)

    def _adopted(self, slot: Slot, adopted: Adopted, trace: str | None) -> None:
        if adopted.wants_own_host:
            if len(self.isolated) >= ISOLATED_MAX:
                self.isolated.clear()
            self.isolated.add(slot.session_id)
        if adopted.released:
            self._failover.crashes.pop(slot.session_id, None)
            self.unbind(slot)
            self.placing.give_back(slot)
            self._on_released(slot.session_id, trace)
        else:
            self._hold(slot, adopted.epoch)

    async def _settle_failed(self, slot: Slot, error: HelmrError) -> bool:
        """An adoption raised: learn whether the host holds the session.

        Returns:
            True if another host should be tried: this one has other code, or takes nothing new.
        """
        host, session_id = slot.host, slot.session_id
        if isinstance(error, NotReady) and "code_hash" in error.facts:
            host.code_hash = str(error.facts["code_hash"])
            self.unbind(slot)
            self.placing.give_back(slot)
            self.placing.drain(host)
            return True
        try:
            lease = await host.port.lease(session_id)
        except CallError as lost:
            await self._lost_while_adopting(slot, lost)
            return False
        if lease is not None:
            self._hold_for_now(slot, lease.epoch)
            return False
        self.unbind(slot)
        self.placing.give_back(slot)
        if isinstance(error, Moved | Unavailable):
            self._failover.start_not_held(session_id, host.name)
        if not isinstance(error, Moved):
            return False
        await self._failover.fenced(session_id)
        return True

    async def _lost_while_adopting(self, slot: Slot, error: CallError) -> None:
        """An adoption got no answer: returns when its host is dead and fenced, or has said whether it holds the
        session.
        """
        host, lease, has_answered = slot.host, None, False
        self.lost(host, error)
        for _ in range(UNREACHABLE_TRIES):
            if not host.is_alive:
                break
            await sleep(self._clock, self._limits.retry_s)
            with suppress(CallError):
                lease = await host.port.lease(slot.session_id)
                has_answered = True
                if lease is None or slot.executes:
                    break
        if host.is_alive and lease is not None:
            self._hold_for_now(slot, lease.epoch)
        elif host.is_alive and has_answered:
            self.unbind(slot)
            self.placing.give_back(slot)
            self._failover.start_not_held(slot.session_id, host.name)
        elif host.is_alive:
            await self._pool.end(host, "unreachable while it adopted", is_attributed=False)
        if not host.is_alive:
            self.unbind(slot)  # it may have died before the slot was made in it
        await self._failover.fenced(slot.session_id)

    def _bind(self, slot: Slot) -> None:
        slot.become(Stage.ADOPTING, self._clock.now())
        self.holders[slot.session_id] = slot

    def _hold(self, slot: Slot, epoch: int) -> None:
        """The adoption succeeded."""
        if slot.stage is Stage.GONE:
            return
        self._failover.crashes.pop(slot.session_id, None)
        self._on_adopted(slot.session_id)
        slot.epoch = epoch
        slot.become(Stage.HOLDING, self._clock.now())
        if slot.report is not None and slot.report.epoch == epoch:
            self._take(slot, slot.report)

    def _hold_for_now(self, slot: Slot, epoch: int) -> None:
        """The host holds a session that it was to decide about and give up, and has not told what became of that."""
        self._hold(slot, epoch)
        if not slot.executes:
            self.placing.release_soon(slot, "decided")

    def unbind(self, slot: Slot) -> None:
        """The slot holds its session no more."""
        if self.holders.get(slot.session_id) is slot:
            del self.holders[slot.session_id]
        slot.parkable_at = None
        self.placing.disarm(slot)
        self.placing.session_freed()

    # --- what hosts say -----------------------------------------------------------------------------

    async def verify(self, slot: Slot) -> None:
        """A host may not hold what we think: ask it."""
        if not slot.is_holding:
            return
        try:
            lease = await slot.host.port.lease(slot.session_id)
        except CallError as error:
            self.lost(slot.host, error)
            if slot.is_holding:
                self.placing.arm(slot, self._limits.retry_s * 4)
            return
        if self.holder(slot.session_id) is not slot:
            return
        if lease is not None:
            slot.epoch = lease.epoch
            return
        epoch = slot.epoch
        self.unbind(slot)
        self.placing.give_back(slot)
        if epoch is not None:
            self._failover.start_one(slot.session_id, epoch)

    def claim(self, host: PoolHost, lease: Lease) -> None:
        """A host holds a session that this directory did not give it; it has it from now on, unless another does."""
        if lease.session_id in self.holders:
            # One of both is at an old epoch, and the ledger knows which: it refuses what that one writes.
            logger.warning("%s is held twice, by %s too", lease.session_id, host.name)
            self._tasks.start(self._drop(host, lease.session_id))
            return
        slot = self.placing.slot_in(host, lease.session_id)
        self._bind(slot)
        self._hold(slot, lease.epoch)

    @staticmethod
    async def _drop(host: PoolHost, session_id: str) -> None:
        with suppress(HelmrError):
            await host.port.release(session_id, "held twice")

    def take(self, slot: Slot, report: SlotReport) -> None:
        """A host says what the session of that slot does."""
        slot.report = report
        self._take(slot, report)

    def _take(self, slot: Slot, report: SlotReport) -> None:
        if report.state in (SlotState.LOST, SlotState.GONE):
            if slot.stage in (Stage.HOLDING, Stage.RELEASING):
                self._lose_session(slot, report)
            if report.state is SlotState.GONE and slot.stage is Stage.ENDING:
                self.placing.give_back(slot)  # that it was lost may not have been told before
        elif slot.stage is not Stage.HOLDING:
            return
        elif report.state is SlotState.PARKABLE:
            self._failover.suspects.is_settled(slot.session_id)
            self.placing.parkable(slot)
        elif slot.parkable_at is not None:
            slot.parkable_at = None
            self.placing.disarm(slot)

    def _lose_session(self, slot: Slot, report: SlotReport) -> None:
        """The host lost the session and ends its code; the slot is free when it says so."""
        logger.info("%s lost %s: %s", slot.host.name, slot.session_id, report.detail)
        self.unbind(slot)
        slot.become(Stage.ENDING, self._clock.now())
        self._failover.start_one(slot.session_id, report.epoch)

    # --- crashes -------------------------------------------------------------------------------------

    def lost(self, host: PoolHost, error: CallError) -> None:
        """A call got no answer. If the host is only unreachable, its pings decide what it is."""
        if isinstance(error, ActorDied):
            self._pool.fence(host, error.cause)
        elif isinstance(error, ActorNotFound):
            self._pool.fence(host, "not found")

    def died(self, host: PoolHost, cause: str, *, is_attributed: bool) -> None:
        """A host is dead: its sessions may be adopted again when the ledger knows."""
        slots = host.drop_all()
        for slot in slots:
            slot.become(Stage.GONE, self._clock.now())
            self.unbind(slot)
        sessions = [slot.session_id for slot in slots]
        self._failover.start(
            host.place, sessions, cause, is_attributed=is_attributed, is_for_memory=host.makes_way
        )


def check_repeatable(session_id: str, command: Command, error: CallError) -> None:
    """Raise if a command that may have run can't be told apart when it is repeated (S-61)."""
    if command.operation is not None or isinstance(command, Deadline | TokenEnded | Resume):
        return
    if not isinstance(error, ActorNotFound):
        raise OutcomeUnknown(f"{session_id}: {error.message}") from error
