"""Graphs of LangGraph in durable runs: interrupts as waits, nodes and chat models as steps."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    FakeMessagesListChatModel,
)
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from typing_extensions import TypedDict

from helmr import streams, task
from helmr.errors import SchemaMismatch, UsageError
from helmr.examples import langgraph_letter
from helmr.integrations.langgraph import durable, durable_model, run_graph
from helmr.testing import Harness, HarnessSession, RunFailed

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
