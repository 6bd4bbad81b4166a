"""Tasks that the console's tests run."""

from __future__ import annotations

import asyncio
import threading
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from helmr import sessions, step, streams, task, tokens
from helmr_runtime.catalog import Registry
from tests.call_tasks import call


class Ask(BaseModel):
    """What a session asks for."""

    subject: str = "Publish?"
    body: str | None = None
    facts: dict[str, Any] | None = None
    links: dict[str, str] | None = None
    diff: str | None = None
    correlation: str | None = None
    timeout: str | None = None
    say: list[str] = []
    rounds: int = 1


class Decision(BaseModel):
    """The decision of the design's example."""

    decision: Literal["approve", "reject", "edit"]
    note: str | None = Field(default=None, max_length=500)


class Card(BaseModel):
    kind: Literal["card"]
    number: str = Field(max_length=20, json_schema_extra={"format": "password"})


class Bank(BaseModel):
    kind: Literal["bank"]
    iban: str = Field(max_length=34)


class Order(BaseModel):
    """One field of each kind."""

    size: int = Field(ge=1, le=10, json_schema_extra={"unit": "pieces"})
    sure: bool
    colours: list[Literal["red", "green", "blue"]] = Field(default_factory=list, max_length=2)
    country: Literal["at", "be", "ch", "de", "fr", "it", "nl"]
    day: date
    pause: timedelta = timedelta(0)
    amount: Decimal
    pay: Annotated[Card | Bank, Field(discriminator="kind")]
    remark: str | None = Field(default=None, max_length=80)
    extra: dict[str, Any] = {}


approval = streams.input("approval", schema=Decision)
orders = streams.input("orders", schema=Order)
chat = streams.input("chat", schema=str)
said = streams.output("said", schema=str)


@task(id="publish", streams=[approval, chat, said])
async def publish(ask: Ask) -> dict[str, str]:
    """Says what it has to say, then asks for a decision."""
    for text in ask.say:
        await said.append(text)
    answer = ""
    for _ in range(ask.rounds):
        result = await approval.wait(
            timeout=ask.timeout,
            correlation_id=ask.correlation,
            subject=ask.subject,
            body=ask.body,
            facts=ask.facts,
            links=ask.links,
            diff=ask.diff,
        )
        answer = result.value.decision if result.value is not None else "timed out"
    return {"decision": answer}


@step
async def draft(subject: str) -> str:
    """Writes it."""
    return f"draft of {subject}"


@step
async def post(text: str) -> str:
    """Lets it out."""
    return f"posted {text}"


@task(id="review", streams=[approval, chat, said])
async def review(ask: Ask) -> dict[str, str]:
    """Drafts, asks, posts what was approved, then asks for a word on it."""
    text = await draft(ask.subject)
    first = await approval.wait(subject=ask.subject, body=ask.body).unwrap()
    if first.decision == "reject":
        await said.append(f"rejected {ask.subject}")
        return {"decision": "reject"}
    where = await post(text)
    await said.append(where)
    word = await chat.wait(subject=f"A word on {ask.subject}?").unwrap()
    return {"decision": first.decision, "word": word}


@task(id="order", streams=[orders])
async def order(ask: Ask) -> str:
    """Asks for an order."""
    found = await orders.wait(subject=ask.subject, body=ask.body).unwrap()
    return str(found.size)


@task(id="talk", streams=[chat, said])
async def talk(ask: Ask) -> int:
    """Takes messages until its input ends."""
    count = 0
    async for _ in chat.iter():
        count += 1
    return count


@task(id="sign")
async def sign(ask: Ask) -> str:
    """Waits for a token that anybody may complete."""
    made = await tokens.create(timeout=ask.timeout or "1h", tags=["mail"], subject=ask.subject)
    found = await made.wait(schema=Decision, subject=ask.subject, body=ask.body)
    return found.value.decision if found.value is not None else type(found.error).__name__


@task(id="pick-up")
async def pick_up(token_id: str) -> object:
    """Waits on somebody else's token, whatever it is completed with."""
    found = await tokens.wait(token_id)
    return found.value if found.ok else type(found.error).__name__


@task(id="break")
async def break_it(ask: Ask) -> str:
    """Fails."""
    raise ValueError(ask.subject)


spoken = streams.output("spoken")
silent = threading.Event()
"""Set, the speaker comes to its end."""


@step
async def speak(words: str) -> str:
    """Says the same words until it may end."""
    while not silent.is_set():
        spoken.emit({"text": f"{words} "})
        await asyncio.sleep(0.02)
    return words


@task(id="speaker", streams=[spoken])
async def speaker(ask: Ask) -> str:
    """An agent that speaks while it works."""
    said = await speak(ask.subject)
    await spoken.append(said)
    return said


@task(id="delegate", streams=[approval])
async def delegate(ask: Ask) -> list[str]:
    """Has others ask, as often as there are rounds, and waits for them."""
    children = [await sessions.start(publish, Ask(subject=ask.subject)) for _ in range(ask.rounds)]
    return [str(one.value) async for one in sessions.as_ended(children)]


REGISTRY = Registry(
    [delegate, publish, review, order, talk, sign, pick_up, break_it, call, speaker],
    modules=["tests.console.flow.tasks"],
    code_hash="console-1",
)
