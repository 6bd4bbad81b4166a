"""The table of sessions and the slots that hold them, and every way in which it changes.

Keeps: a session has one holder at a time and is adopted under its own lock (single flight); no host adopts a session
whose last holder is not fenced yet; a host's own list of sessions overrides the directory's.

A slot is reserved, adopts its session, holds it, releases it, and is given back. A session that only waits lingers in
its slot until its linger time ends or others need the room.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from weakref import WeakValueDictionary

from helmr.errors import HelmrError, Moved, NotReady, OutcomeUnknown, Unavailable
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import Deadline, Resume, SessionCommand, TokenEnded
from helmr_runtime.directory.failover import Failover
from helmr_runtime.directory.hosts import BackgroundTasks, PoolHost, PoolTimings, Slot, Stage, sleep
from helmr_runtime.directory.pool import Pool
from helmr_runtime.directory.work import WorkQueue
from helmr_runtime.faults import Point, reach
from helmr_runtime.ports import (
    Adopted,
    Busy,
    HostReport,
    Lease,
    Occupancy,
    SlotReport,
    SlotState,
)
from helmr_runtime.rpc.calls import ActorDied, ActorNotFound, CallError

logger = logging.getLogger(__name__)

ISOLATED_MAX = 10_000
"""Sessions remembered as isolated; beyond that, all are forgotten and learned again."""

UNREACHABLE_TRIES = 8
"""Tries to ask a host that did not answer an adoption whether it holds the session, before it is killed."""

ADOPT_TRIES_MAX = 6
"""Slots tried for one adoption; the hosts of all but the last died or drained meanwhile."""


class Holds:
    """Sessions and the slots that hold them. Gets the hosts' reports from the pool (`PoolEvents`).

    Args:
        pool: The hosts.
        failover: Fences the sessions of a holder that is gone.
        work: Notified of each session that is adopted, or given up with work left to do.
        on_free: Called when there may be room or a session to adopt; it must defer its check.
        is_next: True if the session waits for a limit and its turn is near: it stays where it is.

    Attributes:
        isolated: Sessions whose code runs only in a host of their own.
        is_closing: Sessions that reach a wait are parked at once.
    """

    def __init__(
        self,
        pool: Pool,
        failover: Failover,
        work: WorkQueue,
        *,
        clock: Clock,
        timings: PoolTimings,
        on_free: Callable[[], None],
        is_next: Callable[[str], bool] = lambda session_id: False,
    ) -> None:
        self.isolated: set[str] = set()
        self.is_closing = False
        self._holders: dict[str, Slot] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._pool = pool
        self._failover = failover
        self._work = work
        self._clock = clock
        self._timings = timings
        self._on_free = on_free
        self._is_next = is_next
        self._tasks = BackgroundTasks()

    async def stop(self) -> None:
        """End the background tasks."""
        for slot in self._pool.slots():
            _disarm(slot)
        await self._tasks.stop()

    # --- looking ----------------------------------------------------------------------------------

    def holder(self, session_id: str) -> Slot | None:
        """Return the slot that holds the session and can be asked."""
        slot = self._holders.get(session_id)
        asked = (Stage.HOLDING, Stage.RELEASING)
        return slot if slot is not None and slot.stage in asked else None

    def is_free(self, session_id: str) -> bool:
        """True if the session is not held, being adopted or being fenced."""
        if not self.can_adopt(session_id):
            return False
        lock = self._locks.get(session_id)
        return lock is None or not lock.locked()

    def can_adopt(self, session_id: str) -> bool:
        """True if the session is not held or being fenced; for holders of its lock."""
        return session_id not in self._holders and session_id not in self._failover

    def lock(self, session_id: str) -> asyncio.Lock:
        """Return the lock under which a session is adopted."""
        lock = self._locks.get(session_id)
        if lock is None:
            lock = self._locks[session_id] = asyncio.Lock()
        return lock

    def needs_own_host(self, session_id: str) -> bool:
        """True if its code must not share a host: its task is isolated, or two hosts have died with it."""
        return any(session_id in some for some in self._apart())

    @property
    def some_need_own_host(self) -> bool:
        """True if there are such sessions, waiting for room or not."""
        return any(self._apart())

    def _apart(self) -> tuple[set[str], ...]:
        suspects = self._failover.suspects
        return self.isolated, suspects.alone, suspects.apart

    # --- adopting ---------------------------------------------------------------------------------

    async def adopt(
        self, session_id: str, command: SessionCommand, place: Callable[[], Awaitable[Slot]]
    ) -> tuple[Slot, Adopted] | None:
        """Bind the session to a slot from `place`; the caller has the session's lock.

        A host that dies meanwhile is fenced here, and another one tried. None means that the session is held and the
        fate of the command unknown; send it to the holder again.

        Raises:
            OutcomeUnknown: The host died during a command that can't be repeated.
            Unavailable: None of the hosts tried could adopt it.
            HelmrError: The command or the ledger raised it.
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
                if session_id in self._holders:
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
            self._let_go(slot)
            self._work.set_off(slot.session_id, trace)
        else:
            self._hold(slot, adopted.epoch)

    async def _settle_failed(self, slot: Slot, error: HelmrError) -> bool:
        """Learn after an error in an adoption whether the host holds the session.

        Returns:
            True to try another host: this one has other code, or takes nothing new.
        """
        host, session_id = slot.host, slot.session_id
        if isinstance(error, NotReady) and "code_hash" in error.facts:
            host.code_hash = str(error.facts["code_hash"])
            self._let_go(slot)
            self._pool.drain(host)
            return True
        try:
            lease = await host.port.lease(session_id)
        except CallError as lost:
            await self._lost_while_adopting(slot, lost)
            return False
        if lease is not None:
            self._hold_for_now(slot, lease.epoch)
            return False
        self._let_go(slot)
        if isinstance(error, Moved | Unavailable):
            self._failover.start_not_held(session_id, host.name)
        if not isinstance(error, Moved):
            return False
        await self._failover.fenced(session_id)
        return True

    async def _lost_while_adopting(self, slot: Slot, error: CallError) -> None:
        """Return, after an unanswered adoption, once its host is dead and fenced or has reported whether it holds the
        session.
        """
        host, lease, has_answered = slot.host, None, False
        self.lost(host, error)
        for _ in range(UNREACHABLE_TRIES):
            if not host.is_alive:
                break
            await sleep(self._clock, self._timings.retry_s)
            with suppress(CallError):
                lease = await host.port.lease(slot.session_id)
                has_answered = True
                if lease is None or slot.executes:
                    break
        if host.is_alive and lease is not None:
            self._hold_for_now(slot, lease.epoch)
        elif host.is_alive and has_answered:
            self._let_go(slot)
            self._failover.start_not_held(slot.session_id, host.name)
        elif host.is_alive:
            await self._pool.end(host, "unreachable while it adopted", is_attributed=False)
        if not host.is_alive:
            self._unbind(slot)  # it may have died before the slot was made in it
        await self._failover.fenced(slot.session_id)

    def _hold(self, slot: Slot, epoch: int) -> None:
        """Note a successful adoption."""
        if slot.stage is Stage.GONE:
            return
        self._failover.crashes.pop(slot.session_id, None)
        self._work.taken(slot.session_id)
        slot.epoch = epoch
        slot.become(Stage.HOLDING, self._clock.now())
        if slot.report is not None and slot.report.epoch == epoch:
            self._take(slot, slot.report)

    def _hold_for_now(self, slot: Slot, epoch: int) -> None:
        """Note that a host still holds a session that it should have given up after a decision, and has not reported on
        that."""
        self._hold(slot, epoch)
        if not slot.executes:
            self._release_soon(slot, "decided")

    # --- reports of hosts ---------------------------------------------------------------------------

    async def verify(self, slot: Slot) -> None:
        """Ask a host whether it holds the slot's session."""
        if not slot.is_holding:
            return
        try:
            lease = await slot.host.port.lease(slot.session_id)
        except CallError as error:
            self.lost(slot.host, error)
            if slot.is_holding:
                self._arm(slot, self._timings.retry_s * 4)
            return
        if self.holder(slot.session_id) is not slot:
            return
        if lease is not None:
            slot.epoch = lease.epoch
            return
        epoch = slot.epoch
        self._let_go(slot)
        if epoch is not None:
            self._failover.start_one(slot.session_id, epoch)

    def _claim(self, host: PoolHost, lease: Lease) -> None:
        """Note a session that a host holds without this directory's order, unless another host holds it."""
        if lease.session_id in self._holders:
            # One of them has an old epoch; the ledger knows which, and refuses its writes.
            logger.warning("%s is held twice, by %s too", lease.session_id, host.name)
            self._tasks.start(self._drop(host, lease.session_id))
            return
        slot = self.reserve(lease.session_id, host)
        self._bind(slot)
        self._hold(slot, lease.epoch)

    @staticmethod
    async def _drop(host: PoolHost, session_id: str) -> None:
        with suppress(HelmrError):
            await host.port.release(session_id, "held twice")

    def _note(self, slot: Slot, report: SlotReport) -> None:
        """Note a host's report about the session of that slot."""
        slot.report = report
        self._take(slot, report)

    def _take(self, slot: Slot, report: SlotReport) -> None:
        if report.state in (SlotState.LOST, SlotState.GONE):
            if slot.stage in (Stage.HOLDING, Stage.RELEASING):
                self._lose_session(slot, report)
            if report.state is SlotState.GONE and slot.stage is Stage.ENDING:
                self.give_back(slot)  # it may not have reported the loss before
        elif slot.stage is not Stage.HOLDING:
            return
        elif report.state is SlotState.PARKABLE:
            self._failover.suspects.is_settled(slot.session_id)
            self._parkable(slot)
        elif slot.parkable_at is not None or slot.is_kept:
            slot.parkable_at, slot.is_kept = None, False
            _disarm(slot)

    def _lose_session(self, slot: Slot, report: SlotReport) -> None:
        """Note that the host lost the session and ends its code; the slot is free once it reports that."""
        logger.info("%s lost %s: %s", slot.host.name, slot.session_id, report.detail)
        self._unbind(slot)
        slot.become(Stage.ENDING, self._clock.now())
        self._failover.start_one(slot.session_id, report.epoch)

    # --- a slot, from its reservation to its end ------------------------------------------------------

    def reserve(self, session_id: str, host: PoolHost, *, executes: bool = True) -> Slot:
        """Reserve a slot in that host for this session, until it is bound or given back.

        Args:
            executes: Its code should run there; otherwise a command is decided and the session given up at once.
        """
        slot = Slot(host, session_id, Stage.RESERVED, self._clock.now(), executes=executes)
        host.put(slot)
        return slot

    def give_back(self, slot: Slot) -> None:
        """Free an empty slot; a draining host may then be empty."""
        if slot.stage is Stage.GONE:
            return
        slot.become(Stage.GONE, self._clock.now())
        _disarm(slot)
        slot.host.drop(slot)
        self._pool.end_if_empty(slot.host)
        self._on_free()

    def _bind(self, slot: Slot) -> None:
        slot.become(Stage.ADOPTING, self._clock.now())
        self._holders[slot.session_id] = slot

    def _unbind(self, slot: Slot) -> None:
        """Detach a slot from its session.

        The session may wait for room and have been skipped as held until now: the ledger's list can name it before the
        reply to its release is here.
        """
        if self._holders.get(slot.session_id) is slot:
            del self._holders[slot.session_id]
        slot.parkable_at = None
        _disarm(slot)
        self._on_free()

    def _let_go(self, slot: Slot) -> None:
        """Detach a slot from its session and free it.

        An adoption that is given up may have taken a report meanwhile: the call reached the host after the host had
        said that it does not hold the session. The host does not repeat that report.
        """
        self._unbind(slot)
        self.give_back(slot)
        if slot.epoch is None and slot.report is not None:
            self._look_soon(slot.host, slot.report)

    # --- parking ----------------------------------------------------------------------------------

    async def _release(self, slot: Slot, reason: str) -> bool:
        """Ask a host to give up a session; return true if it is parked and its slot given back."""
        if not slot.is_holding:
            return False
        slot.become(Stage.RELEASING, self._clock.now())
        known = slot.report
        try:
            reply = await slot.host.port.release(slot.session_id, reason)
        except Moved:
            self._still_holds(slot)
            await self.verify(slot)
            return False
        except CallError as error:
            if isinstance(error, ActorDied):
                self._pool.fence(slot.host, error.cause)
            else:
                self._still_holds(slot)
                self._arm(slot, self._timings.retry_s * 4)
            return False
        except HelmrError as error:
            logger.info("%s can't park %s now: %s", slot.host.name, slot.session_id, error)
            self._still_holds(slot)
            self._arm(slot, self._timings.retry_s * 4)
            return False
        if slot.is_over:
            return False  # its host died meanwhile
        if isinstance(reply, Busy):
            self._still_holds(slot)
            said = slot.report
            if said is not known and said is not None and said.state is SlotState.PARKABLE:
                self._parkable(slot)  # reported during the call, and not reported again
            else:
                self._arm(slot, self._timings.linger_s)
            return False
        self._let_go(slot)
        return True

    def _still_holds(self, slot: Slot) -> None:
        if slot.stage is Stage.RELEASING:
            slot.become(Stage.HOLDING, self._clock.now())
            slot.parkable_at = None

    def _parkable(self, slot: Slot) -> None:
        """Park a parkable session: at once if its host drains, otherwise after its linger time."""
        slot.is_kept = self._is_next(slot.session_id)
        if slot.is_kept and not (slot.host.is_draining or self.is_closing):
            return
        slot.parkable_at = self._clock.now()
        if slot.host.is_draining or self.is_closing:
            self._release_soon(slot, self._reason(slot))
            return
        self._arm(slot, self._timings.linger_s)
        self._on_free()

    def passed(self, session_id: str) -> None:
        """Note that the session's turn under a limit is no longer near: it lingers as others do."""
        slot = self._holders.get(session_id)
        if slot is not None and slot.is_kept and slot.stage is Stage.HOLDING:
            self._parkable(slot)

    def _reason(self, slot: Slot) -> str:
        if self.is_closing:
            return "shutdown"
        return "drain" if slot.host.is_draining else "linger"

    def evict(self, slot: Slot) -> None:
        """Park a session that only waits: others need its room."""
        slot.parkable_at = None  # ask once
        self._release_soon(slot, "evict")

    def _arm(self, slot: Slot, delay_s: float) -> None:
        """Release the slot's session after that time, if it can be parked by then."""
        _disarm(slot)
        slot.linger = self._clock.call_at(
            self._clock.now() + timedelta(seconds=delay_s), lambda: self._linger_over(slot)
        )

    def _linger_over(self, slot: Slot) -> None:
        slot.linger = None
        self._release_soon(slot, self._reason(slot))

    def _release_soon(self, slot: Slot, reason: str) -> None:
        """Call `_release` in the background."""

        async def release() -> None:
            await self._release(slot, reason)

        self._tasks.start(release())

    async def park_all(self) -> list[str]:
        """Park every session that reaches a wait in time; return those that did not."""
        self.is_closing = True
        deadline = self._clock.now() + timedelta(seconds=self._timings.shutdown_s)
        while self._clock.now() < deadline:
            holding = [slot for slot in self._pool.slots() if slot.stage is not Stage.ENDING]
            if not holding:
                return []
            await asyncio.gather(*(self._release(slot, "shutdown") for slot in holding))
            if any(slot.stage is not Stage.ENDING for slot in self._pool.slots()):
                await sleep(self._clock, self._timings.retry_s)
        return [slot.session_id for slot in self._pool.slots()]

    # --- events of the pool ---------------------------------------------------------------------------

    def on_ready(self, host: PoolHost, found: Occupancy) -> None:
        """A host has started, or an earlier directory left it behind with sessions."""
        for lease in found.leases:
            self._claim(host, lease)
        self._on_free()

    def on_draining(self, host: PoolHost) -> None:
        """A host makes way: its waiting sessions are parked."""
        for slot in list(host.slots):
            if slot.is_lingering or slot.is_kept:
                self._release_soon(slot, "drain")

    def on_report(self, host: PoolHost, report: HostReport) -> None:
        """A host reports on its sessions."""
        for one in report.slots:
            slot = self._slot_of(host, one)
            if slot is None:
                self._look_soon(host, one)
            elif slot.report is None or slot.report.epoch <= one.epoch:
                self._note(slot, one)

    def on_crash(self, host: PoolHost, cause: str, *, is_attributed: bool) -> None:
        """A host is dead: its sessions may be adopted again once the ledger knows."""
        slots = host.drop_all()
        for slot in slots:
            slot.become(Stage.GONE, self._clock.now())
            self._unbind(slot)
        sessions = [slot.session_id for slot in slots]
        self._failover.start(
            host.place, sessions, cause, is_attributed=is_attributed, is_for_memory=host.makes_way
        )

    def _slot_of(self, host: PoolHost, report: SlotReport) -> Slot | None:
        """Return the slot of a report; None if that adoption is over. A slot being adopted has no epoch yet."""
        adoption = (report.session_id, report.epoch)
        known = self._holders.get(report.session_id)
        if known is not None and known.host is host and known.epoch == report.epoch:
            return known
        ending = (slot for slot in host.slots if slot.stage is Stage.ENDING)
        found = next((s for s in ending if (s.session_id, s.epoch) == adoption), None)
        if found is not None:
            return found
        return known if known is not None and known.host is host and known.epoch is None else None

    def _look_soon(self, host: PoolHost, report: SlotReport) -> None:
        """Call `_look_for` in the background, if the host may still hold the session."""
        if report.state in (SlotState.BUSY, SlotState.PARKABLE):
            self._tasks.start(self._look_for(host, report))

    async def _look_for(self, host: PoolHost, report: SlotReport) -> None:
        """Check a host's report of a session that the table does not place there.

        The host holds it if an adoption given up as lost reached it late: then nothing else would park the session.
        Otherwise the report arrived after the session had left.
        """
        session_id = report.session_id
        async with self.lock(session_id):
            await self._failover.fenced(session_id)
            while host.is_alive and self._slot_of(host, report) is None:
                try:
                    lease = await host.port.lease(session_id)
                except CallError as error:
                    self.lost(host, error)
                    await sleep(self._clock, self._timings.retry_s)
                    continue
                if lease is None or lease.epoch != report.epoch or not host.is_alive:
                    return
                self._claim(host, lease)
                break
        slot = self._slot_of(host, report)
        if slot is not None and (slot.report is None or slot.report.since <= report.since):
            self._note(slot, report)

    # --- no answer ------------------------------------------------------------------------------------

    def lost(self, host: PoolHost, error: CallError) -> None:
        """Handle an unanswered call. If the host is only unreachable, its pings decide its state."""
        if isinstance(error, ActorDied):
            self._pool.fence(host, error.cause)
        elif isinstance(error, ActorNotFound):
            self._pool.fence(host, "not found")


def _disarm(slot: Slot) -> None:
    """Forget the linger timer."""
    if slot.linger is not None:
        slot.linger.cancel()
        slot.linger = None


def check_repeatable(session_id: str, command: SessionCommand, error: CallError) -> None:
    """Raise if a command that may have run can't be recognized when it is repeated (S-61)."""
    if command.operation is not None or isinstance(command, Deadline | TokenEnded | Resume):
        return
    if not isinstance(error, ActorNotFound):
        raise OutcomeUnknown(f"{session_id}: {error.message}") from error
