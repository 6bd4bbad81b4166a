"""A framework alone in the process of a runtime, as a step: what `chats.py` takes off from a turn of Helmr's."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from helmr import streams, task
from helmr.steps import step_call
from tests.integrations.long_chats import BARE, Turn

SETTLES_S = 0.02
"""In which the runtime has done what the step's beginning left to do."""

asks = streams.input("asks")
took = streams.output("took")


@task(id="alone")
async def alone(asked: list[str]) -> None:
    """For each message one more turn of the framework behind the items in a file; its wall and CPU milliseconds."""
    chat, items = asked
    made: list[Turn] = []

    async def turn() -> list[float]:
        if not made:
            text = await asyncio.to_thread(Path(items).read_text)
            made.append(await BARE[chat](json.loads(text)))
        await asyncio.sleep(SETTLES_S)
        cpu_s, began_s = time.process_time(), time.perf_counter()
        await made[0]()
        wall_s = time.perf_counter() - began_s
        return [wall_s * 1000, (time.process_time() - cpu_s) * 1000]

    async for _ in asks.iter():
        await took.append(await step_call("alone", turn))
