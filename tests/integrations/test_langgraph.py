"""Graphs of LangGraph in durable runs: interrupts as waits, nodes and chat models as steps."""

from __future__ import annotations

import asyncio
import operator
import warnings
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Annotated, Any, Literal, cast

import pytest
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    FakeMessagesListChatModel,
)
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool, ToolException, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Interrupt, Send, interrupt
from typing_extensions import TypedDict

from helmr import streams, task
from helmr.errors import SchemaMismatch, UsageError
from helmr.examples import langgraph_letter
from helmr.integrations import _langgraph
from helmr.integrations._langgraph_history import Saver
from helmr.integrations.langgraph import durable, durable_model, durable_tools, run_graph
from helmr.testing import Harness, HarnessSession, RunFailed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says of its own names that they have moved
    from langgraph.prebuilt import ToolNode

answers = streams.input("answers")
go = streams.input("go", schema=bool)

both = pytest.mark.parametrize("replay_always", [False, True], ids=["once", "replayed"])


async def steps_of(session: HarnessSession) -> list[str]:
    return [e.body["name"] for e in await session.transcript() if e.kind == "step.started"]


# --- one interrupt


@both
async def test_an_interrupt_is_a_wait_with_its_schema_and_initial_value(
    replay_always: bool,
) -> None:
    async with Harness(langgraph_letter.letter, replay_always=replay_always) as harness:
        session = await harness.start("langgraph-letter", "otters")
        wait = await session.wait()
        assert wait["subject"] == "Send this letter?"
        assert wait["initial"] == {"decision": "send", "text": "Dear all, news about otters."}
        await session.kill()
        with pytest.raises(SchemaMismatch):
            await session.answer({"decision": "burn", "text": ""})
        await session.answer({"decision": "send", "text": "Hi"}, on_behalf_of="bob")
        assert await session.result() == {"topic": "otters", "text": "Hi", "sent": "sent 'Hi'"}
        assert await steps_of(session) == ["model.request", "node.send"]


async def test_nobody_answers_in_time() -> None:
    async with Harness(langgraph_letter.letter) as harness:
        session = await harness.start("langgraph-letter", "otters")
        await harness.advance("3d")
        with pytest.raises(RunFailed) as caught:
            await session.result()
    assert caught.value.facts["error"]["type"] == "WaitTimeout"


# --- several at once, beside nodes that are steps

pace = iter(range(10**6))


class Collected(TypedDict, total=False):
    said: Annotated[list[str], operator.add]


def asks(n: int) -> Any:
    async def ask(state: Collected) -> Collected:
        return {"said": [f"{n}={interrupt(f'Number {n}?')}"]}

    return ask


def works(n: int) -> Any:
    async def work(state: Collected) -> Collected:
        await asyncio.sleep(next(pace) * 7 % 5 / 200)  # another order each time
        return {"said": [f"worked {n}"]}

    return work


wide = StateGraph(Collected)
for number in range(3):
    wide.add_node(f"ask{number}", asks(number))
    wide.add_edge(START, f"ask{number}")
    wide.add_edge(f"ask{number}", END)
for number in range(4):
    wide.add_node(f"work{number}", durable(works(number), name=f"work{number}"))
    wide.add_edge(START, f"work{number}")
    wide.add_edge(f"work{number}", END)


@task(id="wide")
async def run_wide(prompt: str) -> list[str]:
    first = await run_graph(wide, {"said": []}, answers=answers)
    second = await run_graph(wide.compile(), {"said": []}, answers=answers)
    return [*first["said"], *second["said"]]


@both
async def test_several_interrupts_are_asked_about_in_turn_and_parallel_nodes_replay_exactly(
    replay_always: bool,
) -> None:
    async with Harness(run_wide, replay_always=replay_always) as harness:
        session = await harness.start("wide", "x")
        for _ in range(2):
            for number in range(3):
                wait = await session.wait()
                assert wait["subject"] == f"Number {number}?"
                assert wait["correlation_id"] == f"interrupt-{number + 1}"
                await session.kill()
                await session.answer(number * 10)
        said = [*(f"{n}={n * 10}" for n in range(3)), *(f"worked {n}" for n in range(4))]
        result = await session.result()
        assert sorted(result[:7]) == sorted(said)
        assert sorted(result[7:]) == sorted(said)
        assert len(await steps_of(session)) == 8


# --- messages


class Chat(TypedDict, total=False):
    messages: Annotated[list[BaseMessage], add_messages]


call = {"name": "add", "args": {"a": 1, "b": 2}, "id": "call-1", "type": "tool_call"}
model = durable_model(
    FakeMessagesListChatModel(
        responses=[AIMessage("", tool_calls=[call], response_metadata={"by": "fake"})]
    ),
    retries=1,
)


async def think(state: Chat) -> Chat:
    return {"messages": [await model.ainvoke(state["messages"])]}


def answer(state: Chat) -> Chat:
    last = state["messages"][-1]
    assert isinstance(last, AIMessage)
    return {"messages": [AIMessage(f"called {last.tool_calls[0]['name']}")]}


chat = StateGraph(Chat)
chat.add_node("think", think)
chat.add_node("answer", durable(answer))
chat.add_edge(START, "think")
chat.add_edge("think", "answer")
chat.add_edge("answer", END)


@task(id="chat")
async def run_chat(prompt: str) -> list[Any]:
    state = await run_graph(chat, {"messages": [HumanMessage(prompt)]}, answers=answers)
    await go.wait()
    human, thought, said = state["messages"]
    return [type(m).__name__ for m in (human, thought, said)] + [
        thought.tool_calls[0]["args"],
        thought.response_metadata,
        said.content,
    ]


@both
async def test_messages_come_back_as_what_they_were(replay_always: bool) -> None:
    async with Harness(run_chat, replay_always=replay_always) as harness:
        session = await harness.start("chat", "x")
        await session.kill()
        await session.send("go", True)
        assert await session.result() == [
            *["HumanMessage", "AIMessage", "AIMessage"],
            {"a": 1, "b": 2},
            {"by": "fake"},
            "called add",
        ]
        assert await steps_of(session) == ["model.request", "node.answer"]


async def test_outside_a_run_nodes_and_models_are_plain() -> None:
    plain = durable_model(FakeListChatModel(responses=["hello"]))
    assert plain.invoke("x").content == "hello"
    assert (await plain.ainvoke("x")).content == "hello"
    state = await chat.compile().ainvoke({"messages": [HumanMessage("x")]})
    assert state["messages"][-1].content == "called add"


@task(id="blocking")
async def blocking(prompt: str) -> str:
    try:
        model.invoke(prompt)
    except UsageError as error:
        return error.hint or ""
    return "invoked"


async def test_a_model_that_is_not_awaited_in_a_run_is_refused() -> None:
    async with Harness(blocking) as harness:
        assert "ainvoke" in await (await harness.start("blocking", "x")).result()


# --- what a node may be, and what it may give


class Counted(TypedDict, total=False):
    n: int
    got: Annotated[list[str], operator.add]


class Called:
    """An object that is called."""

    async def __call__(self, state: Counted) -> Counted:
        return {"got": [f"called with {state['n']}"]}


async def jump(state: Counted) -> Command[Literal["b", "c"]]:
    return Command(goto=[Send("c", {"n": 10}), "b"], update={"n": 5})


def add_one(state: Counted) -> Counted:
    return {"n": state["n"] + 1}


def says_n(state: Counted) -> Counted:
    return {"got": [f"sent {state['n']}"]}


inner = StateGraph(Counted)
inner.add_node("inside", says_n)
inner.add_edge(START, "inside")

nodes = StateGraph(Counted)
nodes.add_node("jump", durable(jump))
nodes.add_node("b", durable(add_one))
nodes.add_node("c", durable(RunnableLambda(says_n), name="c"))
nodes.add_node("called", durable(Called()))
nodes.add_node("graph", durable(inner.compile(), name="graph"))
nodes.add_edge(START, "jump")
nodes.add_edge("b", "called")
nodes.add_edge("called", "graph")


@task(id="nodes")
async def run_nodes(prompt: str) -> list[Any]:
    state = await run_graph(nodes, {"n": 0}, answers=answers)
    await go.wait()
    return [state["n"], state["got"]]


@both
async def test_any_runnable_is_a_step_and_a_command_stays_one(replay_always: bool) -> None:
    async with Harness(run_nodes, replay_always=replay_always) as harness:
        session = await harness.start("nodes", "x")
        await session.kill()
        await session.send("go", True)
        result = await session.result()
        steps = await steps_of(session)
        assert steps[0] == "node.jump"
        assert sorted(steps) == ["node.Called", "node.add_one", "node.c", "node.graph", "node.jump"]
    plain = await nodes.compile().ainvoke({"n": 0})
    assert result == [plain["n"], plain["got"]]
    assert result[0] == 6


async def streams_updates(state: Counted) -> AsyncIterator[Counted]:
    yield {"n": 1}


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (streams_updates, "node streams_updates can't be made durable: it yields"),
        (7, "node int can't be made durable: a int can't be called"),
    ],
)
def test_what_cannot_be_a_step_is_refused_by_name(node: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        durable(node)


asks_inside = StateGraph(Counted)
asks_inside.add_node("ask", durable(lambda state: {"got": [interrupt("Well?")]}, name="ask"))
asks_inside.add_edge(START, "ask")


@task(id="asks-inside")
async def run_asks_inside(how: str) -> Any:
    if how == "inside":
        return await run_graph(asks_inside, {"n": 1}, answers=answers)
    return await run_graph(nodes.compile(interrupt_before=["b"]), {"n": 1}, answers=answers)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("inside", "node ask is a step, and an interrupt"),
        ("before", r"the graph stops before node b \(interrupt_before\)"),
    ],
)
async def test_a_graph_that_would_stop_without_a_question_is_refused(how: str, says: str) -> None:
    async with Harness(run_asks_inside) as harness:
        with pytest.raises(RunFailed, match=says):
            await (await harness.start("asks-inside", how)).result()


# --- an agent as LangChain makes it, with tools that people review

paid: list[int] = []


@tool
async def refund(cents: int) -> str:
    """Pay back."""
    paid.append(cents)
    if cents == 13:
        raise ToolException("not thirteen")
    return f"paid {cents}" if cents < 1000 else "x" * 2_000_000


@tool(response_format="content_and_artifact")
def look_up(who: str) -> tuple[str, dict[str, str]]:
    """Look a customer up."""
    paid.append(0)
    return f"{who} is known", {"id": who}


def calling(*calls: tuple[str, dict[str, Any]]) -> AIMessage:
    return AIMessage(
        "",
        tool_calls=[
            {"name": name, "args": arguments, "id": f"call-{n}", "type": "tool_call"}
            for n, (name, arguments) in enumerate(calls)
        ],
    )


def reviewing(
    allowed: dict[str, list[str]],
    *calls: tuple[str, dict[str, Any]],
    tools: Sequence[Any] = (refund, look_up),
) -> Any:
    """A graph that calls these tools as `HumanInTheLoopMiddleware` has them reviewed."""

    def model(state: Chat) -> Chat:
        return {"messages": [calling(*calls)]}

    def review(state: Chat) -> Any:
        last = state["messages"][-1]
        assert isinstance(last, AIMessage)
        asked = [call for call in last.tool_calls if call["name"] in allowed]
        requests = [
            {
                "name": call["name"],
                "args": call["args"],
                "description": f"Leave, please\n\nTool: {call['name']}\nArgs: {call['args']}",
            }
            for call in asked
        ]
        configs = [
            {"action_name": name, "allowed_decisions": words} for name, words in allowed.items()
        ]
        shown = {"action_requests": requests, "review_configs": configs}
        decisions = interrupt(shown)["decisions"]
        rejected: list[BaseMessage] = []
        kept = [call for call in last.tool_calls if call["name"] not in allowed]
        for call, decision in zip(asked, decisions, strict=True):
            if decision["type"] == "approve":
                kept.append(call)
            elif decision["type"] == "edit":
                kept.append({**call, "args": decision["edited_action"]["args"]})
            else:
                said = f"{decision['type']}: {decision.get('message')}"
                rejected.append(ToolMessage(said, tool_call_id=call["id"]))
        changed = AIMessage("", tool_calls=kept, id=last.id)
        return {"messages": [*rejected, changed]}

    agent = StateGraph(Chat)
    agent.add_node("model", model)
    agent.add_node("review", review)
    agent.add_node("tools", ToolNode(durable_tools(tools), handle_tool_errors=True))
    agent.add_edge(START, "model")
    agent.add_edge("model", "review")
    agent.add_edge("review", "tools")
    return agent


ALL = ["approve", "edit", "reject", "respond"]


@task(id="reviewed")
async def run_reviewed(how: str) -> list[str]:
    allowed, *calls = HOW[how]
    state = await run_graph(
        reviewing(allowed, *calls), {"messages": []}, answers=answers, timeout="1h"
    )
    await go.wait()
    said = [m for m in state["messages"] if isinstance(m, ToolMessage)]
    return [f"{str(m.content)[:80]}{m.artifact or ''}" for m in said]


HOW: dict[str, Any] = {
    "all": ({"refund": ALL}, ("refund", {"cents": 5}), ("look_up", {"who": "ada"})),
    "two": ({"refund": ALL}, ("refund", {"cents": 5}), ("refund", {"cents": 7})),
    "no edit": ({"refund": ["approve", "reject"]}, ("refund", {"cents": 5})),
    "wrong": ({"refund": ALL}, ("refund", {"cents": 13})),
    "large": ({"refund": ALL}, ("refund", {"cents": 5000})),
}


@both
@pytest.mark.parametrize(
    ("answer", "said", "cost"),
    [
        ({"decision": "approve"}, ["paid 5"], [5]),
        ({"decision": "approve", "arguments": {"cents": 3}}, ["paid 3"], [3]),
        ({"decision": "decline", "reason": "no"}, ["reject: no"], []),
        ({"decision": "respond", "reason": "done by hand"}, ["respond: done by hand"], []),
    ],
    ids=["approved", "edited", "declined", "responded"],
)
async def test_a_reviewed_call_is_an_approval_and_its_tool_a_step(
    answer: dict[str, Any], said: list[str], cost: list[int], replay_always: bool
) -> None:
    paid.clear()
    async with Harness(run_reviewed, replay_always=replay_always) as harness:
        session = await harness.start("reviewed", "all")
        wait = await session.wait()
        assert wait["subject"] == "Call refund?"
        assert wait["initial"] == {"arguments": {"cents": 5}}
        assert wait["correlation_id"] == "interrupt-1"
        properties = wait["schema"]["properties"]
        assert properties["decision"]["enum"] == ["approve", "respond", "decline"]
        assert properties["arguments"]["anyOf"][0]["properties"]["cents"]["type"] == "integer"
        with pytest.raises(SchemaMismatch):
            await session.answer("yes, do it")
        with pytest.raises(SchemaMismatch):
            await session.answer({"decision": "approve", "arguments": {"cents": "many"}})
        await session.park()
        await session.answer(answer)
        await session.park()
        await session.send("go", True)
        assert sorted(await session.result()) == sorted([*said, "ada is known{'id': 'ada'}"])
    assert sorted(paid) == sorted([0, *cost])


class Weighs(BaseTool):
    """A tool that is a class of its own."""

    name: str = "weigh"
    description: str = "Weigh a parcel."
    response_format: Literal["content", "content_and_artifact"] = "content"

    def _run(self, parcel: str) -> Any:
        paid.append(len(parcel))
        said = f"{parcel} weighs {len(parcel)}"
        return said if self.response_format == "content" else (said, {"grams": len(parcel)})


async def doubles(n: int) -> int:
    """Double a number."""
    return 2 * n


@task(id="own-tools")
async def run_own_tools(prompt: str) -> list[Any]:
    server_side = {"type": "web_search"}
    mine = tool(doubles, infer_schema=True)
    mine.metadata = {"helmr": False}
    weigh, with_artifact, double, left, same = durable_tools(
        [Weighs(), Weighs(response_format="content_and_artifact"), doubles, mine, server_side]
    )
    asked = {"type": "tool_call", "id": "1", "name": "weigh", "args": {"parcel": "box"}}
    message = await with_artifact.ainvoke(asked)
    return [
        await weigh.ainvoke({"parcel": "box"}),
        [message.content, message.artifact],
        await double.ainvoke({"n": 4}),
        left is mine,
        same is server_side,
    ]


@both
async def test_any_tool_is_a_step_and_stays_what_it_is(replay_always: bool) -> None:
    paid.clear()
    async with Harness(run_own_tools, replay_always=replay_always) as harness:
        session = await harness.start("own-tools", "x")
        said = "box weighs 3"
        assert await session.result() == [said, [said, {"grams": 3}], 8, True, True]
        assert await steps_of(session) == ["tool.weigh", "tool.weigh", "tool.doubles"]
    assert paid == [3, 3]


async def test_calls_are_reviewed_one_after_the_other_and_rejected_in_time() -> None:
    async with Harness(run_reviewed) as harness:
        session = await harness.start("reviewed", "two")
        await session.answer({"decision": "approve"})
        assert (await session.wait())["correlation_id"] == "interrupt-1-2"
        await harness.advance("2h")
        await session.send("go", True)
        assert sorted(await session.result()) == ["paid 5", "reject: No one answered in time."]


async def test_only_what_is_allowed_is_taken() -> None:
    async with Harness(run_reviewed) as harness:
        session = await harness.start("reviewed", "no edit")
        schema = (await session.wait())["schema"]
        assert schema["properties"]["decision"]["enum"] == ["approve", "decline"]
        for refused in (
            {"decision": "respond", "reason": "x"},
            {"decision": "approve", "arguments": {"cents": 1}},
        ):
            with pytest.raises(SchemaMismatch):
                await session.answer(refused)
        await session.answer({"decision": "approve", "arguments": {"cents": 5}})
        await session.send("go", True)
        assert await session.result() == ["paid 5"]


@both
@pytest.mark.parametrize(
    ("how", "says"), [("wrong", "not thirteen"), ("large", "too large to be passed on")]
)
async def test_the_model_sees_what_went_wrong_in_a_tool(
    how: str, says: str, replay_always: bool
) -> None:
    async with Harness(run_reviewed, replay_always=replay_always) as harness:
        session = await harness.start("reviewed", how)
        await session.answer({"decision": "approve"})
        await session.send("go", True)
        assert says in (await session.result())[0]


def test_a_review_of_one_call_gets_one_decision() -> None:
    """As `HumanInTheLoopMiddleware(interrupt_mode="per_call")` asks."""
    mapping = {"approve": "#/$defs/A", "reject": "#/$defs/R"}
    request = {"type": "tool_approval", "name": "refund", "args": {"cents": 5}}
    asked = SimpleNamespace(value=request, response_schema={"discriminator": {"mapping": mapping}})
    [one] = _langgraph._reviews(cast("Interrupt", asked))
    assert (one.is_alone, one.allowed) == (True, ("approve", "reject"))
    assert one.decision({"decision": "approve"}) == {"type": "approve"}


plain_tools = StateGraph(Chat)
plain_tools.add_node("hands", ToolNode([refund]))
plain_tools.add_edge(START, "hands")


async def test_a_tool_that_is_no_step_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        await run_graph(plain_tools, {"messages": [AIMessage("")]}, answers=answers)
    said = [one.getMessage() for one in caplog.records if one.name == "helmr.langgraph"]
    assert len(said) == 1
    assert said[0].startswith("node hands: tool refund is not a step")


# --- words as they come

replies = streams.output("replies", schema=str)
tries: list[int] = []


class Breaks(FakeListChatModel):
    """Its first answer breaks off in the middle."""

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        tries.append(1)
        for number, word in enumerate(("well", " said")):
            if number and len(tries) == 1:
                raise ConnectionError("gone")
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))


breaks = durable_model(
    Breaks(responses=[""]), on_chunk=lambda chunk: replies.emit(str(chunk.content)), retries=1
)


@task(id="streams")
async def streams_words(prompt: str) -> list[str]:
    message = await breaks.ainvoke(prompt)
    return [type(message).__name__, str(message.content)]


@both
async def test_a_message_that_breaks_off_is_asked_for_again(replay_always: bool) -> None:
    tries.clear()
    async with Harness(streams_words, replay_always=replay_always) as harness:
        session = await harness.start("streams", "x")
        assert await session.result() == ["AIMessage", "well said"]
        assert [c for c in await session.chunks("replies") if c] == ["well", "well", " said"]
        assert await steps_of(session) == ["model.request"]
    assert len(tries) == 2


async def test_a_state_that_no_one_asks_for_is_not_copied() -> None:
    def reply(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("Hello")]}

    saver = Saver()
    builder = StateGraph(MessagesState)
    builder.add_node(reply)
    builder.add_edge(START, "reply")
    made = builder.compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "one"}}
    told: Any = {"messages": [("user", "pen")]}
    result = await made.ainvoke(told, config, durability="exit")
    assert not saver.blobs
    assert (await made.aget_state(config)).values == result
    assert saver.blobs


@both
async def test_tools_may_be_bound_before_the_model_is_made_durable(replay_always: bool) -> None:
    """LangChain's own idiom: `durable_model(ChatOpenAI().bind_tools([…]))`."""
    asked: list[dict[str, Any]] = []

    class Noting(FakeMessagesListChatModel):
        async def _agenerate(self, messages: Any, *args: Any, **options: Any) -> Any:
            asked.append(options)
            return self._generate(messages)

        def bind_tools(self, tools: Any, **options: Any) -> Any:
            return self.bind(tools=tools, **options)

    model = Noting(responses=[AIMessage("Hello")])
    bound = durable_model(model.bind_tools(["find"], tool_choice="any"))

    @task(id="bound", streams=[go])
    async def run(payload: None) -> str:
        message = await bound.ainvoke([HumanMessage("Hi")])
        await go.wait().unwrap()
        return str(message.content)

    async with Harness(run, replay_always=replay_always) as harness:
        session = await harness.start(run)
        await session.park()
        await session.answer(True)
        assert await session.result() == "Hello"
        assert await steps_of(session) == ["model.request"]
    assert [(one["tools"], one["tool_choice"]) for one in asked] == [(["find"], "any")]


def test_what_is_no_chat_model_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"takes a chat model, not RunnableLambda"):
        durable_model(RunnableLambda(str))
