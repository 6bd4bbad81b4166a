"""Clients of MCP for tests: the official SDK's, with and without the Tasks extension."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx2
from mcp import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client
from mcp_types import (
    CallToolResult,
    Request,
    Result,
)
from pydantic import ConfigDict

TASKS = "io.modelcontextprotocol/tasks"


class TaskResult(Result):
    """A task's fields, as they are on the wire."""

    model_config = ConfigDict(extra="allow")


class TaskRequest(Request[dict[str, Any], str]):
    """A request of the extension: its header names the task."""

    name_param = "taskId"


class CreatedTask(TaskResult):
    """What a call that became a task answers."""

    result_type: Literal["task"] = "task"


class TasksExtension(ClientExtension):
    """Declares the extension; tests take the task themselves."""

    identifier = TASKS

    def claims(self) -> list[ResultClaim[CreatedTask]]:
        async def resolve(created: CreatedTask, context: ClaimContext) -> CallToolResult:
            raise AssertionError("a test asks for the task itself")

        return [ResultClaim(result_type="task", model=CreatedTask, resolve=resolve)]


@asynccontextmanager
async def connected(
    url: str,
    key: str,
    *,
    tasks: bool = False,
    elicited: ElicitationFnT | None = None,
    mode: Any = "2026-07-28",
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Client]:
    """A client of the runtime at that URL."""
    given = {"Authorization": f"Bearer {key}", **(headers or {})}
    async with httpx2.AsyncClient(headers=given, timeout=60.0) as http:
        client = Client(
            streamable_http_client(f"{url}/mcp", http_client=http),
            mode=mode,
            extensions=[TasksExtension()] if tasks else [],
            elicitation_callback=elicited,
        )
        async with client:
            yield client


async def begin(client: Client, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The task that a call became."""
    created = await client.session.call_tool(tool, dict(arguments), allow_claimed=True)
    assert isinstance(created, CreatedTask), created
    return created.model_dump(by_alias=True)


async def ask(client: Client, method: str, **params: Any) -> dict[str, Any]:
    """The answer to a method of the extension."""
    request = TaskRequest(method=method, params=params)
    found = await client.session.send_request(request, TaskResult)
    return found.model_dump(by_alias=True, exclude_none=True)
