"""A runtime that is killed while a task waits, and clients over standard input and output."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, ElicitResult, InputRequiredResult

from tests.console.flow.terminal import Terminal
from tests.features.mcp.clients import TasksExtension, ask, begin, connected
from tests.features.mcp.test_tasks import elicited, task_with
from tests.longer import long_but
from tests.stack.live import ROOT, LiveRuntime

pytestmark = [pytest.mark.slow, pytest.mark.allows_blocking, pytest.mark.timeout(180)]

TASKS = Path(__file__).with_name("asking_tasks.py")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveRuntime]:
    """A runtime in one process, to be killed."""
    one = LiveRuntime(tmp_path, tasks=TASKS, in_process=True)
    yield one.start()
    one.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRuntime]:
    """One for all tests that leave it alive."""
    one = LiveRuntime(tmp_path_factory.mktemp("mcp"), tasks=TASKS, in_process=True)
    yield one.start()
    one.stop()


def stdio(live: LiveRuntime) -> StdioServerParameters:
    """The command that a client starts."""
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "helmr.cli", "mcp", f"--data-dir={live.data_dir}"],
        env={"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(live.folder / "state")},
        cwd=live.folder,
    )


async def answered_in_console(live: LiveRuntime, text: str) -> None:
    """The one wait there is, by keys."""
    terminal = Terminal(120, 36)
    try:
        await terminal.start(live.credentials.url, live.credentials.key, live.folder)
        await terminal.sees("1 wait")
        await terminal.press("a")
        await terminal.sees("What would be sent")
        await terminal.press(text)
        await terminal.sees(f'"{text}"')
        await terminal.press("\x13")
        await terminal.sees("^s sends it.")
        await terminal.press("\x13")
        await terminal.sees("No waits need an answer")
        await terminal.press("q")
        assert await terminal.ended() == 0
    finally:
        await terminal.close()


async def killed_and_started(live: LiveRuntime) -> None:
    """The runtime dies, and another goes on."""
    await asyncio.to_thread(live.kill_all)
    await asyncio.to_thread(live.start)


@pytest.mark.pty
async def test_a_task_outlives_the_runtime_and_an_operator_answers_it(live: LiveRuntime) -> None:
    """The operator sits at a console, on a terminal."""
    place = live.credentials
    async with connected(place.url, place.key, tasks=True, elicited=elicited) as client:
        task = await begin(client, "ask_name", {})
        before = await task_with(client, task["taskId"], "input_required")
    await killed_and_started(live)
    place = live.credentials
    async with connected(place.url, place.key, tasks=True, elicited=elicited) as client:
        after = await task_with(client, task["taskId"], "input_required")
        assert after["inputRequests"] == before["inputRequests"]
        await answered_in_console(live, "Bob")
        done = await task_with(client, task["taskId"], "completed")
        assert done["result"]["content"][0]["text"] == "Hello, Bob!"


@pytest.mark.long  # a task does: the test above
async def test_a_sealed_state_outlives_the_runtime(live: LiveRuntime) -> None:
    place = live.credentials
    async with connected(place.url, place.key, elicited=elicited) as client:
        first = await client.session.call_tool("ask_name", {}, allow_input_required=True)
        assert isinstance(first, InputRequiredResult)
        assert first.input_requests is not None
        [name] = first.input_requests
    await killed_and_started(live)
    place = live.credentials
    async with connected(place.url, place.key, elicited=elicited) as client:
        done = await client.session.call_tool(
            "ask_name",
            {},
            request_state=first.request_state,
            input_responses={name: ElicitResult(action="accept", content={"value": "Ada"})},
        )
        assert done.content[0].text == "Hello, Ada!"  # type: ignore[union-attr]  # a text


@long_but(1, "mode", ["auto", "legacy"])
async def test_a_client_starts_the_command_and_calls(shared: LiveRuntime, mode: Any) -> None:
    async with Client(stdio(shared), mode=mode) as client:
        assert "greet" in {tool.name for tool in (await client.list_tools()).tools}
        found = await asyncio.gather(
            *(client.call_tool("greet", {"name": f"N{n}"}) for n in range(10))
        )
        texts = [result.content[0].text for result in found]  # type: ignore[union-attr]  # texts
        assert texts == [f"Hello, N{n}!" for n in range(10)]


@pytest.mark.long  # test_calls.py
async def test_a_client_over_stdio_answers_what_is_asked(shared: LiveRuntime) -> None:
    async def says(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"value": "Ada"})

    async with Client(stdio(shared), elicitation_callback=says) as client:
        result = await client.call_tool("ask_name", {})
        assert isinstance(result, CallToolResult)
        assert result.content[0].text == "Hello, Ada!"  # type: ignore[union-attr]  # a text


@pytest.mark.long
async def test_a_task_over_stdio_goes_on_when_the_runtime_does(live: LiveRuntime) -> None:
    async with Client(
        stdio(live), extensions=[TasksExtension()], elicitation_callback=elicited
    ) as client:
        task = await begin(client, "ask_name", {})
        asks = await task_with(client, task["taskId"], "input_required")
        port = live.credentials.url.rpartition(":")[2]
        live._arguments = [f"--port={port}" if a == "--port=0" else a for a in live._arguments]
        await killed_and_started(live)
        again = await ask(client, "tasks/get", taskId=task["taskId"])
        assert again["inputRequests"] == asks["inputRequests"]


def test_garbage_over_stdio_is_answered_and_the_end_is_the_end(shared: LiveRuntime) -> None:
    given = stdio(shared)
    lines = [
        b"{",
        b"[]",
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}',
        b'{"a":1,"a":2}',
        b'{"jsonrpc":"2.0","id":7,"method":"no/such"}',
        b'"' + b"x" * 1_400_000 + b'"',
    ]
    with subprocess.Popen(
        [given.command, *given.args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=given.env,
        cwd=given.cwd,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n".join(lines) + b"\n")
        process.stdin.flush()
        said = [json.loads(process.stdout.readline()) for _ in range(5)]
        process.stdin.close()
        assert process.wait(20) == 0
    assert sorted(one["error"]["code"] for one in said) == [-32700, -32700, -32601, -32600, -32600]
    assert [one["id"] for one in said if one["id"] is not None] == [7]


@pytest.mark.long
def test_what_is_under_way_when_the_input_ends_is_answered(shared: LiveRuntime) -> None:
    """As a shell does it: `printf … | helmr mcp`."""
    given = stdio(shared)
    done = subprocess.run(
        [given.command, *given.args],
        input=b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}\n',
        capture_output=True,
        env=given.env,
        cwd=given.cwd,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    [answer] = map(json.loads, done.stdout.splitlines())
    assert answer["id"] == 1
    assert answer.get("result", {}).get("tools") or answer["error"]["code"] != -32603


def test_a_command_without_a_runtime_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "helmr.cli", "mcp", f"--data-dir={tmp_path}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)},
        cwd=tmp_path,
    )
    assert done.returncode == 6
    assert done.stdout == b""
    assert b"helmr up" in done.stderr
