"""Tasks for the runtimes that these tests start."""

from __future__ import annotations

import asyncio
import os
import time

from helmr import step, streams, task

approval = streams.input("approval", schema=bool)


@step
async def remember(text: str) -> str:
    """A side effect that is recorded once."""
    return text


@task(id="ask")
async def ask(question: str) -> str:
    """Asks once."""
    said = await approval.wait(subject=question).unwrap()
    return await remember("yes" if said else "no")


@task(id="vanish")
async def vanish(payload: None) -> None:
    """Ends its process each time it runs."""
    os._exit(3)


@task(id="sleepy")
async def sleepy(seconds: float) -> str:
    """Awaits in a step, then asks."""
    await doze(seconds)
    return "yes" if await approval.wait(subject="Awake?").unwrap() else "no"


@task(id="toils")
async def toils(seconds: float) -> str:
    """Keeps a thread busy in a step, then asks."""
    await toil(seconds)
    return "yes" if await approval.wait(subject="Tired?").unwrap() else "no"


@step
def toil(seconds: float) -> None:
    """Holds its thread."""
    time.sleep(seconds)


@step
async def doze(seconds: float) -> None:
    """Sleeps."""
    await asyncio.sleep(seconds)
