"""Tasks whose steps emit chunks."""

from __future__ import annotations

import asyncio
import time

from pydantic import BaseModel

from helmr import step, streams, task

tokens = streams.output("tokens")
go = streams.input("go", schema=str)

longest_s: list[float] = []
"""How long the slowest emit of each step took."""


class Burst(BaseModel):
    """What a step emits."""

    chunks: int
    per_second: float = 0.0
    """As fast as it can if 0."""
    size: int = 0


@step
async def burst(what: Burst) -> int:
    """Emit numbers, evenly."""
    began, slowest = time.perf_counter(), 0.0
    for number in range(what.chunks):
        before = time.perf_counter()
        tokens.emit([number, "x" * what.size])
        slowest = max(slowest, time.perf_counter() - before)
        if what.per_second:
            await asyncio.sleep(max(0.0, began + number / what.per_second - time.perf_counter()))
    longest_s.append(slowest)
    return what.chunks


@task(id="bursts")
async def bursts(what: Burst) -> int:
    """Emits for each word that comes, and appends how much."""
    total = 0
    async for _ in go.iter():
        total += await burst(what)
        await tokens.append(total)
    return total


@step
async def hangs(number: int) -> None:
    """Emit one chunk, and do nothing more."""
    tokens.emit(number)
    await asyncio.sleep(1000)


@task(id="hangs")
async def hanging(number: int) -> None:
    """A step that a test kills its host over."""
    await go.wait()
    await hangs(number)
