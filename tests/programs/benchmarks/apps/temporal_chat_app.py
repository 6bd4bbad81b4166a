"""A worker of Temporal with a chat of Pydantic AI, and who talks to it. Arguments: address, first turn, last turn.

It prints a line of JSON: what each turn took, in wall and CPU milliseconds, and what the server has stored. The first
turn of a worker that is new waits until it has executed the workflow again from the beginning of its newest run.
"""

import asyncio
import json
import sys
import time
from typing import Any

from pydantic_ai.durable_exec.temporal import PydanticAIPlugin
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.worker import Worker

from tests.programs.benchmarks.apps.chat_script import message
from tests.programs.benchmarks.apps.temporal_chat_workflow import Chat

CHAT, QUEUE = "chat-1", "chats"


async def say(handle: WorkflowHandle[Any, Any], turn: int) -> list[float]:
    """One turn, until its reply is here: wall and CPU milliseconds."""
    cpu_s, began_s = time.process_time(), time.perf_counter()
    reply = await handle.execute_update(Chat.say, message(turn))
    assert str(reply).startswith(f"{turn}:"), reply
    return [1000 * (time.perf_counter() - began_s), 1000 * (time.process_time() - cpu_s)]


async def stored(client: Client) -> tuple[int, int]:
    """The bytes of the histories of all of its runs, and how many those are."""
    sizes = []
    async for found in client.list_workflows(f"WorkflowId = '{CHAT}'"):
        run = client.get_workflow_handle(CHAT, run_id=found.run_id)
        described = await run.describe()
        sizes.append(described.raw_description.workflow_execution_info.history_size_bytes)
    return sum(sizes), len(sizes)


async def main(address: str, first: int, last: int) -> None:
    client = await Client.connect(address, plugins=[PydanticAIPlugin()])
    cpu_s, began_s = time.process_time(), time.perf_counter()
    async with Worker(client, task_queue=QUEUE, workflows=[Chat]):
        if first == 1:
            await client.start_workflow(Chat.run, [], id=CHAT, task_queue=QUEUE)
        handle = client.get_workflow_handle(CHAT)
        turns = [await say(handle, turn) for turn in range(first, last + 1)]
        started = [1000 * (time.perf_counter() - began_s), 1000 * (time.process_time() - cpu_s)]
        described = await handle.describe()
        assert described.status is WorkflowExecutionStatus.RUNNING, described.status
    size, runs = await stored(client)
    told = {"started": started, "turns": turns, "bytes": size, "runs": runs}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
