"""One table per adapter: who names the model, with and without a handler of its words, wherever the agent runs.

Each model says its own name, so an answer tells which one was asked.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import pytest
from agents import Agent as OpenAIAgent
from agents import ModelProvider, RunConfig
from agents.testing import ScriptedModel, assistant_message, function_call
from langchain_core.language_models import FakeListChatModel
from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart
from pydantic_ai.messages import AgentStreamEvent
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.tools import RunContext

from helmr import streams, task
from helmr.integrations.langgraph import durable_model
from helmr.integrations.openai_agents import run
from helmr.integrations.pydantic_ai import HelmrDurability
from helmr.testing import Harness

go = streams.input("go", schema=bool)
WHERE = ("outside", "run", "replayed", "killed")
Ask = Callable[[], Awaitable[str]]


async def answers(
    ask: Ask,
    where: str,
    *,
    around_harness: AbstractContextManager[Any],
    around_start: AbstractContextManager[Any],
    prepare: Callable[[Harness], None],
) -> list[str]:
    """What two requests say, with a wait between them."""
    if where == "outside":
        with around_harness, around_start:
            return [await ask(), await ask()]

    @task(id="asks")
    async def asks(prompt: str) -> list[str]:
        first = await ask()
        await go.wait()
        return [first, await ask()]

    with around_harness:
        async with Harness(asks, replay_always=where == "replayed") as harness:
            prepare(harness)
            with around_start:
                session = await harness.start(asks, "x")
            if where == "killed":
                await session.kill()
            await session.send("go", True)
            result: list[str] = await session.result()
            return result


# --- Pydantic AI


def says(name: str) -> FunctionModel:
    async def words(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield name

    def whole(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart(name)])

    return FunctionModel(whole, stream_function=words)


OWN, NAMED, OTHER = says("own"), says("named"), says("other")
TEST = "success (no tool calls)"
"""What the model that is called `test` says."""


class Way(NamedTuple):
    """Who names a model, and what is said then."""

    said: str
    own: Any = OWN
    argument: Any = None
    in_code: Any = None
    around_harness: Any = None
    around_start: Any = None
    in_harness: Any = None


PYDANTIC_AI: dict[str, Way] = {
    "the agent": Way("own"),
    "the agent, by a string": Way(TEST, own="test"),
    "the argument": Way("other", argument=OTHER),
    "the argument, wrapped": Way("other", argument=WrapperModel(OTHER)),
    "the argument, by an id of models=": Way("named", argument="named"),
    "the argument, one of models=": Way("named", argument=NAMED),
    "the argument, by a string": Way(TEST, argument="test"),
    "an override in the code": Way("other", in_code=OTHER),
    "an override in the code, by an id": Way("named", in_code="named"),
    "an override in the code, of a string": Way("other", own="test", in_code=OTHER),
    "an override around the harness": Way("other", around_harness=OTHER),
    "an override around the start": Way("other", around_start=OTHER),
    "an override around the start, by an id": Way("named", around_start="named"),
    "the harness": Way("other", in_harness=OTHER),
    "the harness, of a string": Way("other", own="test", in_harness=OTHER),
    "the harness, by a string": Way(TEST, in_harness="test"),
    "the argument before an override": Way("other", argument=NAMED, in_code=OTHER),
    "the argument before the harness": Way("other", argument=OTHER, in_harness=NAMED),
}


@pytest.mark.parametrize("handler", ["none", "capability", "argument"])
@pytest.mark.parametrize(
    ("who", "where"),
    [
        (who, where)
        for who, where in itertools.product(PYDANTIC_AI, WHERE)
        if where != "outside" or PYDANTIC_AI[who].in_harness is None
    ],
)
async def test_an_agent_of_pydantic_ai_asks_the_model_that_is_named(
    who: str, where: str, handler: str
) -> None:
    way, seen = PYDANTIC_AI[who], []

    async def show(ctx: RunContext[None], events: AsyncIterable[AgentStreamEvent]) -> None:
        seen.extend([event async for event in events])

    durable = HelmrDurability[None](
        models={"named": NAMED}, event_stream_handler=show if handler == "capability" else None
    )
    agent = Agent(way.own, name="asks", capabilities=[durable])
    given: dict[str, Any] = {"event_stream_handler": show} if handler == "argument" else {}
    if way.argument is not None:
        given["model"] = way.argument

    def overridden(model: Any) -> AbstractContextManager[Any]:
        return agent.override(model=model) if model is not None else nullcontext()

    async def ask() -> str:
        with overridden(way.in_code):
            return str((await agent.run("x", **given)).output)

    found = await answers(
        ask,
        where,
        around_harness=overridden(way.around_harness),
        around_start=overridden(way.around_start),
        prepare=lambda harness: (
            harness.model(agent, way.in_harness) if way.in_harness is not None else None
        ),
    )
    assert found == [way.said] * 2
    assert bool(seen) == (handler != "none"), "the handler gets words if there is one"


async def test_two_requests_side_by_side_ask_each_its_own() -> None:
    async def show(ctx: RunContext[None], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for _ in events:
            pass

    agent = Agent(OWN, name="asks", capabilities=[HelmrDurability(event_stream_handler=show)])

    @task(id="asks")
    async def asks(prompt: str) -> list[str]:
        models = [OTHER, OWN, NAMED]
        runs = [agent.run("x", model=model) for model in models]
        return [run.output for run in await asyncio.gather(*runs)]

    async with Harness(asks, replay_always=True) as harness:
        session = await harness.start(asks, "x")
        assert await session.result() == ["other", "own", "named"]


# --- OpenAI Agents SDK


def scripted(name: str) -> ScriptedModel:
    return ScriptedModel([[assistant_message(name)] for _ in range(2)])


class Provider(ModelProvider):
    """Of models by their names; None is the default's."""

    def get_model(self, model_name: str | None) -> ScriptedModel:
        return scripted(model_name or "default")


OPENAI: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "the agent": ("own", lambda: {"own": scripted("own")}),
    "the agent, by a string": ("by name", lambda: {"own": "by name"}),
    "the provider": ("default", lambda: {"own": None}),
    "the run's configuration": ("other", lambda: {"config": scripted("other")}),
    "the run's configuration, by a string": ("by name", lambda: {"config": "by name"}),
    "the harness": ("other", lambda: {"in_harness": scripted("other")}),
    "the harness, of a string": ("other", lambda: {"own": "x", "in_harness": scripted("other")}),
    "the configuration before the harness": (
        "other",
        lambda: {"config": scripted("other"), "in_harness": scripted("harness")},
    ),
    "the agent that it hands off to": ("second", lambda: {"second": scripted("second")}),
}


@pytest.mark.parametrize("has_handler", [False, True], ids=["plain", "on_event"])
@pytest.mark.parametrize(
    ("who", "where"),
    [
        (who, where)
        for who, where in itertools.product(OPENAI, WHERE)
        if where != "outside" or "harness" not in who
    ],
)
async def test_an_agent_of_openai_asks_the_model_that_is_named(
    who: str, where: str, *, has_handler: bool
) -> None:
    said, make = OPENAI[who]
    way: dict[str, Any] = make()
    seen: list[Any] = []
    agent = OpenAIAgent[None](name="asks", model=way.get("own", scripted("own")))
    if "second" in way:
        second = OpenAIAgent[None](name="second", model=way["second"])
        agent.handoffs = [second]
        call = function_call("transfer_to_second", {}, call_id="call-1")
        agent.model = ScriptedModel([[call] for _ in range(2)])

    async def ask() -> str:
        config = RunConfig(
            model=way.get("config"), model_provider=Provider(), tracing_disabled=True
        )
        on_event = seen.append if has_handler else None
        return str((await run(agent, "x", on_event=on_event, run_config=config)).final_output)

    found = await answers(
        ask,
        where,
        around_harness=nullcontext(),
        around_start=nullcontext(),
        prepare=lambda harness: (
            harness.model(agent, way["in_harness"]) if "in_harness" in way else None
        ),
    )
    assert found == [said] * 2
    assert bool(seen) == (has_handler and where != "outside")


# --- LangGraph and LangChain

LANGCHAIN = {
    "the model": "own",
    "the model, bound": "own",
    "the harness": "other",
    "the harness, bound": "other",
}


@pytest.mark.parametrize("has_handler", [False, True], ids=["plain", "on_chunk"])
@pytest.mark.parametrize(
    ("who", "where"),
    [
        (who, where)
        for who, where in itertools.product(LANGCHAIN, WHERE)
        if where != "outside" or "harness" not in who
    ],
)
async def test_a_durable_model_of_langchain_asks_the_model_that_is_named(
    who: str, where: str, *, has_handler: bool
) -> None:
    seen: list[Any] = []
    chat = durable_model(
        FakeListChatModel(responses=["own"]), on_chunk=seen.append if has_handler else None
    )
    asked = chat.bind(stop=["."]) if "bound" in who else chat

    async def ask() -> str:
        return str((await asked.ainvoke("x")).content)

    found = await answers(
        ask,
        where,
        around_harness=nullcontext(),
        around_start=nullcontext(),
        prepare=lambda harness: (
            harness.model(chat, FakeListChatModel(responses=["other"]))
            if "harness" in who
            else None
        ),
    )
    assert found == [LANGCHAIN[who]] * 2
    assert bool(seen) == has_handler
