"""What the habits' task modules share: each habit is done at first, after a park, and after the process was killed."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from helmr import step, streams

MARKS = Path(os.environ.get("HELMR_TEST_MARKS", "."))

go_on = streams.input("go-on", schema=str)


class Places(BaseModel):
    """Where the stand-in servers are."""

    http: str
    postgres: str | None
    mcp_server: str


Habit = Callable[[Places], Awaitable[Any]]


@step
async def killed_here(name: str) -> bool:
    """Leave a pid and hold still until somebody kills it; true in the process after."""
    path = MARKS / f"{name}-pid"
    if path.exists():
        return int(path.read_text()) != os.getpid()
    path.write_text(str(os.getpid()))
    await asyncio.sleep(600)
    return False


async def thrice(name: str, habits: Sequence[Habit], places: Places) -> dict[str, list[Any]]:
    """The habits' outcomes by name: at first, parked, killed."""
    said: dict[str, list[Any]] = {habit.__name__: [] for habit in habits}

    async def each() -> None:
        for habit in habits:
            said[habit.__name__].append(await outcome_of(habit, places))

    await each()
    await go_on.wait(subject=f"{name}: park it, then go on")
    await each()
    assert await killed_here(name)
    await each()
    return said


async def outcome_of(habit: Habit, places: Places) -> Any:
    """What it returns, or what it raises as text: one that fails leaves the others alone."""
    try:
        return await habit(places)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
