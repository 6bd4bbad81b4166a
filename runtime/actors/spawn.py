"""Creates the Ray actors of a runtime, and is the directory's hand on its pool."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helmr.ids import new_id
from runtime.actors import breadcrumb, processes
from runtime.actors.boundary import POOL_PREFIXES
from runtime.actors.breadcrumb import Crumb
from runtime.actors.calls import RayCalls
from runtime.actors.cluster import SLOT_RESOURCE
from runtime.actors.host import Host
from runtime.actors.pool import ProcessState
from runtime.actors.spec import RuntimeSpec

POOL_CALLS_MAX = 1_000
SHARED_CALLS_MAX = 10_000
"""Calls that run in one actor at once; Ray queues what is above."""


async def create_host(calls: RayCalls, name: str, spec: RuntimeSpec) -> None:
    """Create the actor of that name; it is built at its first call.

    Pool actors never restart by themselves: the directory replaces them. The others do, for ever.

    Raises:
        ValueError: The name is taken.
    """
    is_pool = name.startswith(POOL_PREFIXES)
    options: dict[str, Any] = {"max_restarts": -1, "max_concurrency": SHARED_CALLS_MAX}
    if is_pool:
        options = {
            "max_restarts": 0,
            "max_concurrency": POOL_CALLS_MAX,
            "resources": {SLOT_RESOURCE: 1},
        }
    await calls.create(name, Host, name, spec, is_here=not is_pool, options=options)


class RaySpawner:
    """Pool actors over Ray; see `runtime.actors.pool.Spawner`."""

    def __init__(self, calls: RayCalls, spec: RuntimeSpec) -> None:
        self._calls = calls
        self._spec = spec

    async def spawn(self, role: str) -> str:
        """Create an actor with a fresh name."""
        name = f"helmr-{role}-{new_id('actor').partition('_')[2]}"
        await create_host(self._calls, name, self._spec)
        return name

    async def kill(self, name: str, pid: int | None) -> None:
        """SIGKILL the process if it is on this machine, and tell Ray."""
        await asyncio.to_thread(self._kill_process, name, pid)
        await self._calls.kill(name)

    def _kill_process(self, name: str, pid: int | None) -> None:
        path = self._spec.pid_path(name)
        if pid is None:
            try:
                pid = int(path.read_text())
            except (OSError, ValueError):
                return
        one = processes.process(pid)
        if one is not None and _is_ray_worker(one.pid):
            processes.kill(one)
        path.unlink(missing_ok=True)

    async def names(self) -> Sequence[str]:
        """The pool actors that Ray knows."""
        return [name for name in await self._calls.names() if name.startswith(POOL_PREFIXES)]

    async def look(self, pid: int) -> ProcessState:
        """What /proc says of a process."""
        found = await asyncio.to_thread(processes.look, pid)
        if found is None and self._spec.is_joined:
            return ProcessState.RUNNING  # perhaps on another machine
        if found is None or found[0] in "ZX":
            return ProcessState.GONE
        return ProcessState.STOPPED if found[0] in "Tt" else ProcessState.RUNNING

    async def crumb(self, name: str) -> Crumb | None:
        """What a dead actor held and did."""
        return await asyncio.to_thread(self._take_crumb, name)

    def _take_crumb(self, name: str) -> Crumb | None:
        path = self._spec.crumb_path(name)
        crumb = breadcrumb.read(path)
        path.unlink(missing_ok=True)
        return crumb


def _is_ray_worker(pid: int) -> bool:
    """A Ray worker has this pid, not a process that got it later."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return command.startswith(b"ray::") or b"default_worker.py" in command
