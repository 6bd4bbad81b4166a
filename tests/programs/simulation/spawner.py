"""How hosts come to be and end: `helmr_runtime.directory.hosts.Spawner` over simulated processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from helmr_runtime import host_status
from helmr_runtime.directory.hosts import HostLocation, ProcessState
from helmr_runtime.host_status import SlotStatus
from helmr_runtime.rpc.calls import OWN_HOST_PREFIX

if TYPE_CHECKING:
    from tests.programs.simulation.world import World


class SimulatedSpawner:
    """Hosts as processes of the world, for the directory that has its turn."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def spawn(self, *, is_exclusive: bool) -> str:
        return self._world.new_host(is_exclusive=is_exclusive)

    async def crash_of(self, name: str) -> str:
        return await self._world.network.crash_of(name)

    async def kill(self, place: HostLocation) -> None:
        self._world.end_host(place.name, "killed by the runtime")

    async def names(self) -> Sequence[str]:
        return self._world.host_names()

    async def look(self, place: HostLocation) -> ProcessState:
        process = self._world.network.process(place.name)
        if process is None or process.is_dead or process.locals.get("is_unreachable"):
            return ProcessState.GONE
        return ProcessState.STOPPED if process.is_stopped else ProcessState.RUNNING

    async def statuses(self, place: HostLocation) -> Mapping[str, SlotStatus]:
        if place.name.startswith(OWN_HOST_PREFIX):
            self._world.counts.reached("a host of its own died")
        process = self._world.network.process(place.name)
        found = process.locals.get("statuses") if process is not None else None
        path = self._world.status_path(place.name)
        if found is None or not path.exists():
            found = host_status.read(path)
        path.unlink(missing_ok=True)  # a host dies once
        executing = sum(1 for status in found.values() if status.executing)
        self._world.counts.reached(f"suspects:{min(executing, 2)}")
        return found
