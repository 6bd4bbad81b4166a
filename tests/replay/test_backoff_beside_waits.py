"""A step's parking backoff beside another branch that waits (S-10, S-16, S-33), over the real engine."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from helmr import step, streams, task
from helmr.errors import UsageError
from helmr.testing import Harness

messages = streams.input("messages", schema=str)


async def test_a_step_whose_backoff_was_superseded_by_a_wait_is_still_tried_again():
    tries: list[int] = []
    go_on = threading.Event()

    @step(retries=1, backoff="1h")
    async def flaky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError("first")
        return "ok"

    @task
    async def body(payload: Any) -> list[str]:
        async def waits() -> str:
            while not go_on.is_set():
                await asyncio.sleep(0.001)
            return await messages.wait().unwrap()

        return list(await asyncio.gather(flaky(), waits()))

    async with Harness(body) as h:
        session = await h.start(body)

        async def until_op(op: int) -> None:
            async with asyncio.timeout(10):
                while True:
                    state = await session.state()
                    if state.wait is not None and state.wait.op == op:
                        return
                    await asyncio.sleep(0.001)

        await until_op(1)  # the backoff, as a timer
        go_on.set()
        await until_op(2)
        with pytest.raises(UsageError, match="can't park"):
            await session.park()  # the next try is this host's
        await h.advance("2h")
        assert len(tries) == 2
