"""What carries the requests of a client to its runtime, where that is not HTTP."""

from __future__ import annotations

from helmr.client import ray
from helmr.client._httpx import httpx
from helmr.client.endpoint import Endpoint


def blocking_carrier(
    endpoint: Endpoint, given: httpx.BaseTransport | None
) -> httpx.BaseTransport | None:
    """Of a `Client`: to a runtime in this process or in its Ray cluster, else what was given; None goes over HTTP."""
    if endpoint.is_ray:
        return ray.blocking_carrier()
    return endpoint.here.blocking_carrier() if endpoint.here is not None else given


def carrier(
    endpoint: Endpoint, given: httpx.AsyncBaseTransport | None
) -> httpx.AsyncBaseTransport | None:
    """Of an `AsyncClient`."""
    if endpoint.is_ray:
        return ray.carrier()
    return endpoint.here.carrier() if endpoint.here is not None else given
