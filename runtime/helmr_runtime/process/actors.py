"""Directory and hosts as plain objects, made of a runtime's spec and of however their calls travel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from helmr.limits import Limit, read_limits
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import SystemClock
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.hosts import PoolPlan, PoolTimings, Spawner
from helmr_runtime.directory.work import delivery
from helmr_runtime.host_status import StatusFile
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc.calls import OWN_HOST_PREFIX, Calls, host_of, ledger_of
from helmr_runtime.security.people import read_people
from helmr_runtime.session.host import HostActor, HostSettings
from helmr_runtime.session.pace import HostPace

STATUS_SLOTS_SPARE = 64
"""Records of the status file for sessions whose code is still being ended."""


def make_directory(calls: Calls, spec: RuntimeSpec, spawner: Spawner) -> DirectoryActor:
    """A directory, to be started."""
    ledger = ledger_of(calls)
    plan = PoolPlan(
        hosts=spec.hosts,
        sessions_per_host=spec.sessions_per_host,
        catalog_hash=spec.catalog_hash,
        limits={name: one for name, one in limits_of(spec).items() if not one.unlimited},
    )
    return DirectoryActor(
        ledger,
        partial(host_of, calls),
        spawner,
        plan,
        clock=SystemClock(),
        timings=PoolTimings(linger_s=spec.linger_s),
        deliver=partial(delivery, ledger),
    )


def make_host(
    name: str,
    calls: Calls,
    spec: RuntimeSpec,
    load: Callable[[], Registry],
    *,
    statuses: Callable[[], StatusFile],
    node: str = "",
    owns_process: bool = False,
    pace: HostPace | None = None,
) -> HostActor:
    """A host; it calls `load` and `statuses` when they are first needed (see `HostActor`)."""
    return HostActor(
        name,
        ledger_of(calls),
        SystemClock(),
        load,
        HostSettings(
            is_exclusive=name.startswith(OWN_HOST_PREFIX),
            linger_s=spec.linger_s,
            replays="first" if spec.is_development else "never",
            base_url=spec.base_url,
            node=node,
            owns_process=owns_process,
            memory_bytes=spec.host_memory_bytes,
            statuses=statuses,
            people=read_people(spec.people, "helmr.toml"),
            limits={name: not one.unlimited for name, one in limits_of(spec).items()},
        ),
        pace=pace,
    )


def limits_of(spec: RuntimeSpec) -> dict[str, Limit]:
    """The limits of a runtime, by name."""
    return read_limits(spec.limits, "helmr.toml")


def status_slots(spec: RuntimeSpec) -> int:
    """Records that a host's status file has."""
    return spec.sessions_per_host + STATUS_SLOTS_SPARE
