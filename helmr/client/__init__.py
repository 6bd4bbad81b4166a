"""How programs reach a runtime: `Client` blocks, `AsyncClient` is awaited; both do the same.

Importing this loads httpx and pydantic, never ray or duckdb.
"""

from __future__ import annotations

from helmr.client.aio import AsyncClient
from helmr.client.aio_sessions import (
    AsyncSessionHandle,
    AsyncStartedSession,
)
from helmr.client.aio_streams import AsyncInput, AsyncOutput
from helmr.client.discovery import find_runtime
from helmr.client.endpoint import Endpoint
from helmr.client.retry import Retry
from helmr.client.sync import Client
from helmr.client.sync_sessions import SessionHandle, StartedSession
from helmr.client.sync_streams import Input, Output
from helmr.query import QueryResult

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
