"""`helmr gate mcp` between the protocol's own client and a server whose effects are counted, on a real runtime."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp_types import CallToolResult, TextContent

from helmr.gate import AGENT_TASK, CALL_TASK
from tests.programs.benchmarks.processes import free_port
from tests.programs.gate import conformance, kills, npm
from tests.programs.gate.runtime import gated_runtime
from tests.stack.live import ROOT, LiveRuntime, until

pytestmark = [pytest.mark.allows_blocking]

RULES = """
[[gate.rule]]
name = "looks"
tool = "shop.look"
matches = {"@readOnlyHint" = "true"}
action = "allow"

[[gate.rule]]
name = "never"
tool = "shop.charge"
matches = {order = "gift*"}
action = "deny"
reason = "Gifts are free."

[[gate.rule]]
name = "ends"
tool = "shop.charge"
matches = {order = "*.ends-*"}
action = "allow"
"""
PROXY = """
import sys
from helmr.features.gate import mcp_proxy
mcp_proxy.HOLD_S, mcp_proxy.AWAY_S = float(sys.argv[1]), 0.5
from helmr.cli.main import invoke
sys.exit(invoke(sys.argv[2:]))
"""
SERVER = [sys.executable, "-m", "tests.programs.gate.effects_server"]
HELD_S, BRIEFLY_S = 30.0, 0.2


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRuntime]:
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "helmr.toml").write_text(RULES)
    one = LiveRuntime(folder, in_process=True)
    try:
        yield one.start()
    finally:
        one.stop()


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    return tmp_path / "effects"


def proxy(
    live: LiveRuntime, effects: Path, hold_s: float, *, url: str = "", remote: str = ""
) -> StdioServerParameters:
    """What a client starts in place of the server."""
    server = [f"--server-url={remote}"] if remote else ["--", *SERVER]
    where = ["gate", "mcp", f"--url={url or live.credentials.url}", "--name=shop", *server]
    return StdioServerParameters(
        command=sys.executable,
        args=["-c", PROXY, str(hold_s), *where],
        env={
            "PYTHONPATH": str(ROOT),
            "EFFECTS": str(effects),
            "HELMR_API_KEY": live.credentials.key or "",
        },
        cwd=effects.parent,
    )


@asynccontextmanager
async def client(parameters: StdioServerParameters) -> AsyncIterator[Client]:
    async with Client(parameters) as found:
        yield found


def text(result: Any) -> str:
    assert isinstance(result, CallToolResult)
    (part,) = result.content
    assert isinstance(part, TextContent)
    return part.text


def charged(effects: Path) -> list[str]:
    return effects.read_text().split() if effects.exists() else []


async def asked(live: LiveRuntime, order: str) -> Any:
    """The wait about this order."""

    def found() -> Any:
        waits = (live.client.waits.get(one.id) for one in live.client.waits.list())
        return next((one for one in waits if one.initial["arguments"]["order"] == order), None)

    return await asyncio.to_thread(until, found, within_s=20, what=order)


async def answer(live: LiveRuntime, order: str, **data: Any) -> Any:
    wait = await asked(live, order)
    await asyncio.to_thread(live.client.waits.answer, wait.id, data)
    return wait


def outcomes(live: LiveRuntime, wait: Any) -> list[Any]:
    records = live.client.sessions.open(wait.session_id).input("outcomes").list()
    return [one.data["outcome"] for one in records if "outcome" in one.data]


async def listed(one: Client) -> tuple[Any, ...]:
    """All that is not a call."""
    return (
        await one.list_tools(),
        await one.list_resources(),
        await one.read_resource("shop://terms"),
        await one.list_prompts(),
        await one.get_prompt("apology", {"name": "Ada"}),
    )


@pytest.mark.timeout(150)
async def test_everything_but_calls_passes_and_rules_people_and_edits_decide_those(
    live: LiveRuntime, effects: Path
) -> None:
    plain = StdioServerParameters(
        command=SERVER[0], args=SERVER[1:], env={"PYTHONPATH": str(ROOT)}, cwd=ROOT
    )
    async with client(plain) as one:
        as_it_is = await listed(one)
    async with client(proxy(live, effects, HELD_S)) as one:
        assert await listed(one) == as_it_is
        assert text(await one.call_tool("look", {"order": "a"})) == "a: 3 shirts"
        denied = await one.call_tool("charge", {"order": "gift-1"})
        assert (denied.is_error, text(denied)) == (True, "Gifts are free.")
        # A person allows, and changes what is charged.
        asking = asyncio.ensure_future(one.call_tool("charge", {"order": "b"}))
        wait = await answer(live, "b", decision="approve", arguments={"order": "c"})
        assert "destructiveHint: True" in (wait.body or "")
        assert text(await asking) == "charged c"
        # One that fails, and one that a person declines.
        asking = asyncio.ensure_future(one.call_tool("charge", {"order": "broken"}))
        failed = await answer(live, "broken", decision="approve")
        assert (await asking).is_error
        asking = asyncio.ensure_future(one.call_tool("charge", {"order": "d"}))
        await answer(live, "d", decision="decline", reason="too much")
        refused = await asking
        assert (refused.is_error, text(refused)) == (True, "too much")
        # The server ends in a call.
        with pytest.raises(
            MCPError, match="The server has ended; whether this was done is unknown"
        ):
            await one.call_tool("charge", {"order": "x.ends-after"})
    assert charged(effects) == ["c", "broken", "x.ends-after"]
    assert await asyncio.to_thread(outcomes, live, wait) == ["succeeded"]
    assert await asyncio.to_thread(outcomes, live, failed) == ["failed"]


@pytest.mark.long
async def test_a_server_over_http_stands_behind_it_too(live: LiveRuntime, effects: Path) -> None:
    port = free_port()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "EFFECTS": str(effects)}
    server = await asyncio.create_subprocess_exec(*SERVER, str(port), env=environ, cwd=ROOT)
    try:
        await asyncio.to_thread(until, lambda: listens(port), within_s=20, what="the server")
        remote = f"http://127.0.0.1:{port}/mcp"
        async with client(proxy(live, effects, HELD_S, remote=remote)) as one:
            await one.list_tools()
            assert text(await one.call_tool("look", {"order": "g"})) == "g: 3 shirts"
            denied = await one.call_tool("charge", {"order": "gift-2"})
            assert text(denied) == "Gifts are free."
            asking = asyncio.ensure_future(one.call_tool("charge", {"order": "h"}))
            await answer(live, "h", decision="approve")
            assert text(await asking) == "charged h"
    finally:
        server.terminate()
        await server.wait()
    assert charged(effects) == ["h"]


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.long  # tests/http/test_gate.py
async def test_a_call_that_waits_is_called_again_and_one_approval_counts_once(
    live: LiveRuntime, effects: Path
) -> None:
    parameters = proxy(live, effects, BRIEFLY_S)
    call = {"order": "later"}
    async with client(parameters) as one:
        pending = await one.call_tool("charge", call)
        assert pending.is_error
        assert "Call it again" in text(pending)
    wait = await answer(live, "later", decision="approve")
    # The client has started its server again; the call is the same.
    async with client(parameters) as one:
        await asyncio.to_thread(live.ended, wait.session_id)
        assert text(await one.call_tool("charge", call)) == "charged later"
        assert "Call it again" in text(await one.call_tool("charge", call))
    assert charged(effects) == ["later"]


@pytest.mark.long  # test_gate_hook.py
async def test_without_a_runtime_no_call_is_made(live: LiveRuntime, effects: Path) -> None:
    async with client(proxy(live, effects, HELD_S, url="http://127.0.0.1:9")) as one:
        assert len((await one.list_tools()).tools) == 2
        for tool in ("look", "charge"):
            refused = await one.call_tool(tool, {"order": "e"})
            assert refused.is_error
            assert "Helmr can't ask a person about this call" in text(refused)
    assert charged(effects) == []


@pytest.mark.long
def test_it_ends_with_its_client(live: LiveRuntime, effects: Path) -> None:
    given = proxy(live, effects, HELD_S)
    environ = {**os.environ, **(given.env or {})}
    words = [given.command, *given.args]
    with subprocess.Popen(
        words, env=environ, cwd=given.cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as proxying:
        assert proxying.stdin is not None
        proxying.stdin.close()
        assert proxying.wait(timeout=30) == 0


@pytest.mark.long
async def test_a_call_that_the_client_gives_up_is_not_made(
    live: LiveRuntime, effects: Path
) -> None:
    async with client(proxy(live, effects, HELD_S)) as one:
        asking = asyncio.ensure_future(one.call_tool("charge", {"order": "f"}))
        await asked(live, "f")
        asking.cancel()
        await asyncio.wait([asking])
        await answer(live, "f", decision="approve")
        assert text(await one.call_tool("look", {"order": "f"})) != ""
    assert charged(effects) == []
    assert all(
        one.status == "open" or one.run_status == "succeeded"
        for one in await asyncio.to_thread(lambda: list(live.client.sessions.list(task=CALL_TASK)))
    )


EVERYTHING = npm.program("mcp-server-everything")


@pytest.mark.long
@npm.needs("mcp-server-everything")
async def test_the_protocols_own_server_is_the_same_behind_it(
    live: LiveRuntime, effects: Path
) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    plain = StdioServerParameters(command=str(EVERYTHING), args=["stdio"], env=kept)
    behind = before(live, effects, str(EVERYTHING), "stdio")
    seen = []
    for parameters in (plain, behind):
        async with client(parameters) as one:
            resources = await one.list_resources()
            read = await one.read_resource(str(resources.resources[0].uri))
            lists = (await one.list_tools(), await one.list_prompts(), resources)
            seen.append((lists, read))
    assert seen[0] == seen[1]
    async with client(behind) as one:
        asking = asyncio.ensure_future(one.call_tool("echo", {"message": "hello"}))
        await decide(live, "echo", decision="approve")
        assert "hello" in text(await asking)


FILES = npm.program("mcp-server-filesystem")


@pytest.mark.long
@npm.needs("mcp-server-filesystem")
async def test_a_server_of_files_writes_what_was_approved(
    live: LiveRuntime, effects: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    async with client(before(live, effects, str(FILES), str(folder))) as one:
        tools = {tool.name: tool for tool in (await one.list_tools()).tools}
        assert {"read_text_file", "write_file", "list_directory"} <= set(tools)

        async def write(name: str, **said: Any) -> CallToolResult:
            given = {"path": str(folder / name), "content": "written"}
            asking = asyncio.ensure_future(one.call_tool("write_file", given))
            await decide(live, "write_file", **said)
            return await asking

        assert not (await write("approved", decision="approve")).is_error
        changed = {"path": str(folder / "elsewhere"), "content": "changed"}
        assert not (await write("changed", decision="approve", arguments=changed)).is_error
        denied = await write("denied", decision="decline", reason="not there")
        assert (denied.is_error, text(denied)) == (True, "not there")
    assert {one.name: one.read_text() for one in folder.iterdir()} == {
        "approved": "written",
        "elsewhere": "changed",
    }


def before(live: LiveRuntime, effects: Path, *words: str) -> StdioServerParameters:
    """The proxy before that server."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    behind = proxy(live, effects, HELD_S)
    behind.args = [*(one for one in behind.args if one not in SERVER), *words]
    behind.env = {**(behind.env or {}), **kept}
    return behind


async def decide(live: LiveRuntime, tool: str, **said: Any) -> None:
    """Answer the call of that tool once it waits."""

    def found() -> Any:
        waits = live.client.waits.list(status="pending")
        return next((wait for wait in waits if tool in (wait.subject or "")), None)

    wait = await asyncio.to_thread(until, found, within_s=20, what=tool)
    await asyncio.to_thread(live.client.waits.answer, wait.id, said)


ALLOWS_ALL = """
[[gate.rule]]
tool = "conformance.*"
action = "allow"
"""


@pytest.mark.long
@pytest.mark.timeout(900)
@npm.needs("conformance")
def test_the_conformance_suite_says_the_same_with_and_without_it(tmp_path: Path) -> None:
    server = [sys.executable, "-m", "tests.programs.gate.conformance_server"]
    with gated_runtime(tmp_path, ALLOWS_ALL) as runtime:
        where = [f"--url={runtime.credentials.url}", "--name=conformance", "--", *server]
        behind = [sys.executable, "-m", "helmr.cli", "gate", "mcp", *where]
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HELMR_API_KEY": runtime.credentials.key or "",
        }
        said = []
        for words in (server, behind):
            port = free_port()
            bridge = [sys.executable, "-m", "tests.programs.gate.conformance", str(port), *words]
            with subprocess.Popen(bridge, env=environ, cwd=tmp_path) as serving:
                try:
                    until(partial(listens, port), within_s=20, what="the bridge")
                    folder = tmp_path / f"said-{port}"
                    said.append(conformance.verdicts(f"http://127.0.0.1:{port}/mcp", folder))
                finally:
                    serving.terminate()
        rules = runtime.client.sessions.list(task=AGENT_TASK)
        assert next(iter(rules), None) is not None  # its calls were asked about
    assert said[0] == said[1]
    passed = {name for name, checks in said[0].items() if {one for _, one in checks} == {"SUCCESS"}}
    assert len(passed) >= PASSED_MIN, said[0]


PASSED_MIN = 20
"""Scenarios that pass without the proxy: what fails on both sides would prove little."""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_is_killed_in_between_makes_no_call_without_an_approval(tmp_path: Path) -> None:
    tally = kills.run(tmp_path, clients=4, calls=8, runtime_kills=1, seed=7)
    assert tally.wrong == []
    assert tally.calls == 32
    assert (tally.runtime_kills, tally.connections_lost > 0) == (1, True)
    assert tally.effects > 0
    assert tally.unknown > 0
