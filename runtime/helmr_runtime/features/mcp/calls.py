"""Calls of a task's tool return its result, a task of the Tasks extension, a question, or a handle.

No call is held longer than `HOLD_S`. A client that declares the extension gets a task; a client that can ask its user
gets the question. All others, and calls that hit `HOLD_S`, get a handle for the tool `helmr_result`.

The methods of the Tasks extension are `tasks/get`, `tasks/update`, `tasks/cancel`. The SDK does not implement them;
they are added at its extension points. Source: SEP-2663, as of 2026-07-28.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import HEADER_MISMATCH, MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field
from starlette.requests import Request

from helmr.errors import RunNotFound
from helmr.models import RunStatus, TaskInfo
from helmr.wire.operations import ANSWER_WAIT, CANCEL_RUN, GET_RUN
from helmr.wire.roles import Need
from helmr_runtime.core.entries import iso
from helmr_runtime.features.mcp.runs import McpRuns, Modes, View

TASKS = "io.modelcontextprotocol/tasks"
"""The extension's name."""

HOLD_S = 25.0
"""Longest that a call is held: below the 60 s after which clients give up, with room for slow networks."""

QUICK_S = 0.5
"""A run that ends within this time returns its result at once, not a task."""

POLL_MS = 1_000
"""The interval at which clients should poll."""


@dataclass(frozen=True, slots=True)
class Ability:
    """The abilities of a call's client."""

    modes: Modes = field(default_factory=Modes)
    tasks: bool = False


def ability_of(capabilities: types.ClientCapabilities | None, version: str) -> Ability:
    """The abilities that a client declares. Earlier revisions can't ask during a stateless call."""
    if capabilities is None or version not in MODERN_PROTOCOL_VERSIONS:
        return Ability()
    asked = capabilities.elicitation
    modes = Modes()
    if asked is not None:
        # An empty object means the form mode, once the only one.
        modes = Modes(asked.form is not None or asked.url is None, asked.url is not None)
    return Ability(modes, TASKS in (capabilities.extensions or {}))


class TaskCalls:
    """Calls of task tools.

    Args:
        runs: The caller's runs.
        ability: The abilities of its client.
    """

    def __init__(self, runs: McpRuns, ability: Ability) -> None:
        self._runs = runs
        self._ability = ability

    async def call(
        self, task: TaskInfo, payload: Any
    ) -> types.CallToolResult | types.InputRequiredResult | dict[str, Any]:
        """Start the task.

        Raises:
            SchemaMismatch: The payload does not fit it.
        """
        view = await self._runs.start(task, payload)
        if not self._ability.tasks:
            return await self._held(view)
        view = await self._runs.settled(view, QUICK_S)
        if view.run.status.is_final:
            return result_of(view)
        return {"resultType": "task", **_fields(view, "working")}

    async def resume(
        self, run_id: str, responses: Mapping[str, Any]
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Continue a call that asked a question.

        Raises:
            RunNotFound: This caller has no such run.
        """
        view = await self._runs.view(run_id)
        goes_on = await self._runs.respond(view, responses)
        passing = view.wait.id if view.wait is not None and not goes_on else None
        return await self._held(view, passing)

    async def _held(
        self, view: View, passing: str | None = None
    ) -> types.CallToolResult | types.InputRequiredResult:
        view = await self._runs.settled(view, HOLD_S, passing=passing)
        if view.run.status.is_final:
            return result_of(view)
        if view.wait is not None and view.wait.id != passing:
            asked = await self._runs.question(view, self._ability.modes)
            if asked:
                return types.InputRequiredResult.model_validate(
                    {"inputRequests": asked, "requestState": view.run.id}
                )
        return handle_of(view)


async def task_of(runs: McpRuns, view: View, modes: Modes) -> dict[str, Any]:
    """The run as a task of the extension, with its question or its result."""
    if view.run.status is RunStatus.CANCELLED:
        return _fields(view, "cancelled")
    if view.run.status.is_final:
        result = result_of(view).model_dump(by_alias=True, mode="json", exclude_none=True)
        return {**_fields(view, "completed"), "result": result}
    asked = await runs.question(view, modes)
    if asked:
        return {**_fields(view, "input_required"), "inputRequests": asked}
    return _fields(view, "working")


def result_of(view: View) -> types.CallToolResult:
    """The result of an ended run; a failed or cancelled run is an error of the tool."""
    run = view.run
    if run.status is RunStatus.SUCCEEDED:
        result = run.result
        text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
        return told(text, structured=result if isinstance(result, dict) else None)
    if run.status is RunStatus.CANCELLED:
        return told(f"{run.id} was cancelled", is_error=True)
    error = run.error
    text = error.text if error is not None else "it failed"
    return told(text, is_error=True)


def handle_of(view: View) -> types.CallToolResult:
    """The state of a run that goes on, with the way to get its result later."""
    text = f"{_state(view)}. Ask for its result later: helmr_result with run_id {view.run.id}."
    known = {
        "run_id": view.run.id,
        "session_id": view.session.id,
        "status": view.run.status.value,
        "wait_id": view.wait.id if view.wait is not None else None,
    }
    return told(text, structured=known)


def told(
    text: str, *, structured: dict[str, Any] | None = None, is_error: bool = False
) -> types.CallToolResult:
    """A tool's result as text, and as data where it is an object."""
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)],
        structured_content=structured,
        is_error=is_error,
    )


def _fields(view: View, status: str) -> dict[str, Any]:
    """The fields that a task has in every state."""
    run = view.run
    return {
        "taskId": run.id,
        "status": status,
        "statusMessage": _state(view),
        "createdAt": iso(run.created_at),
        "lastUpdatedAt": iso(run.ended_at or view.session.updated_at),
        "ttlMs": None,
        "pollIntervalMs": POLL_MS,
    }


def _state(view: View) -> str:
    run, wait = view.run, view.wait
    if wait is not None:
        return f"{run.task} waits for a person: {wait.subject or wait.stream or 'an answer'}"
    if run.status is RunStatus.BLOCKED:
        return f"{run.task} is blocked until an operator sees to it"
    return f"{run.task} is {run.doing}"


Context = ServerRequestContext[Any, Any]

RESPONSES_MAX = 100


class TaskParams(types.RequestParams):
    """Names a task."""

    task_id: str = Field(alias="taskId", min_length=1, max_length=64)


class UpdateParams(TaskParams):
    """Responses to a task's questions, by their keys."""

    input_responses: dict[str, Any] = Field(alias="inputResponses", max_length=RESPONSES_MAX)


def add_tasks(server: Server[Any], runs: McpRuns) -> None:
    """Add the methods of the extension to the server, for this caller."""

    async def get(ctx: Context, params: TaskParams) -> dict[str, Any]:
        ability = _declared(ctx, params)
        view = await _found(runs, params, GET_RUN.need)
        return await task_of(runs, view, ability.modes)

    async def update(ctx: Context, params: UpdateParams) -> dict[str, Any]:
        _declared(ctx, params)
        view = await _found(runs, params, ANSWER_WAIT.need)
        await runs.respond(view, params.input_responses)
        return {}

    async def cancel(ctx: Context, params: TaskParams) -> dict[str, Any]:
        _declared(ctx, params)
        await runs.cancel(await _found(runs, params, CANCEL_RUN.need))
        return {}

    server.extensions[TASKS] = {}
    server.add_request_handler("tasks/get", TaskParams, get)
    server.add_request_handler("tasks/update", UpdateParams, update)
    server.add_request_handler("tasks/cancel", TaskParams, cancel)


async def _found(runs: McpRuns, params: TaskParams, need: Need) -> Any:
    try:
        return await runs.view(params.task_id, need)
    except RunNotFound as error:
        raise MCPError(types.INVALID_PARAMS, "Task not found") from error


def _declared(ctx: Context, params: TaskParams) -> Ability:
    """The abilities that a request declares, which must include the extension.

    Raises:
        MCPError: The request's header names another task than its body, or the client did not declare the extension.
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
