"""Calls that Ray programs make on session handles (`helmr.ray`), carried out in the gateway actor's process.

Each caller gets the routes of a Ray job (`JobGateway`), so it has the job's rights and is recorded as the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helmr.client import AsyncClient
from helmr.client.endpoint import Endpoint
from helmr.client.http import AsyncHttpTransport
from helmr.client.inprocess import AppTransport
from helmr.ray import SessionRequest, carried_out
from helmr_runtime.core.entries import Principal
from helmr_runtime.process.job import JobGateway
from helmr_runtime.rpc.calls import Calls

HANDLES_URL = "http://gateway"
"""Of the routes in the gateway's own process; nothing listens there for them."""

BY_HANDLE = "a handle of a Ray program"
CALLERS_MAX = 32
"""Callers whose routes are kept, by job, key and person; making them takes some 20 ms."""


@dataclass(slots=True)
class _Caller:
    client: AsyncClient
    calls: int = 0
    """Under way."""


class HandleCalls:
    """Carries out what Ray programs ask by their handles; belongs to one event loop.

    Args:
        calls: How actors are called.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._callers: dict[tuple[str, str | None, str | None], _Caller] = {}
        """The one that has called last comes last."""

    async def ask(self, request: SessionRequest) -> Any:
        """Call the handle's method and return its result.

        Raises:
            HelmrError: The method raised it.
        """
        key = request.job, request.key, request.on_behalf_of
        caller = self._callers.pop(key, None) or _Caller(self._client(request))
        self._callers[key] = caller
        caller.calls += 1
        try:
            await self._forget_one()
            return await carried_out(caller.client, request)
        finally:
            caller.calls -= 1

    def _client(self, request: SessionRequest) -> AsyncClient:
        routes = AppTransport(JobGateway(Principal("ray_job", request.job), self._calls))
        endpoint = Endpoint(url=HANDLES_URL, key=request.key, found_by=BY_HANDLE)
        return AsyncClient._over(
            AsyncHttpTransport(endpoint, on_behalf_of=request.on_behalf_of, carrier=routes)
        )

    async def _forget_one(self) -> None:
        """The caller that has been silent longest, if there are too many."""
        if len(self._callers) > CALLERS_MAX:
            idle = (key for key, caller in self._callers.items() if not caller.calls)
            if (key := next(idle, None)) is not None:
                await self._callers.pop(key).client.close()
