"""A stream that nobody outside knows can't be used: nobody could send to it (S-20)."""

from __future__ import annotations

from typing import Any

from helmr import streams, task
from helmr.tasks import Task
from helmr.testing import Harness

go = streams.input("go", schema=bool)


@task(id="body")
async def waits(payload: None) -> None:
    local = streams.input("local", schema=bool)
    await local.wait(subject="Go?")


@task(id="body")
async def appends(payload: None) -> None:
    local = streams.output("local", schema=str)
    await local.append("x")


async def error_of(body: Task[Any, Any]) -> dict[str, Any] | None:
    async with Harness(body) as harness:
        session = await harness.start(body)
        assert (await session.state()).wait is None
        return await session.error()


async def test_a_stream_that_is_declared_in_the_function_is_refused_where_it_is_used():
    for body in (waits, appends):
        error = await error_of(body)
        assert error is not None
        assert error["code"] == "bad_definition"
        assert error["message"].startswith(
            "local is not a stream of task body: no one can send to it"
        )


async def test_a_stream_that_the_function_closes_over_is_the_tasks():
    own = streams.input("own", schema=bool)

    @task(id="body")
    async def body(payload: None) -> bool:
        return await own.wait().unwrap()

    assert set(body.streams()) == {"go", "own"}
    async with Harness(body) as harness:
        session = await harness.start(body)
        await session.send("own", True)
        assert await session.result() is True


async def test_a_journal_that_knows_the_stream_goes_on():
    """As one that an earlier release has begun: what it has asked it may ask again."""
    known = streams.input("local", schema=bool)

    @task(id="body", streams=[known])
    async def before(payload: None) -> bool:
        return (await known.wait()).ok

    @task(id="body")
    async def after(payload: None) -> bool:
        local = streams.input("local", schema=bool)
        return (await local.wait()).ok

    async with Harness(before) as harness:
        session = await harness.start(before)
        await session.park()
        harness.deploy(after)
        await session.answer(True)
        assert await session.result() is True
