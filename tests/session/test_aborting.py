"""Whatever task code does, its session stays answerable and nothing leaks into the next one (S-34)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest

from helmr import streams, task
from helmr.testing import TESTER, Harness
from helmr.wire import ids
from helmr_runtime.core.commands import CancelSession, Send

messages = streams.input("messages", schema=str)
leaked: list[str] = []
release = threading.Event()
release_stubborn = threading.Event()


@task
async def swallows_in_gather(payload: Any) -> None:
    """gather(return_exceptions=True) hides the signal."""
    while True:
        await asyncio.gather(messages.wait().unwrap(), return_exceptions=True)
        leaked.append("gather") if release.is_set() else None


@task
async def swallows_everything(payload: Any) -> None:
    """except BaseException around a wait."""
    while not release_stubborn.is_set():
        try:
            await messages.wait()
        except BaseException:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(0)


@task
async def shields(payload: Any) -> None:
    """A shielded child outlives a cancelled parent."""

    async def child() -> None:
        try:
            await messages.wait()
        finally:
            if release.is_set():
                leaked.append("child")

    await asyncio.shield(asyncio.ensure_future(child()))


@task
async def in_group(payload: Any) -> None:
    """A TaskGroup wraps the signal."""
    async with asyncio.TaskGroup() as group:
        group.create_task(messages.wait().unwrap())
        group.create_task(asyncio.sleep(3600))


@task
async def blocks(payload: Any) -> None:
    """Blocks its thread outside a step."""
    while not release.is_set():
        time.sleep(0.01)  # noqa: ASYNC251 - what this task is for


@pytest.fixture(autouse=True)
def fresh() -> Any:
    leaked.clear()
    release.clear()
    yield
    release.set()


def send(data: str) -> Send:
    return Send(
        principal=TESTER,
        record_id=ids.new_id(ids.RECORD),
        stream="messages",
        data=data,
        next_run_id=ids.new_id(ids.RUN),
    )


@pytest.mark.parametrize("body", [swallows_in_gather, shields, in_group], ids=lambda t: t.id)
async def test_park_and_cancel_end_the_tree(body: Any) -> None:
    async with Harness(body) as h:
        session = await h.start(body)
        await session.park()
        await session.cancel()
        other = await h.start(body)
        await other.cancel()
        for ended in (session, other):
            state = await ended.state()
            assert state.run is not None
            async with asyncio.timeout(10):
                while any(t.name == f"helmr-{state.run.id}" for t in threading.enumerate()):
                    await asyncio.sleep(0.01)


@pytest.mark.allows_blocking
async def test_code_that_swallows_every_signal_retires_its_host_and_not_its_session() -> None:
    async with Harness(swallows_everything) as h:
        session = await h.start(swallows_everything)
        host = h._hosts[session.id]
        # A process would end here; in this one the code must not be collected yet.
        stubborn = host.slots[session.id].live.execution.driver
        await h.command(session.id, CancelSession(principal=TESTER))
        async with asyncio.timeout(15):
            while host.retiring is None:
                await asyncio.sleep(0.05)
        assert (await session.state()).status == "cancelled"
        release_stubborn.set()
        assert stubborn is not None


@pytest.mark.allows_blocking
async def test_blocked_code_delays_no_answer_of_its_session() -> None:
    async with Harness(blocks) as h:
        starting = asyncio.create_task(h.start(blocks))
        async with asyncio.timeout(5):
            while not h._hosts:
                await asyncio.sleep(0.001)
        [session_id] = h._hosts
        async with asyncio.timeout(5):
            receipt = await h.command(session_id, send("while blocked"))
        assert receipt["outcome"] == "buffered"
        release.set()
        await starting
