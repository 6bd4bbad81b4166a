"""The directory: knows which session lives where, and is the only one that adopts and releases.

Routes commands to their sessions, whichever actor they need for it: commands are decided although
every slot is busy (desks), runs resume oldest first, and after an actor's death its session is
abandoned and adopted elsewhere with what is known of the death (S-3, S-63). A plain class: it calls
actors through what it is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from datetime import timedelta
from itertools import islice
from typing import Any

from helmr.errors import HelmrError, Moved, NotReady, Overloaded, Unavailable
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import Command, Resume
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.directory.bindings import Bindings, check_repeatable
from helmr_runtime.directory.failover import Failover
from helmr_runtime.directory.placement import Placement
from helmr_runtime.directory.pool import ActorState, HostLocation, Pool, PoolActor, Spawner
from helmr_runtime.directory.timing import Limits, Tasks, within
from helmr_runtime.directory.work_queue import Deliver, WorkQueue
from helmr_runtime.ports import Lease, Ledger, Report, Routed, Session
from helmr_runtime.rpc.protocol import DESK, LEDGER, SLOT, CallError

logger = logging.getLogger(__name__)

ROUTES_MAX = 10_000
"""Commands under way at once; more are refused (S-64)."""

RETRY_PAUSE_S = 0.005
"""Between two tries to reach a session that is on the move."""

LEDGER_PAUSE_S = 0.1
"""Between two tries while the ledger is away; it is back in a second or two."""


class DirectoryActor:
    """Implements `helmr_runtime.ports.Directory`.

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
        self._clock = clock
        self._limits = limits
        self._resuming: set[str] = set()
        self._routes_count = 0
        self._tasks = Tasks()
        self._ready = asyncio.Event()
        self._is_closing = False
        self._failover = Failover(
            ledger, spawner=spawner, clock=clock, limits=limits, on_fenced=self._pump
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
        self._work = WorkQueue(
            ledger,
            clock=clock,
            limits=limits,
            on_change=self._pump,
            on_return=self._start_reconciling,
            route=self.route,
            deliver=deliver,
        )
        self._bindings = Bindings(
            self._pool, self._failover, clock=clock, on_adopted=self._work.taken
        )
        self._placing = Placement(
            self._pool,
            clock=clock,
            limits=limits,
            slots=slots,
            on_free=self._pump,
            on_moved=self._bindings.verify,
            on_unbound=self._bindings.unbind,
        )
        self._bindings.placing = self._placing

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take over what an earlier directory left; serve when the ledger says what is held."""
        await self._pool.start()
        self._tasks.start(self._begin())

    async def shutdown(self) -> Mapping[str, Any]:
        """Refuse new commands and park every session that reaches a wait in time.

        Returns:
            `{"unparked": [session ids]}`: those whose code was still running.
        """
        self._is_closing = True
        self._pool.close()
        await self._work.stop()
        return {"unparked": await self._placing.park_all()}

    async def stop(self) -> None:
        """End all background work. The actors stay as they are."""
        self._is_closing = True
        await self._work.stop()
        await self._placing.stop()
        await self._bindings.stop()
        await self._failover.stop()
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
        self._ready.set()
        self._work.start()

    def _start_reconciling(self) -> None:
        self._tasks.start(self._reconcile())

    async def _reconcile(self) -> None:
        """Abandon what the ledger believes held and nobody holds.

        Its holder died while no directory watched, or the ledger forgot how an adoption ended.
        """
        for head in await self._failover.held():
            if self._bindings.is_free(head.session_id):
                holder = HostLocation(head.holder)
                self._failover.start(
                    head.session_id, head.epoch, holder, "died unwatched", is_counted=True
                )

    # --- what others call -------------------------------------------------------------------------

    async def route(self, session_id: str, command: Command) -> Routed:
        """Have the session adopted if need be and the command decided (see `Directory.route`).

        Raises:
            OutcomeUnknown: The actor died over the command, which has no operation id to repeat.
            Unavailable: The session could not be reached in time.
        """
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
        actor = self._bindings.holder(session_id)
        return actor.name if actor is not None else None

    async def status(self) -> Mapping[str, Any]:
        """Pool, queue and warnings, as JSON.

        Shape: `{ready, slots{total, free, busy, lingering, starting}, desks{…}, queue, queue_oldest_s
        (0 if nothing waits for a slot), failing, routes, deaths, recent_deaths[], warnings[],
        actors[{name, pid, role, session, state, since}]}`.
        """
        warnings = list(self._pool.warnings.values())
        if self._work.failing():
            warnings.append(f"{self._work.failing()} sessions can't be resumed; see the log")
        return {
            "ready": self._ready.is_set() and not self._is_closing,
            "slots": self._count(SLOT),
            "desks": self._count(DESK),
            "queue": len(self._work),
            "queue_oldest_s": self._queue_oldest_s(),
            "failing": self._work.failing(),
            "routes": self._routes_count,
            "deaths": self._pool.deaths_count,
            "recent_deaths": list(self._pool.deaths),
            "warnings": warnings,
            "actors": [actor.to_json() for actor in self._pool.actors.values()],
        }

    def _queue_oldest_s(self) -> float:
        oldest_at = self._work.oldest_at()
        if oldest_at is None:
            return 0.0
        return round(max(0.0, (self._clock.now() - oldest_at).total_seconds()), 1)

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

    # --- route ------------------------------------------------------------------------------------

    async def _route(self, session_id: str, command: Command) -> Routed:
        deadline = self._clock.now() + timedelta(seconds=self._limits.route_s)
        await self._until_ready()
        while True:
            pause_s = RETRY_PAUSE_S
            try:
                routed = await self._try_route(session_id, command)
            except Unavailable as error:
                if error.facts.get("actor") != LEDGER or self._clock.now() >= deadline:
                    raise
                pause_s = LEDGER_PAUSE_S
            else:
                if routed is not None:
                    return routed
                if self._clock.now() >= deadline:
                    raise Unavailable(f"{session_id} is on the move", retry_after_s=1.0)
            await asyncio.sleep(pause_s)

    async def _until_ready(self) -> None:
        if self._is_closing:
            raise NotReady("the runtime is stopping", retry_after_s=1.0)
        if not self._ready.is_set():
            try:
                await within(self._clock, self._limits.route_s, self._ready.wait())
            except TimeoutError as error:
                raise NotReady("the ledger does not answer", retry_after_s=1.0) from error

    async def _try_route(self, session_id: str, command: Command) -> Routed | None:
        """The holder's decision, or an adopter's; None if the session moved meanwhile."""
        actor = self._bindings.holder(session_id)
        if actor is None:
            return await self._adopt_to_decide(session_id, command)
        try:
            reply = await actor.session.command(session_id, command)
            return Routed(reply=reply, actor=actor.name)
        except Moved:
            await self._bindings.verify(actor)
        except CallError as error:
            self._bindings.lost(actor, error)
            check_repeatable(session_id, command, error)
        return None

    async def _adopt_to_decide(self, session_id: str, command: Command) -> Routed | None:
        async with self._bindings.lock(session_id):
            if not self._bindings.can_adopt(session_id):
                return None
            actor, adopted = await self._bindings.adopt(session_id, command, self._place)
            return Routed(reply=adopted.reply or {}, actor=actor.name)

    async def _place(self) -> PoolActor:
        """A slot if none waits for one, else a desk."""
        if next(self._waiting(), None) is None:
            actor = self._placing.free_slot() or await self._placing.evict()
            if actor is not None:
                return actor
        return await self._placing.desk()

    # --- the queue --------------------------------------------------------------------------------

    def _waiting(self) -> Iterator[str]:
        """Sessions that wait for a slot, oldest first."""
        for session_id in self._work.due():
            if session_id not in self._resuming and self._bindings.is_free(session_id):
                yield session_id

    def _pump(self) -> None:
        """Give free slots, and those that can be taken back, to the sessions that wait longest."""
        if self._is_closing or not self._ready.is_set():
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

        async with self._bindings.lock(session_id):
            if not self._bindings.can_adopt(session_id):
                self._placing.give_back(actor)
                return
            try:
                await self._bindings.adopt(session_id, Resume(principal=RUNTIME), place)
            except HelmrError as error:
                self._work.failed(session_id, error)

    # --- what the pool tells ----------------------------------------------------------------------

    def on_free(self, actor: PoolActor) -> None:
        """A started actor holds nothing."""
        self._placing.give_back(actor)

    def on_claim(self, actor: PoolActor, holding: Lease) -> None:
        """An actor that an earlier directory left behind holds a session."""
        self._bindings.claim(actor, holding)

    def on_report(self, actor: PoolActor, report: Report) -> None:
        """An actor says what became of its session."""
        self._bindings.report(actor, report)

    def on_death(self, actor: PoolActor, cause: str, *, is_counted: bool) -> None:
        """An actor is dead."""
        self._bindings.died(actor, cause, is_counted=is_counted)


def _shielded(work: Coroutine[Any, Any, Routed]) -> asyncio.Task[Routed]:
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_retrieve)
    return task


def _retrieve(task: asyncio.Task[Routed]) -> None:
    """Look at the error of a task whose caller may have gone, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()
