"""Common code of all launchers: a `Runtime`, and the order of its start and stop.

A launcher decides where the actors run: in its own Ray (`ray_runtime`), on one loop (`in_process`), or in an existing
cluster (`deploy_cluster`). In the foreground a first signal parks waiting sessions, a second ends the runtime at once.
The service manager is notified of start and stop (sd_notify(3), a datagram to $NOTIFY_SOCKET).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Protocol, TypeVar

from helmr.errors import (
    DataError,
    HelmrError,
    LedgerSuperseded,
    NotReady,
    RuntimeHeld,
    Standby,
    StoreUnavailable,
    Unavailable,
)
from helmr.models import Catalog
from helmr_runtime.core.entries import RUNTIME
from helmr_runtime.ports.ledger import ENTRIES_DONE
from helmr_runtime.process.spec import RuntimeSpec, ensure
from helmr_runtime.rpc.calls import DIRECTORY, GATEWAY, LEDGER, Calls

logger = logging.getLogger(__name__)

T = TypeVar("T")

START_WITHIN_S = 90.0
"""From one progress of a ledger that is carried over to the next, and from there, or the beginning, to the end."""

SAYS_EVERY_S = 10.0
"""Between two lines about such a ledger."""

RETRY_S = 0.05
STANDBY_LOOK_S = 0.1
"""Between two looks whether the ledger is open by now, and not another runtime's any more."""

PARK_WITHIN_S = 6.0
CLOSE_WITHIN_S = 1.5
SHARED = (LEDGER, DIRECTORY, GATEWAY)


async def superseded(calls: Calls, spec: RuntimeSpec, within_s: float) -> LedgerSuperseded | None:
    """Ask the ledger if a runtime that has served was superseded; None if not, or without a reply in time."""
    if spec.log_url is None:
        return None
    try:
        async with asyncio.timeout(within_s):
            said: str | None = await calls.call(LEDGER, "superseded")
    except (TimeoutError, HelmrError) as error:
        logger.info("the ledger does not say whether it is superseded: %s", error)
        return None
    return LedgerSuperseded(said) if said is not None else None


class Runtime(Protocol):
    """The actors of one runtime, wherever they live."""

    @property
    def address(self) -> str:
        """Its URL."""
        ...

    async def start(self) -> None:
        """Return when it serves.

        Raises:
            Unavailable: A part can't be started, or that took too long.
            DataError: The ledger's file can't be used.
            RuntimeHeld: Another runtime has it.
            Conflict: The port is taken.
        """
        ...

    async def until_lost(self) -> None:
        """Run until what it lives in has ended.

        Raises:
            Unavailable: It has.
            LedgerSuperseded: Another runtime has opened its log.
        """
        ...

    async def take_over(self) -> None:
        """Open its log although another runtime is at work on it; nothing if none is, or if it is open."""
        ...

    async def stop(self) -> None:
        """Park what waits and close the file, if there is anything to park; idempotent."""
        ...

    async def abandon(self) -> None:
        """Let go of everything without parking; the next start takes it up."""
        ...


async def serve(
    runtime: Runtime, say: Callable[[str], None], on_ready: Callable[[Stop], None]
) -> Stop:
    """Start a runtime in the foreground, and stop it at a signal or when it is lost; in the main thread.

    Args:
        runtime: The runtime to run.
        say: One line for the person at the terminal.
        on_ready: Called when it serves.

    Returns:
        The stop request.

    Raises:
        LedgerSuperseded: Another runtime has opened its log: nothing of it runs here any more.
    """
    stop = Stop(say)
    stop.on_signals()
    on_takeover(runtime.take_over)
    try:
        if await stop.before(runtime.start()):
            on_ready(stop)
            await stop.before(runtime.until_lost())
    except LedgerSuperseded:
        stop.hurried.set()  # nothing can be parked
        raise
    finally:
        if stop.hurried.is_set() or not await stop.unless_hurried(runtime.stop()):
            await runtime.abandon()
    return stop


class Launch:
    """One start of a runtime whose shared actors exist.

    Args:
        spec: What the actors are built from.
        catalog: Written to the ledger before anything runs.
        calls: How actors are called.
        on_up: Called with the name of each shared actor that has answered, in order.
        say: One line for the person at the terminal.
        on_standby: Called once if another runtime is at work on the log.
    """

    def __init__(
        self,
        spec: RuntimeSpec,
        catalog: Catalog,
        calls: Calls,
        *,
        on_up: Callable[[str], None],
        say: Callable[[str], None],
        on_standby: Callable[[], None] = lambda: None,
    ) -> None:
        self._spec = spec
        self._catalog = catalog
        self._calls = calls
        self._on_up = on_up
        self._say = say
        self._on_standby: Callable[[], None] | None = on_standby
        self._not_ready = ""
        self._hint: str | None = None
        """Hint that comes with it, if any."""
        self._limit: asyncio.Timeout | None = None
        self._carried = -1
        """The most entries that a ledger of an earlier edition was carried over by."""
        self._says_at_s = 0.0

    async def until_ready(self) -> None:
        """Return when the ledger is open, the catalog written, the gateway up, a host live.

        Raises:
            Unavailable: That took too long; says what was lacking.
            DataError: The file can't be used.
            RuntimeHeld: Another runtime has it.
        """
        async with self.in_time():
            await self._start_in_order()

    @contextlib.asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Limit the block to `START_WITHIN_S`; each progress of a carry-over starts the limit again.

        Raises:
            Unavailable: It took too long; names what was missing.
        """
        try:
            async with asyncio.timeout(START_WITHIN_S) as self._limit:
                yield
        except TimeoutError as error:
            raise Unavailable(
                f"the runtime was not ready within {START_WITHIN_S:.0f} s: {self._not_ready}",
                hint=self._hint or f"The logs are in {self._spec.logs_dir}.",
            ) from error

    async def _start_in_order(self) -> None:
        """Gateway and directory need no one to be built, only to answer, and a host needs only the directory: they come
        up while the ledger opens, which takes longest if much is parked, one after the other, to leave it a processor.
        """
        others = asyncio.ensure_future(self._build_others())
        try:
            await self.open_ledger()
            self._on_up(LEDGER)
            self._on_up(DIRECTORY)
            await others
            self._on_up(GATEWAY)
            await self.await_pool()
        finally:
            others.cancel()
            await asyncio.gather(others, return_exceptions=True)

    async def open_ledger(self) -> None:
        """Return when it has the catalog."""
        await self._until_answered(LEDGER, self._write_catalog)
        self._say("the ledger is open")

    async def await_pool(self) -> None:
        """Return when a host is up and the ensured session exists."""
        await self._until_answered(DIRECTORY, self._check_pool)
        if (ensured := self._spec.ensured) is not None:
            await self._until_answered(LEDGER, lambda: ensure(self._calls, ensured, self._say))

    async def _write_catalog(self) -> None:
        catalog = self._catalog.model_dump(mode="json", by_alias=True)
        await self._calls.call(LEDGER, "write_catalog", catalog, RUNTIME)

    async def _build_others(self) -> None:
        for name in (GATEWAY, DIRECTORY):
            await self._until_answered(name, partial(self._calls.call, name, "build"))

    async def _check_pool(self) -> None:
        """Return when a host lives."""
        status: Mapping[str, Any] = await self._calls.call(DIRECTORY, "status")
        hosts = status["hosts"]
        if hosts["total"] - hosts["starting"] < 1:
            trouble = next(iter(status["warnings"]), None)
            raise NotReady(trouble or "no host is ready yet", is_trouble=trouble is not None)
        if not status["ready"]:
            raise NotReady("the directory is taking over")
        self._say(
            f"hosts {self._spec.hosts}, with room for {self._spec.sessions_per_host} sessions each; "
            f"{status['queue']} runs wait for room"
        )

    async def _until_answered(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of an actor that is starting; a wrong file or port is not a matter of time."""
        while True:
            try:
                return await ask()
            except (DataError, RuntimeHeld, LedgerSuperseded):
                raise
            except HelmrError as error:
                if not error.retryable:
                    raise
                if isinstance(error, Standby):
                    await self._stands_by(error)
                    continue
                if ENTRIES_DONE in error.facts:
                    self._goes_on(int(error.facts[ENTRIES_DONE]), error.message)
                    await asyncio.sleep(error.retry_after_s or RETRY_S)
                    continue
                self._is_not_ready(name, error)
            await asyncio.sleep(RETRY_S)

    async def _stands_by(self, standby: Standby) -> None:
        """Wait for as long as it takes; who watches over this process hears that it is up."""
        if self._on_standby is not None:
            self._say(standby.message)
            self._on_standby()
            self._on_standby = None
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(asyncio.get_running_loop().time() + START_WITHIN_S)
        await asyncio.sleep(STANDBY_LOOK_S)

    def _goes_on(self, done: int, progress: str) -> None:
        """Keep waiting while the ledger makes progress; report it to the person and the service manager."""
        now_s = asyncio.get_running_loop().time()
        self._not_ready, self._hint = progress, None
        if done > self._carried and self._limit is not None and not self._limit.expired():
            self._carried = done
            self._limit.reschedule(now_s + START_WITHIN_S)
            tell_manager(f"EXTEND_TIMEOUT_USEC={int(START_WITHIN_S * 1_000_000)}")
        if now_s >= self._says_at_s:
            self._says_at_s = now_s + SAYS_EVERY_S
            self._say(progress)

    def _is_not_ready(self, name: str, error: HelmrError) -> None:
        """Log each reason once; the person hears of those that look wrong."""
        if error.message == self._not_ready:
            return
        self._not_ready, self._hint = error.message, error.hint
        logger.info("%s is not ready: %s", name, error)
        if error.facts.get("is_trouble") or isinstance(error, StoreUnavailable):
            self._say(error.message)
            if error.hint is not None:
                self._say(f"hint: {error.hint} The start waits for that.")


async def park_and_close(calls: Calls, say: Callable[[str], None]) -> None:
    """Take no more requests, park what waits, close the file; each within its time."""
    _, parked = await asyncio.gather(
        _asked(calls, GATEWAY, "stop", PARK_WITHIN_S),
        _asked(calls, DIRECTORY, "shutdown", PARK_WITHIN_S),
    )
    unparked = parked["unparked"] if parked is not None else []
    if unparked:
        say(f"{len(unparked)} sessions still ran; they go on after the next start")
    await _asked(calls, LEDGER, "close", CLOSE_WITHIN_S)


async def _asked(calls: Calls, name: str, method: str, within_s: float) -> Any:
    """The answer, or None if none came in time."""
    try:
        async with asyncio.timeout(within_s):
            return await calls.call(name, method)
    except (TimeoutError, HelmrError) as error:
        logger.warning("%s.%s: %s", name, method, error)
        return None


SUPERSEDED = 8
"""Exit code of a runtime whose log another has opened; when restarted it stands by."""

TAKEOVER_SIGNAL = signal.SIGUSR1
"""Signal that `helmr takeover` sends to a standby."""


def on_takeover(take_over: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Call this at that signal from now on; in the main thread, inside its loop."""
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    def begin() -> None:
        task = loop.create_task(take_over())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(TAKEOVER_SIGNAL, begin)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """The stop requests that signals make of a runtime.

    Args:
        say: One line for the person at the terminal.

    Attributes:
        asked: Set when it is to stop.
        hurried: Set when it is to end at once.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def on_signals(self) -> None:
        """Take this process's signals from now on; in the main thread, inside its loop."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        if self.asked.is_set():
            self._say("ending at once")
            self.hurried.set()
            return
        self._say("stopping: waiting sessions are parked")
        tell_manager(STOPPING)
        self.asked.set()

    async def before(self, work: Awaitable[None]) -> bool:
        """Do the work; False if a stop was asked for before it was done."""
        return await _done_before(work, self.asked)

    async def unless_hurried(self, work: Awaitable[None]) -> bool:
        """Do the final work; False if an immediate end was requested before it was done."""
        return await _done_before(work, self.hurried)


async def _done_before(work: Awaitable[None], event: asyncio.Event) -> bool:
    doing = asyncio.ensure_future(work)
    happening = asyncio.ensure_future(event.wait())
    await asyncio.wait({doing, happening}, return_when=asyncio.FIRST_COMPLETED)
    happening.cancel()
    if not doing.done():
        doing.cancel()
        return False
    doing.result()
    return True


READY = "READY=1"
STOPPING = "STOPPING=1"


def tell_manager(state: str) -> None:
    """Say so. A manager that does not listen is not a reason to stop."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as place:
        place.settimeout(1.0)
        place.sendto(
            state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address
        )
