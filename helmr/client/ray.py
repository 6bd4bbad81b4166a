"""Transports for programs inside the runtime's Ray cluster: they call its actors, without port or key.

This module never loads Ray; it looks only at a Ray that the process has loaded and connected.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from helmr.client.endpoint import RAY, Endpoint
from helmr.client.inprocess import AppTransport, BlockingAppTransport, InProcessGateway
from helmr.errors import MissingExtra

FOUND_BY = "the Ray cluster of this process"


def find(*, key: str | None) -> Endpoint | None:
    """Return the runtime in the Ray cluster that this process is connected to; None if there is none.

    It blocks while it asks Ray.
    """
    if not _is_connected():
        return None
    import ray  # has been imported, see above

    from helmr_runtime.rpc.calls import GATEWAY
    from helmr_runtime.rpc.ray import NAMESPACE

    try:
        ray.get_actor(GATEWAY, namespace=NAMESPACE)
    except ValueError:
        return None
    return Endpoint(url=RAY, key=key, found_by=FOUND_BY)


def blocking_carrier() -> BlockingAppTransport:
    """Return the transport of a `Client`."""
    principal = _parts().this_job()  # known in the caller's thread
    return BlockingAppTransport(lambda: _gateway(principal))


def carrier() -> AppTransport:
    """Return the transport of an `AsyncClient`."""
    return AppTransport(_gateway(_parts().this_job()))


def _gateway(principal: Any) -> InProcessGateway:
    gateway: InProcessGateway = _parts().JobGateway(principal)
    return gateway


def _is_connected() -> bool:
    module = sys.modules.get("ray")
    is_initialized = getattr(module, "is_initialized", None)  # None while it is being imported
    if is_initialized is None or not is_initialized():
        return False
    # Ray Client (ray://) proxies calls through its own server, whose answers can't be awaited.
    client: Any = sys.modules.get("ray.util.client")
    return client is None or not client.ray.is_connected()


def _parts() -> ModuleType:
    try:
        from helmr_runtime.process import job
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"a Ray job needs the extra `runtime` to call the actors (no module {error.name})",
            hint="pip install 'helmr[runtime]', or pass the runtime's URL to go over HTTP.",
            extra="runtime",
        ) from error
    return job
