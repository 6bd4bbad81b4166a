"""LangChain's own agent and its middleware for people, in both of its modes: reviewed, changed, declined, parked."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.tools import ToolRuntime
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from helmr import streams, task
from helmr.integrations.langgraph import durable_model, durable_tools, run_graph
from helmr.testing import Harness

answers = streams.input("answers")
paid: list[int] = []


@dataclasses.dataclass
class Purse:
    total: int = 0


class Script(GenericFakeChatModel):
    """Says what it is given to say."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind()


def calling(*cents: int) -> AIMessage:
    calls = [{"name": "refund", "args": {"cents": one}, "id": f"call-{one}"} for one in cents]
    return AIMessage("", tool_calls=calls)


@tool
async def refund(cents: int, runtime: ToolRuntime[Purse]) -> str:
    """Pay back."""
    paid.append(cents)
    runtime.context.total += cents
    return f"paid {cents}"


def support(mode: str) -> Any:
    model = Script(messages=iter([calling(5, 7), calling(9), AIMessage("done")]))
    middleware = HumanInTheLoopMiddleware(interrupt_on={"refund": True}, interrupt_mode=mode)

    @task(id="support")
    async def run(prompt: str) -> list[Any]:
        agent = create_agent(
            durable_model(model),
            durable_tools([refund]),
            middleware=[middleware],
            context_schema=Purse,
        )
        purse, asked = Purse(), {"messages": [HumanMessage(prompt)]}
        result = await run_graph(agent, asked, answers=answers, context=purse)
        said = [m for m in result["messages"] if isinstance(m, ToolMessage)]
        return [purse.total, *(str(m.content).splitlines()[-1] for m in said)]

    return run


async def reviewed(mode: str, replay_always: bool) -> None:
    paid.clear()
    agent = support(mode)
    async with Harness(agent, replay_always=replay_always) as harness:
        session = await harness.start(agent, "Refunds, please")
        for cents, answer in (
            (5, {"decision": "approve"}),
            (7, {"decision": "approve", "arguments": {"cents": 70}}),
            (9, {"decision": "decline", "reason": "enough"}),
        ):
            wait = await session.wait()
            assert wait["subject"] == "Call refund?"
            assert wait["initial"] == {"arguments": {"cents": cents}}
            decisions = wait["schema"]["properties"]["decision"]["enum"]
            assert decisions == ["approve", "respond", "decline"]
            await session.park()
            await session.answer(answer)
        total, first, second, third = await session.result()
        assert (total, first, second) == (75, "paid 5", "paid 70")
        assert "reason: enough" in third
    assert paid == [5, 70]


for mode in ("batched", "per_call"):
    for replay_always in (False, True):
        asyncio.run(reviewed(mode, replay_always))
