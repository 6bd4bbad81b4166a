"""The tools that the protocol's conformance suite calls, as tasks."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from helmr import step, streams, task


class Name(BaseModel):
    """Whom to greet."""

    name: str = "World"


class Seconds(BaseModel):
    """How long."""

    seconds: float = 2


class Confirmation(BaseModel):
    """What a person says."""

    confirm: bool = True


class UserName(BaseModel):
    """Who a person is."""

    name: str


class Color(BaseModel):
    """What a person likes."""

    color: str


colors = streams.input("colors", schema=Color)
confirmations = streams.input("confirmations", schema=Confirmation)
names = streams.input("names", schema=UserName)


@step
async def pause(seconds: float) -> None:
    """Take a while."""
    await asyncio.sleep(seconds)


@task
async def greet(payload: Name) -> str:
    """Greet."""
    return f"Hello, {payload.name}!"


@task
async def slow_compute(payload: Seconds) -> str:
    """Take a while."""
    await pause(payload.seconds)
    return "done"


@task
async def failing_job(payload: dict[str, object]) -> None:
    """Fail after a second."""
    await pause(1)
    raise ValueError("it always fails")


@task
async def confirm_delete(payload: dict[str, object]) -> str:
    """Ask before something is deleted."""
    await confirmations.wait(subject="Delete it?").unwrap()
    return "deleted"


@task
async def test_simple_text(payload: dict[str, object]) -> str:
    """Give a text."""
    return "This is a simple text response for testing."


@task
async def test_error_handling(payload: dict[str, object]) -> None:
    """Fail."""
    raise ValueError("This tool intentionally returns an error for testing")


async def greeted() -> str:
    """What a person's answer gives."""
    return f"Hello, {(await names.wait(subject='What is your name?').unwrap()).name}!"


@task
async def test_input_required_result_elicitation(payload: dict[str, object]) -> str:
    """Ask for a name."""
    return await greeted()


@task
async def test_input_required_result_tampered_state(payload: dict[str, object]) -> str:
    """Ask for a name."""
    return await greeted()


@task
async def test_input_required_result_capabilities(payload: dict[str, object]) -> str:
    """Ask for a name."""
    return await greeted()


@task
async def test_input_required_result_request_state(payload: dict[str, object]) -> str:
    """Ask, and go on with what the client has carried."""
    await confirmations.wait(subject="Please confirm").unwrap()
    return "state-ok"


@task
async def test_input_required_result_multi_round(payload: dict[str, object]) -> str:
    """Ask twice."""
    hello = await greeted()
    color = (await colors.wait(subject="What is your favorite color?").unwrap()).color
    return f"{hello} You like {color}."
