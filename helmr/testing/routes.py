"""The gateway's routes over a harness, for its clients, with the validation, answers and errors of HTTP.

No port is opened. `Harness.async_client` and `Harness.client` load this module and the web framework of the extra
`runtime`; the harness alone needs neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from helmr.client.inprocess import App, Message
from helmr.testing.session import ClientCalls
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import Clock
from helmr_runtime.core.claims import WaitClaims
from helmr_runtime.core.commands import SessionCommand
from helmr_runtime.core.entries import RUNTIME, Principal
from helmr_runtime.features import FEATURES
from helmr_runtime.http.app import GatewayApp
from helmr_runtime.http.settings import NO_KEY_HASH, UNLIMITED, HttpSettings
from helmr_runtime.ledger.memory import MemoryLedger
from helmr_runtime.ports import Host, Routed
from helmr_runtime.service import Service
from helmr_runtime.service.health import Introduction
from helmr_runtime.service.service import ServiceOptions

VERSION = "test"
READS = ("GET", "HEAD", "OPTIONS")


class HarnessGateway:
    """Opens the app at its first use; belongs to the harness's loop.

    Args:
        ledger: The ledger to read, and to start sessions in.
        clock: The harness's clock.
        registry: Its tasks.
        calls: Calls of the harness that the routes cause.
        principal: The principal of calls without a secret.
        base_url: Start of callback URLs.
        settle: Awaited before the answer to a mutating call; None answers at once.
    """

    def __init__(
        self,
        ledger: MemoryLedger,
        clock: Clock,
        registry: Registry,
        calls: ClientCalls,
        *,
        principal: Principal,
        base_url: str,
        settle: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._settle = settle
        self._opening = asyncio.Lock()
        self._is_open = False
        directory, by_name = _Directory(calls), _HostByName(calls)
        self._service = Service(
            ledger=ledger,
            directory=directory,
            host_named=lambda name: directory.hosts.get(name) or cast(Host, by_name),
            clock=clock,
            host=Introduction(version=VERSION, started_at=clock.now(), base_url=base_url),
            ring=ledger.ring,
            options=ServiceOptions(features=FEATURES),
        )
        settings = HttpSettings(admin_key_hash=NO_KEY_HASH, version=VERSION, limits=UNLIMITED)
        self._app: App = GatewayApp(self._service, settings, trusts=principal)

    async def open(self) -> App:
        """Return the app; its first call writes the catalog."""
        async with self._opening:
            if not self._is_open:
                catalog = self._registry.catalog().model_dump(by_alias=True)
                await self._ledger.write_catalog(catalog, RUNTIME)
                self._service.start()
                self._is_open = True
        return self._serve

    async def close(self) -> None:
        """End all follows."""
        await self._service.stop()

    async def _serve(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        settle = self._settle if scope["method"] not in READS else None

        async def send_settled(message: Message) -> None:
            if settle is not None and message["type"] == "http.response.start":
                await settle()
            await send(message)

        await self._app(scope, receive, send_settled)


class _Directory:
    """`helmr_runtime.ports.Directory` of a harness: it adopts any requested session."""

    def __init__(self, calls: ClientCalls) -> None:
        self._calls = calls
        self.hosts: dict[str, Host] = {}
        """Hosts that were located; one that has ended still answers."""

    async def route(self, session_id: str, command: SessionCommand) -> Routed:
        return Routed(reply=await self._calls.command(session_id, command), host=None)

    async def locate(self, session_id: str) -> str | None:
        host = self._calls.host_of(session_id)
        if host is None:
            return None
        self.hosts[host.name] = host
        return host.name

    async def any_host(self) -> str:
        return "harness"

    async def status(self) -> Mapping[str, Any]:
        one = {"total": 1, "starting": 0}
        return {"ready": True, "hosts": one, "host_list": [], "queue": 0, "warnings": []}

    async def limits(self) -> Mapping[str, Any]:
        return {"items": []}  # a harness bounds nothing

    async def queued(self, session_ids: Sequence[str]) -> Mapping[str, Any] | None:
        return None


class _HostByName:
    """The methods of `helmr_runtime.ports.Host` that are called by name here; routed commands name no host."""

    def __init__(self, calls: ClientCalls) -> None:
        self.dry_run = calls.dry_run
        self._host_of = calls.host_of

    async def note_claims(self, session_id: str, claims: WaitClaims) -> None:
        host = self._host_of(session_id)
        if host is not None:
            await host.note_claims(session_id, claims)
