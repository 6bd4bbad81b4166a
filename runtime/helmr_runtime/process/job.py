"""The gateway's routes inside a Ray job's process, over its own actor calls: nothing listens, no key is needed.

A job reaches ledger, directory and hosts by the same service as every other way in, one hop nearer.
Code that can call actors could call them without this; so a call without a secret may do everything, and is
recorded as the job's (`ray_job`, S-51). Master keys stay in the ledger: the job asks it for derived ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import ray

from helmr.client.inprocess import App, Message
from helmr.errors import RuntimeNotFound, UsageError
from helmr.version import version
from helmr_runtime import tracing
from helmr_runtime.clock import SystemClock
from helmr_runtime.core.entries import Principal
from helmr_runtime.features import FEATURES
from helmr_runtime.http.app import GatewayApp
from helmr_runtime.http.settings import NO_KEY_HASH, UNLIMITED, HttpSettings
from helmr_runtime.rpc.calls import (
    GATEWAY,
    ActorDied,
    ActorNotFound,
    Calls,
    directory_of,
    host_of,
    ledger_client_of,
)
from helmr_runtime.rpc.ray import RayCalls
from helmr_runtime.service import Service, ServiceOptions
from helmr_runtime.service.health import Introduction


def this_job() -> Principal:
    """Return the principal of this Ray job."""
    return Principal("ray_job", ray.get_runtime_context().get_job_id())


class JobGateway:
    """Opens the app at its first use; belongs to one event loop.

    Args:
        principal: Who acts; None is this process's Ray job.
        calls: How actors are called; None is by Ray.
    """

    def __init__(self, principal: Principal | None = None, calls: Calls | None = None) -> None:
        self._principal = principal or this_job()
        self._calls = calls or RayCalls()
        self._opening = asyncio.Lock()
        self._service: Service | None = None
        self._app: GatewayApp | None = None

    async def open(self) -> App:
        """The app, for requests whose spans are their program's own.

        Raises:
            RuntimeNotFound: The cluster's runtime has ended, or is only starting.
            UsageError: It is of another version: what crosses between actors may differ.
        """
        if self._app is not None:
            return self._carried
        async with self._opening:
            if self._app is None:
                self._app = self._make(await self._introduced())
        return self._carried

    async def _carried(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve one request, whose task is its own."""
        assert self._app is not None
        tracing.carry(scope["headers"])
        await self._app(scope, receive, send)

    async def close(self) -> None:
        """End what follows."""
        if self._service is not None:
            await self._service.stop()

    async def _introduced(self) -> Introduction:
        try:
            found: Introduction | None = await self._calls.call(GATEWAY, "introduce")
        except (ActorNotFound, ActorDied) as error:
            raise RuntimeNotFound(
                "no runtime is in this Ray cluster", hint=None, connecting=True
            ) from error
        assert found is not None, "a gateway among actors introduces itself"
        here = version()
        if found.version != here:
            raise UsageError(
                f"this job has Helmr {here}, the runtime in its Ray cluster {found.version}",
                hint="Install the runtime's version, or pass the runtime's URL to go over HTTP.",
                job=here,
                runtime=found.version,
            )
        return found

    def _make(self, host: Introduction) -> GatewayApp:
        ledger = ledger_client_of(self._calls)
        self._service = Service(
            ledger=ledger,
            directory=directory_of(self._calls),
            host_named=lambda name: host_of(self._calls, name),
            clock=SystemClock(),
            host=host,
            options=ServiceOptions(keys=ledger.session_keys, is_guest=True, features=FEATURES),
        )
        settings = HttpSettings(admin_key_hash=NO_KEY_HASH, version=host.version, limits=UNLIMITED)
        return GatewayApp(self._service, settings, trusts=self._principal)
