"""The pool of hosts: processes with a slot for each session that lives in them.

The pool owns each host's life: hosts are started in the background, watched (which notices a kill at once), pinged
(which notices a stopped or hanging process), ended and replaced. The directory cares for the sessions in their slots;
the pool passes it reports and crashes. `Placement` chooses the host for a session, and the session that makes room for
another; it keeps no state (`Holds` does).
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Protocol

from helmr.errors import HelmrError, Overloaded
from helmr.wire.durations import spell, spell_bytes
from helmr_runtime.clock import Clock
from helmr_runtime.core.entries import iso
from helmr_runtime.directory.hosts import (
    BackgroundTasks,
    HostState,
    PoolHost,
    PoolPlan,
    PoolTimings,
    ProcessState,
    Slot,
    Spawner,
    Stage,
    sleep,
    within,
)
from helmr_runtime.ports import Host, HostReport, Occupancy, Pulse
from helmr_runtime.rpc.calls import OWN_HOST_PREFIX, ActorDied, ActorNotFound, CallError

logger = logging.getLogger(__name__)

CRASHES_KEPT = 50

END_AT = 1.5
"""Multiple of its memory bound at which a host is killed at once."""

WARNINGS_KEPT = 50

RESUME_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of resume times in seconds: from a run of a few ops to hundreds of turns of an agent framework."""

LONG_RESUME_SHOWN = timedelta(minutes=10)

OF_A_HOST = ("blocked", "memory", "resume", "retire", "silent")
"""Kinds of warnings that end with their host."""


class Warnings:
    """Current warnings about the pool, as texts by key.

    A key is a kind, or `kind:host` if each host may have its own.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def show(self, key: str, text: str) -> None:
        """Show a text until its key is taken back; if there are too many, the oldest go."""
        if key not in self._texts:
            logger.warning("%s", text)
        self._texts[key] = text
        while len(self._texts) > WARNINGS_KEPT:
            self._texts.pop(next(iter(self._texts)))

    def take_back(self, key: str) -> None:
        """Remove a warning; does nothing if it was not shown."""
        self._texts.pop(key, None)

    def host_gone(self, name: str) -> None:
        """Remove all warnings about a host."""
        for kind in OF_A_HOST:
            self.take_back(f"{kind}:{name}")

    @property
    def texts(self) -> list[str]:
        """All texts, the oldest first."""
        return list(self._texts.values())

    @property
    def kinds(self) -> list[str]:
        """The current kinds, sorted."""
        return sorted({key.partition(":")[0] for key in self._texts})


class PoolEvents(Protocol):
    """Receives the pool's events."""

    def on_ready(self, host: PoolHost, found: Occupancy) -> None:
        """A host has started, or a new directory has found it with its sessions."""
        ...

    def on_draining(self, host: PoolHost) -> None:
        """A host gets no more sessions, and should be emptied."""
        ...

    def on_report(self, host: PoolHost, report: HostReport) -> None:
        """A host reports on its sessions."""
        ...

    def on_crash(self, host: PoolHost, cause: str, *, is_attributed: bool) -> None:
        """A host is dead and out of the pool. Own drains and stops don't count (S-3)."""
        ...


class Pool:
    """The hosts by name: starts, watches, drains and ends them.

    Args:
        spawner: Starts and ends hosts.
        port: Returns the host of a name.
        plan: The hosts to have.
    """

    def __init__(
        self,
        spawner: Spawner,
        port: Callable[[str], Host],
        plan: PoolPlan,
        *,
        clock: Clock,
        timings: PoolTimings,
    ) -> None:
        self.hosts: dict[str, PoolHost] = {}
        self.room = plan.sessions_per_host
        self.catalog_hash = plan.catalog_hash
        self.warnings = Warnings()
        self._resumes = [0] * (len(RESUME_BOUNDS_S) + 1)
        """Number of resumes in each interval of CPU time."""
        self._resumed_s = 0.0
        self.crashes: deque[dict[str, Any]] = deque(maxlen=CRASHES_KEPT)
        self.crashes_count = 0
        self._spawner = spawner
        self._port = port
        self._clock = clock
        self._timings = timings
        self._size = plan.hosts
        self._tasks = BackgroundTasks()
        self._starting = 0
        self._failures = 0
        self._is_closed = False
        self._is_known = False
        """All hosts of an earlier directory have been asked."""
        self._entered = asyncio.Event()

    # --- life -----------------------------------------------------------------------------------

    async def start(self, events: PoolEvents) -> None:
        """Take over existing hosts, start missing ones, and watch all; `events` is notified of them."""
        self._events = events
        await self._take_over()
        self._is_known = True
        self._tasks.start(self._ping_forever())
        self.fill()

    def close(self) -> None:
        """Start no more replacements."""
        self._is_closed = True

    async def stop(self) -> None:
        """Stop watching. The hosts stay as they are."""
        self.close()
        for host in list(self.hosts.values()):
            self._unwatch(host)
        await self._tasks.stop()

    def shared(self) -> list[PoolHost]:
        """Return the living shared hosts."""
        return [h for h in self.hosts.values() if h.is_alive and not h.is_exclusive]

    def set_room(self, room: int) -> None:
        """Set the room of each shared host."""
        self.room = room
        for host in self.hosts.values():
            if not host.is_exclusive:
                host.room = room

    async def any_host(self) -> PoolHost:
        """Return the host with the fewest sessions of those that take any, as soon as there is one."""
        while not (hosts := [host for host in self.shared() if host.takes_sessions]):
            self._entered.clear()
            await self._entered.wait()
        return min(hosts, key=lambda host: len(host.slots))

    def slots(self) -> list[Slot]:
        """Return all slots of all hosts."""
        return [slot for host in self.hosts.values() for slot in host.slots]

    def fill(self) -> None:
        """Start missing hosts in the background, even before a draining one has ended."""
        if self._is_closed or not self._is_known:
            return
        there = sum(1 for host in self.shared() if host.takes_sessions)
        for _ in range(self._size - there - self._starting):
            self._starting += 1
            self._tasks.start(self._start())

    async def _start(self) -> None:
        """Start one host; after a failure show a warning, and retry after a pause."""
        try:
            if self._failures:
                await sleep(self._clock, self._timings.backoff_s(self._failures - 1))
            _, error = await self._try_start(is_exclusive=False)
        finally:
            self._starting -= 1
        if error is None:
            self._failures = 0
            self.warnings.take_back("start")
        else:
            self._failures += 1
            self.warnings.show("start", f"a host can't be started: {error}")
        self.fill()

    async def start_another(self) -> bool:
        """Start one more shared host before another goes; return false if that failed."""
        self._starting += 1
        try:
            host, error = await self._try_start(is_exclusive=False)
        finally:
            self._starting -= 1
            self.fill()
        if error is None:
            self.warnings.take_back("start")
        else:
            self.warnings.show("start", f"a host can't be started: {error}")
        return host is not None

    async def start_exclusive(self) -> PoolHost | None:
        """Start a host for one session; return None if that failed."""
        host, error = await self._try_start(is_exclusive=True)
        if error is not None:
            self.warnings.show("start", f"a host of its own can't be started: {error}")
        return host

    async def _try_start(self, *, is_exclusive: bool) -> tuple[PoolHost | None, str | None]:
        """Start one host and wait for it; return the host, or the text of the failure."""
        try:
            name = await self._spawner.spawn(is_exclusive=is_exclusive)
        except HelmrError as error:
            return None, str(error)
        host = self._add(name, is_exclusive=is_exclusive)
        try:
            found = await within(self._clock, self._timings.start_s, host.port.who())
        except TimeoutError:
            await self._discard(host)
            return None, f"{name} gave no sign of life for {self._timings.start_s:.0f} s"
        except HelmrError as error:
            await self._discard(host)
            return None, str(error)
        if found.code_hash != self.catalog_hash:
            await self._discard(host)
            return None, "the task files have changed since the runtime started; restart it"
        self._enter(host, found)
        return host, None

    def _add(self, name: str, *, is_exclusive: bool) -> PoolHost:
        host = self.hosts[name] = PoolHost(
            name,
            self._port(name),
            HostState.STARTING,
            self._clock.now(),
            room=1 if is_exclusive else self.room,
            is_exclusive=is_exclusive,
        )
        return host

    def _enter(self, host: PoolHost, found: Occupancy) -> None:
        host.pid = found.pid
        host.node = found.node
        host.code_hash = found.code_hash
        host.memory_max_bytes = found.memory_max_bytes
        host.become(HostState.READY, self._clock.now())
        host.tasks.append(self._tasks.start(self._await_crash(host)))
        host.tasks.append(self._tasks.start(self._watch(host)))
        self._entered.set()
        self._events.on_ready(host, found)
        if found.retiring is not None:
            self._retire(host, found.retiring)
        elif host.code_hash != self.catalog_hash:
            self.drain(host)

    async def _discard(self, host: PoolHost) -> None:
        """End a host that was never ready."""
        host.become(HostState.GONE, self._clock.now())
        self.hosts.pop(host.name, None)
        await self._spawner.kill(host.place)

    async def _take_over(self) -> None:
        names = await self._until_answered(self._spawner.names)
        await asyncio.gather(*(self._take_over_one(name) for name in names))

    async def _until_answered(self, ask: Callable[[], Any]) -> Any:
        failures = 0
        while True:
            try:
                return await ask()
            except CallError as error:
                self.warnings.show("take-over", str(error))
                await sleep(self._clock, self._timings.backoff_s(failures))
                failures += 1

    async def _take_over_one(self, name: str) -> None:
        host = self._add(name, is_exclusive=name.startswith(OWN_HOST_PREFIX))
        try:
            found = await within(self._clock, self._timings.who_s, host.port.who())
        except (TimeoutError, HelmrError):
            logger.warning("%s did not say what it holds; killed", name)
            await self._discard(host)
        else:
            self._enter(host, found)
            if host.is_exclusive and not host.slots:
                self.end_soon(host, "empty")

    # --- end ------------------------------------------------------------------------------------

    def _retire(self, host: PoolHost, reason: str) -> None:
        self.warnings.show(f"retire:{host.name}", f"{host.name} retires: {reason}")
        self.drain(host)

    def drain(self, host: PoolHost) -> None:
        """Drain a host: its waiting sessions are parked, a new host starts, and this one ends once it is empty."""
        if host.is_draining or not host.is_alive:
            return
        host.is_draining = True
        self.fill()
        self._events.on_draining(host)
        self.end_if_empty(host)
        self._tasks.start(self._end_in_time(host))

    def end_if_empty(self, host: PoolHost) -> None:
        """Kill an empty host in the background, if it drains or belonged to one session."""
        is_over = host.is_draining or host.is_exclusive
        if is_over and not host.slots and host.state is HostState.READY:
            self.end_soon(host, "drained")

    async def _end_in_time(self, host: PoolHost) -> None:
        """End a draining host once the code that executes in it has had its time.

        No session is blamed for that, unless the host makes way for its memory.
        """
        patience_s = self._timings.retire_s
        with suppress(HelmrError, TimeoutError):
            patience_s = await within(self._clock, self._timings.who_s, host.port.longest_s())
        await sleep(self._clock, max(self._timings.retire_min_s, patience_s))
        if host.is_alive:
            await self.end(host, "retired", is_attributed=host.makes_way)

    def end_soon(self, host: PoolHost, cause: str) -> None:
        """Kill an empty host in the background."""
        host.become(HostState.ENDING, self._clock.now())
        self._tasks.start(self.end(host, cause, is_attributed=False))

    async def end(self, host: PoolHost, cause: str, *, is_attributed: bool) -> None:
        """Kill a host and replace it."""
        # Its watch may fail before the kill has returned, and knows less about the cause.
        host.last_words = (cause, is_attributed)
        await self._spawner.kill(host.place)
        self.fence(host, cause, is_attributed=is_attributed)

    def fence(self, host: PoolHost, cause: str, *, is_attributed: bool = True) -> None:
        """Take a dead host out of the pool, report its crash, and replace it."""
        if host.state is HostState.GONE:
            return
        if host.last_words is not None:
            cause, is_attributed = host.last_words
        now = self._clock.now()
        if is_attributed:
            self.crashes_count += 1
            self.crashes.append(
                {"host": host.name, "sessions": len(host.slots), "cause": cause, "at": iso(now)}
            )
            logger.warning("%s died (%s), held %d sessions", host.name, cause, len(host.slots))
        self._unwatch(host)
        self.hosts.pop(host.name, None)
        self.warnings.host_gone(host.name)
        host.become(HostState.GONE, now)
        self._events.on_crash(host, cause, is_attributed=is_attributed)
        self.fill()

    def _unwatch(self, host: PoolHost) -> None:
        current = asyncio.current_task()
        for task in (*host.tasks, *([host.ping] if host.ping else [])):
            if task is not current:
                task.cancel()

    # --- watch ----------------------------------------------------------------------------------

    async def _await_crash(self, host: PoolHost) -> None:
        self.fence(host, await self._spawner.crash_of(host.name))

    async def _watch(self, host: PoolHost) -> None:
        """Keep one call pending on the host, which reports by it."""
        known = -1
        while host.is_alive:
            try:
                report = await host.port.watch(known)
            except (ActorDied, ActorNotFound) as error:
                self.fence(host, error.cause if isinstance(error, ActorDied) else "not found")
                return
            except HelmrError as error:
                # It is unreachable for the moment, or has a bug; pings decide whether it lives.
                logger.info("watching %s: %s", host.name, error)
                await sleep(self._clock, self._timings.retry_s)
                continue
            known = report.version
            if report.retiring is not None and not host.is_draining:
                self._retire(host, report.retiring)
            self._events.on_report(host, report)

    async def _ping_forever(self) -> None:
        last = self._clock.now()
        while True:
            await sleep(self._clock, self._timings.ping_every_s)
            now = self._clock.now()
            # If this process itself was suspended, the others were not silent.
            was_away = now - last > timedelta(seconds=self._timings.ping_every_s + 1.0)
            last = now
            for host in list(self.hosts.values()):
                if host.is_alive:
                    self._ping(host, now, was_away=was_away)

    def _ping(self, host: PoolHost, now: datetime, *, was_away: bool) -> None:
        if host.ping is None or host.ping.done():
            self.warnings.take_back(f"silent:{host.name}")
            host.asked_at = now
            host.ping = asyncio.create_task(self._ping_once(host))
            return
        if was_away or host.asked_at is None:
            host.asked_at = now
        silent_s = (now - host.asked_at).total_seconds()
        if silent_s >= self._timings.silent_s and not host.is_looked_up:
            host.is_looked_up = True
            self._tasks.start(self._look(host, silent_s))

    async def _ping_once(self, host: PoolHost) -> None:
        try:
            pulse = await host.port.ping()
        except HelmrError:
            # Crashes are noticed elsewhere; the next ping notices a host that can't be reached now.
            return
        host.memory_bytes = pulse.memory_bytes
        blocked = f"blocked:{host.name}"
        if pulse.blocked is None:
            self.warnings.take_back(blocked)
        elif host.is_alive:
            self.warnings.show(
                blocked, f"{host.name}: the loop of all async steps is held by {pulse.blocked}"
            )
        self._note_resumes(host, pulse)
        self._bound_memory(host)

    def _note_resumes(self, host: PoolHost, pulse: Pulse) -> None:
        """Count the times of resumes, and show a warning about a long one for a while."""
        for took_s in pulse.resumes_s:
            self._resumes[bisect_left(RESUME_BOUNDS_S, took_s)] += 1
            self._resumed_s += took_s
        now = self._clock.now()
        if pulse.long_resume is not None and host.is_alive:
            host.long_resume_at = now
            self.warnings.show(f"resume:{host.name}", pulse.long_resume)
        elif host.long_resume_at is not None and now - host.long_resume_at > LONG_RESUME_SHOWN:
            host.long_resume_at = None
            self.warnings.take_back(f"resume:{host.name}")

    async def _look(self, host: PoolHost, silent_s: float) -> None:
        """Decide whether to kill a host that has not answered."""
        state = ProcessState.RUNNING
        if host.pid is not None:
            state = await self._spawner.look(host.place)
        host.is_looked_up = False
        if not host.is_alive or host.ping is None or host.ping.done():
            return
        if state is not ProcessState.RUNNING:
            await self.end(host, f"{state.value}, silent for {silent_s:.0f} s", is_attributed=True)
        elif silent_s >= self._timings.silent_max_s:
            await self.end(host, f"silent for {silent_s:.0f} s", is_attributed=True)
        else:
            self.warnings.show(
                f"silent:{host.name}", f"{host.name} has not answered for {spell(silent_s)}"
            )

    # --- memory ---------------------------------------------------------------------------------
    # Only the end of a process frees leaked memory. Hosts over their bound are replaced gracefully, one at a time on a
    # node: a new host starts first, then the old one takes nothing new, its waiting sessions are parked, and executing
    # steps get their time. One that goes on growing is killed at once, before the machine runs out of memory; sessions
    # that executed then are suspects, as in any crash.

    def _bound_memory(self, host: PoolHost) -> None:
        """React to the memory that a host has just reported."""
        if not host.is_alive or host.last_words is not None:
            return
        times = host.memory_times
        if times > END_AT:
            host.makes_way = True
            self._tasks.start(self.end(host, _of_memory(host), is_attributed=True))
        elif times > 1.0 and self._may_make_way(host):
            host.makes_way = True
            self._tasks.start(self._replace(host))

    def _may_make_way(self, host: PoolHost) -> bool:
        """True if it is not ending, and no host of its node is making way for its memory."""
        return not host.is_draining and not any(
            one.makes_way and one.node == host.node for one in self.hosts.values() if one.is_alive
        )

    async def _replace(self, host: PoolHost) -> None:
        """Start another host, and drain this one once that is ready."""
        self.warnings.show(f"memory:{host.name}", f"{host.name} makes way: {_of_memory(host)}")
        if host.is_exclusive or await self.start_another():
            self.drain(host)
        else:
            host.makes_way = False  # retried with its next report of memory

    def to_json(self) -> dict[str, Any]:
        """Return the pool's part of `status`."""
        hosts, slots = list(self.hosts.values()), self.slots()
        return {
            "hosts": {
                "total": len(hosts),
                "starting": sum(1 for host in hosts if host.state is HostState.STARTING),
                "retiring": sum(1 for host in hosts if host.is_draining),
            },
            "sessions": {
                "live": len(slots),
                "lingering": sum(1 for slot in slots if slot.is_lingering),
                "room": sum(host.free for host in self.shared()),
            },
            "crashes": self.crashes_count,
            "resumes": {
                "bounds": RESUME_BOUNDS_S,
                "counts": self._resumes,
                "sum": self._resumed_s,
            },
            "recent_crashes": list(self.crashes),
            "warnings": self.warnings.texts,
            "states": self.warnings.kinds,
            "host_list": [host.to_json() for host in hosts],
        }


def _of_memory(host: PoolHost) -> str:
    taken, bound = host.memory_bytes or 0, host.memory_max_bytes or 0
    return f"it has {spell_bytes(taken)} of memory and may have {spell_bytes(bound)}"


DECIDING_MAX = 64
"""Commands decided at the same time without room for code: each reads a session and writes it back."""


class Placement:
    """Chooses among the hosts of a pool and the sessions in them."""

    def __init__(self, pool: Pool, *, clock: Clock, timings: PoolTimings) -> None:
        self._pool = pool
        self._clock = clock
        self._timings = timings
        self._deciding = asyncio.Semaphore(DECIDING_MAX)

    def host_with_room(self) -> PoolHost | None:
        """Return the host with the most room for sessions' code; None if none has room."""
        host = max(self._pool.shared(), key=lambda host: host.free, default=None)
        return host if host is not None and host.free > 0 else None

    @asynccontextmanager
    async def deciding(self) -> AsyncIterator[PoolHost]:
        """Take a turn to decide without room for code, in the host with the fewest sessions.

        Raises:
            Overloaded: No turn came in time.
        """
        wait_s = self._timings.decide_wait_s
        try:
            await within(self._clock, wait_s, self._deciding.acquire())
        except TimeoutError:
            raise Overloaded("too many commands wait to be decided", retry_after_s=1.0) from None
        try:
            try:
                host = await within(self._clock, wait_s, self._pool.any_host())
            except TimeoutError:
                raise Overloaded("no host is ready", retry_after_s=1.0) from None
            yield host
        finally:
            self._deciding.release()

    def making_room(self, count: int) -> Sequence[Slot]:
        """Return slots to free for `count` sessions: of those that only wait, the longest-waiting first.

        Some may be releasing already.
        """
        slots = self._pool.slots()
        count -= sum(1 for slot in slots if slot.stage is Stage.RELEASING)
        lingering = [slot for slot in slots if slot.is_lingering and not slot.host.is_exclusive]
        return sorted(lingering, key=_waits_since)[: max(0, count)]

    def ending_own_host(self, hosts: Sequence[PoolHost]) -> Slot | None:
        """Return the slot to free to end one of these single-session hosts, the longest-waiting; None if one already
        ends."""
        slots = [slot for host in hosts for slot in host.slots]
        if any(slot.stage is Stage.RELEASING for slot in slots):
            return None
        return min((slot for slot in slots if slot.is_lingering), key=_waits_since, default=None)


def _waits_since(slot: Slot) -> datetime:
    return slot.parkable_at or slot.since
