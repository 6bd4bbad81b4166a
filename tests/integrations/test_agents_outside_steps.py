"""An agent that task code runs as it is, so that no step records what it asks, is named with its line (S-126)."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import pytest
from agents import Agent as OpenAIAgent
from agents import ModelResponse, Runner, Usage
from agents.models.interface import Model
from agents.testing import assistant_message
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from helmr import step, task
from helmr.integrations.openai_agents import run
from helmr.integrations.pydantic_ai import HelmrDurability
from helmr.testing import Harness
from helmr_runtime.replay import outside_steps

pytestmark = pytest.mark.allows_blocking  # frameworks look at files when they are first used


class Greets(Model):
    async def get_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        return ModelResponse(output=[assistant_message("hi")], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


desk = OpenAIAgent(name="desk", model=Greets())
plain = Agent(TestModel(custom_output_text="hi"), name="plain")
durable = Agent(
    TestModel(custom_output_text="hi"), name="durable", capabilities=[HelmrDurability()]
)


@step
async def in_a_step() -> str:
    return (await plain.run("hello")).output + str((await Runner.run(desk, "hello")).final_output)


@task
async def careful(payload: None) -> str:
    said = str((await run(desk, "hello")).final_output)
    return said + (await durable.run("hello")).output + await in_a_step()


@task
async def careless(payload: None) -> str:
    said = str((await Runner.run(desk, "hello")).final_output)  # runner
    async with plain.iter("hello") as steps:  # iter
        async for _ in steps:
            pass
    return said + (await plain.run("hello")).output  # run


LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


def place(mark: str) -> str:
    line = next(i for i, one in enumerate(LINES, 1) if one.endswith(f"  # {mark}"))
    return f"{__file__}:{line}"


async def said_by(found: Any, caplog: pytest.LogCaptureFixture) -> tuple[str, list[str]]:
    outside_steps.forget()
    with caplog.at_level(logging.WARNING, "helmr.run"):
        async with Harness(found) as harness:
            result = await (await harness.start(found, None)).result()
    return result, [one.getMessage() for one in caplog.records if one.name == "helmr.run"]


async def test_agents_that_no_step_records_are_named_with_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    again = f"is called outside of steps: {outside_steps.AGAIN}"
    runs = "call `run` of helmr.integrations.openai_agents in its place"
    makes = "give the agent the capability HelmrDurability"
    assert await said_by(careless, caplog) == (
        "hihi",
        [
            f"{place('runner')}: Runner.run() {again}; {runs}",
            f"{place('iter')}: Agent.iter() {again}; {makes}",
            f"{place('run')}: Agent.run() {again}; {makes}",
        ],
    )


async def test_durable_agents_and_steps_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert await said_by(careful, caplog) == ("hihihihi", [])


async def test_nothing_stays_wrapped_behind_a_harness() -> None:
    watched = [(Runner, "run"), (Runner, "run_streamed"), (Agent, "run"), (Agent, "iter")]
    before = [inspect.getattr_static(owner, name) for owner, name in watched]
    async with Harness(careful):
        within = [inspect.getattr_static(owner, name) for owner, name in watched]
        assert not any(one is other for one, other in zip(before, within, strict=True))
    assert before == [inspect.getattr_static(owner, name) for owner, name in watched]
    assert "run" not in vars(Agent)
