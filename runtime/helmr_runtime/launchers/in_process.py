"""A runtime whose actors live in this process and on this loop, without Ray, on the same files.

For trusted code: it shares the address space with the ledger and the keys. Nothing can be killed but the whole process.
A host is created at once; a retiring one is drained as if it had its own process. Code that a kill would end continues
in its thread until it returns. It is counted and shown, and beyond a bound no new run starts. Only the end of the
process ends it, which the next start sees in the status files (S-3).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from helmr.errors import HelmrError, Overloaded
from helmr.models import Catalog
from helmr.wire.ids import new_id
from helmr_runtime import host_status
from helmr_runtime.catalog import Registry
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.hosts import BackgroundTasks, HostLocation, ProcessState
from helmr_runtime.host_status import SlotMark, SlotStatus, StatusFile
from helmr_runtime.launchers.runtime import Launch, park_and_close, superseded
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ports import HeldLease
from helmr_runtime.process import gateway as gateway_builder
from helmr_runtime.process import ledger as ledger_builder
from helmr_runtime.process.actors import make_directory, make_host, status_slots
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc.calls import (
    DIRECTORY,
    GATEWAY,
    HOST_PREFIX,
    LEDGER,
    OWN_HOST_PREFIX,
    InProcessCalls,
    ledger_client_of,
    ledger_of,
)
from helmr_runtime.session.host import HostActor
from helmr_runtime.session.pace import HostPace

logger = logging.getLogger(__name__)

Statuses = Mapping[str, Mapping[str, SlotStatus]]
"""By host, by session."""


LEFTOVERS_MAX = 20
"""Parts of cut-off code that may still execute before no new run starts."""


class Leftovers:
    """Code that was cut off and still executes."""

    def __init__(self) -> None:
        self._marks: set[SlotMark] = set()

    def add(self, mark: SlotMark) -> None:
        """Count what executes there until it ends."""
        self._marks.add(mark)

    def __len__(self) -> int:
        self._marks = {mark for mark in self._marks if mark.is_executing}
        return len(self._marks)


class InProcessStatuses(StatusFile):
    """A host's status file that shows code which outlives its slot."""

    def __init__(self, path: Path, slots: int, leftovers: Leftovers) -> None:
        super().__init__(path, slots)
        self._leftovers = leftovers

    def give_back(self, mark: SlotMark) -> None:
        """The slot is empty; its code may not have ended."""
        super().give_back(mark)
        self._leftovers.add(mark)

    def give_back_all(self) -> None:
        """The host has ended."""
        for mark in list(self._taken):
            self.give_back(mark)


class InProcessSpawner:
    """`helmr_runtime.directory.pool.Spawner` over hosts in this process.

    Args:
        registry: What is in the task modules, which the process has imported.
        found: What an earlier process left, read before any host is made; see `take_statuses`.
    """

    def __init__(
        self, calls: InProcessCalls, spec: RuntimeSpec, registry: Registry, found: Statuses
    ) -> None:
        self._calls = calls
        self._spec = spec
        self._registry = registry
        self._found = dict(found)
        self._hosts: dict[str, tuple[HostActor, InProcessStatuses]] = {}
        self.leftovers = Leftovers()
        self.pace = HostPace()
        """The pace of all hosts: they share one loop."""
        self._unblamed: frozenset[str] = frozenset()
        """Sessions of which an unknown one ended the earlier process, so none is blamed."""
        self.suspects: set[str] = set()
        """Suspects that have not settled yet; the finder of a settled one removes it."""

    def judge(self, held: Collection[HeldLease]) -> None:
        """Find out whose code executed when an earlier process ended, of what the ledger believes held."""
        suspects = {
            lease.session_id
            for lease in held
            if (status := self._found.get(lease.holder, {}).get(lease.session_id)) is not None
            and (status.epoch, status.executing) == (lease.epoch, True)
        }
        self.suspects = suspects if len(suspects) > 1 else set()
        self._unblamed = frozenset(self.suspects)

    def check_room(self) -> None:
        """Return if a session may be started.

        Raises:
            Overloaded: Too much of cut-off code executes.
        """
        if len(self.leftovers) >= LEFTOVERS_MAX:
            raise Overloaded(
                "too much aborted code still executes; only a restart ends it", retry_after_s=5.0
            )

    async def spawn(self, *, is_exclusive: bool) -> str:
        """Create a host with a fresh name."""
        prefix = OWN_HOST_PREFIX if is_exclusive else HOST_PREFIX
        name = prefix + new_id("host").partition("_")[2]
        statuses = InProcessStatuses(
            self._spec.status_path(name), status_slots(self._spec), self.leftovers
        )
        host = make_host(
            name,
            self._calls,
            self._spec,
            lambda: self._registry,
            statuses=lambda: statuses,
            pace=self.pace,
        )
        self._hosts[name] = host, statuses
        self._calls.register(name, host)
        return name

    async def crash_of(self, name: str) -> str:
        """Return when the host has been ended: why."""
        return await self._calls.crash_of(name)

    async def kill(self, place: HostLocation) -> None:
        """Take a host's sessions from it without a word to the ledger; what of their code does not end is left."""
        found = self._hosts.pop(place.name, None)
        if found is None:
            return
        host, statuses = found
        self._calls.kill(place.name, "ended by the runtime")
        await host.crash()
        statuses.give_back_all()
        self._spec.status_path(place.name).unlink(missing_ok=True)

    async def names(self) -> Sequence[str]:
        """The hosts there are."""
        return list(self._hosts)

    async def look(self, place: HostLocation) -> ProcessState:
        """It runs where this runs."""
        return ProcessState.RUNNING

    async def statuses(self, place: HostLocation) -> Mapping[str, SlotStatus]:
        """Return the slots of a host of an earlier process. With several suspects, none is blamed."""
        found = self._found.pop(place.name, {})  # a host dies once
        return {
            session_id: replace(status, executing=False) if session_id in self._unblamed else status
            for session_id, status in found.items()
        }

    async def end(self) -> None:
        """End every host."""
        for name in list(self._hosts):
            await self.kill(HostLocation(name))


def take_statuses(folder: Path) -> Statuses:
    """Read the slots of an earlier process's hosts and delete their files; leaves an empty folder."""
    found = {path.stem: host_status.read(path) for path in folder.glob("*.status")}
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700, parents=True)
    return found


LOOK_EVERY_S = 0.5
END_WITHIN_S = 1.0
"""Code that a stop cuts off has this long to end by itself."""

RUNS_ON = frozenset({"queued", "running"})
"""Activities of a session whose run has reached neither a wait nor its end."""


class InProcess:
    """A runtime in this process, from start to stop; all on one loop.

    Args:
        spec: What the actors are built from.
        registry: What is in the task modules.
        catalog: The same, written to the ledger before anything runs.
        say: One line for the person at the terminal.
        on_standby: Called once if another runtime is at work on its log.
    """

    def __init__(
        self,
        spec: RuntimeSpec,
        registry: Registry,
        catalog: Catalog,
        say: Callable[[str], None],
        on_standby: Callable[[], None] = lambda: None,
    ) -> None:
        self._spec = spec
        self._say = say
        self._calls = InProcessCalls()
        self._launch = Launch(
            spec,
            catalog,
            self._calls,
            on_up=lambda name: None,
            say=say,
            on_standby=on_standby,
        )
        self._tasks = BackgroundTasks()
        self._ledger: LedgerActor | None = None
        self._directory: DirectoryActor | None = None
        self._room: tuple[int, str | None] = spec.sessions_per_host, None
        """Sessions per host, and why not as many as were asked for."""
        self._spawner = InProcessSpawner(
            self._calls, spec, registry, take_statuses(spec.status_dir)
        )

    async def start(self) -> None:
        """Return when it serves.

        Raises:
            Unavailable: That took too long.
            DataError: The file can't be used.
            Conflict: The port is taken.
        """
        spec, calls, launch = self._spec, self._calls, self._launch
        async with launch.in_time():
            self._ledger = await ledger_builder.build(LEDGER, spec, calls)
            self._ledger.check_room = self._spawner.check_room
            calls.register(LEDGER, self._ledger)
            if spec.log_url is not None:  # it answers while this stands by
                await self._build_gateway()
            await launch.open_ledger()
            self._spawner.judge(await ledger_of(calls).held())
            self._directory = make_directory(calls, spec, self._spawner)
            calls.register(DIRECTORY, self._directory)
            await self._look(self._directory)
            await self._directory.start()
            if GATEWAY not in calls.names():
                await self._build_gateway()
            await launch.await_pool()
        self._tasks.start(self._keep_looking(self._directory))

    @property
    def address(self) -> str:
        """Its URL."""
        return self._spec.base_url

    async def _build_gateway(self) -> None:
        built = await gateway_builder.build(GATEWAY, self._spec, self._calls)
        self._calls.register(GATEWAY, built)

    async def until_lost(self) -> None:
        """Run until another runtime opens the log; nothing else can be lost but this process.

        Raises:
            LedgerSuperseded: One has.
        """
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            by = await superseded(self._calls, self._spec, LOOK_EVERY_S)
            if by is not None:
                raise by

    async def take_over(self) -> None:
        """Make the ledger open its log now, if it stands by."""
        if self._ledger is not None:
            await self._ledger.take_over()

    async def stop(self) -> None:
        """Park waiting sessions and close the file; idempotent. Only stored data stays on disk."""
        await self._tasks.stop()
        if self._directory is None and GATEWAY in self._calls.names():  # it stood by
            await self._calls.call(GATEWAY, "stop")
        elif GATEWAY in self._calls.names():
            await park_and_close(self._calls, self._say)
        if self._ledger is not None:
            await (
                self._ledger.close()
            )  # however long it takes: this process may open the file again
        await self.abandon()

    async def abandon(self) -> None:
        """Let go of everything without parking; the next start takes it up."""
        await self._tasks.stop()
        if self._directory is not None:
            await self._directory.stop()
        for name in (GATEWAY, DIRECTORY, LEDGER):
            if name in self._calls.names():
                self._calls.kill(name, "stopped")
        try:
            async with asyncio.timeout(END_WITHIN_S):
                await self._spawner.end()
        except TimeoutError:
            logger.warning("code did not end; it goes on until the process ends")
        take_statuses(self._spec.status_dir)

    # --- room -------------------------------------------------------------------------------------

    async def _keep_looking(self, directory: DirectoryActor) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._settle_suspects()
            await self._look(directory)

    async def _look(self, directory: DirectoryActor) -> None:
        """Set the number of runs that may start, given the code that is stuck."""
        count, suspects = len(self._spawner.leftovers), len(self._spawner.suspects)
        room, why = self._spec.sessions_per_host, None
        if suspects:
            room = 1
            why = (
                f"the last process ended while code of several sessions executed: one run at a time "
                f"until {suspects} of them have reached a wait or their end"
            )
        if count:
            why = f"{count} parts of code that was cut off still execute; only a restart ends them"
            if count >= LEFTOVERS_MAX:
                room = 0
        if (room, why) != self._room:
            self._room = room, why
            await directory.set_room(room, why=why)

    async def _settle_suspects(self) -> None:
        reads = ledger_client_of(self._calls)
        for session_id in list(self._spawner.suspects):
            try:
                session: Any = await reads.get_session(session_id)
            except HelmrError as error:
                logger.info("%s: %s", session_id, error)
                continue
            if session["activity"] not in RUNS_ON:
                self._spawner.suspects.discard(session_id)
