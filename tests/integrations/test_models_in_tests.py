"""A test gives an agent another model, by its framework's own way or by the harness.

Context variables of the test reach the run.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest
from agents import Agent as OpenAIAgent
from agents.testing import ScriptedModel, assistant_message
from langchain_core.language_models import FakeListChatModel
from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from helmr import streams, task
from helmr.errors import UsageError
from helmr.integrations.langgraph import durable_model
from helmr.integrations.openai_agents import run
from helmr.integrations.pydantic_ai import HelmrDurability
from helmr.testing import Harness, HarnessSession
from tests.integrations.test_openai_agents import Says

go = streams.input("go", schema=bool)
both = pytest.mark.parametrize("replay_always", [False, True], ids=["once", "replayed"])
customer: ContextVar[str] = ContextVar("customer", default="no one")


def real(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse(parts=[TextPart("real")])


def fake(text: str = "fake") -> TestModel:
    return TestModel(custom_output_text=text)


small = FunctionModel(real, model_name="small")
agent = Agent(
    FunctionModel(real), name="asks", capabilities=[HelmrDurability(models={"small": small})]
)
openai_agent = OpenAIAgent(name="asks", model=Says())
chat = durable_model(FakeListChatModel(responses=["real"]))


@task(id="pydantic-ai")
async def with_pydantic_ai(prompt: str) -> list[str]:
    first = (await agent.run(prompt)).output
    await go.wait()
    return [first, (await agent.run(prompt)).output]


@task(id="openai-agents")
async def with_openai_agents(prompt: str) -> list[str]:
    first = str((await run(openai_agent, prompt)).final_output)
    await go.wait()
    return [first, str((await run(openai_agent, prompt)).final_output)]


@task(id="langgraph")
async def with_langgraph(prompt: str) -> list[str]:
    first = str((await chat.ainvoke(prompt)).content)
    await go.wait()
    return [first, str((await chat.bind(stop=["."]).ainvoke(prompt)).content)]


def openai_fake() -> ScriptedModel:
    return ScriptedModel([[assistant_message("fake")], [assistant_message("fake")]])


TASKS: dict[str, tuple[Any, Any, Any]] = {
    "pydantic-ai": (with_pydantic_ai, agent, fake),
    "openai-agents": (with_openai_agents, openai_agent, openai_fake),
    "langgraph": (with_langgraph, chat, lambda: FakeListChatModel(responses=["fake"])),
}


async def ended(session: HarnessSession) -> Any:
    await session.park()
    await session.send("go", True)
    return await session.result()


async def steps_of(session: HarnessSession) -> list[str]:
    return [e.body["name"] for e in await session.transcript() if e.kind == "step.started"]


@both
@pytest.mark.parametrize("name", TASKS)
async def test_a_harness_lets_an_agent_ask_another_model(name: str, replay_always: bool) -> None:
    found, asked, make = TASKS[name]
    before = asked.model
    async with Harness(found, replay_always=replay_always) as harness:
        harness.model(asked, make())
        session = await harness.start(found, "x")
        assert await ended(session) == ["fake", "fake"]
        names = await steps_of(session)
    assert asked.model is before
    async with Harness(found) as harness:
        session = await harness.start(found, "x")
        assert "fake" not in await ended(session)
        assert await steps_of(session) == names, "another model changes nothing of the journal"


async def test_what_has_no_model_is_refused() -> None:
    async with Harness(with_pydantic_ai) as harness:
        with pytest.raises(UsageError, match="Says has no model that could be replaced"):
            harness.model(Says(), fake())


@both
async def test_an_override_around_the_harness_reaches_the_run(replay_always: bool) -> None:
    with agent.override(model=fake()):
        async with Harness(with_pydantic_ai, replay_always=replay_always) as harness:
            session = await harness.start(with_pydantic_ai, "x")
            assert await ended(session) == ["fake", "fake"]


async def test_an_override_around_a_start_is_that_sessions_own() -> None:
    async with Harness(with_pydantic_ai) as harness:
        with agent.override(model=fake("one")):
            one = await harness.start(with_pydantic_ai, "x")
        with agent.override(model=fake("two")):
            two = await harness.start(with_pydantic_ai, "x")
        three = await harness.start(with_pydantic_ai, "x")
        assert await ended(one) == ["one", "one"]
        assert await ended(two) == ["two", "two"]
        assert await ended(three) == ["real", "real"]


async def test_a_model_by_its_name_and_by_itself() -> None:
    @task(id="ways")
    async def ways(prompt: str) -> list[str]:
        by_name = (await agent.run(prompt, model="small")).output
        by_itself = (await agent.run(prompt, model=small)).output
        another = (await agent.run(prompt, model=fake("another"))).output
        with agent.override(model=fake("overridden")):
            return [by_name, by_itself, another, (await agent.run(prompt)).output]

    async with Harness(ways, replay_always=True) as harness:
        session = await harness.start(ways, "x")
        assert await session.result() == ["real", "real", "another", "overridden"]
        named = "asks__model.request.small"
        assert await steps_of(session) == [named, named, *["asks__model.request"] * 2]


@both
async def test_context_variables_of_the_test_reach_the_run(replay_always: bool) -> None:
    @task(id="reads")
    async def reads(prompt: str) -> list[str]:
        first = customer.get()
        customer.set("changed in the run")
        await go.wait()
        return [first, customer.get()]

    async with Harness(reads, replay_always=replay_always) as harness:
        nobody = await harness.start(reads, "x")
        customer.set("ada")
        ada = await harness.start(reads, "x")
        assert await ended(nobody) == ["no one", "changed in the run"]
        assert await ended(ada) == ["ada", "changed in the run"]
        assert customer.get() == "ada"
