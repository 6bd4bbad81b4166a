"""One agent of each framework, killed as soon as each entry of its transcript is stored: it ends the same.

What its model was asked and has answered is asked once, wherever the kill falls. Tools write to what the run gave them,
and that is in what it comes to.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from agents import Agent as OpenAIAgent
from agents import ModelResponse as OpenAIResponse
from agents import RunContextWrapper, Usage, function_tool, handoff
from agents.testing import assistant_message, function_call
from langchain_core.language_models import FakeListChatModel
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from pydantic_ai import Agent, ModelMessage, ModelResponse, RunContext, TextPart, ToolCallPart
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from typing_extensions import TypedDict

from helmr import Approval, streams, task
from helmr.integrations.langgraph import durable, durable_model, run_graph
from helmr.integrations.openai_agents import run
from helmr.integrations.pydantic_ai import DeferredToolWaits, HelmrDurability
from helmr.testing import Harness
from tests.integrations.test_langgraph import ALL, reviewing
from tests.integrations.test_openai_agents import Calls

approvals = streams.input("approvals", schema=Approval)
answers = streams.input("answers")
APPROVE = {"decision": "approve"}
asked: Counter[str] = Counter()
"""How often each thing was executed: a model's request by what it had heard, a tool by its name."""


@dataclass
class Book:
    """What tools write to."""

    done: list[str] = field(default_factory=list)
    count: int = 0

    def note(self, what: str) -> None:
        """One more."""
        asked[what] += 1
        self.done.append(what)
        self.count += 1

    def __str__(self) -> str:
        return f"{self.count} of {', '.join(sorted(self.done))}"


# --- Pydantic AI: tools at once, one of which needs leave


def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    parts = [part for message in messages for part in message.parts]
    heard = [str(part.content) for part in parts if isinstance(part, ToolReturnPart)]
    asked[f"model after {len(heard)}"] += 1
    if heard:
        return ModelResponse(parts=[TextPart("; ".join(heard))])
    names = ("look_up", "look_up", "refund")
    return ModelResponse(parts=[ToolCallPart(name, {"who": "ada"}) for name in names])


agent = Agent(
    FunctionModel(script),
    name="support",
    deps_type=Book,
    capabilities=[HelmrDurability(), DeferredToolWaits(approvals)],
)


@agent.tool
async def look_up(ctx: RunContext[Book], who: str) -> str:
    """Looks somebody up."""
    ctx.deps.note("look_up")
    return f"{who} is known"


@agent.tool(requires_approval=True)
async def refund(ctx: RunContext[Book], who: str) -> str:
    """Pays back."""
    ctx.deps.note("refund")
    return f"refunded {who}"


@task(id="pydantic")
async def pydantic_task(prompt: str) -> str:
    book = Book()
    said = (await agent.run(prompt, deps=book)).output
    return f"{said}; {book}"


# --- LangGraph: two interrupts, a model between them


class Letter(TypedDict, total=False):
    topic: str
    text: str
    sent: str


class Writer(FakeListChatModel):
    """Says the same each time, and is counted."""

    def _call(self, *args: Any, **kwargs: Any) -> str:
        asked["model"] += 1
        return "Dear all"


model = durable_model(Writer(responses=["-"]))


async def choose(state: Letter) -> Letter:
    return {"topic": interrupt("About what?")}


async def write(state: Letter) -> Letter:
    return {"text": f"{(await model.ainvoke(state['topic'])).content}, {state['topic']}"}


async def review(state: Letter) -> Letter:
    return {"text": f"{state['text']}. {interrupt('And how does it end?')}"}


async def send(state: Letter) -> Letter:
    asked["send"] += 1
    return {"sent": f"sent {state['text']!r}"}


graph = StateGraph(Letter)
for name, node in (("choose", choose), ("write", write), ("review", review)):
    graph.add_node(name, node)
graph.add_node("send", durable(send))
for before, behind in (
    (START, "choose"),
    ("choose", "write"),
    ("write", "review"),
    ("review", "send"),
    ("send", END),
):
    graph.add_edge(before, behind)


@task(id="langgraph")
async def langgraph_task(prompt: str) -> str:
    found: dict[str, Any] = await run_graph(graph, {"topic": prompt}, answers=answers)
    return str(found["sent"])


# --- LangChain: tools at once, two of which people review


@tool
async def ship(item: str) -> str:
    """Ships it."""
    asked[f"ship {item}"] += 1
    return f"shipped {item}"


@tool
def stock(item: str) -> str:
    """How many there are."""
    asked["stock"] += 1
    return f"{item}: 3"


CALLS = [("ship", {"item": "pen"}), ("ship", {"item": "book"}), ("stock", {"item": "pen"})]
reviewed = reviewing({"ship": ALL}, *CALLS, tools=[ship, stock])


@task(id="langchain")
async def langchain_task(prompt: str) -> str:
    found = await run_graph(reviewed, {"messages": []}, answers=answers)
    return "; ".join(sorted(str(m.content) for m in found["messages"] if m.content))


# --- OpenAI Agents SDK: a hand-off, then a tool that needs leave


class Counted(Calls):
    async def get_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> OpenAIResponse:
        items = input
        asked[f"model after {0 if isinstance(items, str) else len(items)}"] += 1
        heard = [] if isinstance(items, str) else items
        outputs = [i["output"] for i in heard if i.get("type") == "function_call_output"]
        if self.calls[0][0] in {i.get("name") for i in heard if i.get("type") == "function_call"}:
            output: Any = [assistant_message(str(outputs[-1]))]
        else:
            name, arguments = self.calls[0]
            output = [function_call(name, arguments, call_id=f"call-{name}")]
        return OpenAIResponse(output=output, usage=Usage(), response_id=None)


@function_tool(needs_approval=True)
async def pay_back(ctx: RunContextWrapper[Book], who: str) -> str:
    """Pays back."""
    ctx.context.note("pay_back")
    return f"paid {who} back"


desk = OpenAIAgent(name="desk", model=Counted(("pay_back", {"who": "ada"})), tools=[pay_back])
front = OpenAIAgent(name="front", model=Counted(("transfer_to_desk", {})), handoffs=[handoff(desk)])


@task(id="openai")
async def openai_task(prompt: str) -> str:
    book = Book()
    result = await run(front, prompt, context=book, approvals=approvals)
    return f"{result.last_agent.name}: {result.final_output}; {book}"


# --- killed


AGENTS: dict[str, tuple[Any, list[Any], str]] = {
    "pydantic": (
        pydantic_task,
        [APPROVE],
        "ada is known; ada is known; refunded ada; 3 of look_up, look_up, refund",
    ),
    "langgraph": (
        langgraph_task,
        ["otters", "Yours, Ada"],
        "sent 'Dear all, otters. Yours, Ada'",
    ),
    "langchain": (
        langchain_task,
        [APPROVE, {"decision": "approve", "arguments": {"item": "ink"}}],
        "pen: 3; shipped ink; shipped pen",
    ),
    "openai": (openai_task, [APPROVE], "desk: paid ada back; 1 of pay_back"),
}
"""Task, answers in order, and what it comes to."""


Entries = list[tuple[str, int | None]]
"""Kinds and ops of a transcript."""


async def story(name: str, killed_at: int | None = None) -> tuple[Any, Entries]:
    """What a session comes to that is killed once, as soon as so many entries are stored."""
    found, given, _ = AGENTS[name]
    left = [*given]
    async with Harness(found) as harness:
        session = await harness.start(name, "hello", settle=False)
        while killed_at is not None and len(harness.entries()) < killed_at:
            if left and (await session.state()).wait is not None:
                await session.answer(left.pop(0), settle=False)
            await asyncio.sleep(0)
        if killed_at is not None:
            await session.kill()
        await harness.settle()
        for answer in left:
            await session.answer(answer)
        result = await session.result()
        return result, [(entry.kind, entry.op) for entry in await session.transcript()]


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize(
    "every",
    [
        pytest.param(4, id="at every fourth"),
        pytest.param(1, id="at each", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)
@pytest.mark.allows_blocking  # frameworks look at files when they are first used
async def test_an_agent_that_is_killed_ends_the_same_and_repeats_nothing_recorded(
    name: str, every: int
) -> None:
    expected = AGENTS[name][2]
    asked.clear()
    result, whole = await story(name)
    assert result == expected
    once = asked.copy()
    for killed_at in range(2, len(whole), every):
        asked.clear()
        result, entries = await story(name, killed_at)
        assert result == expected, killed_at
        assert outcomes(entries) == outcomes(whole), killed_at
        assert repeated(entries) == [], killed_at
        # What was under way when it was killed may be executed once more; nothing else is.
        assert not once - asked, killed_at
        assert (asked - once).total() <= 3, (killed_at, asked)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.allows_blocking
async def test_an_agent_that_is_parked_at_each_await_ends_the_same(name: str) -> None:
    found, given, expected = AGENTS[name]
    asked.clear()
    await story(name)
    once = asked.copy()
    asked.clear()
    async with Harness(found) as harness:
        session = await harness.start(name, "hello")
        for answer in given:
            await session.park()
            await session.answer(answer)
        assert await session.result() == expected
    assert asked == once


def outcomes(entries: Entries) -> list[int]:
    """The steps that have an outcome."""
    return sorted(op or 0 for kind, op in entries if kind == "step.succeeded")


def repeated(entries: Entries) -> list[int | None]:
    """Steps that began once more although their outcome was recorded."""
    return [
        op
        for place, (kind, op) in enumerate(entries)
        if kind == "step.started" and ("step.succeeded", op) in entries[:place]
    ]
