"""Tasks that ask people things of every kind, for the tests of asking in lines."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from helmr import streams, task, tokens
from helmr_runtime.catalog import Registry


class Ask(BaseModel):
    subject: str = "Publish?"
    body: str | None = None


class Decision(BaseModel):
    decision: Literal["approve", "reject", "edit"]
    note: str | None = Field(default=None, max_length=500)


class Refund(BaseModel):
    refund: bool
    cents: int = Field(ge=0, le=50_000)
    reason: Literal["goodwill", "damaged"] = "goodwill"


class Address(BaseModel):
    street: str
    number: int


class Item(BaseModel):
    sku: str = Field(pattern="^[A-Z]")
    qty: int


class Order(BaseModel):
    to: Address
    items: list[Item]
    labels: list[str]


class Agreed(BaseModel):
    answer: Literal["yes"]


class Login(BaseModel):
    user: str
    password: str = Field(json_schema_extra={"format": "password"})


approval = streams.input("approval", schema=Decision)
chat = streams.input("chat", schema=str)
refunds = streams.input("refunds", schema=Refund)
orders = streams.input("orders", schema=Order)
agreements = streams.input("agreements", schema=Agreed)
logins = streams.input("logins", schema=Login)


@task(id="publish", streams=[approval])
async def publish(ask: Ask) -> str:
    """Asks for a decision."""
    found = await approval.wait(subject=ask.subject, body=ask.body).unwrap()
    return f"{found.decision} {found.note}"


@task(id="talk", streams=[chat])
async def talk(ask: Ask) -> str:
    """Asks for a word."""
    return await chat.wait(subject=ask.subject, body=ask.body).unwrap()


@task(id="refund", streams=[refunds])
async def refund(ask: Ask) -> str:
    """Asks for a refund."""
    found = await refunds.wait(subject=ask.subject).unwrap()
    return f"{found.refund} {found.cents} {found.reason}"


@task(id="order", streams=[orders])
async def order(ask: Ask) -> str:
    """Asks for an order."""
    found = await orders.wait(subject=ask.subject).unwrap()
    return found.model_dump_json()


@task(id="login", streams=[logins])
async def login(ask: Ask) -> str:
    """Asks for a secret."""
    return (await logins.wait(subject=ask.subject).unwrap()).password


@task(id="agree", streams=[agreements])
async def agree(ask: Ask) -> str:
    """Asks for the one thing that can be said."""
    return (await agreements.wait(subject=ask.subject).unwrap()).answer


@task(id="sign")
async def sign(ask: Ask) -> str:
    """Waits for a token."""
    made = await tokens.create(timeout="1h", subject=ask.subject)
    found = await made.wait(schema=Decision, subject=ask.subject)
    return found.value.decision if found.value is not None else "nothing"


REGISTRY = Registry(
    [publish, talk, refund, order, login, agree, sign],
    modules=["tests.cli.next_tasks"],
    code_hash="next-1",
)
