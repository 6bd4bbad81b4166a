"""A chat of Pydantic AI as a workflow of DBOS, its conversation in a variable, as the page of DBOS's plug-in has it.

One process executes the workflow and talks to it. Arguments: system database URL, first turn, last turn. It prints a
line of JSON: what each turn took, in wall and CPU milliseconds. The first turn of a process that goes on waits until
DBOS has executed the workflow again from its beginning.
"""

import asyncio
import json
import os
import sys
import time

from dbos import DBOS, DBOSConfig, SetWorkflowID
from pydantic_ai import Agent, ModelMessage
from pydantic_ai.durable_exec.dbos import DBOSDurability
from pydantic_ai.models.function import FunctionModel

from tests.programs.benchmarks.apps.chat_script import message, returned, script

WAIT_S = 3_600.0
CHAT = "chat-1"

agent = Agent(FunctionModel(script), name="talker", capabilities=[DBOSDurability()])


@agent.tool_plain
@DBOS.step()
async def look_up(what: str) -> str:
    """Look it up."""
    return returned(what)


@DBOS.workflow()
async def chat() -> None:
    """Answers one message after the other."""
    history: list[ModelMessage] = []
    turn = 0
    while True:
        text = await DBOS.recv_async("messages", timeout_seconds=WAIT_S)
        turn += 1
        result = await agent.run(text, message_history=history)
        history = result.all_messages()
        await DBOS.set_event_async(f"reply-{turn}", result.output)


async def say(turn: int) -> list[float]:
    """One turn, until its reply is seen: wall and CPU milliseconds."""
    cpu_s, began_s = time.process_time(), time.perf_counter()
    await DBOS.send_async(CHAT, message(turn), "messages")
    reply = await DBOS.get_event_async(CHAT, f"reply-{turn}", timeout_seconds=WAIT_S)
    assert str(reply).startswith(f"{turn}:"), reply
    return [1000 * (time.perf_counter() - began_s), 1000 * (time.process_time() - cpu_s)]


async def main(url: str, first: int, last: int) -> None:
    config: DBOSConfig = {
        "name": "chat",
        "system_database_url": url,
        "log_level": "ERROR",
        "application_version": "1",
        "executor_id": "local",
    }
    DBOS(config=config)
    cpu_s, began_s = time.process_time(), time.perf_counter()
    DBOS.launch()
    if first == 1:
        with SetWorkflowID(CHAT):
            await DBOS.start_workflow_async(chat)
    turns = [await say(turn) for turn in range(first, last + 1)]
    started = [1000 * (time.perf_counter() - began_s), 1000 * (time.process_time() - cpu_s)]
    sys.stdout.write(json.dumps({"started": started, "turns": turns}) + "\n")
    sys.stdout.flush()
    os._exit(0)  # the workflow waits for its next message


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
