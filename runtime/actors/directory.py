"""The directory: knows which session lives where, and is the only one that adopts and releases.

Owns bindings, the queue and the pool. Keeps: one binding per session at a time (single flight, by a
lock per session), commands decided although every slot is busy (desks), runs resumed oldest first,
and after an actor's death the session abandoned and adopted elsewhere with what is known of the
death (S-3, S-63). A plain class: calls to actors go through what it is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from datetime import timedelta
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

from helmr.errors import (
    HelmrError,
    Moved,
    NotReady,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)
from runtime.actors.boundary import DESK, SLOT, ActorDied, ActorNotFound, CallError
from runtime.actors.deaths import Burials
from runtime.actors.placing import Placing
from runtime.actors.pool import ActorState, Pool, PoolActor, Spawner
from runtime.actors.timing import Limits, Tasks
from runtime.actors.worklist import Deliver, WorkList
from runtime.clock import Clock
from runtime.core.commands import Command, Deadline, TokenEnded, Touch
from runtime.core.entries import RUNTIME
from runtime.ports import Adopted, Holding, Ledger, Report, Routed, Session

logger = logging.getLogger(__name__)

ROUTES_MAX = 10_000
"""Commands under way at once; more are refused (S-64)."""

ADOPT_TRIES_MAX = 6
RETRY_PAUSE_S = 0.005
"""Between two tries to reach a session that is on the move."""


class DirectoryActor:
    """See `runtime.ports.Directory`.

    Args:
        ledger: The ledger.
        sessions: The session actor of a name.
        spawner: How pool actors come to be and end.
        slots: Actors that run task code.
        desks: Actors that only decide.
        catalog_hash: The code that actors must have loaded.
        deliver: Makes the command that delivers an ended token.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        sessions: Callable[[str], Session],
        spawner: Spawner,
        clock: Clock,
        slots: int,
        desks: int,
        catalog_hash: str,
        limits: Limits | None = None,
        deliver: Deliver | None = None,
    ) -> None:
        limits = limits or Limits()
        self._ledger = ledger
        self._spawner = spawner
        self._clock = clock
        self._limits = limits
        self._holders: dict[str, PoolActor] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._resuming: set[str] = set()
        self._routes_count = 0
        self._tasks = Tasks()
        self._is_ready = False
        self._burials = Burials(
            ledger, spawner=spawner, clock=clock, limits=limits, on_buried=self._pump
        )
        self._pool = Pool(
            spawner=spawner,
            sessions=sessions,
            events=self,
            clock=clock,
            limits=limits,
            sizes={SLOT: slots, DESK: desks},
            catalog_hash=catalog_hash,
        )
        self._placing = Placing(
            self._pool,
            clock=clock,
            limits=limits,
            slots=slots,
            on_free=self._pump,
            on_moved=self._verify,
            on_unbound=self._unbind,
        )
        self._work = WorkList(
            ledger,
            clock=clock,
            limits=limits,
            on_change=self._pump,
            on_return=self._start_reconciling,
            route=self.route,
            deliver=deliver,
        )

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take over what an earlier directory left, then serve."""
        await self._pool.start()
        self._tasks.start(self._begin())

    async def shutdown(self) -> Mapping[str, Any]:
        """Refuse new commands and park every session that reaches a wait in time.

        Returns:
            `{"unparked": [session ids]}`: those whose code was still running.
        """
        self._is_ready = False
        self._pool.close()
        await self._work.stop()
        return {"unparked": await self._placing.park_all()}

    async def stop(self) -> None:
        """End all background work. The actors stay as they are."""
        self._is_ready = False
        await self._work.stop()
        await self._placing.stop()
        await self._burials.stop()
        await self._tasks.stop()
        await self._pool.stop()

    async def set_catalog(self, catalog_hash: str) -> None:
        """Require other code from now on: actors with older code drain and are replaced."""
        self._pool.catalog_hash = catalog_hash
        for actor in list(self._pool.actors.values()):
            if actor.is_alive and actor.code_hash != catalog_hash:
                self._placing.drain(actor)

    async def _begin(self) -> None:
        await self._reconcile()
        self._is_ready = True
        self._work.start()

    def _start_reconciling(self) -> None:
        self._tasks.start(self._reconcile())

    async def _reconcile(self) -> None:
        """Abandon what the ledger believes held and nobody holds.

        Its holder died while no directory watched, or the ledger forgot how an adoption ended.
        """
        for head in await self._burials.held():
            session_id = head.session_id
            lock = self._locks.get(session_id)
            if session_id in self._holders or session_id in self._burials:
                continue
            if lock is None or not lock.locked():
                self._burials.start(
                    session_id, head.epoch, head.holder, "died unwatched", is_counted=True
                )

    # --- what others call -------------------------------------------------------------------------

    async def route(self, session_id: str, command: Command) -> Routed:
        """Have the session adopted if need be and the command decided (see `Directory.route`).

        Raises:
            OutcomeUnknown: The actor died over the command, which has no operation id to repeat.
            Unavailable: The session could not be reached in time.
        """
        if not self._is_ready:
            raise NotReady("the directory is starting or stopping", retry_after_s=1.0)
        if self._routes_count >= ROUTES_MAX:
            raise Overloaded("too many commands are under way", retry_after_s=1.0)
        self._routes_count += 1
        work = _shielded(self._route(session_id, command))
        try:
            # A caller that gives up must not leave an adoption half done.
            return await asyncio.shield(work)
        finally:
            self._routes_count -= 1

    async def locate(self, session_id: str) -> str | None:
        """The name of the actor that holds the session, if any; adopts nothing."""
        actor = self._holders.get(session_id)
        held = (ActorState.HOLDING, ActorState.RELEASING)
        return actor.name if actor is not None and actor.state in held else None

    async def status(self) -> Mapping[str, Any]:
        """Pool, queue and warnings, as JSON.

        Shape: `{ready, slots{total, free, busy, lingering, starting}, desks{…}, queue, failing,
        routes, deaths, recent_deaths[], warnings[], actors[{name, pid, role, session, state,
        since}]}`.
        """
        warnings = list(self._pool.warnings.values())
        if self._work.failing():
            warnings.append(f"{self._work.failing()} sessions can't be resumed; see the log")
        return {
            "ready": self._is_ready,
            "slots": self._count(SLOT),
            "desks": self._count(DESK),
            "queue": len(self._work),
            "failing": self._work.failing(),
            "routes": self._routes_count,
            "deaths": self._pool.deaths_count,
            "recent_deaths": list(self._pool.deaths),
            "warnings": warnings,
            "actors": [actor.to_json() for actor in self._pool.actors.values()],
        }

    def _count(self, role: str) -> dict[str, int]:
        actors = [a for a in self._pool.actors.values() if a.role == role]
        free = sum(1 for a in actors if a.state is ActorState.FREE)
        starting = sum(1 for a in actors if a.state is ActorState.STARTING)
        lingering = sum(
            1 for a in actors if a.state is ActorState.HOLDING and a.parkable_at is not None
        )
        return {
            "total": len(actors),
            "free": free,
            "lingering": lingering,
            "starting": starting,
            "busy": len(actors) - free - starting - lingering,
        }

    # --- route and adopt --------------------------------------------------------------------------

    async def _route(self, session_id: str, command: Command) -> Routed:
        deadline = self._clock.now() + timedelta(seconds=self._limits.route_s)
        while True:
            actor = self._holders.get(session_id)
            if actor is not None and actor.state in (ActorState.HOLDING, ActorState.RELEASING):
                routed = await self._ask(actor, session_id, command)
            else:
                routed = await self._adopt_to_decide(session_id, command)
            if routed is not None:
                return routed
            if self._clock.now() >= deadline:
                raise Unavailable(f"{session_id} is on the move", retry_after_s=1.0)
            await asyncio.sleep(RETRY_PAUSE_S)

    async def _ask(self, actor: PoolActor, session_id: str, command: Command) -> Routed | None:
        """Have the holder decide; None if it holds the session no more."""
        try:
            return Routed(reply=await actor.session.command(session_id, command), actor=actor.name)
        except Moved:
            await self._verify(actor)
        except CallError as error:
            self._lost(actor, error)
            _check_repeatable(session_id, command, error)
        return None

    async def _adopt_to_decide(self, session_id: str, command: Command) -> Routed | None:
        async with self._lock(session_id):
            if session_id in self._holders or session_id in self._burials:
                return None
            actor, adopted = await self._adopt(session_id, command, self._place)
            return Routed(reply=adopted.reply or {}, actor=actor.name)

    async def _place(self) -> PoolActor:
        """A slot if none waits for one, else a desk."""
        if next(self._waiting(), None) is None:
            actor = self._placing.free_slot() or await self._placing.evict()
            if actor is not None:
                return actor
        return await self._placing.desk()

    async def _adopt(
        self, session_id: str, command: Command, place: Callable[[], Awaitable[PoolActor]]
    ) -> tuple[PoolActor, Adopted]:
        """Bind the session to an actor that `place` gives; the session's lock is held.

        An actor that dies over it is buried here, and another one tried.
        """
        for _ in range(ADOPT_TRIES_MAX):
            actor = await place()
            self._bind(actor, session_id)
            try:
                adopted = await actor.session.adopt(
                    session_id,
                    command=command,
                    death=self._burials.deaths.get(session_id),
                    catalog_hash=self._pool.catalog_hash,
                )
            except CallError as error:
                await self._lost_while_adopting(actor, session_id, error)
                _check_repeatable(session_id, command, error)
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
            self._unbind(actor)
            actor.code_hash = str(error.facts["code_hash"])
            actor.is_draining = True
            self._placing.give_back(actor)
            return True
        try:
            holding = await actor.session.who()
        except HelmrError as lost:
            if isinstance(lost, CallError):
                await self._lost_while_adopting(actor, session_id, lost)
            else:
                await self._pool.end(actor, str(lost), is_counted=True)
            return False
        if holding.session_id == session_id and holding.epoch is not None:
            self._hold(actor, holding.epoch)
            return False
        self._unbind(actor)
        if holding.session_id is not None:
            self.on_claim(actor, holding)
        elif isinstance(error, Moved):
            # It holds nothing and takes nothing: it is about to end itself.
            await self._pool.end(actor, "takes no session", is_counted=False)
        else:
            self._placing.give_back(actor)
        return isinstance(error, Moved)

    # --- bindings ---------------------------------------------------------------------------------

    def _lock(self, session_id: str) -> asyncio.Lock:
        lock = self._locks.get(session_id)
        if lock is None:
            lock = self._locks[session_id] = asyncio.Lock()
        return lock

    def _bind(self, actor: PoolActor, session_id: str) -> None:
        actor.session_id = session_id
        actor.epoch = None
        actor.report = None
        actor.parkable_at = None
        actor.bound_at = self._clock.now()
        actor.become(ActorState.ADOPTING, actor.bound_at)
        self._holders[session_id] = actor

    def _hold(self, actor: PoolActor, epoch: int) -> None:
        """The adoption succeeded."""
        if actor.session_id is None or not actor.is_alive:
            return
        self._burials.deaths.pop(actor.session_id, None)
        self._work.taken(actor.session_id)
        actor.epoch = epoch
        actor.become(ActorState.HOLDING, self._clock.now())
        if actor.role == DESK:
            self._placing.watch_desk(actor)
        else:
            self._placing.keep_one_free()
        if actor.report is not None:
            self.on_report(actor, actor.report)

    def _unbind(self, actor: PoolActor) -> None:
        if actor.session_id is not None and self._holders.get(actor.session_id) is actor:
            del self._holders[actor.session_id]
        actor.session_id = None
        actor.epoch = None
        actor.parkable_at = None
        self._placing.disarm(actor)

    async def _verify(self, actor: PoolActor) -> None:
        """An actor may not hold what we think: ask it."""
        session_id = actor.session_id
        if session_id is None or not actor.holds(session_id):
            return
        try:
            holding = await actor.session.who()
        except HelmrError as error:
            if isinstance(error, CallError):
                self._lost(actor, error)
            return
        if not actor.holds(session_id):
            return
        if holding.session_id == session_id:
            actor.epoch = holding.epoch
            return
        self._unbind(actor)
        if holding.session_id is None:
            self._placing.give_back(actor)
        else:
            self.on_claim(actor, holding)

    # --- the queue --------------------------------------------------------------------------------

    def _waiting(self) -> Iterator[str]:
        """Sessions that wait for a slot, oldest first."""
        for session_id in self._work.due():
            if session_id in self._holders or session_id in self._burials:
                continue
            if session_id not in self._resuming:
                yield session_id

    def _pump(self) -> None:
        """Give free slots, and those that can be taken back, to the sessions that wait longest."""
        if not self._is_ready:
            return
        slots_count = len(self._pool.of_role(SLOT))
        for session_id in list(islice(self._waiting(), slots_count)):
            actor = self._placing.free_slot()
            victim = self._placing.claim_evictable() if actor is None else None
            if actor is None and victim is None:
                return
            self._resuming.add(session_id)
            self._tasks.start(self._resume(session_id, actor, victim))

    async def _resume(
        self, session_id: str, actor: PoolActor | None, victim: PoolActor | None
    ) -> None:
        """Adopt a queued session on a reserved slot, or on that of `victim`."""
        try:
            if victim is not None and await self._placing.release(victim, "evict"):
                actor = victim
            if actor is not None:
                await self._resume_on(actor, session_id)
        finally:
            self._resuming.discard(session_id)
        self._pump()

    async def _resume_on(self, actor: PoolActor, session_id: str) -> None:
        reserved = [actor]

        async def place() -> PoolActor:
            if reserved:
                return reserved.pop()
            slot = self._placing.free_slot() or await self._placing.evict()
            if slot is None:
                raise Overloaded(f"{session_id}: no slot is free", retry_after_s=1.0)
            return slot

        async with self._lock(session_id):
            if session_id in self._holders or session_id in self._burials:
                self._placing.give_back(actor)
                return
            try:
                await self._adopt(session_id, Touch(principal=RUNTIME), place)
            except HelmrError as error:
                self._work.failed(session_id, error)

    # --- what the pool tells ----------------------------------------------------------------------

    def on_free(self, actor: PoolActor) -> None:
        """A started actor holds nothing."""
        self._placing.give_back(actor)

    def on_claim(self, actor: PoolActor, holding: Holding) -> None:
        """An actor holds a session that this directory did not give it: true unless another does."""
        session_id = holding.session_id
        if session_id is None or session_id in self._holders or holding.epoch is None:
            actor.become(ActorState.RESERVED, self._clock.now())
            self._tasks.start(self._pool.end(actor, f"claims {session_id}", is_counted=False))
            return
        self._bind(actor, session_id)
        self._hold(actor, holding.epoch)
        if actor.code_hash != self._pool.catalog_hash:
            self._placing.drain(actor)

    def on_report(self, actor: PoolActor, report: Report) -> None:
        """An actor says what became of its session."""
        actor.report = report
        if actor.is_recovering and report.state == "free":
            actor.is_recovering = False
            self._placing.give_back(actor)
        if actor.state is not ActorState.HOLDING:
            return
        if report.session_id == actor.session_id:
            if report.state == "parkable":
                self._placing.parkable(actor)
            elif report.state == "failed":
                self._lose_session(actor, report.detail or "failed")
            else:
                actor.parkable_at = None
                self._placing.disarm(actor)
        elif report.session_id is None and actor.bound_at and report.since >= actor.bound_at:
            # It gave the session up after it got it; an older report is about another session.
            if report.state == "failed":
                self._lose_session(actor, report.detail or "failed")
            else:
                self._tasks.start(self._verify(actor))

    def _lose_session(self, actor: PoolActor, detail: str) -> None:
        """The actor lost its session and ends its code; it is free when it says so."""
        session_id, epoch = actor.session_id, actor.epoch
        self._unbind(actor)
        actor.is_recovering = True
        actor.become(ActorState.RESERVED, self._clock.now())
        if session_id is not None:
            self._burials.start(session_id, epoch, actor.name, detail, is_counted=False)

    def on_death(self, actor: PoolActor, cause: str, *, is_counted: bool) -> None:
        """An actor is dead: its session may be adopted again when the ledger knows.

        One that died while it adopted is seen to by whoever adopts, who holds the session's lock.
        """
        session_id, epoch = actor.session_id, actor.epoch
        if session_id is None or actor.state is ActorState.ADOPTING:
            return
        self._unbind(actor)
        self._burials.start(session_id, epoch, actor.name, cause, is_counted=is_counted)

    def _lost(self, actor: PoolActor, error: CallError) -> None:
        """A call got no answer. If the actor is only unreachable, its pings decide what it is."""
        if isinstance(error, ActorDied):
            self._pool.bury(actor, error.cause)
        elif isinstance(error, ActorNotFound):
            self._pool.bury(actor, "not found")

    async def _lost_while_adopting(
        self, actor: PoolActor, session_id: str, error: CallError
    ) -> None:
        self._lost(actor, error)
        if actor.is_alive:
            await self._pool.end(actor, "unreachable while it adopted", is_counted=False)
        cause = error.cause if isinstance(error, ActorDied) else error.message
        self._unbind(actor)
        await self._burials.bury(session_id, None, actor.name, cause, is_counted=True)


def _shielded(work: Coroutine[Any, Any, Routed]) -> asyncio.Task[Routed]:
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_retrieve)
    return task


def _retrieve(task: asyncio.Task[Routed]) -> None:
    """Look at the error of a task whose caller may have gone, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()


def _check_repeatable(session_id: str, command: Command, error: CallError) -> None:
    """Raise if a command that may have run can't be told apart when it is repeated (S-61)."""
    if command.operation is not None or isinstance(command, Deadline | TokenEnded | Touch):
        return
    if not isinstance(error, ActorNotFound):
        raise OutcomeUnknown(f"{session_id}: {error.message}") from error
