"""What sessions do while their histories are taken: they wait for numbers, and step after each."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from helmr import Limit, step, step_key, streams, task

MARKS = Path(os.environ.get("HELMR_TEST_MARKS", "."))

numbers = streams.input("numbers", schema=int)
notes = streams.input("notes", schema=int)
"""No run takes from it: a sender of webhooks delivers to both."""


refunds = streams.input("refunds", schema=int, answerers=["group:finance"])
APPROVALS = 2


@step
async def noted(number: int) -> int:
    """Says in a file that its body ran, and when by a clock that nobody sets: processes here die without a word."""
    with (MARKS / f"step-{step_key()}").open("a") as file:
        file.write(f"{time.monotonic_ns()}\n")
    return number


@task
async def takes(count: int) -> list[int]:
    """Takes so many numbers."""
    taken = []
    for _ in range(count):
        number = await numbers.wait(subject="A number?").unwrap()
        taken.append(await noted(number))
    return taken


@task
async def agrees(count: int) -> int:
    """Has people agree so many times."""
    for _ in range(count):
        await refunds.wait(subject="Refund?", approvals=APPROVALS).unwrap()
    return count


provider = Limit("provider", at_once=2, per=24, within="2s")
CALL_S = 0.12


@step(limit=provider)
async def asked(number: int) -> int:
    """Says in a file when its body began and when it ended, by a clock that nobody sets and by the machine's."""
    with (MARKS / f"limit-{step_key()}").open("a") as file:
        file.write(f"began {time.monotonic_ns()} {time.time_ns()}\n")
        file.flush()
        await asyncio.sleep(CALL_S)
        file.write(f"ended {time.monotonic_ns()} {time.time_ns()}\n")
    return number


@task(limit_key=lambda payload: payload["tenant"])
async def asks(payload: dict[str, str]) -> int:
    """Calls a provider so many times, for one of its tenants."""
    for number in range(int(payload["count"])):
        await asked(number)
    return int(payload["count"])
