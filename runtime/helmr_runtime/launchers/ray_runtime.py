"""Starts the actors of a runtime in order, keeps alive those that exist once, and stops them all.

One call stays pending on each of ledger, directory and gateway. It fails when the actor dies; calling again sets up
the restarted one. A stopped process keeps its connections, so the launcher looks for stopped ones too.

Ray reports a failed call after a second of wall clock, longer if the clock is set back. So the launcher also looks for
the process, and repeats a call that gets no reply.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from helmr.errors import HelmrError, Unavailable
from helmr.models import Catalog
from helmr_runtime.directory.hosts import BackgroundTasks
from helmr_runtime.launchers.runtime import RETRY_S, SHARED, Launch, park_and_close, superseded
from helmr_runtime.process import processes
from helmr_runtime.process.processes import OsProcess
from helmr_runtime.process.spawn import create_host, create_shared
from helmr_runtime.process.spec import RuntimeSpec
from helmr_runtime.rpc.calls import LEDGER, ActorDied, ActorNotFound, ActorUnavailable, CallError
from helmr_runtime.rpc.ray import RayCalls

logger = logging.getLogger(__name__)

RETRY_BUILD_S = 1.0
LOOK_EVERY_S = 2.0
DEAD_EVERY_S = 0.5
ASK_AGAIN_S = 2.0
"""An actor that is still being set up takes a second call well."""
RAY_CRASHED = "Ray has crashed, and the runtime with it"


class RayRuntime:
    """The actors of one runtime in a Ray of its own, from start to stop (`Runtime`).

    Args:
        spec: What the actors are built from.
        catalog: Written to the ledger before anything runs.
        is_cluster_alive: Ray's own processes run.
        look_after: Called now and then, in a thread, while the runtime serves.
        say: One line for the person at the terminal.
        on_standby: Called once if another runtime is at work on its log.
    """

    def __init__(
        self,
        spec: RuntimeSpec,
        catalog: Catalog,
        *,
        is_cluster_alive: Callable[[], bool],
        look_after: Callable[[], None],
        say: Callable[[str], None],
        on_standby: Callable[[], None] = lambda: None,
    ) -> None:
        self._spec = spec
        self._catalog = catalog
        self._is_cluster_alive = is_cluster_alive
        self._look_after = look_after
        self._say = say
        self._on_standby = on_standby
        self._calls = RayCalls()
        self._tasks = BackgroundTasks()
        self._can_park = False
        self._stopped: frozenset[OsProcess] = frozenset()

    @property
    def address(self) -> str:
        """Its URL."""
        return self._spec.base_url

    # --- start ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Return when the runtime serves, which may take long if it stands by first.

        Raises:
            Unavailable: A part can't be started, or Ray has died.
        """
        for name in SHARED:
            await create_shared(self._calls, self._spec, name)
        launch = Launch(
            self._spec,
            self._catalog,
            self._calls,
            on_up=self._keep_up,
            say=self._say,
            on_standby=self._on_standby,
        )
        launching = asyncio.ensure_future(launch.until_ready())
        lost = asyncio.ensure_future(self._look_forever())
        try:
            await asyncio.wait({launching, lost}, return_when=asyncio.FIRST_COMPLETED)
            (lost if lost.done() else launching).result()
        finally:
            for one in (launching, lost):
                one.cancel()
            await asyncio.gather(launching, lost, return_exceptions=True)
        self._can_park = True

    def _keep_up(self, name: str) -> None:
        self._tasks.start(self._keep(name))

    # --- keep -------------------------------------------------------------------------------------

    async def _keep(self, name: str) -> None:
        """Rebuild an actor whenever it dies."""
        has_died = False
        while True:
            try:
                if has_died:
                    async with asyncio.timeout(ASK_AGAIN_S):
                        await self._calls.call(name, "build")
                    self._say(f"the {name.removeprefix('helmr-')} died and is back")
                    has_died = False
                await self._until_dead(name)
            except (ActorDied, ActorNotFound):
                has_died = True
                await self._recreate(name)
            except TimeoutError:
                logger.info(
                    "%s was asked to be set up and has not answered: it is asked again", name
                )
            except CallError:
                has_died = True
                await asyncio.sleep(RETRY_S)
            except HelmrError as error:
                logger.warning("%s can't be set up: %s", name, error)
                await asyncio.sleep(RETRY_BUILD_S)

    async def _until_dead(self, name: str) -> None:
        """Wait for the end of an actor's process, from the first of two sources that know.

        Raises:
            CallError: It has ended.
        """
        one = self._process_of(name)
        told = asyncio.ensure_future(self._calls.call(name, "forever"))
        try:
            while one is None or processes.is_running(one):
                done, _ = await asyncio.wait([told], timeout=DEAD_EVERY_S)
                if done:
                    told.result()
                    return
        finally:
            told.cancel()
        raise ActorUnavailable(actor=name, method="forever", detail="its process has ended")

    async def _recreate(self, name: str) -> None:
        """Ray has given the actor up, name and all."""
        try:
            await create_host(self._calls, name, self._spec)
        except ValueError as error:
            logger.info("%s can't be created yet: %s", name, error)
        await asyncio.sleep(RETRY_S)

    async def until_lost(self) -> None:
        """Look after all of it until Ray has died.

        Raises:
            Unavailable: It has.
            LedgerSuperseded: Another runtime has opened the log.
        """
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._check_log()
            await self._look()

    async def _look_forever(self) -> None:
        """Watch the parts that have started while the rest starts or stands by."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        """Check every part once.

        Raises:
            Unavailable: Ray has died.
        """
        if not self._is_cluster_alive():
            self._can_park = False
            raise Unavailable(RAY_CRASHED, hint="Start it again: what was acknowledged is stored.")
        await asyncio.to_thread(self._end_stopped)
        try:
            await asyncio.to_thread(self._look_after)
        except OSError as error:
            logger.warning("the record of processes can't be written: %s", error)

    async def _check_log(self) -> None:
        """Return unless another runtime has opened the log of this one."""
        by = await superseded(self._calls, self._spec, LOOK_EVERY_S)
        if by is not None:
            self._can_park = False
            raise by

    def _end_stopped(self) -> None:
        """Kill singletons that were also stopped at the last look; they restart and resume from disk."""
        stopped = frozenset(filter(None, map(self._stopped_process, SHARED)))
        for one in stopped & self._stopped:
            logger.warning("process %d was stopped; it is replaced", one.pid)
            processes.kill(one)
        self._stopped = stopped

    def _stopped_process(self, name: str) -> OsProcess | None:
        one = self._process_of(name)
        return one if one is not None and processes.is_stopped(one.pid) else None

    def _process_of(self, name: str) -> OsProcess | None:
        try:
            return processes.process(int(self._spec.pid_path(name).read_text()))
        except (OSError, ValueError):
            return None

    async def take_over(self) -> None:
        """Make the ledger open its log now, if it stands by."""
        await self._calls.call(LEDGER, "take_over")

    # --- stop -------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Park what waits, close the file, if it has served and Ray lives."""
        await self._tasks.stop()
        if self._can_park:
            await park_and_close(self._calls, self._say)

    async def abandon(self) -> None:
        """Its owner ends its processes."""
        await self._tasks.stop()
