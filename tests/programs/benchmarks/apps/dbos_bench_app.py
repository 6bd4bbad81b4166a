"""The three tasks of the benchmark, for DBOS behind FastAPI. Arguments: port, system database URL."""

import asyncio
import sys
from typing import Any

import uvicorn
from dbos import DBOS, DBOSConfig
from fastapi import FastAPI

WAIT_S = 900.0
INBOX = 50

app = FastAPI()


@DBOS.workflow()
async def chat(turns: int) -> int:
    """Gives each message back."""
    await DBOS.set_event_async("waits", True)
    for turn in range(turns):
        message = await DBOS.recv_async("messages", timeout_seconds=WAIT_S)
        await DBOS.set_event_async(f"reply-{turn}", message)
    return turns


@DBOS.step()
async def work(duration_s: float) -> str:
    await asyncio.sleep(duration_s)
    return "done"


@DBOS.workflow()
async def busy(duration_s: float) -> str:
    """One step that awaits."""
    done: str = await work(duration_s)
    await DBOS.set_event_async("reply-0", done)
    return done


@DBOS.step()
async def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
async def steps() -> int:
    """Three steps, one after the other."""
    done: int = await add_one(await add_one(await add_one(0)))
    await DBOS.set_event_async("reply-0", done)
    return done


@app.post("/chats")
async def begin_chat(body: dict[str, Any]) -> dict[str, str]:
    handle = await DBOS.start_workflow_async(chat, body["turns"])
    return {"id": handle.workflow_id}


@app.post("/busy")
async def begin_busy(body: dict[str, Any]) -> dict[str, str]:
    handle = await DBOS.start_workflow_async(busy, body["duration_s"])
    return {"id": handle.workflow_id}


@app.post("/steps")
async def begin_steps() -> dict[str, str]:
    handle = await DBOS.start_workflow_async(steps)
    return {"id": handle.workflow_id}


@app.get("/inbox")
async def inbox() -> dict[str, int]:
    """The newest that have not ended. Those that a restart takes up again are queued before they run."""
    found = await DBOS.list_workflows_async(
        status=["PENDING", "ENQUEUED"], limit=INBOX, sort_desc=True
    )
    return {"count": len(found)}


@app.post("/sessions/{session}/messages")
async def send(session: str, body: dict[str, Any]) -> dict[str, bool]:
    await DBOS.send_async(session, body["message"], "messages")
    return {"sent": True}


@app.get("/sessions/{session}/events/{name}")
async def event(session: str, name: str) -> dict[str, Any]:
    """The event's value, when it is there."""
    return {"value": await DBOS.get_event_async(session, name, timeout_seconds=WAIT_S)}


@app.get("/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}


if __name__ == "__main__":
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": sys.argv[2],
        "log_level": "WARNING",
    }
    DBOS(config=config)
    DBOS.launch()
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
