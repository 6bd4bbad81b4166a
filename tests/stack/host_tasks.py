"""Tasks of which very many live in a host at once, and hostile ones beside them."""

from __future__ import annotations

import asyncio
import os
import threading
import time

from helmr import step, streams, task

LEAKED_BYTES = 10_000_000

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


@step(timeout="2s")
def endless() -> None:
    """A thread that never ends."""
    while True:
        time.sleep(0.05)


@task(id="holds-a-thread")
async def holds_a_thread(payload: None) -> None:
    """Goes on into a step that does not end."""
    await go.wait()
    await endless()


@task(id="spins")
async def spins(payload: None) -> None:
    """Takes all of the processor that it gets."""
    await go.wait()
    while True:
        pass


@task(id="leaks")
async def leaks(way: str) -> None:
    """Takes 100 MB more each second, and keeps them."""
    await go.wait()
    kept: list[bytes] = []
    while True:
        kept.append(b"x" * LEAKED_BYTES)
        if way == "awaits":
            await asyncio.sleep(0.1)
        else:
            _block(0.1)


@task(id="leaves-threads")
async def leaves_threads(payload: None) -> None:
    """Waits again while a thread that it has started ends the process."""
    for _ in range(10):
        await go.wait()
        threading.Thread(target=_exit_soon, daemon=True).start()


def _block(seconds: float) -> None:
    time.sleep(seconds)


def _exit_soon() -> None:
    time.sleep(0.5)
    os._exit(9)
