"""Stand-ins for an agent's steps, in a replay of recorded sessions, get what the steps were called with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import Agent as OpenAIAgent
from agents import ModelResponse as OpenAIResponse
from agents import Usage, function_tool
from agents.testing import assistant_message
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.graph.message import MessagesState
from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from helmr import streams, task
from helmr.experiments import Budget, replay
from helmr.integrations.langgraph import durable, durable_model, durable_tools, run_graph
from helmr.integrations.openai_agents import run
from helmr.integrations.pydantic_ai import HelmrDurability
from helmr.testing import Harness
from tests.integrations.test_openai_agents import Calls

answers = streams.input("answers")
got: list[Any] = []
"""What stand-ins were called with."""


def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    returned = [p for m in messages for p in m.parts if isinstance(p, ToolReturnPart)]
    if returned:
        return ModelResponse(parts=[TextPart(f"real: {returned[0].content}")])
    return ModelResponse(parts=[ToolCallPart("look_up", {"who": "ada"})])


desk = Agent(FunctionModel(script), name="desk", deps_type=dict, capabilities=[HelmrDurability()])


@desk.tool_plain
async def look_up(who: str) -> str:
    return f"{who} is known"


@task(id="pydantic-ai")
async def with_pydantic_ai(prompt: str) -> str:
    return (await desk.run(prompt, deps={})).output


@function_tool
async def look(who: str) -> str:
    """Look a customer up."""
    return f"{who} is known"


openai_desk = OpenAIAgent(name="desk", model=Calls(("look", {"who": "ada"})), tools=[look])


@task(id="openai-agents")
async def with_openai_agents(prompt: str) -> str:
    return str((await run(openai_desk, prompt, context={})).final_output)


@tool
async def known(who: str) -> str:
    """Look a customer up."""
    return f"{who} is known"


chat = durable_model(FakeListChatModel(responses=["real"]))
[durable_known] = durable_tools([known])


async def think(state: MessagesState) -> dict[str, Any]:
    found = await durable_known.ainvoke({"who": "ada"})
    return {"messages": [await chat.ainvoke([*state["messages"], AIMessage(found)])]}


def shout(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(str(state["messages"][-1].content).upper())]}


graph = StateGraph(MessagesState)
graph.add_node("think", think)
graph.add_node("shout", durable(shout))
graph.add_edge(START, "think")
graph.add_edge("think", "shout")


@task(id="langgraph")
async def with_langgraph(prompt: str) -> str:
    found = await run_graph(graph, {"messages": [("user", prompt)]}, answers=answers)
    return str(found["messages"][-1].content)


async def recorded(found: Any, folder: Path) -> Path:
    async with Harness(found) as harness:
        session = await harness.start(found, "Who is Ada?")
        await session.result()
        async with harness.async_client() as client:
            pieces = [piece async for piece in client.sessions.open(session.id).export()]
    path = folder / "session.jsonl"
    path.write_bytes(b"".join(pieces))
    return path


def messages_of_pydantic_ai(messages: list[ModelMessage], parameters: Any) -> Any:
    got.append(str(messages[0].parts[0].content))  # type: ignore[union-attr]
    tools = [one.name for one in parameters.function_tools]
    returned = [p for m in messages for p in m.parts if isinstance(p, ToolReturnPart)]
    if returned:
        return f"other: {returned[0].content}, {tools}"
    return ModelResponse(parts=[ToolCallPart("look_up", {"who": "eve"})])


def input_of_openai(system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
    got.append(input[0]["content"])
    return OpenAIResponse([assistant_message("other")], usage=Usage(), response_id=None)


def messages_of_langchain(messages: list[Any]) -> Any:
    got.append(messages[0].content)
    return f"other: {messages[-1].content}"


def tool_by_name(**arguments: Any) -> str:
    got.append(arguments)
    return f"{arguments['who']} is new"


CASES: dict[str, tuple[Any, dict[str, Callable[..., Any]], str, list[Any]]] = {
    "pydantic-ai": (
        with_pydantic_ai,
        {
            "desk__model.request": messages_of_pydantic_ai,
            "desk__function_toolset__<agent>.call_tool:look_up": tool_by_name,
        },
        "other: eve is new, ['look_up']",
        ["Who is Ada?", {"who": "eve"}, "Who is Ada?"],
    ),
    "openai-agents": (
        with_openai_agents,
        {"model.request": input_of_openai},
        "other",
        ["Who is Ada?"],
    ),
    "langgraph": (
        with_langgraph,
        {"model.request": messages_of_langchain, "tool.known": tool_by_name, "node.shout": shout},
        "OTHER: ADA IS NEW",
        [{"who": "ada"}, "Who is Ada?"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_stand_ins_get_messages_and_arguments(name: str, tmp_path: Path) -> None:
    found, stand_ins, result, expected = CASES[name]
    path = asyncio.run(recorded(found, tmp_path))
    got.clear()
    [row] = replay([path], task=found, steps=stand_ins).sessions().to_dicts()
    assert (row["problem"], row["result"]) == (None, f'"{result}"')
    assert row["changed"] is True
    assert got == expected


def test_a_stand_in_that_takes_nothing_gets_nothing(tmp_path: Path) -> None:
    path = asyncio.run(recorded(with_langgraph, tmp_path))
    steps = {"tool.known": lambda: "nothing"}
    [row] = replay([path], task=with_langgraph, steps=steps).sessions().to_dicts()
    assert (row["problem"], row["result"]) == (None, row["old_result"])
    # The model was not asked, and could say something else.
    assert (row["changed"], row["not_asked"]) == (None, 1)


@pytest.mark.parametrize("name", CASES)
def test_a_model_is_asked_for_real(name: str, tmp_path: Path) -> None:
    found, stand_ins, _, _ = CASES[name]
    path = asyncio.run(recorded(found, tmp_path))
    [request] = [one for one in stand_ins if one.endswith("model.request")]
    results = replay([path], task=found, steps={request: "execute"}, budget=Budget(sessions=1))
    [row] = results.session_rows()
    assert (row["problem"], row["not_asked"]) == (None, 0)
    assert row["executed"] == len([r for r in results.step_rows() if r["source"] == "executed"]) > 0
    assert (row["result"], row["changed"]) == (row["old_result"], False)
    assert all(r["changed"] is False for r in results.step_rows() if r["source"] == "executed")
