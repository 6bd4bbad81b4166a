"""What the directory knows of hosts and of the slots in them, how hosts come to be and end, and its times.

It waits by a clock that is handed in.
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
    """What the directory is doing with a host."""

    STARTING = "starting"
    READY = "ready"
    ENDING = "ending"
    """It is drained and being killed."""
    GONE = "gone"


class Stage(StrEnum):
    """Where a slot is on the way of its session."""

    RESERVED = "reserved"
    """Taken for a session, nothing asked of its host yet."""
    ADOPTING = "adopting"
    HOLDING = "holding"
    RELEASING = "releasing"
    ENDING = "ending"
    """The host lost the session and is ending its code."""
    GONE = "gone"


class ProcessState(StrEnum):
    """What the system says."""

    RUNNING = "running"
    STOPPED = "stopped"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class HostLocation:
    """Where a host runs, or ran.

    Attributes:
        node: Ray's id of its node; empty is the directory's own, also where no one knows it.
        pid: Of its process on that node's machine, once it has said so.
    """

    name: str
    node: str = ""
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """What a pool is to have.

    Attributes:
        hosts: How many there are for all sessions.
        sessions_per_host: Sessions whose code one of them may have at once.
        catalog_hash: The code that they must have loaded.
        limits: By name, those that bound something in them.
    """

    hosts: int
    sessions_per_host: int
    catalog_hash: str
    limits: Mapping[str, Limit] = field(default_factory=dict)


class Spawner(Protocol):
    """How hosts come to be and end; over Ray in a runtime, in-process in tests."""

    async def spawn(self, *, is_exclusive: bool) -> str:
        """Create a host and return its name; it may still be starting."""
        ...

    async def crash_of(self, name: str) -> str:
        """Return when the host is dead: of what."""
        ...

    async def kill(self, place: HostLocation) -> None:
        """End the host's process without asking it. Harmless if it is gone."""
        ...

    async def names(self) -> Sequence[str]:
        """The hosts that exist, even if another directory created them."""
        ...

    async def look(self, place: HostLocation) -> ProcessState:
        """The state of a host's process."""
        ...

    async def statuses(self, place: HostLocation) -> Mapping[str, SlotStatus]:
        """By session, what the dead host held and did; empty if it held nothing, or its machine is gone."""
        ...


@dataclass(slots=True, eq=False)
class PoolHost:
    """One host as the directory sees it."""

    name: str
    port: Host
    state: HostState
    since: datetime
    room: int
    """Sessions whose code it may have at once."""
    is_exclusive: bool = False
    """It is there for one session, and ends with it."""
    pid: int | None = None
    node: str = ""
    code_hash: str | None = None
    memory_bytes: int | None = None
    """What it has allocated, as it last said."""
    memory_max_bytes: int | None = None
    long_resume_at: datetime | None = None
    """When it last reported a resume that took long."""
    makes_way: bool = False
    """It has more memory than it may, and another takes its place."""
    slots: dict[Slot, None] = field(default_factory=dict)
    """In the order in which they were made; `put` and `drop` change them."""
    executing: int = 0
    """Slots in which a session's code may run; counted, since it is asked for each session that waits for room."""
    is_draining: bool = False
    """It gets no more sessions, and is ended when it has none."""
    last_words: tuple[str, bool] | None = None
    """Why this directory ends it, and whether that counts."""
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
        """Where it runs."""
        return HostLocation(self.name, self.node, self.pid)

    @property
    def is_alive(self) -> bool:
        """It has started and has not ended."""
        return self.state in (HostState.READY, HostState.ENDING)

    @property
    def takes_sessions(self) -> bool:
        """It is there for whatever comes."""
        return self.state is HostState.READY and not self.is_draining

    @property
    def free(self) -> int:
        """How many more it has room for."""
        return max(0, self.room - self.executing) if self.takes_sessions else 0

    @property
    def memory_times(self) -> float:
        """How many times its bound it has allocated; 0 if either is not known."""
        if self.memory_bytes is None or not self.memory_max_bytes:
            return 0.0
        return self.memory_bytes / self.memory_max_bytes

    def put(self, slot: Slot) -> None:
        """A slot is made in it."""
        self.slots[slot] = None
        self.executing += slot.executes

    def drop(self, slot: Slot) -> None:
        """A slot is over; nothing if it was already."""
        if slot in self.slots:
            del self.slots[slot]
            self.executing -= slot.executes

    def drop_all(self) -> list[Slot]:
        """The slots that it had, in the order in which they were made."""
        slots = list(self.slots)
        self.slots.clear()
        self.executing = 0
        return slots

    def to_json(self) -> dict[str, Any]:
        """For `status`; at most `SESSIONS_SHOWN` sessions are named."""
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
        executes: Its code runs there; if not, a command is decided and the session given up at once.
        epoch: Of its adoption, once that has succeeded.
        parkable_at: Since when its session only waits.
        is_kept: It does, and its turn under a limit is near.
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
        """It has been given back, or its host has died."""
        return self.stage is Stage.GONE

    @property
    def is_holding(self) -> bool:
        """It holds its session, and nothing is under way with it."""
        return self.stage is Stage.HOLDING

    @property
    def is_lingering(self) -> bool:
        """Its session only waits, and could be parked."""
        return self.stage is Stage.HOLDING and self.parkable_at is not None


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTimings:
    """The times that pool and directory keep, all in seconds."""

    linger_s: float = 30.0
    """A waiting session stays in its slot that long, unless others need the slot."""
    ping_every_s: float = 1.0
    """A stopped host is replaced after 3 s at most."""
    silent_s: float = 2.0
    """The system is asked about a host that has not answered for this long; if it is stopped or gone, it is killed."""
    silent_max_s: float = 30.0
    """A host that runs and has not answered for this long is killed."""
    start_s: float = 60.0
    """A host that has not answered `who` this long after its creation is killed."""
    retire_s: float = 600.0
    """A retiring host that does not say how long its steps may take is killed after that long, whatever still executes
    in it; one that does, after that."""
    retire_min_s: float = 10.0
    """No retiring host is killed earlier: what waits is being parked."""
    who_s: float = 2.0
    """At a take-over, a host has this long to say what it holds, and how long its steps may take when it retires."""
    work_poll_s: float = 30.0
    reconcile_every_s: float = 30.0
    """What the ledger believes held and no one holds is looked for so often."""
    decide_wait_s: float = 5.0
    """A command that finds no room for its session's code is decided without it after this wait."""
    route_s: float = 10.0
    """A command is routed again and again for at most that long."""
    retry_s: float = 0.25
    retry_max_s: float = 30.0
    """First and longest pause before what failed is tried again."""
    shutdown_s: float = 5.0
    """Running sessions get this long to reach a wait when the runtime stops."""

    def backoff_s(self, failures: int) -> float:
        """The pause after that many failures in a row."""
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
    """The result of `work`, if it comes within that time by `clock`.

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
    """Background tasks that end with their owner; what one raises is a bug and is reported."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in the background and hold on to it."""
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
        """Cancel what runs and wait for its end."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
