"""Tasks that the service and HTTP tests run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from helmr import TaskContext, step, streams, task, tokens


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


links: dict[str, tuple[str, str]] = {}
"""What the mailer was given: session → callback URL and public token."""


@step
async def mail(session_id: str, url: str, public_access_token: str) -> None:
    """Stands for an e-mail."""
    links[session_id] = (url, public_access_token)


@task(id="by-link")
async def by_link(draft: Draft, ctx: TaskContext) -> str:
    """Asks by an emailed link."""
    token = await tokens.create(timeout="1h", tags=["mail"], subject=f"Publish {draft.title}?")
    await mail(ctx.session.id, token.callback_url, token.public_access_token)
    return (await token.wait(schema=Decision, body="# Look").unwrap()).decision


@task(id="by-token")
async def by_token(token_id: str) -> object:
    """Waits on somebody else's token."""
    result = await tokens.wait(token_id)
    return result.value if result.ok else type(result.error).__name__
