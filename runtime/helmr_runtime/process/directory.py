"""The directory's process. A module of its own, as that of each kind of actor: no process loads what another needs."""

from __future__ import annotations

from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.process.actors import make_directory
from helmr_runtime.process.spawn import RaySpawner
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc.ray import RayCalls, this_node


async def build(name: str, spec: RuntimeSpec, calls: RayCalls) -> DirectoryActor:
    """A started directory."""
    directory = make_directory(calls, spec, RaySpawner(calls, spec, this_node()))
    await directory.start()
    return directory
