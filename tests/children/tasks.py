"""A parent that fans out, and children of every kind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from helmr import TaskContext, sessions, step, streams, task, timers

approval = streams.input("approval", schema=bool)
collected = streams.output("collected", schema=str)


@dataclass
class Job:
    """What a child does: `asks` a person, `fails`, `sleeps` for seconds, or answers at once."""

    name: str
    asks: bool = False
    fails: bool = False
    sleeps_s: float = 0.0


@task
async def work(job: Job) -> str:
    if job.asks:
        answer = await approval.wait(subject=f"May {job.name} go on?").unwrap()
        return f"{job.name}: {'yes' if answer else 'no'}"
    if job.sleeps_s:
        await timers.sleep(job.sleeps_s)
    if job.fails:
        raise ValueError(f"{job.name} can't")
    return job.name


@task
async def fan_out(jobs: list[Job]) -> list[str]:
    """Every child's end, in the order in which they end."""
    children = [await sessions.start(work, job) for job in jobs]
    found = []
    async for ended in sessions.as_ended(children):
        said = ended.value if ended.ok else f"{type(ended.error).__name__}"
        await collected.append(said)
        found.append(said)
    return found


@task
async def one(job: Job) -> str:
    child = await sessions.start(work, job)
    result = await child.result(timeout="1h")
    return result.value if result.ok else type(result.error).__name__


@task
async def late(job: Job) -> str:
    """The child ends before it is waited for."""
    child = await sessions.start(work, job)
    await approval.wait(subject="Look?").unwrap()
    return await child.result().unwrap()


@task
async def leaving(job: Job) -> str:
    child = await sessions.start(work, job, on_parent_cancel="leave")
    return await child.result().unwrap()


@task
async def grandparent(job: Job, ctx: TaskContext) -> str:
    child = await sessions.start(one, job)
    return await child.result().unwrap()


@task
async def counts(n: int, ctx: TaskContext) -> str:
    if n:
        await ctx.continue_as(n - 1)
    return "done"


@task
async def parent_of(n: int) -> str:
    return await (await sessions.start(counts, n)).result().unwrap()


@step
async def beside() -> None:
    """Runs while the child is waited for."""


@task
async def racing(job: Job) -> str:
    child = await sessions.start(work, job)
    waiting = asyncio.ensure_future(child.result().unwrap())
    await asyncio.sleep(0)
    await beside()
    await beside()
    return await waiting
