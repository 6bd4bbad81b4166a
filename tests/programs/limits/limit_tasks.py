"""Each session makes one call to a provider, under a limit."""

from __future__ import annotations

import asyncio
import json
import os

from helmr import Limit, step, task

SAID = json.loads(os.environ["HELMR_LIMITS_PROGRAM"])

provider = Limit("provider", at_once=SAID["at_once"], per=SAID["per"], within=SAID["within_s"])
wide = Limit("wide", at_once=10_000)


@step(limit=provider, retries=5)
async def call(name: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", SAID["port"])
    try:
        writer.write(f"{name}\n".encode())
        await writer.drain()
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()


@step
async def free(number: int) -> int:
    return number


@step(limit=wide)
async def bound(number: int) -> int:
    return number


@task(id="steps")
async def steps(payload: dict[str, int]) -> None:
    """So many steps, one after the other, with a permit or without."""
    for number in range(payload["count"]):
        await (bound if payload["is_bound"] else free)(number)


@task(id="calls", limit_key=lambda payload: payload["tenant"])
async def calls(payload: dict[str, str]) -> str:
    return await call(payload["name"])
