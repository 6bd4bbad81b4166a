"""The harness waits for code that awaits something of its own, which is neither a wait nor an end."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from helmr import streams, task
from helmr.testing import Harness
from helmr.testing.harness import PATIENCE_S

go = streams.input("go", schema=bool)


@task(id="threads")
async def threads(payload: None) -> str:
    await asyncio.to_thread(time.sleep, 0.05)
    await go.wait(subject="Go?")
    await asyncio.to_thread(time.sleep, 0.05)
    await asyncio.sleep(0.02)
    return "done"


@task(id="serves")
async def serves(payload: None) -> str:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        await go.wait(subject="Go?")
    return "done"


@task(id="bounded")
async def bounded(payload: None) -> bool:
    async with asyncio.timeout(3600):
        return (await go.wait()).ok


@task(id="forgets")
async def forgets(payload: None) -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize("body", [threads, serves], ids=lambda one: one.id)
async def test_a_start_and_an_answer_return_when_the_code_waits_or_has_ended(body):
    async with Harness(body) as harness:
        session = await harness.start(body)
        assert (await session.wait())["subject"] == "Go?"
        await session.answer(True)
        assert (await session.state()).run.status == "succeeded"  # type: ignore[union-attr]


async def test_a_wait_with_a_timer_of_asyncios_beside_it_is_a_wait():
    async with Harness(bounded) as harness:
        began = time.monotonic()
        session = await harness.start(bounded)
        await session.wait()
        await session.answer(True)
        assert await session.result() is True
    assert time.monotonic() - began < PATIENCE_S / 2


async def test_code_that_goes_on_by_nothing_is_left_after_a_while_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("helmr.testing.harness.PATIENCE_S", 0.1)
    with caplog.at_level(logging.WARNING, "helmr.testing"):
        async with Harness(forgets) as harness:
            session = await harness.start(forgets)
            assert (await session.state()).run.status == "running"  # type: ignore[union-attr]
            await harness.settle()
    assert [one.getMessage() for one in caplog.records] == [
        f"{session.id}: the code has awaited a thread, a socket or a timer that is not a durable call for 0.1 s"
    ]
