"""The directory's process."""

from __future__ import annotations

from functools import partial

from helmr_runtime.clock import SystemClock
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.delivery import delivery
from helmr_runtime.directory.timing import Limits
from helmr_runtime.process.spawn import RaySpawner
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc import proxies
from helmr_runtime.rpc.ray import RayCalls, this_node


async def build(name: str, spec: RuntimeSpec, calls: RayCalls) -> DirectoryActor:
    """A started directory."""
    ledger = proxies.ledger(calls)
    directory = DirectoryActor(
        ledger=ledger,
        port=lambda name: proxies.host(calls, name),
        spawner=RaySpawner(calls, spec, this_node()),
        clock=SystemClock(),
        hosts=spec.hosts,
        sessions_per_host=spec.sessions_per_host,
        catalog_hash=spec.catalog_hash,
        limits=Limits(linger_s=spec.linger_s),
        deliver=partial(delivery, ledger),
    )
    await directory.start()
    return directory
