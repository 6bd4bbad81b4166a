"""The Tasks extension: a run as a task, from its start to its first end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitResult

from tests.features.mcp.clients import ask, begin, connected
from tests.features.mcp.conftest import McpStack
from tests.service.stack import BASE_URL, BOUND_S


async def elicited(context: Any, params: Any) -> ElicitResult:
    """Declares that the client can be asked; tests answer themselves."""
    raise AssertionError("a task is answered by tasks/update")


async def task_with(client: Client, task_id: str, *statuses: str) -> dict[str, Any]:
    """The task once it has one of the statuses."""
    async with asyncio.timeout(BOUND_S):
        while True:
            task = await ask(client, "tasks/get", taskId=task_id)
            if task["status"] in statuses:
                return task
            await asyncio.sleep(0.02)


async def update(client: Client, task_id: str, key: str, action: str, **content: Any) -> None:
    """Respond to what a task asks."""
    response = {"action": action, **({"content": content} if content else {})}
    done = await ask(client, "tasks/update", taskId=task_id, inputResponses={key: response})
    assert done["resultType"] == "complete"
    assert "status" not in done


async def test_a_run_that_ends_at_once_is_no_task(stack: McpStack) -> None:
    async with connected(stack.url, stack.key, tasks=True) as client:
        result = await client.call_tool("greet", {})
    assert isinstance(result, CallToolResult)


async def test_the_client_answers_what_its_task_asks(stack: McpStack) -> None:
    key = await stack.key_of("sender")
    async with connected(stack.url, key, tasks=True, elicited=elicited) as client:
        task = await begin(client, "release", {"name": "1.0"})
        assert task["taskId"].startswith("run_")
        assert task["ttlMs"] is None
        asks = await task_with(client, task["taskId"], "input_required")
        [(name, request)] = asks["inputRequests"].items()
        assert name.endswith(".0")
        assert request["method"] == "elicitation/create"
        assert request["params"]["mode"] == "form"
        await update(client, task["taskId"], name, "accept", decision="approve")
        done = await task_with(client, task["taskId"], "completed")
        assert done["result"]["structuredContent"]["decision"] == "approve"
        assert not done["result"].get("isError")
        # Late and repeated responses change nothing.
        await update(client, task["taskId"], name, "accept", decision="reject")
        assert await ask(client, "tasks/get", taskId=task["taskId"]) == done


async def test_an_operator_may_be_first(stack: McpStack) -> None:
    async with connected(stack.url, stack.key, tasks=True, elicited=elicited) as client:
        task = await begin(client, "ask_name", {})
        asks = await task_with(client, task["taskId"], "input_required")
        [name] = asks["inputRequests"]
        wait_id = name.partition(".")[0]
        answered = await stack.http.post(f"/v1/waits/{wait_id}/answer", json={"data": "Bob"})
        assert answered.status_code == 200
        await update(client, task["taskId"], name, "accept", value="Ada")
        done = await task_with(client, task["taskId"], "completed")
        assert done["result"]["content"][0]["text"] == "Hello, Bob!"


async def test_a_wait_is_asked_under_another_key_after_a_response_that_left_it_open(
    stack: McpStack,
) -> None:
    key = await stack.key_of("sender")
    async with connected(stack.url, key, tasks=True, elicited=elicited) as client:
        task = await begin(client, "ask_name", {})
        task_id = task["taskId"]
        asks = await task_with(client, task_id, "input_required")
        [first] = asks["inputRequests"]
        await update(client, task_id, first, "decline")
        asks = await task_with(client, task_id, "input_required")
        [second] = asks["inputRequests"]
        assert second == first.removesuffix("0") + "1"
        await update(client, task_id, first, "cancel")  # of a key that is over
        await update(client, task_id, second, "cancel")
        await update(client, task_id, second[:-1] + "2", "accept", value=5)
        await update(client, task_id, second[:-1] + "3", "nonsense")
        asks = await task_with(client, task_id, "input_required")
        [last] = asks["inputRequests"]
        assert last.endswith(".4")
        session_id = (await stack.http.get(f"/v1/runs/{task_id}")).json()["session_id"]
        page = (await stack.http.get(f"/v1/sessions/{session_id}/transcript")).json()
        notes = [e["body"]["text"] for e in page["items"] if e["kind"] == "note.added"]
        wait_id = first.partition(".")[0]
        assert [note.removeprefix(f"MCP: {wait_id} ")[:15] for note in notes] == [
            "was declined; i",
            "was snoozed; it",
            "had an answer t",
            "had a response ",
        ]
        await update(client, task_id, last, "accept", value="Ada")
        done = await task_with(client, task_id, "completed")
        assert done["result"]["content"][0]["text"] == "Hello, Ada!"


async def test_who_cant_be_asked_sees_a_task_that_works(stack: McpStack) -> None:
    async with connected(stack.url, stack.key, tasks=True) as client:
        task = await begin(client, "ask_name", {})
        found = await ask(client, "tasks/get", taskId=task["taskId"])
        assert found["status"] == "working"
        assert found["statusMessage"] == "ask_name waits for a person: Who are you?"


async def test_a_page_stays_the_same_and_answers_the_task(stack: McpStack) -> None:
    async with connected(stack.url, stack.key, tasks=True, elicited=elicited) as client:
        task = await begin(client, "ask_password", {})
        asks = await task_with(client, task["taskId"], "input_required")
        [(key, request)] = asks["inputRequests"].items()
        assert request["params"]["mode"] == "url"
        await update(client, task["taskId"], key, "accept")  # the user opens the page
        again = await task_with(client, task["taskId"], "input_required")
        assert again["inputRequests"] == asks["inputRequests"]
        path = request["params"]["url"].removeprefix(BASE_URL)
        sent = await stack.http.post(path, json={"data": "s3cret"})
        assert sent.status_code == 200, sent.text
        done = await task_with(client, task["taskId"], "completed")
        assert done["result"]["content"][0]["text"] == "true"


async def test_a_cancelled_task_stays_cancelled(stack: McpStack) -> None:
    key = await stack.key_of("sender")
    async with connected(stack.url, key, tasks=True) as client:
        task = await begin(client, "slow", {"seconds": 60})
        for _ in range(2):
            done = await ask(client, "tasks/cancel", taskId=task["taskId"])
            assert done["resultType"] == "complete"
        await task_with(client, task["taskId"], "cancelled")


async def test_a_task_is_over_at_its_first_end(stack: McpStack) -> None:
    async with connected(stack.url, stack.key, tasks=True, elicited=elicited) as client:
        task = await begin(client, "ask_name", {})
        asks = await task_with(client, task["taskId"], "input_required")
        [name] = asks["inputRequests"]
        await update(client, task["taskId"], name, "accept", value="Ada")
        done = await task_with(client, task["taskId"], "completed")
        run = f"/v1/runs/{task['taskId']}"
        look = {"to_op": 1, "keep_answers": False}
        preview = (await stack.http.post(f"{run}/rewind/preview", json=look)).json()
        request = {**look, "reason": "wrong", "preview_hash": preview["hash"]}
        rewound = await stack.http.post(f"{run}/rewind", json=request)
        assert rewound.status_code == 200, rewound.text
        await stack.run_until(task["taskId"], "waiting")
        found = await ask(client, "tasks/get", taskId=task["taskId"])
        assert found["status"] == "completed"
        assert found["result"] == done["result"]


async def test_a_foreign_key_sees_no_task(stack: McpStack) -> None:
    owner, stranger = await stack.key_of("sender"), await stack.key_of("sender")
    async with connected(stack.url, owner, tasks=True, elicited=elicited) as client:
        task = await begin(client, "ask_name", {})
        asks = await task_with(client, task["taskId"], "input_required")
    [name] = asks["inputRequests"]
    async with connected(stack.url, stranger, tasks=True, elicited=elicited) as client:
        for method, params in (
            ("tasks/get", {}),
            ("tasks/cancel", {}),
            ("tasks/update", {"inputResponses": {name: {"action": "cancel"}}}),
        ):
            with pytest.raises(MCPError, match="Task not found"):
                await ask(client, method, taskId=task["taskId"], **params)
        refused = await client.call_tool("helmr_result", {"run_id": task["taskId"]})
        assert refused.is_error
    viewer = await stack.key_of("viewer")
    async with connected(stack.url, viewer, tasks=True, elicited=elicited) as client:
        found = await ask(client, "tasks/get", taskId=task["taskId"])
        assert found["status"] == "input_required"
        with pytest.raises(MCPError, match="Task not found"):
            await ask(
                client,
                "tasks/update",
                taskId=task["taskId"],
                inputResponses={name: {"action": "accept", "content": {"value": "Eve"}}},
            )
    async with connected(
        stack.url, await stack.key_of("operator"), tasks=True, elicited=elicited
    ) as client:
        await update(client, task["taskId"], name, "accept", value="Op")
    async with connected(stack.url, owner, tasks=True, elicited=elicited) as client:
        done = await task_with(client, task["taskId"], "completed")
        assert done["result"]["content"][0]["text"] == "Hello, Op!"


async def test_the_methods_are_for_those_who_declare_the_extension(stack: McpStack) -> None:
    async with connected(stack.url, stack.key) as client:
        for method in ("tasks/get", "tasks/cancel"):
            with pytest.raises(MCPError) as refused:
                await ask(client, method, taskId="run_1")
            assert refused.value.error.code == -32021


async def test_a_task_that_does_not_exist_is_not_found(stack: McpStack) -> None:
    hidden = await stack.started("hidden", {})
    async with connected(stack.url, stack.key, tasks=True) as client:
        for task_id in ("run_1", "wait_00000000000000000000000000", hidden["run"]["id"]):
            with pytest.raises(MCPError, match="Task not found"):
                await ask(client, "tasks/get", taskId=task_id)
