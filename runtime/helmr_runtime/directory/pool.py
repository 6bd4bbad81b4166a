"""The pool of started actors: slots that run task code and desks that only decide.

Owns each actor's life: started in the background, watched by a call that stays pending (a kill is
known at once), pinged (a stopped or hanging process is not known otherwise), ended, replaced. What
an actor holds is the directory's matter; the pool tells it of reports and deaths.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from helmr.errors import HelmrError
from helmr_runtime.clock import Clock, Timer
from helmr_runtime.core.entries import iso
from helmr_runtime.directory.timing import Limits, Tasks, sleep, within
from helmr_runtime.host_status import HostStatus
from helmr_runtime.ports import Lease, Report, Session
from helmr_runtime.rpc.protocol import DESK, SLOT, ActorDied, ActorNotFound, CallError

logger = logging.getLogger(__name__)

DEATHS_KEPT = 50
WARNINGS_KEPT = 50


class ActorState(StrEnum):
    """What the directory is doing with an actor."""

    STARTING = "starting"
    FREE = "free"
    RESERVED = "reserved"
    """Taken out for a session, nothing asked of it yet."""
    ADOPTING = "adopting"
    HOLDING = "holding"
    RELEASING = "releasing"
    GONE = "gone"


class ProcessState(StrEnum):
    """What /proc says."""

    RUNNING = "running"
    STOPPED = "stopped"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class HostLocation:
    """Where an actor runs, or ran.

    Attributes:
        node: Ray's id of its node; empty is the directory's own, also where nobody knows it.
        pid: Of its process on that node's machine, once it has said so.
    """

    name: str
    node: str = ""
    pid: int | None = None


class Spawner(Protocol):
    """How pool actors come to be and end; over Ray in a runtime, in-process in tests."""

    async def spawn(self, role: str) -> str:
        """Create an actor of that role and return its name; it may still be starting."""
        ...

    async def kill(self, place: HostLocation) -> None:
        """End the actor's process without asking it. Harmless if it is gone."""
        ...

    async def names(self) -> Sequence[str]:
        """The pool actors there are, whoever created them."""
        ...

    async def look(self, place: HostLocation) -> ProcessState:
        """The state of an actor's process."""
        ...

    async def status(self, place: HostLocation) -> HostStatus | None:
        """What the dead actor held and did; None if it held nothing, or its machine is gone."""
        ...


@dataclass(slots=True, eq=False)
class PoolActor:
    """One actor as the directory sees it."""

    name: str
    role: str
    session: Session
    state: ActorState
    since: datetime
    pid: int | None = None
    node: str = ""
    code_hash: str | None = None
    session_id: str | None = None
    epoch: int | None = None
    bound_at: datetime | None = None
    report: Report | None = None
    parkable_at: datetime | None = None
    is_draining: bool = False
    last_words: tuple[str, bool] | None = None
    """Why this directory ends it, and whether that counts."""
    is_recovering: bool = False
    """It lost its session and is ending its code."""
    linger: Timer | None = None
    ping: asyncio.Task[None] | None = None
    asked_at: datetime | None = None
    is_looked_up: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def become(self, state: ActorState, now: datetime) -> None:
        """Enter a state."""
        self.state = state
        self.since = now

    @property
    def place(self) -> HostLocation:
        """Where it runs."""
        return HostLocation(self.name, self.node, self.pid)

    @property
    def is_alive(self) -> bool:
        """It has started and has not ended."""
        return self.state not in (ActorState.STARTING, ActorState.GONE)

    def holds(self, session_id: str) -> bool:
        """It holds that session, and nothing is under way with it."""
        return self.state is ActorState.HOLDING and self.session_id == session_id

    @property
    def is_ending(self) -> bool:
        """It holds nothing and has said that it ends itself."""
        report = self.report
        return report is not None and report.state == "free" and report.detail is not None

    def to_json(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "name": self.name,
            "pid": self.pid,
            "node": self.node or None,
            "role": self.role,
            "session": self.session_id,
            "state": "lingering"
            if self.state is ActorState.HOLDING and self.parkable_at is not None
            else self.state.value,
            "since": iso(self.since),
        }


class PoolEvents(Protocol):
    """Whom the pool tells."""

    def on_free(self, actor: PoolActor) -> None:
        """A started actor holds nothing."""
        ...

    def on_claim(self, actor: PoolActor, holding: Lease) -> None:
        """An actor that an earlier directory left behind holds a session."""
        ...

    def on_report(self, actor: PoolActor, report: Report) -> None:
        """An actor says what became of its session."""
        ...

    def on_death(self, actor: PoolActor, cause: str, *, is_counted: bool) -> None:
        """An actor is dead and out of the pool. Own drains and stops don't count (S-3)."""
        ...


class Pool:
    """The actors, by name."""

    def __init__(
        self,
        *,
        spawner: Spawner,
        sessions: Callable[[str], Session],
        events: PoolEvents,
        clock: Clock,
        limits: Limits,
        sizes: Mapping[str, int],
        catalog_hash: str,
    ) -> None:
        self.actors: dict[str, PoolActor] = {}
        self.catalog_hash = catalog_hash
        self.warnings: dict[str, str] = {}
        self.deaths: deque[dict[str, Any]] = deque(maxlen=DEATHS_KEPT)
        self.deaths_count = 0
        self._spawner = spawner
        self._sessions = sessions
        self._events = events
        self._clock = clock
        self._limits = limits
        self._sizes = dict(sizes)
        self._tasks = Tasks()
        self._starting = {SLOT: 0, DESK: 0}
        self._failures = {SLOT: 0, DESK: 0}
        self._is_closed = False

    # --- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take over the actors there are, start those that lack, and watch all of them."""
        await self._take_over()
        self._tasks.start(self._ping_forever())
        self.fill()

    def close(self) -> None:
        """Start no more replacements."""
        self._is_closed = True

    async def stop(self) -> None:
        """Watch nothing any more. The actors stay as they are."""
        self.close()
        for actor in list(self.actors.values()):
            self._unwatch(actor)
        await self._tasks.stop()

    def of_role(self, role: str) -> list[PoolActor]:
        """The living actors of a role."""
        return [a for a in self.actors.values() if a.role == role and a.is_alive]

    def fill(self) -> None:
        """Start, in the background, as many actors as lack."""
        if self._is_closed:
            return
        lacks = {
            role: wanted - len(self.of_role(role)) - self._starting[role]
            for role, wanted in self._sizes.items()
        }
        # In turns, so that both roles are there as soon as two actors are.
        for turn in range(max(lacks.values())):
            for role, count in lacks.items():
                if turn < count:
                    self._starting[role] += 1
                    self._tasks.start(self._start(role))

    async def _start(self, role: str) -> None:
        """Start one actor; a failure is shown, and after a pause tried again."""
        try:
            failures = self._failures[role]
            if failures:
                await sleep(self._clock, self._limits.backoff_s(failures - 1))
            error = await self._try_start(role)
        finally:
            self._starting[role] -= 1
        if error is None:
            self._failures[role] = 0
            self.warnings.pop(f"start:{role}", None)
        else:
            self._failures[role] += 1
            self.warn(f"start:{role}", f"a {role} can't be started: {error}")
        self.fill()

    async def _try_start(self, role: str) -> str | None:
        """Start one actor and wait for it; the text of what went wrong, if anything did."""
        try:
            name = await self._spawner.spawn(role)
        except HelmrError as error:
            return str(error)
        actor = PoolActor(name, role, self._sessions(name), ActorState.STARTING, self._clock.now())
        self.actors[name] = actor
        try:
            holding = await within(self._clock, self._limits.start_s, actor.session.who())
        except TimeoutError:
            await self._discard(actor)
            return f"{name} gave no sign of life for {self._limits.start_s:.0f} s"
        except HelmrError as error:
            await self._discard(actor)
            return str(error)
        if holding.code_hash != self.catalog_hash:
            await self._discard(actor)
            return "the task files have changed since the runtime started; restart it"
        self._enter(actor, holding)
        return None

    def _enter(self, actor: PoolActor, holding: Lease) -> None:
        self.actors[actor.name] = actor
        actor.pid = holding.pid
        actor.node = holding.node
        actor.code_hash = holding.code_hash
        actor.become(ActorState.FREE, self._clock.now())
        actor.tasks.append(self._tasks.start(self._watch(actor)))
        if holding.session_id is None:
            self._events.on_free(actor)
        else:
            self._events.on_claim(actor, holding)

    async def _discard(self, actor: PoolActor) -> None:
        """End an actor that has never been free."""
        actor.become(ActorState.GONE, self._clock.now())
        self.actors.pop(actor.name, None)
        await self._spawner.kill(actor.place)

    async def _take_over(self) -> None:
        names = await self._until_answered(self._spawner.names)
        await asyncio.gather(*(self._take_over_one(name) for name in names))

    async def _until_answered(self, ask: Callable[[], Any]) -> Any:
        failures = 0
        while True:
            try:
                return await ask()
            except CallError as error:
                self.warn("take-over", str(error))
                await sleep(self._clock, self._limits.backoff_s(failures))
                failures += 1

    async def _take_over_one(self, name: str) -> None:
        role = SLOT if name.startswith("helmr-slot-") else DESK
        actor = PoolActor(name, role, self._sessions(name), ActorState.STARTING, self._clock.now())
        try:
            holding = await within(self._clock, self._limits.who_s, actor.session.who())
        except (TimeoutError, HelmrError):
            logger.warning("%s did not say what it holds; killed", name)
            await self._discard(actor)
        else:
            self._enter(actor, holding)

    # --- end ------------------------------------------------------------------------------------

    async def end(self, actor: PoolActor, cause: str, *, is_counted: bool) -> None:
        """Kill an actor and have it replaced."""
        # Its watch may fail before the kill has returned, and knows less of the cause.
        actor.last_words = (cause, is_counted)
        await self._spawner.kill(actor.place)
        self.fence(actor, cause, is_counted=is_counted)

    def fence(self, actor: PoolActor, cause: str, *, is_counted: bool = True) -> None:
        """Take a dead actor out of the pool, tell of its death, and have it replaced."""
        if actor.state is ActorState.GONE:
            return
        if actor.last_words is not None:
            cause, is_counted = actor.last_words
        now = self._clock.now()
        if is_counted:
            self.deaths_count += 1
            self.deaths.append(
                {
                    "actor": actor.name,
                    "session": actor.session_id,
                    "cause": cause,
                    "at": iso(now),
                }
            )
            logger.warning("%s died (%s), held %s", actor.name, cause, actor.session_id)
        self._unwatch(actor)
        self.actors.pop(actor.name, None)
        self.warnings.pop(actor.name, None)
        self._events.on_death(actor, cause, is_counted=is_counted)
        actor.become(ActorState.GONE, now)
        self.fill()

    def _unwatch(self, actor: PoolActor) -> None:
        if actor.linger is not None:
            actor.linger.cancel()
            actor.linger = None
        current = asyncio.current_task()
        for task in (*actor.tasks, *([actor.ping] if actor.ping else [])):
            if task is not current:
                task.cancel()

    # --- watch ----------------------------------------------------------------------------------

    async def _watch(self, actor: PoolActor) -> None:
        """Keep one call pending on the actor: it reports, and fails when the actor dies."""
        known = -1
        while actor.is_alive:
            try:
                report = await actor.session.watch(known)
            except (ActorDied, ActorNotFound) as error:
                cause = error.cause if isinstance(error, ActorDied) else "not found"
                self.fence(actor, cause, is_counted=not actor.is_ending)
                return
            except HelmrError as error:
                # Unreachable for the moment, or a bug in the actor; the ping decides if it lives.
                logger.info("watching %s: %s", actor.name, error)
                await sleep(self._clock, self._limits.retry_s)
                continue
            known = report.version
            self._events.on_report(actor, report)

    async def _ping_forever(self) -> None:
        last = self._clock.now()
        while True:
            await sleep(self._clock, self._limits.ping_every_s)
            now = self._clock.now()
            # If this process itself was away, the others were not silent.
            was_away = now - last > timedelta(seconds=self._limits.ping_every_s + 1.0)
            last = now
            for actor in list(self.actors.values()):
                if actor.is_alive:
                    self._ping(actor, now, was_away=was_away)

    def _ping(self, actor: PoolActor, now: datetime, *, was_away: bool) -> None:
        if actor.ping is None or actor.ping.done():
            self.warnings.pop(actor.name, None)
            actor.asked_at = now
            actor.ping = asyncio.create_task(_ping_once(actor))
            return
        if was_away or actor.asked_at is None:
            actor.asked_at = now
        silent_s = (now - actor.asked_at).total_seconds()
        if silent_s >= self._limits.silent_s and not actor.is_looked_up:
            actor.is_looked_up = True
            self._tasks.start(self._look(actor, silent_s))

    async def _look(self, actor: PoolActor, silent_s: float) -> None:
        """Decide about an actor that has not answered."""
        state = ProcessState.RUNNING
        if actor.pid is not None:
            state = await self._spawner.look(actor.place)
        actor.is_looked_up = False
        if not actor.is_alive or actor.ping is None or actor.ping.done():
            return
        if state is not ProcessState.RUNNING:
            await self.end(actor, f"{state.value}, silent for {silent_s:.0f} s", is_counted=True)
        elif silent_s >= self._limits.silent_max_s:
            await self.end(actor, f"silent for {silent_s:.0f} s", is_counted=True)
        else:
            self.warn(actor.name, f"{actor.name} has not answered for {silent_s:.0f} s")

    def warn(self, key: str, text: str) -> None:
        """Show a warning until its key is taken back."""
        if key not in self.warnings:
            logger.warning("%s", text)
        self.warnings[key] = text
        while len(self.warnings) > WARNINGS_KEPT:
            self.warnings.pop(next(iter(self.warnings)))


async def _ping_once(actor: PoolActor) -> None:
    try:
        await actor.session.ping()
    except HelmrError:
        # The pending watch tells of a death; an actor that can't be reached now has answered
        # nothing, which the next ping shows.
        return
