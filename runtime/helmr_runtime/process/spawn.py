"""Creates and ends the Ray actors of a runtime, and is the directory's hand on its pool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from helmr import platform
from helmr.errors import RuntimeHeld, Unavailable
from helmr.wire.ids import new_id
from helmr_runtime import host_status
from helmr_runtime.directory.hosts import HostLocation, ProcessState
from helmr_runtime.host_status import SlotStatus
from helmr_runtime.process import processes
from helmr_runtime.process.actor_host import ActorHost
from helmr_runtime.process.spec import HOST_RESOURCE, RuntimeSpec
from helmr_runtime.rpc.calls import (
    DIRECTORY,
    HOST_PREFIX,
    OWN_HOST_PREFIX,
    ActorDied,
    ActorNotFound,
    CallError,
    NodeGone,
    is_of_runtime,
)
from helmr_runtime.rpc.ray import RayCalls

logger = logging.getLogger(__name__)

T = TypeVar("T")

CALLS_MAX = 10_000
"""Calls that run in one actor at once; Ray queues what is above."""

UNREACHABLE_PAUSE_S = 0.5
END_WITHIN_S = 2.0


async def create_host(calls: RayCalls, name: str, spec: RuntimeSpec) -> None:
    """Create the actor of that name; it is built at its first call.

    Hosts never restart by themselves: the directory replaces them. The others do, for ever.

    Raises:
        ValueError: The name is taken.
    """
    is_host = name.startswith(HOST_PREFIX)
    options: dict[str, Any] = {"max_concurrency": CALLS_MAX, "max_restarts": 0 if is_host else -1}
    if is_host:
        options |= {"resources": {HOST_RESOURCE: 1}, "scheduling_strategy": "SPREAD"}
    await calls.create(name, ActorHost, name, spec, is_here=not is_host, options=options)


async def create_shared(calls: RayCalls, spec: RuntimeSpec, name: str) -> None:
    """Create one of the actors that exist once.

    Raises:
        RuntimeHeld: The cluster has one of that name.
    """
    try:
        await create_host(calls, name, spec)
    except ValueError as error:
        raise RuntimeHeld(
            f"this Ray cluster has a runtime already: {name} is taken",
            hint="A Ray cluster holds one runtime; end that one first.",
        ) from error


async def end_actors(calls: RayCalls) -> int:
    """End the runtime's actors, and nothing else of the cluster; says how many there were.

    Raises:
        Unavailable: Ray did not answer in time.
    """
    try:
        async with asyncio.timeout(END_WITHIN_S):
            ours = list(filter(is_of_runtime, await calls.names()))
            # The directory first: it would replace the others.
            ours.sort(key=lambda name: name != DIRECTORY)
            for name in ours[:1]:
                await calls.kill(name)
            await asyncio.gather(*(calls.kill(name) for name in ours[1:]))
    except TimeoutError as error:
        raise Unavailable("Ray did not end the actors in time", hint="Ask again.") from error
    return len(ours)


class RaySpawner:
    """Hosts over Ray; see `helmr_runtime.directory.pool.Spawner`.

    What is to be done on a host's machine is done there: a pid or a status means nothing elsewhere.
    """

    def __init__(self, calls: RayCalls, spec: RuntimeSpec, node: str) -> None:
        self._calls = calls
        self._spec = spec
        self._node = node

    async def spawn(self, *, is_exclusive: bool) -> str:
        """Create a host with a fresh name."""
        prefix = OWN_HOST_PREFIX if is_exclusive else HOST_PREFIX
        name = prefix + new_id("host").partition("_")[2]
        await create_host(self._calls, name, self._spec)
        return name

    async def crash_of(self, name: str) -> str:
        """Return when the host is dead: of what. One call stays pending on it for that."""
        while True:
            try:
                await self._calls.call(name, "forever")
            except ActorDied as error:
                return error.cause
            except ActorNotFound:
                return "not found"
            except CallError as error:
                logger.info("%s: %s", name, error)
            await asyncio.sleep(UNREACHABLE_PAUSE_S)

    async def kill(self, place: HostLocation) -> None:
        """SIGKILL the process, and tell Ray."""
        with contextlib.suppress(NodeGone):
            await self._there(place, _kill_process, self._spec.pid_path(place.name), place.pid)
        await self._calls.kill(place.name)

    async def names(self) -> Sequence[str]:
        """The hosts that Ray knows."""
        return [name for name in await self._calls.names() if name.startswith(HOST_PREFIX)]

    async def look(self, place: HostLocation) -> ProcessState:
        """Return the state of a host's process."""
        assert place.pid is not None, "it has started"
        try:
            found = await self._there(place, processes.look, place.pid)
        except NodeGone:
            return ProcessState.GONE
        if found is None or found[0] in platform.ENDED:
            return ProcessState.GONE
        is_stopped = found[0] == platform.STOPPED
        return ProcessState.STOPPED if is_stopped else ProcessState.RUNNING

    async def statuses(self, place: HostLocation) -> Mapping[str, SlotStatus]:
        """Return the slots of a dead host.

        Empty if its node is gone too: then no task's code is to blame.
        """
        try:
            return await self._there(place, _take_statuses, self._spec.status_path(place.name))
        except NodeGone as error:
            logger.info("%s leaves no status: %s", place.name, error)
            return {}

    async def _there(self, place: HostLocation, function: Callable[..., T], *args: object) -> T:
        if place.node in ("", self._node):
            return await asyncio.to_thread(function, *args)
        return await self._calls.run_on(place.node, function, *args)


def _kill_process(pid_path: Path, pid: int | None) -> None:
    """SIGKILL the Ray worker with that pid, if there is one, or the one that wrote the file."""
    if pid is None:
        try:
            pid = int(pid_path.read_text())
        except (OSError, ValueError):
            return
    one = processes.process(pid)
    if one is not None and _is_ray_worker(one.pid):
        processes.kill(one)
    pid_path.unlink(missing_ok=True)


def _take_statuses(path: Path) -> Mapping[str, SlotStatus]:
    statuses = host_status.read(path)
    path.unlink(missing_ok=True)
    return statuses


def _is_ray_worker(pid: int) -> bool:
    """A Ray worker has this pid, not a process that got it later."""
    command = platform.command(pid)
    return command.startswith("ray::") or "default_worker.py" in command
