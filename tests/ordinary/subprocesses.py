"""Programs that task code starts, and MCP servers among them."""

import asyncio
import subprocess
import sys
from typing import Any

import anyio

from helmr import step, task
from tests.ordinary.moments import Places, go_on, thrice

REVERSED = "import sys; print(sys.stdin.read().strip()[::-1])"


@step
async def reverse_exec(text: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-c", REVERSED),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate(text.encode())
    return f"{out.decode().strip()} {process.returncode}"


@step
async def shell(command: str) -> str:
    process = await asyncio.create_subprocess_shell(command, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return f"{out.decode().strip()} {process.returncode}"


@step
async def run_anyio(command: str) -> str:
    done = await anyio.run_process(command, check=False)
    return f"{done.stdout.decode().strip()} {done.returncode}"


@step(timeout="200ms")
async def sleeps_too_long() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "60")
    try:
        await process.wait()
    finally:
        process.kill()
        await process.wait()


@step
def run_sync(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    return f"{done.stdout.strip()} {done.returncode}"


@step
def run_in_a_loop_of_its_own(command: str) -> str:
    async def main() -> str:
        process = await asyncio.create_subprocess_shell(command, stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        return f"{out.decode().strip()} {process.returncode}"

    return asyncio.run(main())


@step
async def add_by_mcp(server: str, a: int, b: int) -> str:
    from mcp import ClientSession, StdioServerParameters, stdio_client
    from mcp.types import TextContent

    parameters = StdioServerParameters(command=sys.executable, args=[server])
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        called = await session.call_tool("add", {"a": a, "b": b})
    block = called.content[0]
    assert isinstance(block, TextContent)
    return block.text


async def subprocess_exec(places: Places) -> Any:
    return await asyncio.gather(*(reverse_exec(text) for text in ("abc", "def")))


async def subprocess_shell(places: Places) -> Any:
    return await shell("echo hello; exit 3")


async def anyio_run_process(places: Places) -> Any:
    return await run_anyio("echo hello; exit 3")


async def subprocess_ended_by_a_time_limit(places: Places) -> Any:
    await sleeps_too_long()


async def subprocess_in_a_sync_step(places: Places) -> Any:
    return await run_sync("echo hello; exit 3")


async def asyncio_run_in_a_sync_step(places: Places) -> Any:
    return await run_in_a_loop_of_its_own("echo hello; exit 3")


async def subprocess_outside_steps(places: Places) -> Any:
    """Runs again at each replay, and works."""
    process = await asyncio.create_subprocess_shell("echo again", stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode().strip()


async def mcp_over_stdio(places: Places) -> Any:
    return await add_by_mcp(places.mcp_server, 2, 3)


HABITS = (
    subprocess_exec,
    subprocess_shell,
    anyio_run_process,
    subprocess_ended_by_a_time_limit,
    subprocess_in_a_sync_step,
    asyncio_run_in_a_sync_step,
    subprocess_outside_steps,
    mcp_over_stdio,
)


@task(id="subprocesses", streams=[go_on])
async def subprocesses(places: Places) -> dict[str, list[Any]]:
    return await thrice("subprocesses", HABITS, places)
