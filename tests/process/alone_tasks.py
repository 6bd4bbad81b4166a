"""Task code for runtimes in one process; what it does to the world stands in files beside it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from helmr import TaskContext, step, streams, task

yes = streams.input("yes", schema=bool)


def mark(name: str) -> None:
    """One more character in the file of that name."""
    with Path(name).open("a") as file:
        file.write("x")


def marks(name: str) -> int:
    """How many there are."""
    path = Path(name)
    return len(path.read_text()) if path.exists() else 0


@step
def look() -> bool:
    mark("looked")
    return "ray" in sys.modules


@task
async def ask(payload: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    payload["changed"] = True
    has_ray = await look()
    context.log.info("asks %s", payload["about"])
    sys.stdout.write("it asks\n")
    answer = await yes.wait(subject=payload["about"]).unwrap()
    return {"answer": answer, "ray": has_ray}


@step
def work(name: str) -> None:
    mark(name)
    while not Path(f"{name}-go").exists():
        time.sleep(0.02)


@task
async def long_step(name: str) -> str:
    await work(name)
    return name


@step
def end_the_process() -> None:
    mark("ended")
    while marks("ended") > marks("ended-go"):
        time.sleep(0.02)
    os.kill(os.getpid(), 9)


@task
async def deadly(payload: None) -> None:
    await end_the_process()


def spin() -> None:
    while not Path("spins-go").exists():
        time.sleep(0.001)


@task
async def spins(payload: None) -> None:
    mark("spins")
    spin()


@step
def fork() -> int:
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    return child


@task
async def forks(payload: None) -> int:
    return await fork()
