"""Tasks that the service and HTTP tests run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from helmr import TaskContext, streams, task


class Draft(BaseModel):
    """What is reviewed."""

    title: str = Field(min_length=1, pattern="^(a+)+$|^[A-Z].*$")
    size: int = 1


class Decision(BaseModel):
    """What a reviewer says."""

    decision: Literal["approve", "reject"]
    note: str | None = None


approval = streams.input("approval", schema=Decision)
progress = streams.output("progress", schema=str)
words = streams.input("words", schema=str)
echoes = streams.output("echoes")


@task(id="review")
async def review(draft: Draft, ctx: TaskContext) -> dict[str, str]:
    """Asks for a decision."""
    await progress.append("asked")
    decision = await approval.wait(
        correlation_id="review-1", subject=f"Publish {draft.title}?", body="# Look"
    ).unwrap()
    await progress.append(decision.decision)
    return {"status": decision.decision}


@task(id="quick-review", streams=[approval])
async def quick_review(draft: Draft) -> str:
    """Asks with a deadline that passes at once."""
    result = await approval.wait(timeout="50ms")
    return "answered" if result.ok else "late"


@task(id="echo", streams=[words, echoes])
async def echo(payload: int) -> int:
    """Echoes words until its input ends."""
    count = payload
    async for word in words.iter():
        count += 1
        await echoes.append({"word": word, "count": count})
    return count


@task(id="fail-once")
async def fail_once(payload: str) -> str:
    """Fails."""
    raise ValueError(payload)


@task(id="return")
async def give_back(payload: int) -> int:
    """Returns its payload."""
    return payload
