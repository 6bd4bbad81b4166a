"""Clients of a runtime: `Client` blocks, `AsyncClient` is awaited; both do the same.

Names are imported at first use, so a program that needs one module of this package does not load httpx. It never
imports ray or duckdb.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `helmr`
if TYPE_CHECKING:
    from typing import Any

    from helmr.client.aio import AsyncClient
    from helmr.client.calls import Retry
    from helmr.client.discovery import find_runtime
    from helmr.client.endpoint import Endpoint
    from helmr.client.sessions import (
        AsyncInput,
        AsyncOutput,
        AsyncSessionHandle,
        AsyncStartedSession,
    )
    from helmr.client.sync import Client, Input, Output, SessionHandle, StartedSession
    from helmr.wire.query import QueryResult

__all__ = [
    "AsyncClient",
    "AsyncInput",
    "AsyncOutput",
    "AsyncSessionHandle",
    "AsyncStartedSession",
    "Client",
    "Endpoint",
    "Input",
    "Output",
    "QueryResult",
    "Retry",
    "SessionHandle",
    "StartedSession",
    "find_runtime",
]

_HOMES = {
    "AsyncClient": "aio",
    "AsyncInput": "sessions",
    "AsyncOutput": "sessions",
    "AsyncSessionHandle": "sessions",
    "AsyncStartedSession": "sessions",
    "Client": "sync",
    "Endpoint": "endpoint",
    "Input": "sync",
    "Output": "sync",
    "QueryResult": "query",
    "Retry": "calls",
    "SessionHandle": "sync",
    "StartedSession": "sync",
    "find_runtime": "discovery",
}
"""Module of each name in `__all__`."""


def __getattr__(name: str) -> Any:
    """Import a name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'helmr.client' has no attribute {name!r}")
    import importlib

    home = "helmr.wire.query" if name == "QueryResult" else f"helmr.client.{_HOMES[name]}"
    found = globals()[name] = getattr(importlib.import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
