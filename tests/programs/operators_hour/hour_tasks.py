"""What asks in the operator's hour. Runs in the checkout that is measured: only what all commits have."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from helmr import streams, task, tokens


class Ask(BaseModel):
    subject: str
    body: str | None = None
    timeout: str


class Decision(BaseModel):
    decision: Literal["approve", "reject", "edit"]
    note: str | None = Field(default=None, max_length=500)


class Refund(BaseModel):
    amount: int = Field(ge=0, le=500)
    reason: Literal["goodwill", "damaged", "late"] = "goodwill"


class Address(BaseModel):
    street: str
    number: int


class Item(BaseModel):
    sku: str
    qty: int


class Order(BaseModel):
    address: Address
    items: list[Item]


class Signature(BaseModel):
    sign: Literal["yes", "no"]


approval = streams.input("approval", schema=Decision)
chat = streams.input("chat", schema=str)
refunds = streams.input("refunds", schema=Refund)
orders = streams.input("orders", schema=Order)
legal = streams.input("legal", schema=Signature)


@task(id="review", streams=[approval])
async def review(ask: Ask) -> str:
    """Asks for a decision."""
    found = await approval.wait(subject=ask.subject, body=ask.body, timeout=ask.timeout)
    return found.value.model_dump_json() if found.value is not None else "nothing"


@task(id="talk", streams=[chat])
async def talk(ask: Ask) -> str:
    """Asks for a word."""
    found = await chat.wait(subject=ask.subject, body=ask.body, timeout=ask.timeout)
    return found.value if found.value is not None else "nothing"


@task(id="refund", streams=[refunds])
async def refund(ask: Ask) -> str:
    """Asks for a number and a choice."""
    found = await refunds.wait(subject=ask.subject, body=ask.body, timeout=ask.timeout)
    return found.value.model_dump_json() if found.value is not None else "nothing"


@task(id="order", streams=[orders])
async def order(ask: Ask) -> str:
    """Asks for a nested object with a list."""
    found = await orders.wait(subject=ask.subject, body=ask.body, timeout=ask.timeout)
    return found.value.model_dump_json() if found.value is not None else "nothing"


@task(id="sign")
async def sign(ask: Ask) -> str:
    """Waits for a token that anybody may complete."""
    made = await tokens.create(timeout=ask.timeout, subject=ask.subject)
    found = await made.wait(schema=Signature, subject=ask.subject, body=ask.body)
    return found.value.sign if found.value is not None else "nothing"


@task(id="contract", streams=[legal])
async def contract(ask: Ask) -> str:
    """Asks those who are not there; the runtime tells them."""
    found = await legal.wait(subject=ask.subject, timeout=ask.timeout)
    return found.value.sign if found.value is not None else "nothing"
