"""Agents of Pydantic AI in durable runs: steps, approvals, results from elsewhere, outside events, MCP."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent, CallDeferred, DeferredToolRequests
from pydantic_ai.capabilities import RequestInput
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from helmr import Approval, step, streams, task
from helmr.examples import pydantic_ai_support
from helmr.integrations.pydantic_ai import DeferredToolWaits, HelmrDurability
from helmr.testing import Harness, HarnessSession

go = streams.input("go", schema=bool)
approvals = streams.input("approvals", schema=Approval)
results = streams.input("results")

both = pytest.mark.parametrize("replay_always", [False, True], ids=["once", "replayed"])


def said(messages: list[ModelMessage]) -> list[str]:
    """What tools have returned so far."""
    parts = [part for message in messages for part in message.parts]
    return [str(part.content) for part in parts if isinstance(part, ToolReturnPart)]


def calls(*parts: ToolCallPart) -> FunctionModel:
    """A model that calls these tools, all at once, and then says what came of it."""

    def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        returned = said(messages)
        if returned:
            return ModelResponse(parts=[TextPart("; ".join(returned))])
        return ModelResponse(parts=list(parts))

    return FunctionModel(script)


async def steps_of(session: HarnessSession) -> list[str]:
    return [e.body["name"] for e in await session.transcript() if e.kind == "step.started"]


# --- approvals


@both
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"decision": "approve"}, "refunded 4200 to ada"),
        (
            {"decision": "approve", "arguments": {"customer": "ada", "cents": 10}},
            "refunded 10 to ada",
        ),
        ({"decision": "decline", "reason": "too much"}, "too much"),
        ({"decision": "decline"}, "The tool call was denied."),
    ],
    ids=["approved", "edited", "declined", "declined without a word"],
)
async def test_a_person_approves_edits_or_declines(
    answer: dict[str, Any], said: str, replay_always: bool
) -> None:
    async with Harness(pydantic_ai_support.support, replay_always=replay_always) as harness:
        session = await harness.start("pydantic-ai-support", "refund ada")
        wait = await session.wait()
        assert wait["subject"] == "Call refund?"
        assert wait["schema"]["properties"]["arguments"]["anyOf"][0]["required"] == [
            "customer",
            "cents",
        ]
        await session.kill()
        await session.answer(answer, on_behalf_of="bob")
        assert await session.result() == f"ada is a customer; {said}"


async def test_nobody_approves_in_time() -> None:
    async with Harness(pydantic_ai_support.support) as harness:
        session = await harness.start("pydantic-ai-support", "refund ada")
        await harness.advance("3d")
        assert await session.result() == "ada is a customer; No one answered in time."


async def test_the_names_of_steps_are_those_that_journals_hold() -> None:
    """A change of these strands the sessions that wait."""
    async with Harness(pydantic_ai_support.support) as harness:
        session = await harness.start("pydantic-ai-support", "refund ada")
        await session.answer({"decision": "approve"})
        assert await steps_of(session) == [
            "support__model.request",
            "support__function_toolset__<agent>.call_tool:look_up",
            "support__function_toolset__<agent>.call_tool:refund",
            "support__model.request",
        ]


async def test_outside_a_run_the_agent_works_as_without_helmr() -> None:
    run: Any = await pydantic_ai_support.agent.run(
        "refund ada", output_type=[str, DeferredToolRequests]
    )
    assert isinstance(run.output, DeferredToolRequests)
    assert [call.tool_name for call in run.output.approvals] == ["refund"]


# --- many tools at once

many = Agent(
    calls(*(ToolCallPart("later" if n % 2 else "in_a_thread", {"n": n}) for n in range(6))),
    name="many",
    capabilities=[HelmrDurability()],
)
pace = iter(range(10**6))


@many.tool_plain
async def later(n: int) -> str:
    await asyncio.sleep(next(pace) * 7 % 5 / 200)  # another order each time
    return str(n)


@many.tool_plain
def in_a_thread(n: int) -> str:
    time.sleep(next(pace) * 7 % 5 / 200)
    return str(n)


@task(id="many-tools")
async def many_tools(prompt: str) -> list[str]:
    first = (await many.run(prompt)).output
    await go.wait()
    second, third = await asyncio.gather(many.run(prompt), many.run(prompt))
    await go.wait()
    return [first, second.output, third.output]


@both
async def test_tools_that_run_at_once_replay_exactly(replay_always: bool) -> None:
    async with Harness(many_tools, replay_always=replay_always) as harness:
        session = await harness.start("many-tools", "x")
        for _ in range(2):
            await session.kill()
            await session.send("go", True)
        assert await session.result() == ["0; 1; 2; 3; 4; 5"] * 3
        assert len(await steps_of(session)) == 3 * (2 + 6)


# --- a tool that waits and calls steps of its own


own = Agent(calls(ToolCallPart("ask", {})), name="own", capabilities=[HelmrDurability()])


@step
async def noted(text: str) -> str:
    return f"noted {text}"


@own.tool_plain(metadata={"helmr": False})
async def ask() -> str:
    return await noted(str(await go.wait().unwrap()))


@task(id="own-steps")
async def own_steps(prompt: str) -> str:
    return (await own.run(prompt)).output


@both
async def test_a_tool_that_opts_out_waits_and_calls_steps_itself(replay_always: bool) -> None:
    async with Harness(own_steps, replay_always=replay_always) as harness:
        session = await harness.start("own-steps", "x")
        await session.kill()
        await session.send("go", True)
        assert await session.result() == "noted True"
        assert await steps_of(session) == ["own__model.request", "noted", "own__model.request"]


# --- results of tools that are executed elsewhere

elsewhere = Agent(
    calls(ToolCallPart("survey", {"place": "a"}), ToolCallPart("survey", {"place": "b"})),
    name="elsewhere",
    capabilities=[HelmrDurability(), DeferredToolWaits(calls=results, timeout="1d")],
)


@elsewhere.tool_plain
def survey(place: str) -> str:
    raise CallDeferred


@task(id="elsewhere")
async def run_elsewhere(prompt: str) -> str:
    return (await elsewhere.run(prompt)).output


@both
async def test_results_from_elsewhere_are_waited_for_in_turn(replay_always: bool) -> None:
    async with Harness(run_elsewhere, replay_always=replay_always) as harness:
        session = await harness.start("elsewhere", "x")
        wait = await session.wait()
        assert wait["subject"] == "Call survey?"
        assert '"place": "a"' in wait["body"]
        await session.kill()
        await session.answer({"sqm": 30})
        await harness.advance("2d")
        result = await session.result()
        assert "30" in result
        assert "No one answered in time." in result


# --- outside events


handed: list[str] = []


async def hand_over(ctx: Any, requests: DeferredToolRequests, token: str) -> None:
    handed.append(token)


by_token = Agent(
    calls(ToolCallPart("pay", {"cents": 1}, tool_call_id="call-1")),
    name="by-token",
    capabilities=[HelmrDurability(), RequestInput(hand_over)],
)


@by_token.tool_plain(requires_approval=True)
async def pay(cents: int) -> str:
    return f"paid {cents}"


@task(id="by-token")
async def run_by_token(prompt: str) -> str:
    return (await by_token.run(prompt)).output


@pytest.fixture
def _nothing_handed() -> Iterator[None]:
    handed.clear()
    yield
    handed.clear()


@both
@pytest.mark.usefixtures("_nothing_handed")
async def test_request_input_waits_on_a_token_that_is_handed_over_once(
    replay_always: bool,
) -> None:
    async with Harness(run_by_token, replay_always=replay_always) as harness:
        session = await harness.start("by-token", "x")
        await session.kill()
        await harness.complete_token(handed[0], {"approvals": {"call-1": True}})
        assert await session.result() == "paid 1"
    assert len(handed) == 1


# --- a model that fails


tries: list[int] = []


def flaky(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    tries.append(1)
    if len(tries) < 3:
        raise ConnectionError("busy")
    return ModelResponse(parts=[TextPart("here")])


stubborn = Agent(
    FunctionModel(flaky),
    name="stubborn",
    capabilities=[HelmrDurability(model={"retries": 2, "backoff": "1h"})],
)


@task(id="stubborn")
async def run_stubborn(prompt: str) -> str:
    return (await stubborn.run(prompt)).output


async def test_a_model_request_is_tried_again_as_its_options_say() -> None:
    tries.clear()
    async with Harness(run_stubborn) as harness:
        session = await harness.start("stubborn", "x")
        assert await session.result() == "here"
        assert len(await steps_of(session)) == 1
    assert len(tries) == 3


# --- MCP

numbers = MCPToolset(
    StdioTransport(
        command=sys.executable,
        args=[str(Path(__file__).parents[1] / "ordinary" / "mcp_server.py")],
    ),
    id="numbers",
)
adds = Agent(
    calls(ToolCallPart("add", {"a": 1, "b": 2}), ToolCallPart("add", {"a": 3, "b": 4})),
    name="adds",
    toolsets=[numbers],
    capabilities=[HelmrDurability()],
)


@task(id="adds")
async def run_adds(prompt: str) -> list[str]:
    first = (await adds.run(prompt)).output
    await go.wait()
    return [first, (await adds.run(prompt)).output]


@both
@pytest.mark.allows_blocking
async def test_what_an_mcp_server_is_asked_are_steps(replay_always: bool) -> None:
    async with Harness(run_adds, replay_always=replay_always) as harness:
        session = await harness.start("adds", "x")
        await session.kill()
        await session.send("go", True)
        assert await session.result() == ["3; 7", "3; 7"]
        once = [
            "adds__mcp_server__numbers.get_tools",
            "adds__model.request",
            *["adds__mcp_server__numbers.call_tool"] * 2,
            "adds__model.request",
        ]
        assert await steps_of(session) == once * 2


def dumps() -> str:
    """Much more than is asked for."""
    return "x" * 2_000_000


@task(id="asks-for-too-much")
async def asks_for_too_much(payload: str) -> str:
    agent = Agent(
        calls(ToolCallPart("dumps", {}, "dumps-1")),
        name="much",
        tools=[dumps],
        capabilities=[HelmrDurability()],
    )
    said = str((await agent.run(payload)).output)
    await go.wait()
    return said


@both
async def test_the_model_is_told_that_a_tools_result_is_too_large(replay_always: bool) -> None:
    async with Harness(asks_for_too_much, replay_always=replay_always) as harness:
        session = await harness.start("asks-for-too-much", "x")
        await session.send("go", True)
        assert "too large to be passed on" in await session.result()


# --- new code under an approval that waits


def supporting(*names: str) -> Any:
    """A task whose agent has the same tool under these names."""

    async def pay_back(customer: str, cents: int) -> str:
        """Pay money back."""
        return f"refunded {cents} to {customer}"

    model = calls(ToolCallPart("refund", {"customer": "ada", "cents": 4200}))
    durable = [HelmrDurability[None](), DeferredToolWaits[None](approvals)]
    agent = Agent(model, name="pays", capabilities=durable)
    for name in names:
        agent.tool_plain(name=name, requires_approval=True)(pay_back)

    @task(id="pays", streams=[approvals])
    async def pays(prompt: str) -> str:
        return (await agent.run(prompt)).output

    return pays


@pytest.mark.parametrize(
    ("names", "fits"),
    [(["refund"], True), (["repay", "refund"], True), (["repay"], False)],
    ids=["the function renamed", "both names", "the new name only"],
)
async def test_a_renamed_tool_keeps_its_old_name_while_an_approval_waits(
    names: list[str], *, fits: bool
) -> None:
    async with Harness(supporting("refund")) as harness:
        session = await harness.start("pays", "x")
        await session.park()
        renamed = supporting(*names)
        [found] = await harness.check(renamed)
        assert found.fits is fits
        if not fits:
            return
        harness.deploy(renamed)
        await session.answer({"decision": "approve"})
        assert await session.result() == "refunded 4200 to ada"
