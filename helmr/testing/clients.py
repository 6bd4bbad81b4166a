"""Clients of a harness, made by tests or by the code under test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import ModuleType

from helmr.client.aio import AsyncClient
from helmr.client.endpoint import BY_HARNESS, HARNESS_URL, Endpoint, add_here
from helmr.client.http import AsyncHttpTransport, HttpTransport
from helmr.client.inprocess import (
    AppTransport,
    BlockingAppTransport,
    InProcessGateway,
    RemoteAppTransport,
)
from helmr.client.sync import Client
from helmr.errors import MissingExtra, UsageError
from helmr.testing.session import TESTER, ClientCalls
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import Clock
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ports.ledger import FROM_START, WorkItem

HARNESS = Endpoint(url=HARNESS_URL, key=None, found_by=BY_HARNESS)

LOOK_S = 60.0
"""Longest time that the harness waits for changes of its ledger before it looks again."""


class HarnessClients:
    """Makes clients, and is the runtime that code under test finds (`helmr.client.discovery.Here`).

    Args:
        ledger: The ledger to read, and to start sessions in.
        clock: The harness's clock.
        registry: Gives its tasks.
        calls: Calls of the harness that clients cause.
        settle: Returns when all code waits or has ended.
        wake: Adopts sessions and delivers outcomes that the ledger has made ready.
        base_url: Start of the tokens' links.
    """

    def __init__(
        self,
        ledger: MemoryLedger,
        clock: Clock,
        registry: Callable[[], Registry],
        *,
        calls: ClientCalls,
        settle: Callable[[], Awaitable[None]],
        wake: Callable[[Sequence[WorkItem]], Awaitable[None]],
        base_url: str,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._registry = registry
        self._calls = calls
        self._settle = settle
        self._wake = wake
        self._base_url = base_url
        self._looking: asyncio.Task[None] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        """The harness's event loop, once it is known."""
        add_here(self)

    def async_client(self, on_behalf_of: str | None) -> AsyncClient:
        """Return a client on the harness's loop, whose mutating calls settle."""
        carrier = AppTransport(self._gateway(self._settle))
        return AsyncClient._over(
            AsyncHttpTransport(HARNESS, carrier=carrier, on_behalf_of=on_behalf_of)
        )

    def client(self, on_behalf_of: str | None) -> Client:
        """Return a client for other threads."""
        carrier = self.blocking_carrier()
        return Client._over(HttpTransport(HARNESS, carrier=carrier, on_behalf_of=on_behalf_of))

    # --- for code under test --------------------------------------------------------------------

    def has_session(self, session_id: str) -> bool:
        """Return True when the session is one of this harness."""
        return bool(self._ledger.entries_of(session_id))

    def blocking_carrier(self) -> BlockingAppTransport:
        """Return the transport of a `Client` to the harness's loop."""
        _routes()
        return BlockingAppTransport(lambda: self._gateway(None), loop=self._own_loop())

    def carrier(self) -> RemoteAppTransport:
        """Return an `AsyncClient`'s transport from another loop. Its calls don't settle, since a step may make them."""
        _routes()
        return RemoteAppTransport(lambda: self._gateway(None), loop=self._own_loop())

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        if self.loop is None:
            raise UsageError(
                "the harness has no event loop yet", hint="Enter it: `async with Harness(…)`."
            )
        return self.loop

    def _gateway(self, settle: Callable[[], Awaitable[None]] | None) -> InProcessGateway:
        routes = _routes()
        self.look_after()
        gateway: InProcessGateway = routes.HarnessGateway(
            self._ledger,
            self._clock,
            self._registry(),
            self._calls,
            principal=TESTER,
            base_url=self._base_url,
            settle=settle,
        )
        return gateway

    # --- going on by itself ---------------------------------------------------------------------

    def look_after(self) -> None:
        """Start to adopt and deliver on its own, for clients that wait without a settle."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="harness")

    async def stop(self) -> None:
        """Stop doing that."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        known = FROM_START
        while True:
            changes = await self._ledger.work(known, LOOK_S)
            known = changes.position
            await self._wake(changes.added)


def _routes() -> ModuleType:
    try:
        from helmr.testing import routes
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"a client of the harness needs the extra `local` (no module {error.name})",
            hint="pip install 'helmr[local]'; the harness's own methods need nothing.",
            extra="local",
        ) from error
    return routes
