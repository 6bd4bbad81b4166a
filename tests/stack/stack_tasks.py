"""Tasks of the tests on a real runtime. They mark what they do in files: processes here die without a word."""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from helmr import step, streams, task

MARKS = Path(os.environ.get("HELMR_TEST_MARKS", "."))


def mark(name: str) -> None:
    """Leave one character in a file."""
    with (MARKS / name).open("a") as file:
        file.write("x")


class Decision(BaseModel):
    decision: Literal["approve", "reject"]


approval = streams.input("approval", schema=Decision)
messages = streams.input("messages", schema=str)
numbers = streams.output("numbers", schema=int)


@step
async def touch(name: str) -> str:
    mark(name)
    return name


@step
async def stay_in_step(name: str, duration_s: float | None) -> str:
    mark(f"{name}-began")
    if duration_s is not None:
        await asyncio.sleep(duration_s)
    while duration_s is None and not (MARKS / f"{name}-go").exists():
        await asyncio.sleep(0.05)
    mark(name)
    return name


@step
def write_beside() -> str:
    Path("beside.txt").write_text("kept")
    return str(Path.cwd())


@task
async def writes_beside(payload: Any) -> str:
    """Writes a file under a relative name."""
    return await write_beside()


@task
async def approve(payload: dict[str, Any]) -> str:
    """Waits for one decision between two steps."""
    name = payload.get("name", "approve")
    await touch(f"{name}-before")
    decision = await approval.wait(
        timeout=payload.get("timeout", "1h"), correlation_id=name, subject=f"Approve {name}?"
    )
    await touch(f"{name}-after")
    return decision.value.decision if decision.value is not None else "timed out"


@step
async def counts_up(name: str) -> str:
    """Emits numbers for ever the first time, and ten of them the second."""
    mark(name)
    is_first = len((MARKS / name).read_text()) == 1
    for number in range(1_000_000 if is_first else 10):
        numbers.emit(number)
        await asyncio.sleep(0.001)
    return name


@task
async def emits_numbers(payload: str) -> str:
    """Emits for whom it has waited."""
    await messages.wait()
    return await counts_up(payload)


@task
async def long_step(payload: dict[str, Any]) -> str:
    """Holds its slot by an async step: for that long, or until a test lets it go on."""
    return await stay_in_step(payload["name"], payload.get("duration_s"))


@task
async def blocks(payload: float) -> str:
    """Blocks its thread outside a step."""
    mark("blocks-began")
    time.sleep(payload)  # noqa: ASYNC251 - what this task is for
    return await messages.wait().unwrap()


@task
async def spins(payload: Any) -> str:
    """Spins for ever and swallows every signal."""
    mark("spins-began")
    while True:
        try:
            sum(range(1000))
        except BaseException:
            sys.exc_info()


@task
async def exits(payload: Any) -> str:
    """Ends its process."""
    mark("exits")
    os._exit(3)


@task
async def exits_after_input(payload: Any) -> str:
    """Ends its process when it hears something."""
    await messages.wait()
    mark("exits-after")
    os._exit(3)


@step
async def large_value(at: int) -> str:
    return str(at % 10) * 900_000


@task
async def remembers(payload: int) -> int:
    """Has a journal of so many large values."""
    values = [await large_value(at) for at in range(payload)]
    await messages.wait()
    return sum(map(len, values))


@task
async def echo(payload: Any) -> int:
    """Takes messages until the input ends."""
    count = 0
    async for _ in messages.iter():
        count += 1
    return count
