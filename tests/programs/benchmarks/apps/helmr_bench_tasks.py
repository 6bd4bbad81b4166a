"""The three tasks of the benchmark, for Helmr."""

import asyncio

from helmr import step, streams, task

messages = streams.input("messages", schema=str)
replies = streams.output("replies", schema=str)


@step
async def work(duration_s: float) -> str:
    await asyncio.sleep(duration_s)
    return "done"


@step
async def add_one(number: int) -> int:
    return number + 1


@task(id="bench-chat")
async def chat(turns: int) -> int:
    """Gives each message back."""
    for _ in range(turns):
        await replies.append(await messages.wait().unwrap())
    return turns


@task(id="bench-busy")
async def busy(duration_s: float) -> str:
    """One step that awaits."""
    return await work(duration_s)


@task(id="bench-steps")
async def steps(number: int) -> int:
    """Three steps, one after the other."""
    return await add_one(await add_one(await add_one(number)))
