"""A tree of sessions, and one that takes what it is sent."""

from __future__ import annotations

from typing import Any

from helmr import sessions, streams, task

box = streams.input("box")


@task
async def keeper(payload: Any) -> None:
    """Take one after the other, for ever."""
    while True:
        await box.wait()


@task
async def tree(depth: int) -> int:
    """How many sessions are at and below this one: it starts two, which start two each."""
    if depth == 0:
        return 1
    children = [await sessions.start(tree, depth - 1) for _ in range(2)]
    count = 1
    for child in children:
        count += await child.result().unwrap()
    return count
