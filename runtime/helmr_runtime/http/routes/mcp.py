"""/mcp: the Model Context Protocol, stateless, for API keys."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from helmr import jsonio
from helmr.errors import BadJson, MissingExtra, OriginDenied
from helmr_runtime.http.bodies import read_raw
from helmr_runtime.http.problems import documented
from helmr_runtime.http.shape import CallerDep

router = APIRouter(tags=["mcp"])

SERVER = "helmr_runtime.http.mcp.server"
PARSE_ERROR = -32700


MESSAGE = {"application/json": {"schema": {"type": "object"}}}
"""JSON-RPC has errors of its own, which come with statuses of HTTP."""
ANSWERS = documented(400, 404, 413, 415, 429)
for _status in (400, 404):
    ANSWERS[_status]["content"] = {**ANSWERS[_status]["content"], **MESSAGE}


@router.post("/mcp", response_model=dict[str, Any], responses=ANSWERS)
async def speak_mcp(request: Request, caller: CallerDep) -> Response:
    """One message of the Model Context Protocol: a JSON-RPC request of revision 2026-07-28, or of an earlier one."""
    _check_origin(request)
    body = await read_raw(request)
    try:
        jsonio.loads(body)
    except BadJson as error:
        told = {"code": PARSE_ERROR, "message": f"Parse error: {error.message}"}
        text = json.dumps({"jsonrpc": "2.0", "id": None, "error": told})
        return Response(text, status_code=400, media_type="application/json")
    server = await asyncio.to_thread(_loaded)
    response: Response = await server.answer(request, caller, body)
    return response


def _loaded() -> Any:
    """The part that needs the SDK. It takes a second to load, so not every gateway does, and none on its loop."""
    if importlib.util.find_spec("mcp") is None:
        raise MissingExtra(
            "this runtime does not speak MCP: the extra mcp is not installed",
            hint="Install it where the runtime runs: pip install 'helmr[runtime,mcp]'",
            extra="mcp",
        )
    return importlib.import_module(SERVER)


def _check_origin(request: Request) -> None:
    """Return if no page sent the request, or one of this host: a page of another name could be anybody's.

    Raises:
        OriginDenied: It is another's.
    """
    origin = request.headers.get("origin")
    if origin is not None and _host_of(origin) != request.headers.get("host", ""):
        raise OriginDenied(f"pages of {origin[:100]!r} may not speak MCP with this runtime")


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # a bracket that is not closed
        return None
