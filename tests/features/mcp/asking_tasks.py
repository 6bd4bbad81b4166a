"""Tasks that clients of MCP call: some end at once, some ask, one fails, one is not a tool."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr

from helmr import step, streams, task


class Decision(BaseModel):
    """What a person says."""

    decision: Literal["approve", "reject"]
    amount: Annotated[int, Field(ge=1, le=10)] = 1
    note: str | None = None


class Line(BaseModel):
    """Something to order."""

    name: str


class Order(BaseModel):
    """What no form of MCP shows: a list of objects."""

    lines: list[Line]


approval = streams.input("approval", schema=Decision)
name = streams.input("name", schema=str)
order = streams.input("order", schema=Order)
password = streams.input("password", schema=SecretStr)


class Greeting(BaseModel):
    """Whom to greet."""

    name: str = "World"


@task
async def greet(payload: Greeting) -> str:
    """Say hello."""
    return f"Hello, {payload.name}!"


@task
async def total(payload: list[int]) -> dict[str, int]:
    """Add numbers up."""
    return {"total": sum(payload)}


@task
async def release(payload: Greeting) -> dict[str, object]:
    """Release something once a person has agreed."""
    said = await approval.wait(
        subject="Release?", body="It *works*.", on_decline=Decision(decision="reject")
    ).unwrap()
    return said.model_dump()


@task
async def ask_name(payload: dict[str, object]) -> str:
    """Ask for a name."""
    return f"Hello, {await name.wait(subject='Who are you?').unwrap()}!"


@task
async def ask_order(payload: dict[str, object]) -> int:
    """Ask for what needs a page."""
    return len((await order.wait().unwrap()).lines)


@task
async def ask_password(payload: dict[str, object]) -> bool:
    """Ask for a secret."""
    return bool(await password.wait().unwrap())


@task
async def ask_finance(payload: dict[str, object]) -> str:
    """Ask what only some people may answer."""
    return await name.wait(answerers=["group:finance"]).unwrap()


@task
async def fail(payload: dict[str, object]) -> None:
    """Fail."""
    raise ValueError("no")


@step
async def pause(seconds: float) -> None:
    """Take a while."""
    await asyncio.sleep(seconds)


class Work(BaseModel):
    """How long."""

    seconds: float = 0


@task
async def slow(payload: Work) -> str:
    """Take a while."""
    await pause(payload.seconds)
    return "done"


@task(mcp=False)
async def hidden(payload: dict[str, object]) -> str:
    """No tool."""
    return "seen"


@task(id="ns/odd name")
async def odd(payload: dict[str, object]) -> str:
    """Has an id that is not a tool's name."""
    return "odd"
