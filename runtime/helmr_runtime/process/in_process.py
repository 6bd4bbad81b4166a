"""A runtime whose actors live in this process and on this loop, without Ray, on the same files.

For code that is trusted: it shares the address space with the ledger and the keys. Nothing can be killed but all of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from helmr.errors import HelmrError, Overloaded, Unavailable
from helmr.models import Catalog
from helmr_runtime.catalog import Registry
from helmr_runtime.directory.actor import DirectoryActor
from helmr_runtime.directory.timing import Tasks
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ports import StartSession
from helmr_runtime.process.actors import make_directory
from helmr_runtime.process.builders import gateway as gateway_builder
from helmr_runtime.process.builders import ledger as ledger_builder
from helmr_runtime.process.in_process_hosts import InProcessSpawner, take_statuses
from helmr_runtime.process.launch import START_WITHIN_S, Launch, park_and_close
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc.calls import (
    DIRECTORY,
    GATEWAY,
    LEDGER,
    InProcessCalls,
    ledger_client_of,
    ledger_of,
)

logger = logging.getLogger(__name__)

LEFTOVERS_MAX = 20
"""Parts of cut-off code that may still execute before no new run starts."""

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
    """

    def __init__(
        self, spec: RuntimeSpec, registry: Registry, catalog: Catalog, say: Callable[[str], None]
    ) -> None:
        self._spec = spec
        self._say = say
        self._calls = InProcessCalls()
        self._launch = Launch(spec, catalog, self._calls, on_up=lambda name: None, say=say)
        self._tasks = Tasks()
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
        try:
            async with asyncio.timeout(START_WITHIN_S):
                self._ledger = await ledger_builder.build(LEDGER, spec, calls)
                calls.register(LEDGER, _GuardedLedger(self._ledger, self._spawner))
                await launch.open_ledger()
                self._spawner.judge(await ledger_of(calls).held())
                self._directory = make_directory(calls, spec, self._spawner)
                calls.register(DIRECTORY, self._directory)
                await self._look(self._directory)
                await self._directory.start()
                calls.register(GATEWAY, await gateway_builder.build(GATEWAY, spec, calls))
                await launch.await_pool()
        except TimeoutError as error:
            raise Unavailable(f"the runtime was not ready in {START_WITHIN_S:.0f} s") from error
        self._tasks.start(self._keep_looking(self._directory))

    async def stop(self) -> None:
        """Park what waits, close the file; idempotent. Then nothing of it is on disk but what it stored."""
        await self._tasks.stop()
        if GATEWAY in self._calls.names():
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
        """Give as much room as what has happened allows."""
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


class _GuardedLedger:
    """The ledger, which starts no session while too much of cut-off code executes."""

    def __init__(self, ledger: Any, spawner: InProcessSpawner) -> None:
        self._ledger = ledger
        self._spawner = spawner

    def __getattr__(self, method: str) -> Any:
        return getattr(self._ledger, method)

    async def start_session(self, start: StartSession) -> Any:
        """As the ledger's.

        Raises:
            Overloaded: Too much of cut-off code executes.
        """
        if len(self._spawner.leftovers) >= LEFTOVERS_MAX:
            raise Overloaded(
                "too much code that was cut off still executes; only a restart ends it",
                retry_after_s=5.0,
            )
        return await self._ledger.start_session(start)
