"""What is noted of code that executes, for whoever finds its host dead: each way of executing, and no waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from helmr import step, streams, task
from helmr.testing import Harness
from helmr_runtime.host_status import FLAGS_AT, Executing, SlotMark

go_on = streams.input("go-on", schema=str)
seen: dict[str, set[str]] = {}


def note(where: str) -> None:
    """What the one session of the test is said to execute, seen by its own code."""
    flags = memory[0][FLAGS_AT : FLAGS_AT + len(Executing)]
    seen[where] = {flag.name for flag, value in zip(Executing, flags, strict=True) if value}


memory: list[memoryview] = []


@step
async def asynchronous() -> None:
    note("body")
    await asyncio.sleep(0)
    note("body after an await")
    await asyncio.create_task(subtask())
    await asyncio.to_thread(note, "to_thread")
    asleep = threading.Timer(0.05, note, ["asleep in a body"])
    asleep.start()
    await asyncio.sleep(0.15)


async def subtask() -> None:
    note("task of a body")


@step
def synchronous() -> None:
    note("thread")
    time.sleep(0.01)


@task
async def everywhere(payload: Any) -> None:
    note("task")
    await asyncio.to_thread(note, "to_thread of the task")
    await asynchronous()
    await synchronous()
    await go_on.wait()


@pytest.mark.allows_blocking
async def test_whatever_executes_is_noted_and_what_waits_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen.clear()
    memory.clear()
    made = SlotMark.__init__

    def keep(self: SlotMark, *arguments: Any) -> None:
        made(self, *arguments)
        memory.append(self._record)

    monkeypatch.setattr(SlotMark, "__init__", keep)
    async with Harness(everywhere) as h:
        await h.start(everywhere)
        note("waiting")
    assert "RUN" in seen["task"]
    assert "THREADS" in seen["to_thread of the task"]
    for where in ("body", "body after an await", "task of a body"):
        assert "STEP" in seen[where], where
    assert "THREADS" in seen["to_thread"]
    assert "THREADS" in seen["thread"]
    assert seen["asleep in a body"] == set()
    assert seen["waiting"] == set()
