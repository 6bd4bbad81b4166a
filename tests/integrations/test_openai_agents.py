"""Agents of the OpenAI Agents SDK in durable runs: steps, approvals, handoffs, MCP."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    LocalShellTool,
    Model,
    ModelProvider,
    ModelResponse,
    RunConfig,
    Usage,
    function_tool,
    handoff,
)
from agents.mcp import MCPServer, MCPServerStdio
from agents.testing import ScriptedModel, assistant_message, function_call
from mcp.types import CallToolResult
from mcp.types import Tool as McpTool
from openai.types.responses import ResponseCompletedEvent, ResponseTextDeltaEvent

from helmr import step, streams, task
from helmr.examples import openai_agents_support
from helmr.integrations.openai_agents import run
from helmr.testing import Harness, HarnessSession, RunFailed

go = streams.input("go", schema=bool)

both = pytest.mark.parametrize("replay_always", [False, True], ids=["once", "replayed"])


class Calls(Model):
    """Calls these tools, all at once, and then says what came of it."""

    def __init__(self, *calls: tuple[str, dict[str, Any]]) -> None:
        self.calls = calls

    async def get_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> ModelResponse:
        items = [] if isinstance(input, str) else input
        names = {name for name, _ in self.calls}
        returned = [
            i["output"]
            for i in items
            if i.get("type") == "function_call_output" and i["call_id"].rpartition("-")[0] in names
        ]
        if len(returned) < len(self.calls):
            output = [
                function_call(name, arguments, call_id=f"{name}-{n}")
                for n, (name, arguments) in enumerate(self.calls)
            ]
        else:
            output = [assistant_message("; ".join(map(str, returned[-len(self.calls) :])))]
        return ModelResponse(output=output, usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class Says(Calls):
    """Says one thing."""

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse([assistant_message("said")], usage=Usage(), response_id=None)


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
        ({"decision": "decline"}, "Tool execution was not approved."),
    ],
    ids=["approved", "edited", "declined", "declined without a word"],
)
async def test_a_person_approves_edits_or_declines(
    answer: dict[str, Any], said: str, replay_always: bool
) -> None:
    async with Harness(openai_agents_support.support, replay_always=replay_always) as harness:
        session = await harness.start("openai-agents-support", "refund ada")
        wait = await session.wait()
        assert wait["subject"] == "Call refund?"
        assert wait["correlation_id"] == "call-2"
        await session.kill()
        await session.answer(answer, on_behalf_of="bob")
        assert await session.result() == f"ada is a customer; {said}"
        assert await steps_of(session) == [
            "model.request",
            "tool.look_up",
            *(["tool.refund"] if answer["decision"] == "approve" else []),
            "model.request",
        ]


async def test_nobody_approves_in_time() -> None:
    async with Harness(openai_agents_support.support) as harness:
        session = await harness.start("openai-agents-support", "refund ada")
        await harness.advance("3d")
        assert await session.result() == "ada is a customer; No one answered in time."


async def test_outside_a_run_it_is_the_sdks_own_run() -> None:
    config = RunConfig(tracing_disabled=True)
    result = await run(openai_agents_support.agent, "refund ada", run_config=config)
    assert [item.name for item in result.interruptions] == ["refund"]


# --- many tools at once

pace = iter(range(10**6))


@function_tool
async def later(n: int) -> str:
    """In another order each time."""
    await asyncio.sleep(next(pace) * 7 % 5 / 200)
    return str(n)


@function_tool
def in_a_thread(n: int) -> str:
    """In another order each time."""
    time.sleep(next(pace) * 7 % 5 / 200)
    return str(n)


many = Agent(
    name="many",
    model=Calls(*(("later" if n % 2 else "in_a_thread", {"n": n}) for n in range(6))),
    tools=[later, in_a_thread],
)


@task(id="many-tools")
async def many_tools(prompt: str) -> list[str]:
    first = (await run(many, prompt)).final_output
    await go.wait()
    second, third = await asyncio.gather(run(many, prompt), run(many, prompt))
    await go.wait()
    return [first, second.final_output, third.final_output]


@both
async def test_tools_that_run_at_once_replay_exactly(replay_always: bool) -> None:
    async with Harness(many_tools, replay_always=replay_always) as harness:
        session = await harness.start("many-tools", "x")
        for _ in range(2):
            await session.kill()
            await session.send("go", True)
        assert await session.result() == ["0; 1; 2; 3; 4; 5"] * 3
        assert len(await steps_of(session)) == 3 * (2 + 6)


# --- handoffs, in a circle


@step
async def noted(text: str) -> str:
    return f"noted {text}"


@function_tool
async def ask() -> str:
    """Wait in the tool."""
    return await noted(str(await go.wait().unwrap()))


desk = Agent(name="desk", model=Calls(("ask", {})), tools=[ask])
front = Agent(name="front", model=Calls(("transfer_to_desk", {})), handoffs=[handoff(desk)])
desk.handoffs = [front]


@task(id="handed")
async def handed(prompt: str) -> str:
    result = await run(front, prompt, inline=["ask"])
    return f"{result.last_agent.name}: {result.final_output}"


@both
async def test_a_handoff_leads_to_a_durable_agent_whose_inline_tool_waits(
    replay_always: bool,
) -> None:
    async with Harness(handed, replay_always=replay_always) as harness:
        session = await harness.start("handed", "x")
        await session.kill()
        await session.send("go", True)
        assert await session.result() == "desk: noted True"
        assert await steps_of(session) == [
            "model.request",
            "model.request",
            "noted",
            "model.request",
        ]
    assert isinstance(desk.model, Calls)  # the user's agents are as they were


# --- models by name, tools that can't be steps


class Provider(ModelProvider):
    def get_model(self, model_name: str | None) -> Model:
        assert model_name == "small"
        return Says()


@task(id="by-name")
async def by_name(prompt: str) -> str:
    config = RunConfig(model_provider=Provider(), tracing_disabled=True)
    agent = Agent(name="by-name", model="small")
    return str((await run(agent, prompt, run_config=config)).final_output)


async def test_a_model_that_is_named_is_durable_too() -> None:
    async with Harness(by_name) as harness:
        session = await harness.start("by-name", "x")
        assert await session.result() == "said"
        assert await steps_of(session) == ["model.request"]


@task(id="shell")
async def shell(prompt: str) -> str:
    agent = Agent(name="shell", model=Says(), tools=[LocalShellTool(executor=lambda r: "")])
    return str((await run(agent, prompt)).final_output)


def asks_itself() -> Agent[Any]:
    refund = function_tool(_pay, needs_approval=True, name_override="refund")
    return Agent(name="biller", model=Says(), tools=[refund])


def asks_by_a_condition() -> Agent[Any]:
    async def is_much(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        return True

    refund = function_tool(_pay, needs_approval=is_much, name_override="refund")
    return Agent(name="biller", model=Says(), tools=[refund])


def asks_after_a_handoff() -> Agent[Any]:
    return Agent(name="front", model=Says(), handoffs=[handoff(asks_itself())])


def asks_deeper() -> Agent[Any]:
    return Agent(name="middle", model=Says(), tools=[asks_itself().as_tool("deep", "Bills")])


def asks_for_its_server() -> Agent[Any]:
    server = MCPServerStdio({"command": "none"}, name="files", require_approval="always")
    return Agent(name="biller", model=Says(), mcp_servers=[server])


def asks_in_a_circle() -> Agent[Any]:
    biller = asks_itself()
    front = Agent[Any](name="front", model=Says(), handoffs=[biller])
    biller.handoffs = [front]
    return front


async def _pay(cents: int) -> str:
    """Pay money back."""
    raise AssertionError("nobody approved it")


@pytest.mark.parametrize(
    "make",
    [
        asks_itself,
        asks_by_a_condition,
        asks_after_a_handoff,
        asks_deeper,
        asks_for_its_server,
        asks_in_a_circle,
    ],
)
@pytest.mark.parametrize("is_handed_to", [False, True], ids=["first", "handed to"])
async def test_an_agent_as_a_tool_that_would_ask_people_is_refused_at_once(
    make: Any, *, is_handed_to: bool
) -> None:
    asked = ScriptedModel([])
    outer = Agent[Any](name="outer", model=asked, tools=[make().as_tool("bill", "Bills")])
    first = Agent[Any](name="first", model=asked, handoffs=[handoff(outer)])

    @task(id="asks")
    async def asks(prompt: str) -> None:
        await run(first if is_handed_to else outer, prompt)

    async with Harness(asks) as harness:
        session = await harness.start(asks, "x")
        with pytest.raises(RunFailed, match=r"agent as a tool, and its .* needs approval"):
            await session.result()
    assert not asked.calls, "no model has been asked"


async def test_an_agent_as_a_tool_that_asks_no_one_is_a_step() -> None:
    off = function_tool(_pay, needs_approval=True, is_enabled=False)
    inner = Agent[Any](name="inner", model=Says(), tools=[off])
    outer = Agent[Any](
        name="outer", model=Calls(("inner", {"input": "x"})), tools=[inner.as_tool("inner", "Says")]
    )

    @task(id="asks")
    async def asks(prompt: str) -> str:
        return str((await run(outer, prompt)).final_output)

    async with Harness(asks, replay_always=True) as harness:
        session = await harness.start(asks, "x")
        assert await session.result() == "said"
        assert await steps_of(session) == ["model.request", "tool.inner", "model.request"]


async def test_a_tool_that_the_sdk_executes_itself_is_refused() -> None:
    async with Harness(shell) as harness:
        with pytest.raises(RunFailed, match="executed again at each resume"):
            await (await harness.start("shell", "x")).result()


# --- words as they come

replies = streams.output("replies", schema=str)


class Breaks(Says):
    """A response that breaks off at the first try; the second one ends well, its items said one by one."""

    def __init__(self) -> None:
        self.tries = 0

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        self.tries += 1
        script = ScriptedModel([[assistant_message("said")]])
        async for event in script.stream_response(*args, **kwargs):
            if isinstance(event, ResponseCompletedEvent):
                if self.tries == 1:
                    return
                event.response.output = []
            yield event


def show(event: Any) -> None:
    if isinstance(event, ResponseTextDeltaEvent):
        replies.emit(event.delta)


@task(id="streams")
async def streams_words(prompt: str) -> Any:
    agent = Agent(name="streams", model=breaks)
    result = await run(agent, prompt, on_event=show)
    return [result.final_output, result.raw_responses[0].usage.requests]


breaks = Breaks()


@both
async def test_a_response_that_breaks_off_is_asked_for_again(replay_always: bool) -> None:
    breaks.tries = 0
    async with Harness(streams_words, replay_always=replay_always) as harness:
        session = await harness.start("streams", "x")
        assert await session.result() == ["said", 1]
        assert "".join(await session.chunks("replies")) == "saidsaid"
        assert await steps_of(session) == ["model.request"]
    assert breaks.tries == 2


async def test_outside_a_run_nothing_is_streamed() -> None:
    seen: list[Any] = []
    agent = Agent(name="streams", model=Says())
    config = RunConfig(tracing_disabled=True)
    result = await run(agent, "x", on_event=seen.append, run_config=config)
    assert (result.final_output, seen) == ("said", [])


# --- MCP


class Numbers(MCPServer):
    """A server in this process that counts its sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = 0
        self.connected = False

    @property
    def name(self) -> str:
        return "numbers"

    async def connect(self) -> None:
        assert not self.connected
        self.sessions += 1
        self.connected = True

    async def cleanup(self) -> None:
        self.connected = False

    async def __aenter__(self) -> Numbers:
        await self.connect()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.cleanup()

    async def list_tools(self, *args: Any, **kwargs: Any) -> list[McpTool]:
        assert self.connected
        return [McpTool.model_validate({"name": "add", "inputSchema": {"type": "object"}})]

    async def call_tool(self, tool_name: str, arguments: Any, meta: Any = None) -> CallToolResult:
        assert self.connected
        await asyncio.sleep(0.01)
        text = str(arguments["a"] + arguments["b"])
        return CallToolResult.model_validate({"content": [{"type": "text", "text": text}]})

    async def list_prompts(self) -> Any:
        raise NotImplementedError

    async def get_prompt(self, name: str, arguments: Any = None) -> Any:
        raise NotImplementedError


in_process = Numbers()
over_stdio = MCPServerStdio(
    {
        "command": sys.executable,
        "args": [str(Path(__file__).parents[1] / "ordinary" / "mcp_server.py")],
    },
    name="numbers",
    client_session_timeout_seconds=30,
)


def adder(server: MCPServer) -> Agent[Any]:
    model = Calls(("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4}))
    return Agent(name="adds", model=model, mcp_servers=[server])


@task(id="adds")
async def adds(kind: str) -> list[str]:
    server = in_process if kind == "in process" else over_stdio
    first = (await run(adder(server), "x")).final_output
    await go.wait()
    return [first, (await run(adder(server), "x")).final_output]


@pytest.mark.parametrize(
    ("kind", "replay_always"),
    [
        ("in process", False),
        ("in process", True),
        pytest.param("stdio", True, marks=[pytest.mark.long, pytest.mark.timeout(300)]),
    ],
    ids=["once", "replayed", "stdio-replayed"],
)
async def test_what_an_mcp_server_is_asked_are_steps(kind: str, replay_always: bool) -> None:
    in_process.sessions = 0
    async with Harness(adds, replay_always=replay_always) as harness:
        session = await harness.start("adds", kind)
        await session.kill()
        await session.send("go", True)
        first, second = await session.result()
        assert first == second
        assert "3" in first
        assert "7" in first
        names = await steps_of(session)
        assert names.count("mcp.numbers.add") == 4
        asked = [name for name in names if name.startswith("mcp.")]
        assert kind == "stdio" or in_process.sessions == len(asked)


class Much(Numbers):
    """Answers more than anybody takes."""

    async def call_tool(self, tool_name: str, arguments: Any, meta: Any = None) -> CallToolResult:
        return CallToolResult.model_validate(
            {"content": [{"type": "text", "text": "x" * 2_000_000}]}
        )


much = Much()


@function_tool
def dumps() -> str:
    """Much more than is asked for."""
    return "x" * 2_000_000


@task(id="asks-for-too-much")
async def asks_for_too_much(payload: str) -> list[str]:
    of_tool: Agent[Any] = Agent(name="tool", model=Calls(("dumps", {})), tools=[dumps])
    of_server: Agent[Any] = Agent(
        name="server", model=Calls(("add", {"a": 1, "b": 2})), mcp_servers=[much]
    )
    said = [str((await run(agent, payload)).final_output) for agent in (of_tool, of_server)]
    await go.wait()
    return said


@both
async def test_the_model_is_told_that_a_tools_result_is_too_large(replay_always: bool) -> None:
    async with Harness(asks_for_too_much, replay_always=replay_always) as harness:
        session = await harness.start("asks-for-too-much", "x")
        await session.send("go", True)
        for said in await session.result():
            assert "too large to be passed on" in said
