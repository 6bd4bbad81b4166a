"""An agent that awaits its model, again and again; and one that is sent messages."""

import asyncio

from helmr import step, streams, task

messages = streams.input("messages", schema=str)


@step
async def model(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "a thought"


@task(id="thinks")
async def thinks(times: int) -> int:
    """So many steps of two seconds."""
    for _ in range(times):
        await model(2.0)
    return times


@task(id="takes")
async def takes(payload: None) -> None:
    """Every message, for as long as it is open."""
    while True:
        await messages.wait().unwrap()
