"""The methods of the Tasks extension: `tasks/get`, `tasks/update`, `tasks/cancel`.

The SDK has no runtime for them; they are added at its extension points. Source: SEP-2663, as of 2026-07-28.
"""

from __future__ import annotations

from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import HEADER_MISMATCH, MISSING_REQUIRED_CLIENT_CAPABILITY
from pydantic import Field
from starlette.requests import Request

from helmr.errors import RunNotFound
from helmr.roles import Need
from helmr_runtime.http.mcp.calls import TASKS, Ability, ability_of, task_of
from helmr_runtime.http.mcp.runs import Runs

Context = ServerRequestContext[Any, Any]

RESPONSES_MAX = 100


class TaskParams(types.RequestParams):
    """Names a task."""

    task_id: str = Field(alias="taskId", min_length=1, max_length=64)


class UpdateParams(TaskParams):
    """Responses to what a task asked, by the keys that it asked under."""

    input_responses: dict[str, Any] = Field(alias="inputResponses", max_length=RESPONSES_MAX)


def add_tasks(server: Server[Any], runs: Runs) -> None:
    """Have the server serve the extension for this caller."""

    async def get(ctx: Context, params: TaskParams) -> dict[str, Any]:
        ability = _declared(ctx, params)
        view = await _found(runs, params, Need.READ)
        return await task_of(runs, view, ability.modes)

    async def update(ctx: Context, params: UpdateParams) -> dict[str, Any]:
        _declared(ctx, params)
        view = await _found(runs, params, Need.ANSWER)
        await runs.respond(view, params.input_responses)
        return {}

    async def cancel(ctx: Context, params: TaskParams) -> dict[str, Any]:
        _declared(ctx, params)
        await runs.cancel(await _found(runs, params, Need.STEER))
        return {}

    server.extensions[TASKS] = {}
    server.add_request_handler("tasks/get", TaskParams, get)
    server.add_request_handler("tasks/update", UpdateParams, update)
    server.add_request_handler("tasks/cancel", TaskParams, cancel)


async def _found(runs: Runs, params: TaskParams, need: Need) -> Any:
    try:
        return await runs.view(params.task_id, need)
    except RunNotFound as error:
        raise MCPError(types.INVALID_PARAMS, "Task not found") from error


def _declared(ctx: Context, params: TaskParams) -> Ability:
    """What the client can do.

    Raises:
        MCPError: The request's header names another task than its body, or the client has not declared the extension.
    """
    if isinstance(ctx.request, Request):
        named = decode_header_value(ctx.request.headers.get(MCP_NAME_HEADER))
        if named != params.task_id:
            text = f"{MCP_NAME_HEADER} header does not match the request body's 'taskId' parameter"
            raise MCPError(HEADER_MISMATCH, text)
    ability = ability_of(ctx.session.client_capabilities, ctx.protocol_version)
    if not ability.tasks:
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            "Missing required client capability",
            {"requiredCapabilities": {"extensions": {TASKS: {}}}},
        )
    return ability
