"""A host whose sessions do what the test says; it keeps the rules of the port."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from helmr.errors import Moved, NotReady, UsageError
from helmr_runtime.core.commands import AddNote, Resume, SessionCommand
from helmr_runtime.host_status import SlotStatus
from helmr_runtime.ports import (
    Adopted,
    Busy,
    Crash,
    HostReport,
    Lease,
    Occupancy,
    Pulse,
    SessionReleased,
    SlotReport,
    SlotState,
)
from helmr_runtime.ports.ledger import Ledger
from helmr_runtime.rpc.calls import LEDGER, OWN_HOST_PREFIX, proxy_class

if TYPE_CHECKING:
    from tests.directory.fakes import World

MEMORY_MAX = 1_000_000_000
"""Bytes that a host may have."""

STEP_S = 120.0
"""How long a step may take."""

OP = 7
"""The op that the code of every session here is at."""


@dataclass(eq=False)
class FakeSession:
    """A session in a fake host; its run executes until told that it waits."""

    session_id: str
    since: datetime
    executes: bool
    epoch: int = 0
    state: SlotState = SlotState.BUSY
    is_executing: bool = False
    is_parking: bool = False
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
        crashes: With the session, what was passed on at an adoption.
        ending: Sessions that were lost, and whose code has not ended.
        executing_max: The most sessions whose code was here at once.
    """

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.is_exclusive = name.startswith(OWN_HOST_PREFIX)
        self._world = world
        self._ledger = proxy_class(Ledger)(world.calls, LEDGER)
        self.pid = 100_000 + len(world.hosts)
        self.code_hash = world.code_hash
        self.sessions: dict[str, FakeSession] = {}
        self.ending: list[FakeSession] = []
        self.adoptions: list[str] = []
        self.decisions: list[str] = []
        self.releases: list[tuple[str, str]] = []
        self.crashes: list[tuple[str, Crash]] = []
        self.executing_max = 0
        self.retiring: str | None = None
        self.adopt_gate = asyncio.Event()
        self.adopt_gate.set()
        self.release_gate = asyncio.Event()
        self.release_gate.set()
        self.dies_in_adopt_of: str | None = None
        self.is_deaf = False
        self.memory_bytes = MEMORY_MAX // 2
        self.resumes_s: tuple[float, ...] = ()
        self.long_resume: str | None = None
        self.step_s = STEP_S
        self.node = ""
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
        one.is_executing = True
        await self._become(one, SlotState.BUSY)
        await self._commit(one, "goes on", run="running")

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
        command: SessionCommand | None,
        crash: Crash | None,
        catalog_hash: str,
        executes: bool = True,
        term: str | None = None,
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
            one.epoch = await self._ledger.call("load", session_id, self.name, term)
        except BaseException:
            self._remove(one)
            raise
        wants_own_host = executes and session_id in self._world.isolated and not self.is_exclusive
        one.executes = executes and not wants_own_host
        one.is_executing = one.executes
        self._count()
        await self.adopt_gate.wait()
        if crash is not None:
            self.crashes.append((session_id, crash))
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
        try:
            is_stored = await self._commit(one, "adopted", run="running")
        finally:
            if one in self.sessions.values():
                await self._become(one, SlotState.BUSY)
        if not is_stored:
            raise Moved(f"{session_id} left {self.name}")
        return Adopted(epoch=one.epoch, reply=await self._decide(one, command))

    async def command(self, session_id: str, command: SessionCommand) -> Mapping[str, Any]:
        return await self._decide(self._loaded(session_id), command) or {}

    async def release(self, session_id: str, reason: str) -> SessionReleased | Busy:
        one = self._loaded(session_id)
        self.releases.append((session_id, reason))
        if one.state is not SlotState.PARKABLE or one.is_parking:
            return Busy(reason="code runs")
        one.is_parking = True
        try:
            is_stored = await self._commit(one, "parked", release=True)
        finally:
            one.is_parking = False
        if not is_stored:
            raise Moved(f"{session_id} left {self.name}")
        self._remove(one)
        await self.release_gate.wait()
        return SessionReleased()

    async def watch(self, known: int) -> HostReport:
        async with self._changed:
            while self._version == known:
                await self._changed.wait()
        self._past = [(version, report) for version, report in self._past if version > known]
        live = [one.report for one in self.sessions.values() if one.told_version > known]
        return HostReport(
            version=self._version,
            slots=(*(report for _, report in self._past), *live),
            retiring=self.retiring,
        )

    async def who(self) -> Occupancy:
        return Occupancy(
            name=self.name,
            code_hash=self.code_hash,
            pid=self.pid,
            leases=tuple(
                Lease(session_id=one.session_id, epoch=one.epoch)
                for one in self.sessions.values()
                if one.epoch
            ),
            retiring=self.retiring,
            node=self.node,
            memory_max_bytes=MEMORY_MAX,
        )

    async def lease(self, session_id: str) -> Lease | None:
        while (one := self.sessions.get(session_id)) is not None and not one.epoch:
            await asyncio.sleep(0)  # it is loading
        return Lease(session_id=session_id, epoch=one.epoch) if one is not None else None

    async def ping(self) -> Pulse:
        if self.is_deaf:
            await asyncio.Event().wait()
        resumes_s, self.resumes_s = self.resumes_s, ()
        long_resume, self.long_resume = self.long_resume, None
        return Pulse(memory_bytes=self.memory_bytes, resumes_s=resumes_s, long_resume=long_resume)

    async def longest_s(self) -> float:
        return self.step_s

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

    async def _decide(
        self, one: FakeSession, command: SessionCommand | None
    ) -> Mapping[str, Any] | None:
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
