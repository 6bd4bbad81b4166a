"""The directory: knows the host of each session, and alone adopts and releases sessions.

It routes commands to their sessions, in any host. Commands are decided even if every host is full, and runs resume
oldest first. After a host's crash its sessions are abandoned and adopted elsewhere with the facts of the crash (S-3,
S-63). A plain class: it calls hosts through the `port` that it is given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from helmr.errors import Moved, NotReady, Overloaded, Unavailable
from helmr_runtime.clock import Clock
from helmr_runtime.core.commands import SessionCommand
from helmr_runtime.directory.failover import Failover
from helmr_runtime.directory.holds import Holds, check_repeatable
from helmr_runtime.directory.hosts import (
    BackgroundTasks,
    HostLocation,
    PoolHost,
    PoolPlan,
    PoolTimings,
    Slot,
    Spawner,
    sleep,
    within,
)
from helmr_runtime.directory.limiter import Limiter
from helmr_runtime.directory.pool import Placement, Pool
from helmr_runtime.directory.resumption import Resumption
from helmr_runtime.directory.work import Deliver, WorkQueue
from helmr_runtime.ports import Directory, Host, Occupancy, Routed
from helmr_runtime.ports.ledger import Ledger
from helmr_runtime.rpc.calls import LEDGER, CallError

logger = logging.getLogger(__name__)

ROUTES_MAX = 10_000
"""Commands routed at the same time; more are refused (S-64)."""

RETRY_PAUSE_S = 0.005
"""Seconds between two tries to reach a session that is moving."""

ROOM = "room"
"""Key of the warning about less room than configured."""

LEDGER_PAUSE_S = 0.1
"""Seconds between two tries while the ledger is away; it is back in a second or two."""


class DirectoryActor(Directory):
    """The directory: which host holds which session.

    Args:
        ledger: The ledger.
        port: Returns the host of a name.
        spawner: Starts and ends hosts.
        plan: The hosts to have.
        deliver: Makes the command that delivers an ended token.
    """

    def __init__(
        self,
        ledger: Ledger,
        port: Callable[[str], Host],
        spawner: Spawner,
        plan: PoolPlan,
        *,
        clock: Clock,
        timings: PoolTimings | None = None,
        deliver: Deliver | None = None,
    ) -> None:
        timings = timings or PoolTimings()
        self._clock = clock
        self._timings = timings
        self._routes_count = 0
        self._tasks = BackgroundTasks()
        self._ready = asyncio.Event()
        self._is_closing = False
        self._failover = Failover(
            ledger, spawner=spawner, clock=clock, timings=timings, on_fenced=self._look
        )
        self._pool = Pool(spawner, port, plan, clock=clock, timings=timings)
        self._work = WorkQueue(
            ledger,
            clock=clock,
            timings=timings,
            on_change=self._look,
            on_return=self._start_reconciling,
            route=self.route,
            deliver=deliver,
        )
        self._limiter: Limiter | None = None
        if plan.limits:
            self._limiter = Limiter(
                plan.limits,
                clock=clock,
                timings=timings,
                on_turn=self._work.turn,
                on_passed=lambda session_id: self._holds.passed(session_id),
                is_on_list=self._work.is_on_list,
                room=lambda: sum(host.room for host in self._pool.shared()),
            )
            self._work.is_aside = self._limiter.is_aside
        self._holds = Holds(
            self._pool,
            self._failover,
            self._work,
            clock=clock,
            timings=timings,
            on_free=self._look,
            is_next=lambda session_id: (
                self._limiter is not None and self._limiter.is_next(session_id)
            ),
        )
        self._placing = Placement(self._pool, clock=clock, timings=timings)
        self._resumption = Resumption(self._work, self._holds, self._placing, self._pool)

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take over an earlier directory's hosts; serve once the ledger has listed the held sessions."""
        await self._pool.start(_Both(self._holds, self._limiter) if self._limiter else self._holds)
        if self._limiter is not None:
            self._limiter.start()
        self._tasks.start(self._begin())

    async def shutdown(self) -> Mapping[str, Any]:
        """Refuse commands and park sessions that wait in time; return `{"unparked": [session ids]}` of those whose code
        still ran."""
        self._is_closing = True
        self._resumption.close()
        self._pool.close()
        await self._work.stop()
        return {"unparked": await self._holds.park_all()}

    async def stop(self) -> None:
        """End all background work. The hosts stay as they are."""
        self._is_closing = True
        await self._work.stop()
        if self._limiter is not None:
            await self._limiter.stop()
        await self._holds.stop()
        await self._failover.stop()
        await self._resumption.stop()
        await self._tasks.stop()
        await self._pool.stop()

    async def set_room(self, sessions_per_host: int, *, why: str | None) -> None:
        """Set the number of sessions whose code each shared host may have from now on; executing code goes on.

        With 0, commands are decided and runs wait. `why` is a warning in `status` until the next call.
        """
        self._pool.set_room(sessions_per_host)
        if why is None:
            self._pool.warnings.take_back(ROOM)
        else:
            self._pool.warnings.show(ROOM, why)
        self._look()

    async def _begin(self) -> None:
        await self._reconcile()
        self._ready.set()
        self._work.start()
        while True:
            await sleep(self._clock, self._timings.reconcile_every_s)
            await self._reconcile()

    def _start_reconciling(self) -> None:
        self._tasks.start(self._reconcile())

    async def _reconcile(self) -> None:
        """Correct the ledger's list of held sessions: abandon those that no host holds, and let hosts give up those not
        on it.

        They differ if a holder died while no directory watched, if the ledger forgot the end of an adoption, or if a
        host adopted after its caller had gone. A late call of an earlier directory may also have parked a session,
        which the host reports to no one else.
        """
        believed = [slot for slot in self._pool.slots() if slot.is_holding]
        held = await self._failover.held()
        known = {(head.session_id, head.holder) for head in held}
        for slot in believed:
            if (slot.session_id, slot.host.name) not in known:
                self._tasks.start(self._holds.verify(slot))
        gone: dict[str, list[str]] = {}
        for head in held:
            if head.holder not in self._pool.hosts:
                gone.setdefault(head.holder, []).append(head.session_id)
            elif self._holds.is_free(head.session_id):
                self._failover.start_one(head.session_id, head.epoch)
        for holder, session_ids in gone.items():
            place = HostLocation(holder)
            self._failover.start(place, session_ids, "died unwatched", is_attributed=True)

    # --- calls of others --------------------------------------------------------------------------

    async def route(self, session_id: str, command: SessionCommand) -> Routed:
        """Adopt the session if necessary, and have the command decided (see `Directory.route`).

        Raises:
            OutcomeUnknown: The host died over the command, which has no operation id to repeat.
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
        """Return the name of the host that holds the session, if any; adopts nothing."""
        slot = self._holds.holder(session_id)
        return slot.host.name if slot is not None else None

    async def any_host(self) -> str:
        """Return the name of the host with the fewest sessions, of those that take any."""
        return (await self._pool.any_host()).name

    async def status(self) -> Mapping[str, Any]:
        """Return pool, queue and warnings, as JSON.

        Shape: `{ready, hosts{total, starting, retiring}, sessions{live, lingering, room}, queue, queue_oldest_s,
        failing, routes, crashes, recent_crashes[], resumes{bounds, counts, sum}, warnings[], states[],
        host_list[], limits}`; `states` are the kinds of the warnings, `host_list` is as in `PoolHost.to_json`, `limits`
        the number of waiting asks by name, if there are limits.
        """
        pool, queue = self._pool.to_json(), self._work.to_json()
        if queue["failing"]:
            pool["warnings"].append(f"{queue['failing']} sessions can't be resumed; see the log")
        is_ready = self._ready.is_set() and not self._is_closing
        limits = {"limits": self._limiter.waiting()} if self._limiter is not None else {}
        return {"ready": is_ready, **pool, **queue, "routes": self._routes_count, **limits}

    async def limits(self) -> Mapping[str, Any]:
        """Return each limit with its held permits and its queue, as JSON: `{"items": […]}` (S-120)."""
        return {"items": self._limiter.to_json() if self._limiter is not None else []}

    async def queued(self, session_ids: Sequence[str]) -> Mapping[str, Any] | None:
        """Return those of the sessions that wait for a limit: `{session_id: {limit, place, key, since}}`; None without
        limits."""
        return self._limiter.queued(session_ids) if self._limiter is not None else None

    # --- route ------------------------------------------------------------------------------------

    async def _route(self, session_id: str, command: SessionCommand) -> Routed:
        deadline = self._clock.now() + timedelta(seconds=self._timings.route_s)
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
                    raise Unavailable(f"{session_id} is moving between hosts", retry_after_s=1.0)
            await asyncio.sleep(pause_s)

    async def _until_ready(self) -> None:
        if self._is_closing:
            raise NotReady("the runtime is stopping", retry_after_s=1.0)
        if not self._ready.is_set():
            try:
                await within(self._clock, self._timings.route_s, self._ready.wait())
            except TimeoutError as error:
                raise NotReady("the ledger does not answer", retry_after_s=1.0) from error

    async def _try_route(self, session_id: str, command: SessionCommand) -> Routed | None:
        """Return the holder's decision, or an adopter's; None if the session moved meanwhile."""
        slot = self._holds.holder(session_id)
        if slot is None:
            return await self._adopt_to_decide(session_id, command)
        try:
            reply = await slot.host.port.command(session_id, command)
            return Routed(reply=reply, host=slot.host.name)
        except Moved:
            await self._holds.verify(slot)
        except CallError as error:
            self._holds.lost(slot.host, error)
            check_repeatable(session_id, command, error)
        return None

    async def _adopt_to_decide(self, session_id: str, command: SessionCommand) -> Routed | None:
        async with self._holds.lock(session_id), AsyncExitStack() as turns:
            if not self._holds.can_adopt(session_id):
                return None

            async def place() -> Slot:
                host = self._room_at_once(session_id)
                if host is not None:
                    return self._holds.reserve(session_id, host)
                await turns.aclose()  # the turn of an earlier try
                host = await turns.enter_async_context(self._placing.deciding())
                return self._holds.reserve(session_id, host, executes=False)

            adoption = await self._holds.adopt(session_id, command, place)
        if adoption is None:
            return None
        slot, adopted = adoption
        host = None if adopted.released else slot.host.name
        return Routed(reply=adopted.reply or {}, host=host)

    def _room_at_once(self, session_id: str) -> PoolHost | None:
        """Return a host with room for the session's code, if no run waits for room and it need not run alone."""
        if self._holds.needs_own_host(session_id) or self._resumption.some_wait:
            return None
        return self._placing.host_with_room()

    def _look(self) -> None:
        """Check for room for a waiting run: one of them may be new."""
        if not self._is_closing and self._ready.is_set():
            self._resumption.look_soon()


class _Both:
    """Passes the pool's events to the limiter, too."""

    def __init__(self, holds: Holds, limiter: Limiter) -> None:
        self._holds = holds
        self._limiter = limiter
        self.on_draining = holds.on_draining
        self.on_report = holds.on_report

    def on_ready(self, host: PoolHost, found: Occupancy) -> None:
        """A host has started, or an earlier directory left it behind."""
        self._holds.on_ready(host, found)
        self._limiter.on_ready(host)

    def on_crash(self, host: PoolHost, cause: str, *, is_attributed: bool) -> None:
        """A host is dead."""
        self._holds.on_crash(host, cause, is_attributed=is_attributed)
        self._limiter.on_crash(host)


def _shielded(work: Coroutine[Any, Any, Routed]) -> asyncio.Task[Routed]:
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_retrieve)
    return task


def _retrieve(task: asyncio.Task[Routed]) -> None:
    """Retrieve the error of a task whose caller may have gone, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()
