"""Agents of three frameworks, with the fake models that each brings. Their tools and nodes call steps.

The frameworks are imported where they are used: other processes of the runtime need not load them.
"""

from typing import Any

import typing_extensions

from helmr import step, task
from tests.ordinary.moments import Places, go_on, thrice


class State(typing_extensions.TypedDict, total=False):
    topic: str
    draft: str
    sent: str


@step
async def look_up(customer: str) -> str:
    return f"{customer} is a customer"


@step
async def mail(text: str) -> str:
    return f"sent {len(text)}"


async def pydantic_ai_agent(places: Places) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.messages import (
        ModelMessage,
        ModelResponse,
        TextPart,
        ToolCallPart,
        ToolReturnPart,
    )
    from pydantic_ai.models.function import AgentInfo, FunctionModel

    def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        parts = [part for message in messages for part in message.parts]
        returned = [part for part in parts if isinstance(part, ToolReturnPart)]
        if not returned:
            return ModelResponse(
                parts=[ToolCallPart("find", {"customer": name}) for name in ("ada", "eve")]
            )
        return ModelResponse(parts=[TextPart("; ".join(str(part.content) for part in returned))])

    agent = Agent(FunctionModel(script))

    @agent.tool_plain
    async def find(customer: str) -> str:
        return await look_up(customer)

    return (await agent.run("who?")).output


@step
async def pydantic_ai_in_a_step() -> str:
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel

    agent = Agent(TestModel(custom_output_text="hello"))
    return (await agent.run("hello")).output


async def pydantic_ai_agent_in_a_step(places: Places) -> Any:
    return await pydantic_ai_in_a_step()


async def langgraph_graph(places: Places) -> Any:
    from langgraph.graph import END, START, StateGraph

    async def write(state: State) -> State:
        return {"draft": await look_up(state["topic"])}

    async def send(state: State) -> State:
        return {"sent": await mail(state["draft"])}

    builder = StateGraph(State)
    builder.add_node("write", write)
    builder.add_node("send", send)
    builder.add_edge(START, "write")
    builder.add_edge("write", "send")
    builder.add_edge("send", END)
    return await builder.compile().ainvoke({"topic": "ada"})


async def openai_agent(places: Places) -> Any:
    from agents import Agent, RunConfig, Runner, function_tool
    from agents.testing import ScriptedModel, assistant_message, function_call

    @function_tool
    async def find(customer: str) -> str:
        """Look a customer up."""
        return await look_up(customer)

    model = ScriptedModel(
        [[function_call("find", {"customer": "ada"}, call_id="1")], [assistant_message("done")]]
    )
    agent = Agent(name="support", model=model, tools=[find])
    result = await Runner.run(agent, "who?", run_config=RunConfig(tracing_disabled=True))
    found = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
    return [*found, result.final_output]


HABITS = (pydantic_ai_agent, pydantic_ai_agent_in_a_step, langgraph_graph, openai_agent)


@task(id="frameworks", streams=[go_on])
async def frameworks(places: Places) -> dict[str, list[Any]]:
    return await thrice("frameworks", HABITS, places)
