"""Hosts and their slots as the directory sees them, the protocol that starts and ends hosts, and its timings.

All waits use a clock that the caller passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, Protocol, TypeVar

from helmr.limits import Limit
from helmr_runtime.clock import Clock, Timer
from helmr_runtime.core.entries import iso
from helmr_runtime.host_status import SlotStatus
from helmr_runtime.ports import Host, SlotReport

SESSIONS_SHOWN = 100
"""Sessions of a host that `status` names."""


class HostState(StrEnum):
    """The state of a host in the directory."""

    STARTING = "starting"
    READY = "ready"
    ENDING = "ending"
    """It is drained and being killed."""
    GONE = "gone"


class Stage(StrEnum):
    """The stage of a slot."""

    RESERVED = "reserved"
    """Taken for a session; its host has not been asked yet."""
    ADOPTING = "adopting"
    HOLDING = "holding"
    RELEASING = "releasing"
    ENDING = "ending"
    """The host lost the session and is ending its code."""
    GONE = "gone"


class ProcessState(StrEnum):
    """The state of a process, as the system reports it."""

    RUNNING = "running"
    STOPPED = "stopped"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class HostLocation:
    """The place where a host runs or ran.

    Attributes:
        node: Ray's id of its node; empty for the directory's own or an unknown one.
        pid: Id of its process on that machine, once it has reported it.
    """

    name: str
    node: str = ""
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """The hosts and limits that a pool should have.

    Attributes:
        hosts: Number of shared hosts.
        sessions_per_host: Sessions whose code one of them may have at the same time.
        catalog_hash: Hash of the code that they must have loaded.
        limits: Limits that bound something in them, by name.
    """

    hosts: int
    sessions_per_host: int
    catalog_hash: str
    limits: Mapping[str, Limit] = field(default_factory=dict)


class Spawner(Protocol):
    """Starts and ends hosts; over Ray in a runtime, in-process in tests."""

    async def spawn(self, *, is_exclusive: bool) -> str:
        """Create a host and return its name; it may still be starting."""
        ...

    async def crash_of(self, name: str) -> str:
        """Wait until the host is dead and return the cause."""
        ...

    async def kill(self, place: HostLocation) -> None:
        """End the host's process without asking it. Harmless if it is gone."""
        ...

    async def names(self) -> Sequence[str]:
        """Return the hosts that exist, even if another directory created them."""
        ...

    async def look(self, place: HostLocation) -> ProcessState:
        """Return the state of a host's process."""
        ...

    async def statuses(self, place: HostLocation) -> Mapping[str, SlotStatus]:
        """Return the dead host's slots by session; empty if it held none, or its machine is gone."""
        ...


@dataclass(slots=True, eq=False)
class PoolHost:
    """One host as the directory sees it."""

    name: str
    port: Host
    state: HostState
    since: datetime
    room: int
    """Sessions whose code it may have at the same time."""
    is_exclusive: bool = False
    """It belongs to one session, and ends with it."""
    pid: int | None = None
    node: str = ""
    code_hash: str | None = None
    memory_bytes: int | None = None
    """Its allocated memory, as last reported."""
    memory_max_bytes: int | None = None
    long_resume_at: datetime | None = None
    """Time of its last report of a long resume."""
    makes_way: bool = False
    """It exceeds its memory bound, and another host replaces it."""
    slots: dict[Slot, None] = field(default_factory=dict)
    """Its slots in order of creation; changed by `put` and `drop`."""
    executing: int = 0
    """Number of slots in which a session's code may run; kept, since each session that waits for room needs it."""
    is_draining: bool = False
    """It gets no more sessions, and ends once it has none."""
    last_words: tuple[str, bool] | None = None
    """The directory's reason to end it, and whether its end is attributed to a session."""
    ping: asyncio.Task[None] | None = None
    asked_at: datetime | None = None
    is_looked_up: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def become(self, state: HostState, now: datetime) -> None:
        """Enter a state."""
        self.state = state
        self.since = now

    @property
    def place(self) -> HostLocation:
        """The place where it runs."""
        return HostLocation(self.name, self.node, self.pid)

    @property
    def is_alive(self) -> bool:
        """It has started and has not ended."""
        return self.state in (HostState.READY, HostState.ENDING)

    @property
    def takes_sessions(self) -> bool:
        """It takes any session."""
        return self.state is HostState.READY and not self.is_draining

    @property
    def free(self) -> int:
        """The number of further sessions that it has room for."""
        return max(0, self.room - self.executing) if self.takes_sessions else 0

    @property
    def memory_times(self) -> float:
        """Its allocated memory as a multiple of its bound; 0 if either is unknown."""
        if self.memory_bytes is None or not self.memory_max_bytes:
            return 0.0
        return self.memory_bytes / self.memory_max_bytes

    def put(self, slot: Slot) -> None:
        """Add a slot."""
        self.slots[slot] = None
        self.executing += slot.executes

    def drop(self, slot: Slot) -> None:
        """Remove a slot; does nothing if it is gone."""
        if slot in self.slots:
            del self.slots[slot]
            self.executing -= slot.executes

    def drop_all(self) -> list[Slot]:
        """Remove all slots and return them in order of creation."""
        slots = list(self.slots)
        self.slots.clear()
        self.executing = 0
        return slots

    def to_json(self) -> dict[str, Any]:
        """Return its part of `status`, with at most `SESSIONS_SHOWN` sessions."""
        return {
            "name": self.name,
            "pid": self.pid,
            "node": self.node or None,
            "state": "retiring" if self.is_draining and self.is_alive else self.state.value,
            "sessions": len(self.slots),
            "session_ids": [slot.session_id for slot in islice(self.slots, SESSIONS_SHOWN)],
            "room": self.room,
            "memory_bytes": self.memory_bytes,
            "memory_max_bytes": self.memory_max_bytes,
            "since": iso(self.since),
        }


@dataclass(slots=True, eq=False)
class Slot:
    """One session's place in a host, as the directory sees it.

    Attributes:
        executes: Its code runs there; otherwise a command is decided and the session given up at once.
        epoch: The adoption's epoch, once it has succeeded.
        parkable_at: Time since which its session only waits.
        is_kept: Its session only waits, and its turn under a limit is near.
    """

    host: PoolHost
    session_id: str
    stage: Stage
    since: datetime
    executes: bool = True
    epoch: int | None = None
    report: SlotReport | None = None
    parkable_at: datetime | None = None
    is_kept: bool = False
    linger: Timer | None = None

    def become(self, stage: Stage, now: datetime) -> None:
        """Enter a stage."""
        self.stage = stage
        self.since = now

    @property
    def is_over(self) -> bool:
        """It was given back, or its host has died."""
        return self.stage is Stage.GONE

    @property
    def is_holding(self) -> bool:
        """It holds its session, and no change is under way."""
        return self.stage is Stage.HOLDING

    @property
    def is_lingering(self) -> bool:
        """Its session only waits, and could be parked."""
        return self.stage is Stage.HOLDING and self.parkable_at is not None


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTimings:
    """Timings of pool and directory, in seconds."""

    linger_s: float = 30.0
    """Time that a waiting session stays in its slot unless others need it."""
    ping_every_s: float = 1.0
    """Time between pings; with `silent_s`, a stopped host is replaced within 3 s."""
    silent_s: float = 2.0
    """Silence after which the system is asked about a host; a stopped or missing one is killed."""
    silent_max_s: float = 30.0
    """Silence after which a running host is killed."""
    start_s: float = 60.0
    """Time after its creation in which a host must answer `who`, or it is killed."""
    retire_s: float = 600.0
    """Time after which a retiring host is killed even if code executes, unless it reports how long its steps may take;
    then that time counts."""
    retire_min_s: float = 10.0
    """Minimum time before a retiring host is killed, to park its waiting sessions."""
    who_s: float = 2.0
    """Time for a host to answer `who` at a takeover, and `longest_s` when it retires."""
    work_poll_s: float = 30.0
    reconcile_every_s: float = 30.0
    """Time between checks for sessions that the ledger lists as held and no host holds."""
    decide_wait_s: float = 5.0
    """Time that a command waits for room for its session's code before it is decided without."""
    route_s: float = 10.0
    """Most time that routing of a command is retried."""
    retry_s: float = 0.25
    retry_max_s: float = 30.0
    """First and longest pause before a failed action is retried."""
    shutdown_s: float = 5.0
    """Time for running sessions to reach a wait when the runtime stops."""

    def backoff_s(self, failures: int) -> float:
        """Return the pause after that many failures in a row."""
        return float(min(self.retry_max_s, self.retry_s * 2 ** min(failures, 20)))


async def sleep(clock: Clock, duration_s: float) -> None:
    """Return after that time by `clock`."""
    done = asyncio.get_running_loop().create_future()
    timer = clock.call_at(clock.now() + timedelta(seconds=duration_s), lambda: _finish(done))
    try:
        await done
    finally:
        timer.cancel()


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


async def within(clock: Clock, duration_s: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, if it comes within that time by `clock`.

    Raises:
        TimeoutError: It did not; `work` is cancelled.
    """
    task = asyncio.ensure_future(work)
    timer = asyncio.ensure_future(sleep(clock, duration_s))
    try:
        await asyncio.wait({task, timer}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise TimeoutError
    finally:
        timer.cancel()
        task.cancel()


class BackgroundTasks:
    """Background tasks that end with their owner; an exception in one is a bug and is reported."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in the background and keep a reference to it."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a background task failed", "exception": error, "task": task}
        )

    async def stop(self) -> None:
        """Cancel the tasks and wait for their end."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
