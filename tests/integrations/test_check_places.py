"""The line that `helmr check` names for an agent is the task's, and what it advises can be done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from helmr import step, streams, task
from helmr.cli.check import _renamed, _why
from helmr.integrations.pydantic_ai import HelmrDurability
from helmr.testing import Harness

go = streams.input("go", schema=bool)
LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


def agent_named(name: str) -> Agent[None, str]:
    agent = Agent(TestModel(), name=name, capabilities=[HelmrDurability()])

    @agent.tool_plain
    async def look_up(customer: str) -> str:
        return f"{customer} is a customer"

    return agent


support, renamed = agent_named("support"), agent_named("help")


@step
async def noted() -> None:
    """First of all."""


@task(id="asks", streams=[go])
async def before(payload: None) -> Any:
    result = await support.run("ada")
    return [result.output, await go.wait().unwrap()]


@task(id="asks", streams=[go])
async def with_another_name(payload: None) -> Any:
    result = await renamed.run("ada")  # the other agent
    return [result.output, await go.wait().unwrap()]


@task(id="asks", streams=[go])
async def with_a_step(payload: None) -> Any:
    await noted()  # the step in front
    result = await support.run("ada")
    return [result.output, await go.wait().unwrap()]


@pytest.mark.parametrize(
    ("code", "marked", "advice"),
    [
        (with_another_name, "# the other agent", 'HelmrDurability(name="support")'),
        (with_a_step, "# the step in front", "keep their names until the run has ended"),
    ],
)
async def test_an_agents_difference_names_the_line_of_the_task(
    code: Any, marked: str, advice: str
) -> None:
    line = next(number for number, text in enumerate(LINES, 1) if text.endswith(marked))
    async with Harness(before) as harness:
        await harness.start(before, None)
        [found] = await harness.check(code)
    assert found.place is not None
    assert found.place.endswith(f"test_check_places.py:{line}")
    said = _why(found)
    assert said is not None
    assert said.endswith(advice)


@pytest.mark.parametrize(
    ("recorded", "met", "said"),
    [
        ("step charge", "step pay", '@step(formerly=["charge"])'),
        ("step a__model.request", "step b__model.request", 'HelmrDurability(name="a")'),
        ("step node.draft", "step node.write", 'durable(…, formerly=["node.draft"])'),
        ("step tool.look_up", "step tool.find", "keep their names until"),
        ("step model.request", "step noted", "keep their names until"),
        ("step a__function_toolset__<agent>.call_tool:x", "step noted", "keep their names until"),
        ("step charge", "wait go", ""),
        ("wait go", "step charge", ""),
    ],
)
def test_the_advice_fits_what_the_step_is(recorded: str, met: str, said: str) -> None:
    assert said in _renamed(recorded, met)
    assert bool(_renamed(recorded, met)) == bool(said)
    assert ("@step" in _renamed(recorded, met)) == ("@step" in said)
