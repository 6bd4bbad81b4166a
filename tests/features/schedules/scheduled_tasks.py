"""Task code that is started by the clock."""

from __future__ import annotations

from helmr import step, streams, task

yes = streams.input("yes", schema=bool)


@step
async def look() -> int:
    return 1


@task(every="1s", overlap="allow", missed="all")
async def each_second(payload: None) -> int:
    return await look()


@task
async def assistant(payload: str) -> bool:
    return await yes.wait().unwrap()
