"""The directory's process."""

from __future__ import annotations

from functools import partial

from runtime.actors.calls import RayCalls, this_node
from runtime.actors.delivering import delivery
from runtime.actors.directory import DirectoryActor
from runtime.actors.proxies import LedgerProxy, SessionProxy
from runtime.actors.spawn import RaySpawner
from runtime.actors.spec import RuntimeSpec
from runtime.actors.timing import Limits
from runtime.clock import SystemClock


async def build(name: str, spec: RuntimeSpec, calls: RayCalls) -> DirectoryActor:
    """A started directory."""
    ledger = LedgerProxy(calls)
    directory = DirectoryActor(
        ledger=ledger,
        sessions=lambda actor: SessionProxy(calls, actor),
        spawner=RaySpawner(calls, spec, this_node()),
        clock=SystemClock(),
        slots=spec.slots,
        desks=spec.desks,
        catalog_hash=spec.catalog_hash,
        limits=Limits(linger_s=spec.linger_s),
        deliver=partial(delivery, ledger),
    )
    await directory.start()
    return directory
