"""A directory's world: its ledger, hosts that come and go, calls whose answers can be lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from helmr.errors import HelmrError
from helmr_runtime.core.commands import AddNote, OperationKey
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.hosts import HostLocation, PoolPlan, PoolTimings, ProcessState
from helmr_runtime.host_status import SlotStatus
from helmr_runtime.rpc.calls import (
    HOST_PREFIX,
    LEDGER,
    OWN_HOST_PREFIX,
    ActorUnavailable,
    host_of,
    ledger_of,
)
from tests.directory.clock import Clock, settle, until
from tests.directory.fake_host import FakeHost
from tests.directory.fake_ledger import FakeLedger
from tests.rpc.local_calls import LocalCalls


def note(text: str, *, operation: str | None = "op_1") -> AddNote:
    """A command that a fake session answers with `{"text": …}`."""
    return AddNote(
        principal=RUNTIME,
        note_id="note_1",
        text=text,
        operation=OperationKey(id=operation, request_hash="h") if operation else None,
    )


class FlakyCalls(LocalCalls):
    """Calls whose answers can be lost: what was asked is done, and the caller hears nothing of it.

    Attributes:
        late: By actor and method, when a call arrives whose answer is lost; without one, at once.
        slow: By actor and method, when an answer arrives; without one, at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.late: dict[tuple[str, str], asyncio.Event] = {}
        self.slow: dict[tuple[str, str], asyncio.Event] = {}
        self._lost: Counter[tuple[str, str]] = Counter()
        self._unheard: set[asyncio.Future[Any]] = set()

    def lose(self, actor: str, method: str, *, times: int = 1) -> None:
        """Lose the answers to the next calls."""
        self._lost[actor, method] = times

    def find_all_answers(self) -> None:
        """Lose none from now on."""
        self._lost.clear()

    async def call(self, actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call, and lose the answer if so told."""
        if self._lost[actor, method] <= 0:
            answer = await super().call(actor, method, *args, **kwargs)
            if (arrives := self.slow.get((actor, method))) is not None:
                await arrives.wait()
            return answer
        self._lost[actor, method] -= 1
        call = asyncio.ensure_future(self._unanswered(actor, method, *args, **kwargs))
        self._unheard.add(call)
        call.add_done_callback(self._forget)
        await asyncio.sleep(0)
        raise ActorUnavailable(actor=actor, method=method, detail="the answer is lost")

    async def _unanswered(self, actor: str, method: str, /, *args: Any, **kwargs: Any) -> Any:
        if (arrives := self.late.get((actor, method))) is not None:
            await arrives.wait()
        return await super().call(actor, method, *args, **kwargs)

    def _forget(self, call: asyncio.Future[Any]) -> None:
        self._unheard.discard(call)
        if not call.cancelled():
            call.exception()


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

    async def crash_of(self, name: str) -> str:
        return await self._world.calls.crash_of(name)

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
        self,
        *,
        hosts: int = 1,
        sessions_per_host: int = 1,
        catalog_hash: str = "code-1",
        deliver: Any = None,
        **timings: float,
    ) -> DirectoryActor:
        """A started directory whose pool is full."""
        directory = DirectoryActor(
            ledger_of(self.calls),
            lambda name: host_of(self.calls, name),
            self.spawner,
            PoolPlan(hosts=hosts, sessions_per_host=sessions_per_host, catalog_hash=catalog_hash),
            clock=self.clock,
            timings=PoolTimings(**timings),
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
        hosts = [host for host in self.living() if session_id in host.sessions]
        assert len(hosts) <= 1, f"{session_id} is held by {[host.name for host in hosts]}"
        return hosts[0] if hosts else None

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
