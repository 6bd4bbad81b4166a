"""A chat agent of each framework, as one writes it: a model over HTTP in a global, streamed, two tools at once."""

import os
from collections.abc import AsyncIterable
from typing import Any

from agents import Agent as OpenAIAgent
from agents import OpenAIChatCompletionsModel, function_tool
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent
from pydantic_ai import Agent
from pydantic_ai.messages import AgentStreamEvent, PartDeltaEvent, PartStartEvent, TextPart
from pydantic_ai.messages import TextPartDelta as Delta
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import RunContext

from helmr import step, streams, task
from helmr.integrations.langgraph import durable_model, run_graph
from helmr.integrations.openai_agents import run
from helmr.integrations.pydantic_ai import HelmrDurability

SERVER = os.environ.get("CHAT_SERVER", "http://127.0.0.1:9")
ROUNDS = 2
PROMPT = "Who are ada and eve?"

go_on = streams.input("go-on", schema=bool)
replies = streams.output("replies", schema=str)
client = AsyncOpenAI(api_key="none", base_url=f"{SERVER}/v1", max_retries=0, timeout=30)


@step
async def look_up(customer: str) -> str:
    return f"{customer} is a customer"


# --- Pydantic AI


async def show(ctx: RunContext[None], events: AsyncIterable[AgentStreamEvent]) -> None:
    async for event in events:
        match event:
            case PartStartEvent(part=TextPart(content=text)) if text:
                replies.emit(text)
            case PartDeltaEvent(delta=Delta(content_delta=text)):
                replies.emit(text)
            case _:
                pass


support = Agent(
    OpenAIChatModel("small", provider=OpenAIProvider(openai_client=client)),
    name="support",
    capabilities=[HelmrDurability(event_stream_handler=show)],
)


@support.tool_plain(name="find")
async def find_for_pydantic_ai(customer: str) -> str:
    return await look_up(customer)


@task(id="chat-pydantic-ai")
async def chat_pydantic_ai(payload: None) -> list[str]:
    said = []
    for _ in range(ROUNDS):
        said.append((await support.run(PROMPT)).output)
        await go_on.wait()
    return said


# --- OpenAI Agents SDK


@function_tool(name_override="find")
async def find_for_openai(customer: str) -> str:
    """Look a customer up."""
    return await look_up(customer)


desk = OpenAIAgent(
    name="desk",
    model=OpenAIChatCompletionsModel("small", openai_client=client),
    tools=[find_for_openai],
)


def show_event(event: Any) -> None:
    if isinstance(event, ResponseTextDeltaEvent):
        replies.emit(event.delta)


@task(id="chat-openai-agents")
async def chat_openai_agents(payload: None) -> list[str]:
    said = []
    for _ in range(ROUNDS):
        said.append(str((await run(desk, PROMPT, on_event=show_event)).final_output))
        await go_on.wait()
    return said


# --- LangGraph


@tool("find")
async def find_for_langgraph(customer: str) -> str:
    """Look a customer up."""
    return await look_up(customer)


def show_chunk(chunk: Any) -> None:
    if chunk.content:
        replies.emit(str(chunk.content))


ollama = ChatOllama(model="small", base_url=SERVER)
model = durable_model(ollama, on_chunk=show_chunk).bind_tools([find_for_langgraph])


async def think(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState)
graph.add_node("think", think)
graph.add_node("tools", ToolNode([find_for_langgraph]))
graph.add_edge(START, "think")
graph.add_conditional_edges("think", tools_condition)
graph.add_edge("tools", "think")


@task(id="chat-langgraph")
async def chat_langgraph(payload: None) -> list[str]:
    said = []
    for _ in range(ROUNDS):
        result = await run_graph(graph, {"messages": [("user", PROMPT)]}, answers=go_on)
        said.append(str(result["messages"][-1].content))
        await go_on.wait()
    return said


# --- under a limit


limited = Agent(
    OpenAIChatModel("small", provider=OpenAIProvider(openai_client=client)),
    name="limited",
    capabilities=[HelmrDurability(limit="openai", event_stream_handler=show)],
)
limited.tool_plain(name="find")(find_for_pydantic_ai)


@task(id="limited-pydantic-ai")
async def limited_pydantic_ai(payload: None) -> str:
    return (await limited.run(PROMPT)).output


@task(id="limited-openai-agents")
async def limited_openai_agents(payload: None) -> str:
    result = await run(desk, PROMPT, limit="openai", on_event=show_event)
    return str(result.final_output)


LIMITED = (limited_pydantic_ai, limited_openai_agents)
CHATS = (chat_pydantic_ai, chat_openai_agents, chat_langgraph)
