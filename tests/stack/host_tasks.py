"""Tasks of which very many live in a host at once, and one that ends the process it is in."""

from __future__ import annotations

import asyncio
import os

from helmr import step, streams, task

go = streams.input("go", schema=str)


@step
async def model(seconds: float) -> str:
    """As an agent that awaits a model."""
    await asyncio.sleep(seconds)
    return "ok"


@task(id="agent")
async def agent(seconds: float) -> str:
    """Waits, then awaits."""
    await go.wait()
    return await model(seconds)


@task(id="deadly")
async def deadly(payload: None) -> None:
    """Ends its process whenever it goes on."""
    await go.wait()
    os._exit(9)
