"""A chat of each framework whose conversation a stream keeps: a tool at each turn, and leave of a person for some.

The models are scripts that say which turn it is by what they are told: a conversation that has lost something is
answered wrongly.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from agents import Agent as OpenAIAgent
from agents import Model, ModelResponse, RunConfig, Runner, SQLiteSession, Usage, function_tool
from agents.testing import assistant_message, function_call
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
    messages_from_dict,
)
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from pydantic_ai import Agent, ModelMessage, TextPart, ToolCallPart
from pydantic_ai import ModelResponse as PydanticResponse
from pydantic_ai.messages import ModelMessagesTypeAdapter, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from helmr import Approval, TaskContext, step, streams, task
from helmr.integrations.langgraph import durable_model, run_graph
from helmr.integrations.openai_agents import HelmrSession, run
from helmr.integrations.pydantic_ai import DeferredToolWaits, HelmrDurability, HelmrHistory

messages = streams.input("messages", schema=str)
approvals = streams.input("approvals", schema=Approval)
answers = streams.input("answers")
replies = streams.output("replies", schema=str)
turns = streams.output("turns")

PAY = "pay"
"""What a message begins with whose tool needs leave."""
REPLY_CHARS = 400
RETURN_CHARS = 150
executed: Counter[str] = Counter()
"""How often each thing was executed: a tool by what it was told, a model's request by the turn and what it knew."""


def returned(what: str) -> str:
    """What a tool gives, and that it was called."""
    executed[f"tool {what}"] += 1
    return f"done {what} ".ljust(RETURN_CHARS, ".")


def reply(turn: int, found: str) -> str:
    """What a model says in the end."""
    return f"{turn}: {found.strip('.')}".ljust(REPLY_CHARS, ".")


def called(said: str) -> str:
    """The tool that a message wants."""
    return "pay" if said.startswith(PAY) else "look_up"


async def talk(ctx: TaskContext, every: int, answer: Callable[[str], Awaitable[str]]) -> None:
    """Answer one message after the other, with a fresh journal behind each so many."""
    answered = 0
    async for text in messages.iter():
        await replies.append(await answer(text))
        answered += 1
        if answered == every:
            await ctx.continue_as(every)


# --- Pydantic AI


def pydantic_script(known: list[ModelMessage], info: AgentInfo) -> PydanticResponse:
    """The model."""
    parts = [part for message in known for part in message.parts]
    said = [str(part.content) for part in parts if isinstance(part, UserPromptPart)]
    executed[f"model {len(said)}.{len(parts)}"] += 1
    if isinstance(parts[-1], ToolReturnPart):
        return PydanticResponse(parts=[TextPart(reply(len(said), str(parts[-1].content)))])
    call = ToolCallPart(called(said[-1]), {"what": said[-1]}, tool_call_id=f"call-{len(said)}")
    return PydanticResponse(parts=[call])


agent = Agent(
    FunctionModel(pydantic_script),
    name="talker",
    capabilities=[HelmrDurability(), DeferredToolWaits(approvals)],
)
history = HelmrHistory(turns)


@agent.tool_plain(name="look_up")
async def look_up_for_pydantic_ai(what: str) -> str:
    """Look it up."""
    return returned(what)


@agent.tool_plain(name="pay", requires_approval=True)
async def pay_for_pydantic_ai(what: str) -> str:
    """Pay it."""
    return returned(what)


@task(id="long-pydantic-ai")
async def chat_pydantic_ai(every: int, ctx: TaskContext) -> None:
    async def answer(text: str) -> str:
        result = await agent.run(text, message_history=await history.messages())
        await history.add(result.new_messages())
        return result.output

    await talk(ctx, every, answer)


# --- OpenAI Agents SDK


class OpenAIScript(Model):
    """The model."""

    async def get_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        said = [one["content"] for one in input if one.get("role") == "user"]
        executed[f"model {len(said)}.{len(input)}"] += 1
        last = input[-1]
        if last.get("type") == "function_call_output":
            output: Any = assistant_message(reply(len(said), str(last["output"])))
        else:
            arguments = {"what": said[-1]}
            output = function_call(called(said[-1]), arguments, call_id=f"call-{len(said)}")
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


@function_tool(name_override="look_up")
async def look_up_for_openai(what: str) -> str:
    """Look it up."""
    return returned(what)


@function_tool(name_override="pay", needs_approval=True)
async def pay_for_openai(what: str) -> str:
    """Pay it."""
    return returned(what)


desk = OpenAIAgent(name="desk", model=OpenAIScript(), tools=[look_up_for_openai, pay_for_openai])


@task(id="long-openai-agents")
async def chat_openai_agents(every: int, ctx: TaskContext) -> None:
    async def answer(text: str) -> str:
        result = await run(desk, text, session=HelmrSession(turns), approvals=approvals)
        return str(result.final_output)

    await talk(ctx, every, answer)


# --- LangGraph


class LangChainScript(FakeListChatModel):
    """The model."""

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        said = [str(one.content) for one in messages if isinstance(one, HumanMessage)]
        executed[f"model {len(said)}.{len(messages)}"] += 1
        last = messages[-1]
        if isinstance(last, ToolMessage):
            answer = AIMessage(reply(len(said), str(last.content)))
        else:
            call = {"name": called(said[-1]), "args": {"what": said[-1]}, "id": f"call-{len(said)}"}
            answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


model = durable_model(LangChainScript(responses=["-"]))


@step
async def use(what: str) -> str:
    return returned(what)


@tool("look_up")
async def look_up_for_langchain(what: str) -> str:
    """Look it up."""
    return await use(what)


@tool("pay")
async def pay_for_langchain(what: str) -> str:
    """Pay it."""
    leave = interrupt({"question": f"Pay {what}?"})
    return await use(what) if leave == APPROVE else "declined"


TOOLS = {"look_up": look_up_for_langchain, "pay": pay_for_langchain}
APPROVE = {"decision": "approve"}


async def ask(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await model.ainvoke(state["messages"])]}


async def act(state: MessagesState) -> dict[str, Any]:
    [call] = getattr(state["messages"][-1], "tool_calls")  # noqa: B009 - of an AIMessage
    return {"messages": [await TOOLS[call["name"]].ainvoke({**call, "type": "tool_call"})]}


def wants_tool(state: MessagesState) -> str:
    return "act" if getattr(state["messages"][-1], "tool_calls", None) else "__end__"


graph = StateGraph(MessagesState)
graph.add_node("ask", ask)
graph.add_node("act", act)
graph.add_edge(START, "ask")
graph.add_conditional_edges("ask", wants_tool)
graph.add_edge("act", "ask")


@task(id="long-langgraph")
async def chat_langgraph(every: int, ctx: TaskContext) -> None:
    async def answer(text: str) -> str:
        asked = {"messages": [("user", text)]}
        found = await run_graph(graph, asked, answers=answers, history=turns)
        return str(found["messages"][-1].content)

    await talk(ctx, every, answer)


CHATS = (chat_pydantic_ai, chat_openai_agents, chat_langgraph)


# --- the frameworks alone, behind what they have said, each with what it keeps a conversation in

Turn = Callable[[], Awaitable[object]]


async def bare_pydantic_ai(items: list[Any]) -> Turn:
    """One more turn: messages out of the text of their JSON, the agent, what is new as JSON."""
    text = json.dumps(items, separators=(",", ":"))

    async def turn() -> None:
        known = ModelMessagesTypeAdapter.validate_json(text)
        result = await bare_agent.run("pen", message_history=known)
        ModelMessagesTypeAdapter.dump_python(result.new_messages(), mode="json")

    return turn


bare_agent = Agent(FunctionModel(pydantic_script), name="bare")
bare_agent.tool_plain(name="look_up")(look_up_for_pydantic_ai)


async def bare_openai_agents(items: list[Any]) -> Turn:
    """The same of the OpenAI Agents SDK, with its session in memory."""
    kept = SQLiteSession("bare")
    await kept.add_items(items)
    config = RunConfig(tracing_disabled=True)
    return lambda: Runner.run(desk, "pen", session=kept, run_config=config)


async def bare_langgraph(items: list[Any]) -> Turn:
    """The same of LangGraph, with its checkpointer in memory."""
    made = graph.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "bare"}}
    await made.aupdate_state(config, {"messages": messages_from_dict(items)}, as_node="act")
    told: Any = {"messages": [("user", "pen")]}
    return lambda: made.ainvoke(told, config)


BARE = {
    chat_pydantic_ai.id: bare_pydantic_ai,
    chat_openai_agents.id: bare_openai_agents,
    chat_langgraph.id: bare_langgraph,
}
