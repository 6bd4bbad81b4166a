"""Starts the actors of a runtime in order, keeps alive those that exist once, and stops them all.

One call stays pending on each of ledger, directory and gateway: it fails when the actor dies, and
asking again is what sets the restarted one up.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from helmr.errors import DataError, HelmrError, NotReady, RuntimeHeld, Unavailable
from helmr.models import Catalog
from runtime.actors.boundary import (
    DIRECTORY,
    GATEWAY,
    LEDGER,
    ActorDied,
    ActorNotFound,
    CallError,
    is_of_runtime,
)
from runtime.actors.calls import RayCalls
from runtime.actors.spawn import create_host
from runtime.actors.spec import RuntimeSpec
from runtime.actors.timing import Tasks
from runtime.core.entries import RUNTIME

logger = logging.getLogger(__name__)

T = TypeVar("T")

START_WITHIN_S = 90.0
RETRY_S = 0.05
RETRY_BUILD_S = 1.0
LOOK_EVERY_S = 2.0
PARK_WITHIN_S = 6.0
CLOSE_WITHIN_S = 1.5
END_WITHIN_S = 2.0
SHARED = (LEDGER, DIRECTORY, GATEWAY)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Keeper:
    """See the module.

    Args:
        spec: What the actors are built from.
        catalog: Written to the ledger before anything runs.
        is_cluster_alive: Ray's own processes run.
        look_after: Called now and then, in a thread, while the runtime serves.
        on_ready: Called when the runtime answers.
        say: One line for the person at the terminal.
    """

    def __init__(
        self,
        spec: RuntimeSpec,
        catalog: Catalog,
        *,
        is_cluster_alive: Callable[[], bool],
        look_after: Callable[[], None],
        on_ready: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._spec = spec
        self._catalog = catalog
        self._is_cluster_alive = is_cluster_alive
        self._look_after = look_after
        self._on_ready = on_ready
        self._say = say
        self._calls = RayCalls()
        self._tasks = Tasks()
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._is_serving = False
        self._lost: str | None = None
        self._not_ready = ""

    async def run(self) -> int:
        """Start, serve until a signal, stop; returns the exit code.

        Raises:
            Unavailable: A part can't be started, or Ray has died.
        """
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        try:
            if await self._unless_stopped(self._start()):
                self._on_ready()
                self._is_serving = True
                self._tasks.start(self._look())
                await self._stop.wait()
        finally:
            await self._shut_down()
        if self._lost is not None:
            raise Unavailable(self._lost, hint="Start it again: what was acknowledged is stored.")
        return 0

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._say("ending at once")
            self._hurry.set()
            return
        self._say("stopping: waiting sessions are parked")
        self._stop.set()

    async def _unless_stopped(self, work: Awaitable[None]) -> bool:
        """Do the work; False if a signal came before it was done."""
        doing = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not doing.done():
            doing.cancel()
            return False
        doing.result()
        return True

    # --- start ------------------------------------------------------------------------------------

    async def _start(self) -> None:
        for name in SHARED:
            await self._create(name)
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await self._until_answered(LEDGER, self._write_catalog)
                self._say("the ledger is open")
                self._tasks.start(self._keep(LEDGER))
                self._tasks.start(self._keep(DIRECTORY))
                await self._until_answered(GATEWAY, self._ask_gateway)
                self._tasks.start(self._keep(GATEWAY))
                await self._until_answered(DIRECTORY, self._check_pool)
        except TimeoutError as error:
            raise Unavailable(
                f"the runtime was not ready within {START_WITHIN_S:.0f} s: {self._not_ready}",
                hint=f"The logs are in {self._spec.logs_dir}.",
            ) from error

    async def _create(self, name: str) -> None:
        try:
            await create_host(self._calls, name, self._spec)
        except ValueError as error:
            raise RuntimeHeld(
                f"this Ray cluster has a runtime already: {name} is taken",
                hint="A Ray cluster holds one runtime; end that one first.",
            ) from error

    async def _write_catalog(self) -> None:
        catalog = self._catalog.model_dump(mode="json", by_alias=True)
        await self._calls.call(LEDGER, "write_catalog", catalog, RUNTIME)

    async def _ask_gateway(self) -> None:
        await self._calls.call(GATEWAY, "build")

    async def _check_pool(self) -> None:
        """Return when a slot and a desk live."""
        status: Mapping[str, Any] = await self._calls.call(DIRECTORY, "status")
        for role in ("slots", "desks"):
            if status[role]["total"] - status[role]["starting"] < 1:
                trouble = next(iter(status["warnings"]), None)
                reason = trouble or f"no {role[:-1]} is ready yet"
                raise NotReady(reason, is_trouble=trouble is not None)
        if not status["ready"]:
            raise NotReady("the directory takes over")
        self._say(
            f"{self._spec.slots} slots and {self._spec.desks} desks; "
            f"{status['queue']} runs wait for a slot"
        )

    async def _until_answered(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of an actor that is starting; a wrong file or port is no matter of time."""
        while True:
            try:
                return await ask()
            except (DataError, RuntimeHeld):
                raise
            except HelmrError as error:
                if not error.retryable:
                    raise
                self._is_not_ready(name, error)
            await asyncio.sleep(RETRY_S)

    def _is_not_ready(self, name: str, error: HelmrError) -> None:
        """Log each reason once; the person hears of those that look wrong."""
        if error.message == self._not_ready:
            return
        self._not_ready = error.message
        logger.info("%s is not ready: %s", name, error)
        if error.facts.get("is_trouble"):
            self._say(error.message)

    # --- keep -------------------------------------------------------------------------------------

    async def _keep(self, name: str) -> None:
        """Have an actor up again whenever it dies."""
        has_died = False
        while True:
            try:
                if has_died:
                    await self._calls.call(name, "build")
                    self._say(f"the {name.removeprefix('helmr-')} died and is back")
                    has_died = False
                await self._calls.call(name, "forever")
            except (ActorDied, ActorNotFound):
                has_died = True
                await self._recreate(name)
            except CallError:
                has_died = True
                await asyncio.sleep(RETRY_S)
            except HelmrError as error:
                logger.warning("%s can't be set up: %s", name, error)
                await asyncio.sleep(RETRY_BUILD_S)

    async def _recreate(self, name: str) -> None:
        """Ray has given the actor up, name and all."""
        try:
            await create_host(self._calls, name, self._spec)
        except ValueError as error:
            logger.info("%s can't be created yet: %s", name, error)
        await asyncio.sleep(RETRY_S)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._is_cluster_alive():
                self._lost = "Ray has died, and the runtime with it"
                self._stop.set()
                return
            try:
                await asyncio.to_thread(self._look_after)
            except OSError as error:
                logger.warning("the record of processes can't be written: %s", error)

    # --- stop -------------------------------------------------------------------------------------

    async def _shut_down(self) -> None:
        """Park what waits, close the file; at once after a second signal."""
        await self._tasks.stop()
        if self._is_serving and self._lost is None:
            await self._park_unless_hurried()
        if self._spec.is_joined and self._lost is None:
            await self._end_actors()

    async def _park_unless_hurried(self) -> None:
        parking = asyncio.ensure_future(self._park_and_close())
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait({parking, hurry}, return_when=asyncio.FIRST_COMPLETED)
        parking.cancel()
        hurry.cancel()

    async def _end_actors(self) -> None:
        """The cluster goes on without us: what we started in it must not."""
        try:
            async with asyncio.timeout(END_WITHIN_S):
                ours = filter(is_of_runtime, await self._calls.names())
                await asyncio.gather(*(self._calls.kill(name) for name in ours))
        except (TimeoutError, HelmrError) as error:
            logger.warning("the actors can't be ended: %s", error)

    async def _park_and_close(self) -> None:
        _, parked = await asyncio.gather(
            self._asked(GATEWAY, "stop", PARK_WITHIN_S),
            self._asked(DIRECTORY, "shutdown", PARK_WITHIN_S),
        )
        unparked = parked["unparked"] if parked is not None else []
        if unparked:
            self._say(f"{len(unparked)} sessions still ran; they go on after the next start")
        await self._asked(LEDGER, "close", CLOSE_WITHIN_S)

    async def _asked(self, name: str, method: str, within_s: float) -> Any:
        """The answer, or None if none came in time."""
        try:
            async with asyncio.timeout(within_s):
                return await self._calls.call(name, method)
        except (TimeoutError, HelmrError) as error:
            logger.warning("%s.%s: %s", name, method, error)
            return None
