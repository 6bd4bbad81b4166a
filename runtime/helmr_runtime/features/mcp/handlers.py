"""/mcp: the Model Context Protocol, stateless, for API keys."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response

from helmr.errors import BadJson, MissingExtra, OriginDenied
from helmr.wire import jsonio
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.http.served_operation import Handler

SERVER = "helmr_runtime.features.mcp.server"
PARSE_ERROR = -32700


async def speak_mcp(exchange: Exchange) -> Response:
    """Serve one message of the protocol; errors are JSON-RPC's own, with statuses of HTTP."""
    _check_origin(exchange)
    body = await exchange.raw()
    try:
        jsonio.loads(body)
    except BadJson as error:
        told = {"code": PARSE_ERROR, "message": f"Parse error: {error.message}"}
        text = json.dumps({"jsonrpc": "2.0", "id": None, "error": told})
        return Response(text, status_code=400, media_type="application/json")
    server = await asyncio.to_thread(_loaded)
    response: Response = await server.answer(exchange, exchange.caller(), body)
    return response


def _loaded() -> Any:
    """Import the part that needs the SDK. It takes a second, so it loads on first use and in a thread."""
    if importlib.util.find_spec("mcp") is None:
        raise MissingExtra(
            "this runtime does not speak MCP: the extra mcp is not installed",
            hint="Install it where the runtime runs: pip install 'helmr[runtime,mcp]'",
            extra="mcp",
        )
    return importlib.import_module(SERVER)


def _check_origin(exchange: Exchange) -> None:
    """Check that no page of another host sent the request.

    Raises:
        OriginDenied: A page of another host sent it.
    """
    origin = exchange.headers.get("origin")
    if origin is not None and _host_of(origin) != exchange.headers.get("host", ""):
        raise OriginDenied(f"pages of {origin[:100]!r} may not speak MCP with this runtime")


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # a bracket that is not closed
        return None


HANDLERS: dict[str, Handler] = {"speak_mcp": speak_mcp}
