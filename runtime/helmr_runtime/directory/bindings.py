"""Which actor holds which session, and how that comes to be and ends.

Keeps: a session has one holder at a time and is adopted under its own lock (single flight); nobody
adopts a session whose last holder is not fenced yet; what an actor says it holds goes before what
was believed of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from helmr.errors import HelmrError, Moved, NotReady, OutcomeUnknown, Unavailable
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import Command, Deadline, Resume, TokenEnded
from helmr_runtime.directory.failover import Failover
from helmr_runtime.directory.placement import Placement
from helmr_runtime.directory.pool import ActorState, Pool, PoolActor
from helmr_runtime.directory.timing import Tasks
from helmr_runtime.faults import Point, reach
from helmr_runtime.ports import Adopted, Lease, Report
from helmr_runtime.rpc.protocol import (
    DESK,
    ActorDied,
    ActorNotFound,
    ActorUnavailable,
    CallError,
)

logger = logging.getLogger(__name__)

ADOPT_TRIES_MAX = 6
"""Actors that are tried for one adoption; each but the last died, moved or drained over it."""


class Bindings:
    """Sessions and their holders.

    Args:
        pool: The actors.
        placing: Reserves them; set by the directory, which makes both.
        failovers: Where a holder's death goes.
        on_adopted: Called with each session that is adopted.
    """

    placing: Placement

    def __init__(
        self,
        pool: Pool,
        failovers: Failover,
        *,
        clock: Clock,
        on_adopted: Callable[[str], None],
    ) -> None:
        self.holders: dict[str, PoolActor] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._pool = pool
        self._failover = failovers
        self._clock = clock
        self._on_adopted = on_adopted
        self._tasks = Tasks()

    async def stop(self) -> None:
        """End what runs in the background."""
        await self._tasks.stop()

    # --- looking ----------------------------------------------------------------------------------

    def holder(self, session_id: str) -> PoolActor | None:
        """The actor that holds the session and can be asked."""
        actor = self.holders.get(session_id)
        held = (ActorState.HOLDING, ActorState.RELEASING)
        return actor if actor is not None and actor.state in held else None

    def is_free(self, session_id: str) -> bool:
        """Nobody holds, adopts or buries the session."""
        if session_id in self.holders or session_id in self._failover:
            return False
        lock = self._locks.get(session_id)
        return lock is None or not lock.locked()

    def can_adopt(self, session_id: str) -> bool:
        """Nobody holds or buries the session; for whoever has its lock."""
        return session_id not in self.holders and session_id not in self._failover

    def lock(self, session_id: str) -> asyncio.Lock:
        """The lock under which a session is adopted."""
        lock = self._locks.get(session_id)
        if lock is None:
            lock = self._locks[session_id] = asyncio.Lock()
        return lock

    # --- adopting ---------------------------------------------------------------------------------

    async def adopt(
        self, session_id: str, command: Command, place: Callable[[], Awaitable[PoolActor]]
    ) -> tuple[PoolActor, Adopted]:
        """Bind the session to an actor that `place` gives; the caller has the session's lock.

        An actor that dies over it is fenced here, and another one tried.

        Raises:
            OutcomeUnknown: It died over a command that can't be repeated.
            Unavailable: None of the actors tried could adopt it.
            HelmrError: What the command or the ledger says.
        """
        for _ in range(ADOPT_TRIES_MAX):
            actor = await place()
            self._bind(actor, session_id)
            try:
                reach(Point.DIRECTORY_BEFORE_ADOPT)
                adopted = await actor.session.adopt(
                    session_id,
                    command=command,
                    death=self._failover.deaths.get(session_id),
                    catalog_hash=self._pool.catalog_hash,
                )
                reach(Point.DIRECTORY_ADOPTED)
            except CallError as error:
                await self._lost_while_adopting(actor, session_id, error)
                check_repeatable(session_id, command, error)
            except HelmrError as error:
                if not await self._settle_failed(actor, session_id, error):
                    raise
            else:
                self._hold(actor, adopted.epoch)
                return actor, adopted
        raise Unavailable(f"{session_id} could not be adopted", retry_after_s=1.0)

    async def _settle_failed(self, actor: PoolActor, session_id: str, error: HelmrError) -> bool:
        """An adoption raised: learn whether the actor holds the session.

        Returns:
            True if another actor should be tried: this one holds another session or other code.
        """
        if isinstance(error, NotReady) and "code_hash" in error.facts:
            self.unbind(actor)
            actor.code_hash = str(error.facts["code_hash"])
            actor.is_draining = True
            self.placing.give_back(actor)
            return True
        try:
            holding = await actor.session.who()
        except HelmrError as lost:
            if not isinstance(lost, CallError):
                lost = ActorUnavailable(actor=actor.name, method="who", detail=lost.message)
            await self._lost_while_adopting(actor, session_id, lost)
            return False
        if holding.session_id == session_id and holding.epoch is not None:
            self._hold(actor, holding.epoch)
            return False
        self.unbind(actor)
        if holding.session_id is not None:
            self.claim(actor, holding)
        elif isinstance(error, Moved):
            # It holds nothing and takes nothing: it is about to end itself.
            await self._pool.end(actor, "takes no session", is_counted=False)
        else:
            self.placing.give_back(actor)
        return isinstance(error, Moved)

    async def _lost_while_adopting(
        self, actor: PoolActor, session_id: str, error: CallError
    ) -> None:
        self.lost(actor, error)
        if actor.is_alive:
            await self._pool.end(actor, "unreachable while it adopted", is_counted=False)
        cause = error.cause if isinstance(error, ActorDied) else error.message
        self.unbind(actor)
        await self._failover.fence(session_id, None, actor.place, cause, is_counted=True)

    def _bind(self, actor: PoolActor, session_id: str) -> None:
        actor.session_id = session_id
        actor.epoch = None
        actor.report = None
        actor.parkable_at = None
        actor.bound_at = self._clock.now()
        actor.become(ActorState.ADOPTING, actor.bound_at)
        self.holders[session_id] = actor

    def _hold(self, actor: PoolActor, epoch: int) -> None:
        """The adoption succeeded."""
        if actor.session_id is None or not actor.is_alive:
            return
        self._failover.deaths.pop(actor.session_id, None)
        self._on_adopted(actor.session_id)
        actor.epoch = epoch
        actor.become(ActorState.HOLDING, self._clock.now())
        if actor.role == DESK:
            self.placing.watch_desk(actor)
        else:
            self.placing.keep_one_free()
        if actor.report is not None:
            self.report(actor, actor.report)

    def unbind(self, actor: PoolActor) -> None:
        """The actor holds its session no more."""
        if actor.session_id is not None and self.holders.get(actor.session_id) is actor:
            del self.holders[actor.session_id]
        actor.session_id = None
        actor.epoch = None
        actor.parkable_at = None
        self.placing.disarm(actor)
        self.placing.session_freed()

    # --- what actors say --------------------------------------------------------------------------

    async def verify(self, actor: PoolActor) -> None:
        """An actor may not hold what we think: ask it."""
        session_id = actor.session_id
        if session_id is None or not actor.holds(session_id):
            return
        try:
            holding = await actor.session.who()
        except HelmrError as error:
            if isinstance(error, CallError):
                self.lost(actor, error)
            return
        if not actor.holds(session_id):
            return
        if holding.session_id == session_id:
            actor.epoch = holding.epoch
            return
        self.unbind(actor)
        if holding.session_id is None:
            self.placing.give_back(actor)
        else:
            self.claim(actor, holding)

    def claim(self, actor: PoolActor, holding: Lease) -> None:
        """An actor holds a session that this directory did not give it: true unless another does."""
        session_id = holding.session_id
        if session_id is None or session_id in self.holders or holding.epoch is None:
            actor.become(ActorState.RESERVED, self._clock.now())
            self._tasks.start(self._pool.end(actor, f"claims {session_id}", is_counted=False))
            return
        self._bind(actor, session_id)
        self._hold(actor, holding.epoch)
        if actor.code_hash != self._pool.catalog_hash:
            self.placing.drain(actor)

    def report(self, actor: PoolActor, report: Report) -> None:
        """An actor says what became of its session."""
        actor.report = report
        if actor.is_recovering and report.state == "free":
            actor.is_recovering = False
            self.placing.give_back(actor)
        if actor.state is not ActorState.HOLDING:
            return
        if report.session_id == actor.session_id:
            if report.state == "parkable":
                self.placing.parkable(actor)
            elif report.state == "failed":
                self._lose_session(actor, report.detail or "failed")
            else:
                actor.parkable_at = None
                self.placing.disarm(actor)
        elif report.session_id is None and actor.bound_at and report.since >= actor.bound_at:
            # It gave the session up after it got it; an older report is about another session.
            if report.state == "failed":
                self._lose_session(actor, report.detail or "failed")
            else:
                self._tasks.start(self.verify(actor))

    def _lose_session(self, actor: PoolActor, detail: str) -> None:
        """The actor lost its session and ends its code; it is free when it says so."""
        session_id, epoch = actor.session_id, actor.epoch
        self.unbind(actor)
        actor.is_recovering = True
        actor.become(ActorState.RESERVED, self._clock.now())
        if session_id is not None:
            self._failover.start(session_id, epoch, actor.place, detail, is_counted=False)

    def lost(self, actor: PoolActor, error: CallError) -> None:
        """A call got no answer. If the actor is only unreachable, its pings decide what it is."""
        if isinstance(error, ActorDied):
            self._pool.fence(actor, error.cause)
        elif isinstance(error, ActorNotFound):
            self._pool.fence(actor, "not found")

    def died(self, actor: PoolActor, cause: str, *, is_counted: bool) -> None:
        """An actor is dead: its session may be adopted again when the ledger knows.

        One that died while it adopted is seen to by whoever adopts, who has the session's lock.
        """
        session_id, epoch = actor.session_id, actor.epoch
        if session_id is None or actor.state is ActorState.ADOPTING:
            return
        self.unbind(actor)
        self._failover.start(session_id, epoch, actor.place, cause, is_counted=is_counted)


def check_repeatable(session_id: str, command: Command, error: CallError) -> None:
    """Raise if a command that may have run can't be told apart when it is repeated (S-61)."""
    if command.operation is not None or isinstance(command, Deadline | TokenEnded | Resume):
        return
    if not isinstance(error, ActorNotFound):
        raise OutcomeUnknown(f"{session_id}: {error.message}") from error
