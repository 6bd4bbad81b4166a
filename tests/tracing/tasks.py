"""Tasks whose steps use OpenTelemetry themselves, as task code does."""

from __future__ import annotations

from opentelemetry import trace
from pydantic import BaseModel

from helmr import step, streams, task, tokens


class Draft(BaseModel):
    """What is published."""

    title: str


approval = streams.input("approval", schema=str)
current: list[int] = []
"""The ids of the spans that the bodies of steps were below."""


@step
async def prepare(title: str) -> str:
    """Before anybody is asked."""
    current.append(trace.get_current_span().get_span_context().span_id)
    return title.upper()


@step
def release(title: str) -> str:
    """After the answer, in a thread."""
    current.append(trace.get_current_span().get_span_context().span_id)
    return title


@task(id="publish")
async def publish(draft: Draft) -> str:
    """Asks between two steps."""
    title = await prepare(draft.title)
    await approval.wait().unwrap()
    return await release(title)


@step
async def fails() -> None:
    """Fails."""
    raise ValueError("no")


@task(id="broken")
async def broken(payload: int) -> None:
    """Has a step that fails."""
    await fails()


@task(id="awaits")
async def awaits(token_id: str) -> str:
    """Awaits a token that exists."""
    return await release(await tokens.wait(token_id).unwrap())
