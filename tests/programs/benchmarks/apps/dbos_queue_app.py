"""Calls to a provider through a queue of DBOS with limits. Arguments: system database URL, and as JSON what is run."""

import asyncio
import json
import sys
from typing import Any

from dbos import DBOS, DBOSConfig

QUEUE = "provider"


@DBOS.step()
async def call(port: int, name: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{name}\n".encode())
        await writer.drain()
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()


@DBOS.workflow()
async def calls(port: int, name: str) -> str:
    """One call, as a session of Helmr's makes it."""
    said: str = await call(port, name)
    return said


async def main(url: str, asked: dict[str, Any]) -> None:
    """All of them, once the queue is there."""
    config: DBOSConfig = {
        "name": "limits",
        "system_database_url": url,
        "log_level": "ERROR",
        "application_version": "1",
        "executor_id": "local",
    }
    DBOS(config=config)
    DBOS.launch()
    await DBOS.register_queue_async(
        QUEUE,
        global_concurrency=asked["at_once"],
        limiter={"limit": asked["per"], "period": asked["within_s"]},
    )
    begun = [
        await DBOS.enqueue_workflow_async(QUEUE, calls, asked["port"], f"call {number}")
        for number in range(asked["sessions"])
    ]
    for one in begun:
        await one.get_result()
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
