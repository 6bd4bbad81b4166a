"""Tasks for the runtimes that these tests start."""

from __future__ import annotations

from helmr import step, streams, task

approval = streams.input("approval", schema=bool)


@step
async def remember(text: str) -> str:
    """A side effect that is recorded once."""
    return text


@task(id="ask")
async def ask(question: str) -> str:
    """Asks once."""
    said = await approval.wait(subject=question).unwrap()
    return await remember("yes" if said else "no")
