"""The task file of a user."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from helmr import step, streams, task, tokens


class Decision(BaseModel):
    """What a person says."""

    decision: Literal["approve", "reject"]


approval = streams.input("approval", schema=Decision)


@step
async def write_draft(topic: str) -> str:
    """A draft."""
    return f"About {topic}"


@task(id="review")
async def review(topic: str) -> str:
    """Asks on a stream."""
    draft = await write_draft(topic)
    decision = await approval.wait(subject=f"Send {draft}?", timeout="7d").unwrap()
    return decision.decision


@task(id="by-token")
async def by_token(topic: str) -> str:
    """Asks by a token with a schema."""
    token = await tokens.create(timeout="1d", subject=f"Send {topic}?", schema=Decision)
    return (await token.wait(schema=Decision).unwrap()).decision
