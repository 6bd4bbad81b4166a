"""Stand-ins for what a directory talks to: a clock, a ledger's heads, session actors, their start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from helmr.errors import Moved, NotReady, SessionNotFound, StoreUnavailable, UsageError
from helmr_runtime.core.commands import AddNote, Command, Operation, Resume
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.pool import HostLocation, ProcessState
from helmr_runtime.directory.timing import Limits
from helmr_runtime.host_status import HostStatus
from helmr_runtime.ports import (
    Adopted,
    Busy,
    Death,
    HeldLease,
    Lease,
    Ledger,
    Released,
    Report,
    WorkItem,
)
from helmr_runtime.rpc import proxies
from helmr_runtime.rpc.local import LocalCalls
from helmr_runtime.rpc.protocol import LEDGER

BOUND_S = 5.0
"""Real time that a condition may take to come true."""


class FakeClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self._now = datetime(2026, 3, 1, tzinfo=UTC)
        self._timers: list[_FakeTimer] = []

    def now(self) -> datetime:
        return self._now

    def call_at(self, when: datetime, call: Callable[[], None]) -> _FakeTimer:
        timer = _FakeTimer(when, call)
        self._timers.append(timer)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(timer.fire)
        return timer

    async def advance(self, duration_s: float, *, step_s: float = 0.25) -> None:
        """Move on in steps, and let everything run that a step wakes."""
        end = self._now + timedelta(seconds=duration_s)
        while self._now < end:
            self._now = min(end, self._now + timedelta(seconds=step_s))
            for timer in [t for t in self._timers if t.when <= self._now]:
                timer.fire()
            self._timers = [t for t in self._timers if t.is_pending]
            await settle()


@dataclass(eq=False)
class _FakeTimer:
    when: datetime
    call: Callable[[], None]
    is_pending: bool = True

    def fire(self) -> None:
        if self.is_pending:
            self.is_pending = False
            self.call()

    def cancel(self) -> None:
        self.is_pending = False


async def settle(turns: int = 40) -> None:
    """Let what is ready run."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fail after a bound."""
    async with asyncio.timeout(BOUND_S):
        while not condition():
            await asyncio.sleep(0.001)


def note(text: str, *, operation: str | None = "op_1") -> AddNote:
    """A command that a fake session answers with `{"text": …}`."""
    return AddNote(
        principal=RUNTIME,
        note_id="note_1",
        text=text,
        operation=Operation(id=operation, request_hash="h") if operation else None,
    )


@dataclass
class Head:
    """What the fake ledger knows of a session."""

    epoch: int = 0
    holder: str | None = None
    queued: bool = False
    commits: list[str] = field(default_factory=list)


class FakeLedger:
    """Heads and the work list, in memory."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.heads: dict[str, Head] = {}
        self.extra: list[WorkItem] = []
        self.abandoned: list[tuple[str, int]] = []
        self.is_down = False
        self._version = 0
        self._changed = asyncio.Condition()

    def add(self, session_id: str, *, queued: bool = False) -> Head:
        head = self.heads[session_id] = Head(queued=queued)
        return head

    async def bump(self) -> None:
        async with self._changed:
            self._version += 1
            self._changed.notify_all()

    def _check(self) -> None:
        if self.is_down:
            raise StoreUnavailable("the ledger is down")

    async def load(self, session_id: str, holder: str) -> int:
        self._check()
        if session_id not in self.heads:
            raise SessionNotFound(f"{session_id} does not exist")
        head = self.heads[session_id]
        head.epoch += 1
        head.holder = holder
        await self.bump()
        return head.epoch

    async def record(
        self, session_id: str, epoch: int, text: str, *, release: bool, queued: bool | None
    ) -> None:
        self._check()
        head = self.heads[session_id]
        if head.epoch != epoch:
            raise Moved(f"{session_id}: epoch {epoch} is old")
        head.commits.append(text)
        if queued is not None:
            head.queued = queued
        if release:
            head.holder = None
        await self.bump()

    async def abandon(self, session_id: str, epoch: int) -> None:
        self._check()
        self.abandoned.append((session_id, epoch))
        head = self.heads[session_id]
        if head.epoch == epoch:
            head.epoch += 1
            head.holder = None
            await self.bump()

    async def held(self) -> Sequence[HeldLease]:
        self._check()
        return [
            HeldLease(session_id=sid, epoch=head.epoch, holder=head.holder)
            for sid, head in self.heads.items()
            if head.holder is not None
        ]

    async def work(self, known: int, timeout_s: float) -> tuple[int, Sequence[WorkItem]]:
        async with self._changed:
            while self._version == known:
                await self._changed.wait()
        self._check()
        items = [
            WorkItem(kind="run", session_id=sid, queued_at=self._clock.now())
            for sid, head in self.heads.items()
            if head.queued and head.holder is None
        ]
        return self._version, self.extra + items


class FakeSession:
    """A pool actor: on a slot a session's "run" executes until told that it waits."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.role = "desk" if "-desk-" in name else "slot"
        self._world = world
        self._ledger = proxies.Proxy(world.calls, LEDGER, Ledger)
        self.pid = 100_000 + len(world.actors)
        self.code_hash = world.code_hash
        self.session_id: str | None = None
        self.epoch: int | None = None
        self.deaths: list[Death] = []
        self.adoptions: list[str] = []
        self.releases: list[str] = []
        self.state = "free"
        self.detail: str | None = None
        self.version = 0
        self.since = world.clock.now()
        self.is_executing = False
        self.adopt_gate = asyncio.Event()
        self.adopt_gate.set()
        self.die_in_adopt: str | None = None
        self.is_deaf = False
        self._changed = asyncio.Condition()

    async def report(self, state: str, *, detail: str | None = None) -> None:
        """Say what became of the session."""
        async with self._changed:
            self.state, self.detail = state, detail
            self.is_executing = state == "busy"
            self.since = self._world.clock.now()
            self.version += 1
            self._changed.notify_all()

    async def lose(self) -> None:
        """The ledger refused a commit: the session is another's."""
        await self.report("failed", detail="refused")
        self.session_id = None

    async def adopt(
        self, session_id: str, *, command: Command | None, death: Death | None, catalog_hash: str
    ) -> Adopted:
        if self.code_hash != catalog_hash:
            raise NotReady(f"{self.name} has other code", code_hash=self.code_hash)
        if self.session_id is not None:
            raise Moved(f"{self.name} holds {self.session_id}")
        self.adoptions.append(session_id)
        self.epoch = await self._ledger.call("load", session_id, self.name)
        self.session_id = session_id
        await self.adopt_gate.wait()
        if self.die_in_adopt is not None:
            self._world.kill(self.name, self.die_in_adopt)
            await asyncio.Event().wait()
        if death is not None:
            self.deaths.append(death)
        if self.role == "slot":
            # A slot takes up the run at once; it executes until the test says that it waits.
            await self._record("adopted", queued=False)
            await self.report("busy")
        reply = await self._decide(command) if command is not None else None
        if self.role == "desk":
            await self.report("parkable")
        return Adopted(epoch=self.epoch, reply=reply)

    async def _record(self, text: str, *, release: bool = False, queued: bool | None) -> None:
        await self._ledger.call(
            "record", self.session_id, self.epoch, text, release=release, queued=queued
        )

    async def _decide(self, command: Command) -> Mapping[str, Any]:
        if isinstance(command, Resume):
            return {}
        assert isinstance(command, AddNote)
        if command.text == "refused":
            raise UsageError("that text is refused")
        # On a desk the decision leaves a run to resume.
        await self._record(command.text, queued=True if self.role == "desk" else None)
        return {"text": command.text}

    async def command(self, session_id: str, command: Command) -> Mapping[str, Any]:
        if self.session_id != session_id:
            raise Moved(f"{self.name} does not hold {session_id}")
        return await self._decide(command)

    async def release(self, session_id: str, reason: str) -> Released | Busy:
        if self.session_id != session_id:
            raise Moved(f"{self.name} does not hold {session_id}")
        self.releases.append(reason)
        if self.is_executing:
            return Busy(reason="code runs")
        await self._record("parked", release=True, queued=None)
        self.session_id = None
        await self.report("free")
        return Released()

    async def watch(self, known: int) -> Report:
        async with self._changed:
            while self.version == known:
                await self._changed.wait()
        return Report(
            state=self.state,
            session_id=self.session_id,
            since=self.since,
            version=self.version,
            detail=self.detail,
        )

    async def who(self) -> Lease:
        return Lease(
            name=self.name,
            session_id=self.session_id,
            epoch=self.epoch if self.session_id else None,
            code_hash=self.code_hash,
            pid=self.pid,
            executing=self.is_executing,
        )

    async def ping(self) -> None:
        if self.is_deaf:
            await asyncio.Event().wait()


class World:
    """A directory with everything around it, in one process."""

    def __init__(self) -> None:
        self.calls = LocalCalls()
        self.clock = FakeClock()
        self.ledger = FakeLedger(self.clock)
        self.calls.register("helmr-ledger", self.ledger)
        self.code_hash = "code-1"
        self.actors: dict[str, FakeSession] = {}
        self.statuses: dict[str, HostStatus] = {}
        self.spawner = FakeSpawner(self)
        self.directories: list[DirectoryActor] = []

    async def directory(
        self, *, slots: int = 1, desks: int = 1, deliver: Any = None, **limits: float
    ) -> DirectoryActor:
        """A started directory whose pool is full."""
        directory = DirectoryActor(
            ledger=proxies.ledger(self.calls),
            sessions=lambda name: proxies.session(self.calls, name),
            spawner=self.spawner,
            clock=self.clock,
            slots=slots,
            desks=desks,
            catalog_hash="code-1",
            limits=Limits(**limits),
            deliver=deliver,
        )
        self.directories.append(directory)
        await directory.start()
        if self.spawner.gate.is_set():
            await until(lambda: len(self.living()) >= slots + desks)
            await settle()
        return directory

    async def stop(self) -> None:
        for directory in self.directories:
            await directory.stop()

    def living(self, role: str = "") -> list[FakeSession]:
        """The fakes that live, oldest first."""
        return [self.actors[n] for n in self.calls.names() if n in self.actors and role in n]

    def holder(self, session_id: str) -> FakeSession:
        """The living fake that holds the session."""
        (actor,) = (a for a in self.living() if a.session_id == session_id)
        return actor

    def kill(self, name: str, cause: str = "signal 9") -> None:
        """Kill an actor, which leaves its status behind."""
        actor = self.actors[name]
        if actor.session_id is not None and actor.epoch is not None:
            self.statuses[name] = HostStatus(actor.session_id, actor.epoch, actor.is_executing, 7)
        self.calls.kill(name, cause)


class FakeSpawner:
    """`helmr_runtime.directory.pool.Spawner` over fakes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._count = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.killed: list[str] = []
        self.process_states: dict[int, ProcessState] = {}

    async def spawn(self, role: str) -> str:
        await self.gate.wait()
        self._count += 1
        name = f"helmr-{role}-{self._count}"
        actor = self._world.actors[name] = FakeSession(name, self._world)
        self._world.calls.register(name, actor)
        return name

    async def kill(self, place: HostLocation) -> None:
        self.killed.append(place.name)
        if place.name in self._world.calls.names():
            self._world.kill(place.name, "killed by the runtime")

    async def names(self) -> Sequence[str]:
        return [actor.name for actor in self._world.living()]

    async def look(self, place: HostLocation) -> ProcessState:
        return self.process_states.get(place.pid or 0, ProcessState.RUNNING)

    async def status(self, place: HostLocation) -> HostStatus | None:
        return self._world.statuses.get(place.name)
