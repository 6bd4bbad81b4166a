"""The way to a runtime for programs inside its Ray cluster: its actors are called, no port and no key is needed.

Looks only at a Ray that this process has loaded and connected; nothing here loads it.
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
    """The runtime in the Ray cluster that this process is connected to, None if there is none.

    Asks Ray, and blocks for that.
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
    """What carries a `Client`'s requests."""
    principal = _parts().this_job()  # known in the caller's thread
    return BlockingAppTransport(lambda: _gateway(principal))


def carrier() -> AppTransport:
    """What carries an `AsyncClient`'s requests."""
    return AppTransport(_gateway(_parts().this_job()))


def _gateway(principal: Any) -> InProcessGateway:
    gateway: InProcessGateway = _parts().JobGateway(principal)
    return gateway


def _is_connected() -> bool:
    module = sys.modules.get("ray")
    is_initialized = getattr(module, "is_initialized", None)  # None while it is being imported
    if is_initialized is None or not is_initialized():
        return False
    # Ray Client (ray://) proxies calls through a server of its own, whose answers can't be awaited.
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
