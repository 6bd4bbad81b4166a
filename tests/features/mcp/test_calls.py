"""Tools by role, calls that end, and calls that ask: with the official SDK's client over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitResult, InputRequiredResult, TextContent

from helmr_runtime.features.mcp import calls, tools
from tests.features.mcp.clients import connected
from tests.features.mcp.conftest import McpStack
from tests.service.stack import BASE_URL

OWN = {
    "helmr_result",
    "helmr_cancel",
    "helmr_waits",
    "helmr_wait",
    "helmr_answer",
    "helmr_session",
    "helmr_send",
}
TASKS = {
    "greet",
    "total",
    "release",
    "ask_name",
    "ask_order",
    "ask_password",
    "ask_finance",
    "fail",
    "slow",
}


def hold_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are held for 1 s; what they may ask for, which is read when the tools are imported, stays as it is."""
    assert tools.OWN_TOOLS
    monkeypatch.setattr(calls, "HOLD_S", 1.0)


def text_of(result: Any) -> str:
    """What a model reads."""
    assert isinstance(result, CallToolResult), result
    [block] = result.content
    assert isinstance(block, TextContent)
    return block.text


async def names(stack: McpStack, role: str) -> set[str]:
    async with connected(stack.url, await stack.key_of(role)) as client:
        return {tool.name for tool in (await client.list_tools()).tools}


async def test_each_role_has_the_tools_that_it_may_use(stack: McpStack) -> None:
    odd = {name for name in await names(stack, "sender") if name.startswith("ns_odd_name_")}
    assert len(odd) == 1
    assert await names(stack, "admin") == TASKS | odd | OWN
    assert await names(stack, "sender") == TASKS | odd | {
        "helmr_result",
        "helmr_cancel",
        "helmr_send",
    }
    assert await names(stack, "operator") == OWN
    assert await names(stack, "viewer") == {
        "helmr_result",
        "helmr_waits",
        "helmr_wait",
        "helmr_session",
    }


async def test_a_tool_has_its_tasks_schema_and_docstring(stack: McpStack) -> None:
    async with connected(stack.url, stack.key) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert tools["release"].description == "Release something once a person has agreed."
    assert tools["greet"].input_schema["properties"]["name"]["type"] == "string"
    assert tools["greet"].input_schema["type"] == "object"
    assert tools["total"].input_schema["properties"]["payload"]["items"] == {"type": "integer"}
    assert tools["total"].input_schema["required"] == ["payload"]


async def test_a_call_that_ends_at_once_has_its_result(stack: McpStack) -> None:
    async with connected(stack.url, await stack.key_of("sender")) as client:
        assert text_of(await client.call_tool("greet", {"name": "Ada"})) == "Hello, Ada!"
        found = await client.call_tool("total", {"payload": [1, 2]})
        assert found.structured_content == {"total": 3}
        [odd] = [t.name for t in (await client.list_tools()).tools if t.name.startswith("ns_")]
        assert text_of(await client.call_tool(odd, {})) == "odd"


async def test_what_goes_wrong_is_told_to_the_model(stack: McpStack) -> None:
    async with connected(stack.url, stack.key) as client:
        failed = await client.call_tool("fail", {})
        assert failed.is_error
        assert text_of(failed) == "ValueError: no"
        unfit = await client.call_tool("greet", {"name": 1})
        assert unfit.is_error
        assert text_of(unfit).startswith("schema_mismatch: ")
        unknown = await client.call_tool("helmr_wait", {"wait_id": "wait_no"})
        assert unknown.is_error
        assert text_of(unknown).startswith("bad_id: ")
        wrong = await client.call_tool("helmr_waits", {"nonsense": 1})
        assert wrong.is_error
        assert "nonsense" in text_of(wrong)
        for name in ("hidden", "no such tool"):
            with pytest.raises(MCPError, match="Unknown tool"):
                await client.call_tool(name, {})


async def test_a_role_that_starts_nothing_has_no_tasks(stack: McpStack) -> None:
    async with connected(stack.url, await stack.key_of("operator")) as client:
        with pytest.raises(MCPError, match="Unknown tool: greet"):
            await client.call_tool("greet", {})
    async with connected(stack.url, await stack.key_of("sender")) as client:
        with pytest.raises(MCPError, match="Unknown tool: helmr_answer"):
            await client.call_tool("helmr_answer", {"wait_id": "x", "data": 1})


# --- asked during the call --------------------------------------------------------------------------


async def test_a_client_is_asked_in_a_form_and_its_answer_ends_the_call(stack: McpStack) -> None:
    asked: list[Any] = []

    async def elicited(context: Any, params: Any) -> ElicitResult:
        asked.append(params)
        return ElicitResult(action="accept", content={"decision": "approve", "amount": 2})

    async with connected(stack.url, await stack.key_of("sender"), elicited=elicited) as client:
        result = await client.call_tool("release", {"name": "1.0"})
    assert result.structured_content == {"decision": "approve", "amount": 2, "note": None}
    [params] = asked
    assert params.message == "Release?\n\nIt *works*."
    assert params.requested_schema["required"] == ["decision"]
    assert params.requested_schema["properties"]["decision"]["enum"] == ["approve", "reject"]


async def test_an_answer_that_is_no_object_is_asked_as_value(stack: McpStack) -> None:
    async def elicited(context: Any, params: Any) -> ElicitResult:
        assert list(params.requested_schema["properties"]) == ["value"]
        return ElicitResult(action="accept", content={"value": "Ada"})

    async with connected(stack.url, stack.key, elicited=elicited) as client:
        assert text_of(await client.call_tool("ask_name", {})) == "Hello, Ada!"


async def test_an_answer_that_does_not_fit_is_asked_again_with_the_reason(stack: McpStack) -> None:
    messages: list[str] = []

    async def elicited(context: Any, params: Any) -> ElicitResult:
        messages.append(params.message)
        amount = 99 if len(messages) == 1 else 3
        return ElicitResult(action="accept", content={"decision": "approve", "amount": amount})

    async with connected(stack.url, await stack.key_of("sender"), elicited=elicited) as client:
        result = await client.call_tool("release", {})
    assert result.structured_content is not None
    assert result.structured_content["amount"] == 3
    assert len(messages) == 2
    assert messages[1].startswith("The last answer does not fit: ")


async def test_a_decline_gives_what_the_wait_says(stack: McpStack) -> None:
    async def elicited(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="decline")

    async with connected(stack.url, stack.key, elicited=elicited) as client:
        result = await client.call_tool("release", {})
    assert result.structured_content is not None
    assert result.structured_content["decision"] == "reject"


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_wait_that_is_passed_by_stays_open_and_the_call_ends_with_a_handle(
    stack: McpStack, action: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_shortly(monkeypatch)

    async def elicited(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action=action)

    async with connected(stack.url, await stack.key_of("sender"), elicited=elicited) as client:
        handle = await client.call_tool("ask_name", {})
        assert handle.structured_content is not None
        run_id = handle.structured_content["run_id"]
        wait_id = handle.structured_content["wait_id"]
        assert (await stack.http.get(f"/v1/waits/{wait_id}")).json()["status"] == "pending"
        answered = await stack.http.post(f"/v1/waits/{wait_id}/answer", json={"data": "Bob"})
        assert answered.status_code == 200
        later = await client.call_tool("helmr_result", {"run_id": run_id, "wait_s": 10.0})
        assert text_of(later) == "Hello, Bob!"


async def test_who_cant_be_asked_gets_a_handle_and_the_result_later(
    stack: McpStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_shortly(monkeypatch)
    for mode in ("2026-07-28", "legacy"):
        async with connected(stack.url, await stack.key_of("sender"), mode=mode) as client:
            handle = await client.call_tool("release", {})
            assert "waits for a person: Release?" in text_of(handle)
            assert handle.structured_content is not None
            wait_id = handle.structured_content["wait_id"]
            run_id = handle.structured_content["run_id"]
            shared_stack = await client.call_tool("helmr_result", {"run_id": run_id})
            assert shared_stack.structured_content == handle.structured_content
            async with connected(stack.url, await stack.key_of("operator")) as operator:
                page = await operator.call_tool("helmr_waits", {})
                assert page.structured_content is not None
                [listed] = page.structured_content["items"]
                assert listed["id"] == wait_id
                told = await operator.call_tool(
                    "helmr_answer", {"wait_id": wait_id, "data": {"decision": "approve"}}
                )
                assert not told.is_error
                late = await operator.call_tool(
                    "helmr_answer", {"wait_id": wait_id, "data": {"decision": "approve"}}
                )
                assert text_of(late).startswith("wait_resolved: ")
            later = await client.call_tool("helmr_result", {"run_id": run_id, "wait_s": 10.0})
            assert later.structured_content is not None
            assert later.structured_content["decision"] == "approve"


async def test_a_call_is_not_held_longer_than_its_bound(
    stack: McpStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_shortly(monkeypatch)
    async with connected(stack.url, await stack.key_of("sender")) as client:
        handle = await client.call_tool("slow", {"seconds": 30})
        assert handle.structured_content is not None
        assert handle.structured_content["status"] == "running"
        run_id = handle.structured_content["run_id"]
        await client.call_tool("helmr_cancel", {"run_id": run_id})
        ended = await client.call_tool("helmr_result", {"run_id": run_id, "wait_s": 10.0})
        assert ended.is_error
        assert text_of(ended).endswith("was cancelled")


async def test_what_a_form_cant_show_is_answered_at_a_page(stack: McpStack) -> None:
    for tool in ("ask_order", "ask_password", "ask_finance"):
        async with connected(stack.url, await stack.key_of("sender"), elicited=_never) as client:
            first = await client.session.call_tool(tool, {}, allow_input_required=True)
            assert isinstance(first, InputRequiredResult)
            assert first.input_requests is not None
            [request] = first.input_requests.values()
            url = request.params.url  # type: ignore[union-attr]  # of the URL mode
            page = await stack.http.get(url.removeprefix(BASE_URL))
            assert page.status_code == 200
            wait_id = next(iter(first.input_requests)).partition(".")[0]
            [link] = (await stack.http.get(f"/v1/waits/{wait_id}/links")).json()["items"]
            assert link["person"] == "sender's over MCP"
            assert ("<form" in page.text) == (tool != "ask_finance"), "who may has to sign in"


async def _never(context: Any, params: Any) -> ElicitResult:
    raise AssertionError("the test asks")


# --- the state that a client carries ----------------------------------------------------------------


async def test_a_state_counts_for_its_key_and_call_only(stack: McpStack) -> None:
    async with connected(stack.url, await stack.key_of("sender"), elicited=_never) as client:
        first = await client.session.call_tool("ask_name", {}, allow_input_required=True)
        assert isinstance(first, InputRequiredResult)
        state = first.request_state
        assert state is not None
        assert "run_" not in state
        again = await client.session.call_tool(
            "ask_name", {}, request_state=state, allow_input_required=True
        )
        assert isinstance(again, InputRequiredResult)
        assert again.input_requests == first.input_requests
        for tool, arguments, given in (
            ("ask_name", {}, state[:-2]),
            ("ask_name", {}, "garbage"),
            ("ask_name", {"other": 1}, state),
            ("release", {}, state),
        ):
            with pytest.raises(MCPError, match="requestState"):
                await client.session.call_tool(tool, arguments, request_state=given)
    async with connected(stack.url, await stack.key_of("sender")) as other:
        with pytest.raises(MCPError, match="requestState"):
            await other.session.call_tool("ask_name", {}, request_state=state)
