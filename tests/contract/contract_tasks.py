"""Tasks that the contract runs."""

from typing import Literal

from pydantic import BaseModel, Field

from helmr import attachments, escalation, step, streams, task, tokens
from helmr.gate.tasks import gate_agent, gate_call


class Draft(BaseModel):
    title: str = Field(min_length=1)


class Decision(BaseModel):
    decision: Literal["approve", "reject"]


approval = streams.input("approval", schema=Decision)
progress = streams.output("progress", schema=str)
words = streams.input("words", schema=str)
echoes = streams.output("echoes")


@task(id="contract-review")
async def review(draft: Draft) -> dict[str, str]:
    """Asks for a decision."""
    await progress.append("asked")
    decision = await approval.wait(
        correlation_id="review-1",
        subject=f"Publish {draft.title}?",
        body="# Look",
        initial={"decision": "reject"},
        on_decline={"decision": "reject"},
        priority="high",
        tags=["news"],
        assignee="ada",
        escalation=[escalation.remind("1h"), escalation.default("2h", {"decision": "reject"})],
    ).unwrap()
    await progress.append(decision.decision)
    return {"status": decision.decision}


@task(id="contract-deadline")
async def deadline(payload: str) -> str:
    """Asks with a deadline that passes soon."""
    result = await approval.wait(timeout=payload)
    return "answered" if result.ok else "late"


@task(id="contract-echo", streams=[words, echoes])
async def echo(payload: int) -> int:
    """Echoes words until its input ends."""
    count = payload
    async for word in words.iter():
        count += 1
        await echoes.append({"word": word, "count": count})
    return count


@step
async def says(word: str) -> str:
    """Emits a word in three pieces."""
    for piece in range(3):
        echoes.emit([word, piece])
    return word


@task(id="contract-emits", streams=[words, echoes])
async def emits(payload: None) -> None:
    """Says each word piece by piece, then whole."""
    async for word in words.iter():
        await echoes.append(await says(word))


@task(id="contract-fails")
async def fails(payload: str) -> str:
    """Fails."""
    raise ValueError(payload)


@task(id="contract-token")
async def by_token(token_id: str) -> object:
    """Waits on somebody else's token."""
    result = await tokens.wait(token_id)
    return result.value if result.ok else type(result.error).__name__


@task(id="contract-votes")
async def votes(payload: None) -> str:
    """Asks for a decision that two people must agree on."""
    return (await approval.wait(approvals=2).unwrap()).decision


FILE = b"a,b\n" * 400_000
"""More than one piece."""


@task(id="contract-files")
async def files(payload: None) -> str:
    """Asks for a decision about a file."""
    ref = await attachments.store(FILE, name="orders.csv")
    return (await approval.wait(subject="Look", attach=[ref]).unwrap()).decision


TASKS = (review, deadline, echo, emits, fails, by_token, votes, files, gate_call, gate_agent)
