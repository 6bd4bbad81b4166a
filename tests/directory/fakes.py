"""Stand-ins for what a directory talks to: a ledger's heads, hosts, their start and end, calls whose answers are lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from helmr.errors import HelmrError, Moved, NotReady, SessionNotFound, StoreUnavailable, UsageError
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.commands import AddNote, Command, Operation, Resume
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.pool import HostLocation, ProcessState
from helmr_runtime.directory.timing import Limits
from helmr_runtime.host_status import SlotStatus
from helmr_runtime.ports import (
    Adopted,
    Busy,
    Death,
    HeldLease,
    HostReport,
    Lease,
    Ledger,
    Occupancy,
    Released,
    SlotReport,
    SlotState,
    WorkItem,
)
from helmr_runtime.rpc import proxies
from helmr_runtime.rpc.local import LocalCalls
from helmr_runtime.rpc.protocol import HOST_PREFIX, LEDGER, OWN_HOST_PREFIX, ActorUnavailable

BOUND_S = 5.0
"""Real time that a condition may take to come true."""

OP = 7
"""The op that the code of every session here is at."""


class Clock(FakeClock):
    """The fake clock, moved in steps."""

    async def advance(self, duration_s: float, *, step_s: float = 0.25) -> None:
        """Move on in steps, and let everything run that a step wakes."""
        end = self.now() + timedelta(seconds=duration_s)
        while self.now() < end:
            self.move_to(min(end, self.now() + timedelta(seconds=step_s)))
            await settle()


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


class FlakyCalls(LocalCalls):
    """Calls whose answers can be lost: what was asked is done, and the caller hears nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self._lost: Counter[tuple[str, str]] = Counter()
        self._unheard: set[asyncio.Future[Any]] = set()

    def lose(self, actor: str, method: str, *, times: int = 1) -> None:
        """Lose the answers to the next calls."""
        self._lost[actor, method] = times

    async def call(self, actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call, and lose the answer if so told."""
        if self._lost[actor, method] <= 0:
            return await super().call(actor, method, *args, **kwargs)
        self._lost[actor, method] -= 1
        call = asyncio.ensure_future(super().call(actor, method, *args, **kwargs))
        self._unheard.add(call)
        call.add_done_callback(self._forget)
        await asyncio.sleep(0)
        raise ActorUnavailable(actor=actor, method=method, detail="the answer is lost")

    def _forget(self, call: asyncio.Future[Any]) -> None:
        self._unheard.discard(call)
        if not call.cancelled():
            call.exception()


# --- the ledger ---------------------------------------------------------------------------------


@dataclass
class Head:
    """What the fake ledger knows of a session. run: "" (none), queued, running or waiting."""

    epoch: int = 0
    holder: str | None = None
    run: str = ""
    commits: list[str] = field(default_factory=list)


class FakeLedger:
    """Heads and the work list, in memory.

    Attributes:
        abandoned: What `abandon` was called with.
        dead_holders: What `abandon_all` was called with.
        stolen: Sessions that were loaded while the ledger had them as held: nobody had fenced their holder.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.heads: dict[str, Head] = {}
        self.extra: list[WorkItem] = []
        self.abandoned: list[tuple[str, int]] = []
        self.dead_holders: list[str] = []
        self.stolen: list[tuple[str, str]] = []
        self.is_down = False
        self._version = 0
        self._changed = asyncio.Condition()

    def add(self, *session_ids: str, run: str = "") -> None:
        for session_id in session_ids:
            self.heads[session_id] = Head(run=run)

    async def queue(self, *session_ids: str) -> None:
        """They have runs to resume."""
        for session_id in session_ids:
            self.heads.setdefault(session_id, Head()).run = "queued"
        await self.bump()

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
        if head.holder is not None:
            self.stolen.append((session_id, head.holder))
        head.epoch += 1
        head.holder = holder
        await self.bump()
        return head.epoch

    async def record(
        self, session_id: str, epoch: int, text: str, *, run: str | None, release: bool
    ) -> None:
        self._check()
        head = self.heads[session_id]
        if head.epoch != epoch:
            raise Moved(f"{session_id}: epoch {epoch} is old")
        head.commits.append(text)
        if run is not None:
            head.run = run
        if release:
            head.holder = None
        await self.bump()

    async def abandon(self, session_id: str, epoch: int) -> None:
        self._check()
        self.abandoned.append((session_id, epoch))
        head = self.heads[session_id]
        if (head.epoch, head.holder is None) == (epoch, False):
            await self._abandon(head)

    async def abandon_all(self, holder: str) -> None:
        self._check()
        self.dead_holders.append(holder)
        for head in self.heads.values():
            if head.holder == holder:
                await self._abandon(head)

    async def _abandon(self, head: Head) -> None:
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
            if head.run in ("queued", "running") and head.holder is None
        ]
        return self._version, self.extra + items


# --- hosts ----------------------------------------------------------------------------------------


@dataclass(eq=False)
class FakeSession:
    """A session in a fake host; its run executes until told that it waits."""

    session_id: str
    since: datetime
    executes: bool
    epoch: int = 0
    state: SlotState = SlotState.BUSY
    is_executing: bool = False
    told_version: int = 0

    @property
    def report(self) -> SlotReport:
        return SlotReport(
            session_id=self.session_id, epoch=self.epoch, state=self.state, since=self.since
        )


class FakeHost:
    """Holds sessions; what becomes of them is told by the test.

    Attributes:
        adoptions: Sessions that were taken up to run here.
        decisions: Sessions that were taken up for one command only.
        releases: With the reason, what was asked for.
        deaths: With the session, what was passed on at an adoption.
        ending: Sessions that were lost, and whose code has not ended.
        executing_max: The most sessions whose code was here at once.
    """

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.is_exclusive = name.startswith(OWN_HOST_PREFIX)
        self._world = world
        self._ledger = proxies.Proxy(world.calls, LEDGER, Ledger)
        self.pid = 100_000 + len(world.hosts)
        self.code_hash = world.code_hash
        self.sessions: dict[str, FakeSession] = {}
        self.ending: list[FakeSession] = []
        self.adoptions: list[str] = []
        self.decisions: list[str] = []
        self.releases: list[tuple[str, str]] = []
        self.deaths: list[tuple[str, Death]] = []
        self.executing_max = 0
        self.retiring: str | None = None
        self.adopt_gate = asyncio.Event()
        self.adopt_gate.set()
        self.release_gate = asyncio.Event()
        self.release_gate.set()
        self.dies_in_adopt_of: str | None = None
        self.is_deaf = False
        self._past: list[tuple[int, SlotReport]] = []
        self._version = 0
        self._changed = asyncio.Condition()

    # --- what the test tells ------------------------------------------------------------------------

    async def waits(self, session_id: str) -> None:
        """The session's run reaches a wait."""
        one = self.sessions[session_id]
        if await self._commit(one, "waits", run="waiting"):
            one.is_executing = False
            await self._become(one, SlotState.PARKABLE)

    async def goes_on(self, session_id: str) -> None:
        """The session's run executes again."""
        one = self.sessions[session_id]
        if await self._commit(one, "goes on", run="running"):
            one.is_executing = True
            await self._become(one, SlotState.BUSY)

    async def loses(self, session_id: str) -> None:
        """The ledger refused a commit: the session is another's. Its code still executes."""
        one = self.sessions.pop(session_id)
        self.ending.append(one)
        await self._become(one, SlotState.LOST)

    async def ends(self, session_id: str) -> None:
        """The code of a lost session has ended."""
        one = next(one for one in self.ending if one.session_id == session_id)
        self.ending.remove(one)
        await self._become(one, SlotState.GONE)

    async def say(self, *reports: SlotReport) -> None:
        """Report that in the next answer to `watch`, whatever is true, as a late answer does."""
        async with self._changed:
            self._version += 1
            self._past += [(self._version, report) for report in reports]
            self._changed.notify_all()

    async def retire(self, reason: str) -> None:
        """Take nothing new."""
        self.retiring = reason
        await self.say()

    def statuses(self) -> dict[str, SlotStatus]:
        """What its status file says."""
        return {
            one.session_id: SlotStatus(epoch=one.epoch, executing=one.is_executing, op=OP)
            for one in (*self.ending, *self.sessions.values())
        }

    # --- the port -----------------------------------------------------------------------------------

    async def adopt(
        self,
        session_id: str,
        *,
        command: Command | None,
        death: Death | None,
        catalog_hash: str,
        executes: bool = True,
    ) -> Adopted:
        if self.code_hash != catalog_hash:
            raise NotReady(f"{self.name} has other code", code_hash=self.code_hash)
        if self.retiring is not None:
            raise Moved(f"{self.name} takes nothing new")
        if session_id in self.sessions:
            one = self._loaded(session_id)
            return Adopted(epoch=one.epoch, reply=await self._decide(one, command))
        (self.adoptions if executes else self.decisions).append(session_id)
        one = FakeSession(session_id, self._world.clock.now(), executes)
        self.sessions[session_id] = one
        try:
            one.epoch = await self._ledger.call("load", session_id, self.name)
        except BaseException:
            self._remove(one)
            raise
        wants_own_host = executes and session_id in self._world.isolated and not self.is_exclusive
        one.executes = executes and not wants_own_host
        one.is_executing = one.executes
        self._count()
        await self.adopt_gate.wait()
        if death is not None:
            self.deaths.append((session_id, death))
        cause = self.dies_in_adopt_of or self._world.deadly.get(session_id)
        if cause is not None and (one.executes or self.dies_in_adopt_of):
            self._world.kill(self.name, cause)
            await asyncio.Event().wait()
        if not one.executes:
            try:
                reply = await self._decide(one, command)
            finally:
                self._remove(one)
            return Adopted(
                epoch=one.epoch, reply=reply, released=True, wants_own_host=wants_own_host
            )
        # The run is taken up at once; it executes until the test says that it waits.
        if not await self._commit(one, "adopted", run="running"):
            raise Moved(f"{session_id} left {self.name}")
        await self._become(one, SlotState.BUSY)
        return Adopted(epoch=one.epoch, reply=await self._decide(one, command))

    async def command(self, session_id: str, command: Command) -> Mapping[str, Any]:
        return await self._decide(self._loaded(session_id), command) or {}

    async def release(self, session_id: str, reason: str) -> Released | Busy:
        one = self._loaded(session_id)
        self.releases.append((session_id, reason))
        if one.state is not SlotState.PARKABLE:
            return Busy(reason="code runs")
        if not await self._commit(one, "parked", release=True):
            raise Moved(f"{session_id} left {self.name}")
        self._remove(one)
        await self.release_gate.wait()
        return Released()

    async def watch(self, known: int) -> HostReport:
        async with self._changed:
            while self._version == known:
                await self._changed.wait()
        self._past = [(version, report) for version, report in self._past if version > known]
        live = [one.report for one in self.sessions.values() if one.told_version > known]
        return HostReport(
            version=self._version,
            slots=tuple([*(report for _, report in self._past), *live]),
            retiring=self.retiring,
        )

    async def who(self) -> Occupancy:
        leases = [await self.lease(session_id) for session_id in self.sessions]
        return Occupancy(
            name=self.name,
            code_hash=self.code_hash,
            pid=self.pid,
            leases=tuple(lease for lease in leases if lease is not None),
            retiring=self.retiring,
        )

    async def lease(self, session_id: str) -> Lease | None:
        one = self.sessions.get(session_id)
        loaded = one is not None and one.epoch > 0
        return Lease(session_id=session_id, epoch=one.epoch) if one is not None and loaded else None

    async def ping(self) -> None:
        if self.is_deaf:
            await asyncio.Event().wait()

    # --- parts ----------------------------------------------------------------------------------------

    def _loaded(self, session_id: str) -> FakeSession:
        one = self.sessions.get(session_id)
        if one is None or not one.epoch:
            raise Moved(f"{self.name} does not hold {session_id}")
        return one

    def _remove(self, one: FakeSession) -> None:
        if self.sessions.get(one.session_id) is one:
            del self.sessions[one.session_id]

    def _count(self) -> None:
        count = sum(one.executes for one in (*self.sessions.values(), *self.ending))
        self.executing_max = max(self.executing_max, count)

    async def _become(self, one: FakeSession, state: SlotState) -> None:
        async with self._changed:
            one.state = state
            one.since = self._world.clock.now()
            self._version += 1
            one.told_version = self._version
            if state in (SlotState.LOST, SlotState.GONE):
                self._past.append((self._version, one.report))
            self._changed.notify_all()

    async def _commit(
        self, one: FakeSession, text: str, *, run: str | None = None, release: bool = False
    ) -> bool:
        """False if the session is another's."""
        try:
            await self._ledger.call(
                "record", one.session_id, one.epoch, text, run=run, release=release
            )
        except Moved:
            if self.sessions.get(one.session_id) is one and one.executes:
                await self.loses(one.session_id)
            return False
        return True

    async def _decide(self, one: FakeSession, command: Command | None) -> Mapping[str, Any] | None:
        """Decide; without room for code the session is given up in the same commit, with a run to resume."""
        assert command is None or isinstance(command, AddNote | Resume)
        text = command.text if isinstance(command, AddNote) else "resumed"
        is_refused = text == "refused"
        if one.executes and (is_refused or not isinstance(command, AddNote)):
            is_stored = True
        elif one.executes:
            is_stored = await self._commit(one, text)
        else:
            run = "queued" if isinstance(command, AddNote) and not is_refused else None
            is_stored = await self._commit(one, text, run=run, release=True)
        if not is_stored:
            raise Moved(f"{one.session_id} left {self.name}")
        if is_refused:
            raise UsageError("that text is refused")
        return {"text": text}


class FakeSpawner:
    """`helmr_runtime.directory.pool.Spawner` over fakes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._count = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.own_gate = asyncio.Event()
        self.own_gate.set()
        self.is_broken = False
        self.killed: list[str] = []
        self.process_states: dict[int, ProcessState] = {}

    async def spawn(self, *, is_exclusive: bool) -> str:
        await (self.own_gate if is_exclusive else self.gate).wait()
        if self.is_broken:
            raise HelmrError("there is no memory for a host")
        self._count += 1
        name = f"{OWN_HOST_PREFIX if is_exclusive else HOST_PREFIX}{self._count}"
        host = self._world.hosts[name] = FakeHost(name, self._world)
        self._world.calls.register(name, host)
        return name

    async def death(self, name: str) -> str:
        return await self._world.calls.death(name)

    async def kill(self, place: HostLocation) -> None:
        self.killed.append(place.name)
        if place.name in self._world.calls.names():
            self._world.kill(place.name, "killed by the runtime")

    async def names(self) -> Sequence[str]:
        return [host.name for host in self._world.living()]

    async def look(self, place: HostLocation) -> ProcessState:
        return self.process_states.get(place.pid or 0, ProcessState.RUNNING)

    async def statuses(self, place: HostLocation) -> Mapping[str, SlotStatus]:
        return self._world.statuses.pop(place.name, {})


# --- all of it ------------------------------------------------------------------------------------


class World:
    """A directory with everything around it, in one process.

    Attributes:
        isolated: Sessions whose task is isolated.
        deadly: By session, of what a host dies as soon as its code runs.
        statuses: By host, what the dead ones left behind.
    """

    def __init__(self) -> None:
        self.calls = FlakyCalls()
        self.clock = Clock()
        self.ledger = FakeLedger(self.clock)
        self.calls.register(LEDGER, self.ledger)
        self.code_hash = "code-1"
        self.isolated: set[str] = set()
        self.deadly: dict[str, str] = {}
        self.hosts: dict[str, FakeHost] = {}
        self.statuses: dict[str, dict[str, SlotStatus]] = {}
        self.spawner = FakeSpawner(self)
        self.directories: list[DirectoryActor] = []

    async def directory(
        self, *, hosts: int = 1, sessions_per_host: int = 1, deliver: Any = None, **limits: float
    ) -> DirectoryActor:
        """A started directory whose pool is full."""
        directory = DirectoryActor(
            ledger=proxies.ledger(self.calls),
            port=lambda name: proxies.host(self.calls, name),
            spawner=self.spawner,
            clock=self.clock,
            hosts=hosts,
            sessions_per_host=sessions_per_host,
            catalog_hash="code-1",
            limits=Limits(**limits),
            deliver=deliver,
        )
        self.directories.append(directory)
        await directory.start()
        if self.spawner.gate.is_set() and not self.spawner.is_broken:
            await until(lambda: len(self.shared()) >= hosts)
            await settle()
        return directory

    async def stop(self) -> None:
        for host in self.hosts.values():
            host.adopt_gate.set()
            host.release_gate.set()
        for directory in self.directories:
            await directory.stop()

    def living(self) -> list[FakeHost]:
        """The hosts that live, oldest first."""
        return [self.hosts[name] for name in self.calls.names() if name in self.hosts]

    def shared(self) -> list[FakeHost]:
        """Those that are there for all sessions."""
        return [host for host in self.living() if not host.is_exclusive]

    def own(self) -> list[FakeHost]:
        """Those that are there for one session each."""
        return [host for host in self.living() if host.is_exclusive]

    def holds(self, session_id: str) -> FakeHost | None:
        """The living host that holds the session, if one does."""
        (host,) = [h for h in self.living() if session_id in h.sessions] or [None]
        return host

    def holder(self, session_id: str) -> FakeHost:
        """The living host that holds the session."""
        host = self.holds(session_id)
        assert host is not None, f"{session_id} is held by none"
        return host

    def executes(self, session_id: str) -> bool:
        """Its code runs, in one living host."""
        host = self.holds(session_id)
        return host is not None and host.sessions[session_id].is_executing

    async def waits(self, *session_ids: str) -> None:
        """The runs of these sessions reach a wait, one after another, and the directory hears of it."""
        for session_id in session_ids:
            await self.holder(session_id).waits(session_id)
        await settle()

    def kill(self, name: str, cause: str = "signal 9") -> None:
        """Kill a host, which leaves its statuses behind."""
        self.statuses[name] = self.hosts[name].statuses()
        self.calls.kill(name, cause)
