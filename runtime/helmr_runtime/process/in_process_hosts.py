"""Hosts in the process of their directory: made at once, never killed, and what is left of code that was cut off.

A host that retires is drained as in processes of their own. What a kill would end goes on in its thread until it
returns: it is counted, shown, and from a bound on no new run starts. Only the end of the whole process ends it, which
the next start sees in the status files (S-3).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from helmr.ids import new_id
from helmr_runtime import host_status
from helmr_runtime.catalog import Registry
from helmr_runtime.directory.hosts import HostLocation, ProcessState
from helmr_runtime.host_status import SlotMark, SlotStatus, StatusFile
from helmr_runtime.ports import HeldLease
from helmr_runtime.process.actors import make_host, status_slots
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc.calls import HOST_PREFIX, OWN_HOST_PREFIX, InProcessCalls
from helmr_runtime.session.host import HostActor
from helmr_runtime.session.pace import HostPace

Statuses = Mapping[str, Mapping[str, SlotStatus]]
"""By host, by session."""


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
    """A host's status file that tells of code which outlives its slot."""

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
        """Of all hosts: they share one loop."""
        self._unblamed: frozenset[str] = frozenset()
        """Sessions one of which has ended the earlier process; nobody knows which, so it counts for none."""
        self.suspects: set[str] = set()
        """Those of them that have not settled; whoever finds that one has takes it out."""

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
        """What a host of an earlier process held and did; one of several suspects is not blamed."""
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
    """What hosts of an earlier process held when it ended, whose files go; the folder is there afterwards, empty."""
    found = {path.stem: host_status.read(path) for path in folder.glob("*.status")}
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700, parents=True)
    return found
