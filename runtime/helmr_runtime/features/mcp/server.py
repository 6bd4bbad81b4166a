"""Each request of MCP gets a server of the SDK of its own, made for its caller.

Invariants: S-94; a client's JSON is checked as strictly as on every other route before it is used.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import mcp_types as types
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Message, Scope

from helmr.errors import HelmrError
from helmr.wire import ids
from helmr.wire.operations import START_SESSION
from helmr_runtime.features.mcp.calls import TaskCalls, ability_of, add_tasks, told
from helmr_runtime.features.mcp.runs import McpRuns
from helmr_runtime.features.mcp.tools import OWN_TOOLS, payload_of, task_tool, tool_name
from helmr_runtime.http.exchange import Exchange
from helmr_runtime.http.problems import from_validation, unexpected
from helmr_runtime.service import Caller

logger = logging.getLogger(__name__)

NAME = "helmr"
INSTRUCTIONS = """\
Each tool without the prefix `helmr_` runs a durable task, which may wait for a person for days. A call that gives a \
run_id instead of a result goes on by itself; ask for its result with helmr_result."""

STATE_PURPOSE = "mcp-request-state"
STATE_TTL_S = 30 * 24 * 3600.0
"""A sealed state names a run whose person may take this long; each use checks the caller's access again."""

STALE_META = "helmr/stale-as-of"
"""Key in `_meta` of a result: it contains everything up to this time; another runtime may have written since."""

TOOLS_TTL_MS = 5_000
"""Clients may cache the list of tools for this long: a new catalog comes with a restart."""

Context = ServerRequestContext[Any, Any]
Called = types.CallToolResult | types.InputRequiredResult

# Each request makes a manager, which logs that.
logging.getLogger("mcp.server.streamable_http_manager").setLevel(logging.WARNING)


async def answer(exchange: Exchange, caller: Caller, body: bytes) -> Response:
    """Answer a request whose caller is known and whose body is strict JSON."""
    service = exchange.service
    catalog = await service.catalog.get()
    tasks = {task.id: task for task in catalog.tasks if task.mcp}
    runs = McpRuns(service, caller, tasks)
    version = exchange.settings.version
    manager = StreamableHTTPSessionManager(
        make_server(runs, version), json_response=True, stateless=True
    )
    sent = _Sent()
    async with manager.run():
        await manager.handle_request(_bare(exchange.scope), _given(body), sent)
    return sent.response()


def make_server(runs: McpRuns, version: str) -> Server[Any]:
    """The SDK's server with the tools and tasks of one caller."""
    tools = {tool_name(task.id): task for task in runs.tasks.values()}
    if not runs.may(START_SESSION.need):
        tools = {}
    own = {tool.name: tool for tool in OWN_TOOLS if tool.is_for(runs)}
    listed = [*map(task_tool, tools.values()), *(tool.listed() for tool in own.values())]
    schemas = {tool.name: tool.input_schema for tool in listed}

    async def list_tools(
        ctx: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=listed)

    async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> Any:
        try:
            if params.name in own:
                tool = own[params.name]
                given = tool.arguments.model_validate(params.arguments or {})
                return await tool.call(runs, given)
            if params.name not in tools:
                raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name[:100]}")
            ability = ability_of(ctx.session.client_capabilities, ctx.protocol_version)
            calls = TaskCalls(runs, ability)
            if params.request_state is not None:
                responses = (ctx.params or {}).get("inputResponses") or {}
                return await calls.resume(params.request_state, responses)
            task = tools[params.name]
            return await calls.call(task, payload_of(task, params.arguments))
        except ValidationError as error:
            return _refused(from_validation(error))
        except HelmrError as error:
            if error.code == HelmrError.code:
                raise  # a bug in the actor that was called
            return _refused(error)

    server: Server[Any] = Server(
        NAME,
        version=version,
        instructions=INSTRUCTIONS,
        cache_hints={"tools/list": CacheHint(TOOLS_TTL_MS, "private")},
        get_tool_input_schema=schemas.get,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    add_tasks(server, runs)
    server.middleware[:] = [
        _edge,
        _aged_by(runs),
        RequestStateBoundary(_sealing(runs), default_audience=NAME),
    ]
    return server


def _aged_by(runs: McpRuns) -> Any:
    """Return middleware that marks results which may lack writes of another runtime (S-102)."""

    async def aged(ctx: Context, call_next: CallNext) -> HandlerResult:
        result = await call_next(ctx)
        as_of = await runs.service.staleness.as_of()
        if as_of is None:
            return result
        if isinstance(result, types.Result):
            return result.model_copy(update={"meta": {**(result.meta or {}), STALE_META: as_of}})
        found = dict(result) if isinstance(result, dict) else {}
        return {**found, "_meta": {**found.get("_meta", {}), STALE_META: as_of}}

    return aged


def _sealing(runs: McpRuns) -> RequestStateSecurity:
    """The sealing of state that a client carries: bound to its key, under the newest master key."""
    ring = runs.service.tokens.require_ring()
    keys = [ring.purpose_key(STATE_PURPOSE, key.id) for key in reversed(ring.keys)]

    def bound_to(ctx: Context) -> str:
        return f"{runs.principal.type}:{runs.principal.id or runs.principal.name}"

    return RequestStateSecurity(keys=keys, ttl=STATE_TTL_S, bind_principal=bound_to)


async def _edge(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Turn errors into ones that the client may see; the log has the rest."""
    try:
        return await call_next(ctx)
    except (MCPError, ValidationError):
        raise
    except Exception as error:
        if isinstance(error, HelmrError) and error.code != HelmrError.code:
            raise MCPError(types.INTERNAL_ERROR, error.message, {"code": error.code}) from error
        error_id = ids.new_id("err")
        logger.exception("%s: MCP %s failed", error_id, ctx.method)
        raise MCPError(types.INTERNAL_ERROR, unexpected(error_id).message) from error


def _refused(error: HelmrError) -> types.CallToolResult:
    """An error as a tool result, which the model can act on."""
    text = f"{error.code}: {error.message}"
    return told(f"{text}\n{error.hint}" if error.hint else text, is_error=True)


# --- the SDK speaks ASGI ----------------------------------------------------------------------------


class _Sent:
    """Collects the messages of an ASGI app into one response."""

    def __init__(self) -> None:
        self._status = 500
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = list(message.get("headers", []))
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")

    def response(self) -> Response:
        """The collected response."""
        response = Response(bytes(self._body), status_code=self._status)
        own = {name for name, _ in self._headers}
        kept = [header for header in response.raw_headers if header[0] not in own]
        response.raw_headers = [*self._headers, *kept]
        return response


def _bare(scope: Scope) -> Scope:
    """The request without white space around header values, which is not part of them (RFC 9110, 5.5)."""
    return {**scope, "headers": [(name, value.strip()) for name, value in scope["headers"]]}


def _given(body: bytes) -> Any:
    """A `receive` that returns the body, which has arrived, and then a disconnect."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        with contextlib.suppress(IndexError):
            return messages.pop()
        return {"type": "http.disconnect"}

    return receive
