"""Tasks for the test that runs every option of the command line: they ask, talk, fail, and start children."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from helmr import sessions, step, streams, task, tokens

WORDS_MAX = 2_000
"""Somebody hears one of them, or the test has failed."""


class Verdict(BaseModel):
    """What a person says."""

    decision: Literal["approve", "reject"]
    note: str = ""


class Ask(BaseModel):
    """What is asked."""

    subject: str = "Publish?"
    correlation_id: str | None = None


approval = streams.input("approval", schema=Verdict)
chat = streams.input("chat", schema=str)
said = streams.output("said")
words = streams.output("words")


@step
async def look() -> str:
    return "looked"


@task(id="ask", streams=[approval, said])
async def ask(asked: Ask) -> str:
    """Ask once, with a step and a record before it."""
    await look()
    await said.append({"asked": asked.subject})
    verdict = await approval.wait(
        subject=asked.subject,
        timeout="2h",
        priority="high",
        assignee="ada",
        tags=["vip"],
        correlation_id=asked.correlation_id,
    ).unwrap()
    await said.append({"said": verdict.decision})
    return verdict.decision


@step
def speak(stop: str) -> int:
    """Emit until the file is there."""
    spoken = 0
    while not Path(stop).exists() and spoken < WORDS_MAX:
        words.emit(f"word {spoken}")
        spoken += 1
        time.sleep(0.02)
    return spoken


@task(id="talk", streams=[words])
async def talk(stop: str) -> None:
    """Chunks, then a record."""
    await words.append({"spoken": await speak(stop)})


@task(id="chat", streams=[chat])
async def chats(_: Any) -> None:
    """Take what is sent, for ever."""
    async for _ in chat.iter():
        pass


@task(id="fail")
async def fail(why: str) -> None:
    raise ValueError(why)


@task(id="on-token")
async def on_token(token_id: str) -> Any:
    return await tokens.wait(token_id).unwrap()


@task(id="parent")
async def parent(_: Any) -> str:
    """Wait for a child that asks."""
    child = await sessions.start(ask, Ask(subject="a child's"))
    return await child.result().unwrap()
