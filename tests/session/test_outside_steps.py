"""What task code asks the clock, chance and the network outside of steps is named with its line, once (S-126)."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
import uuid
from pathlib import Path

import pytest

from helmr import TaskContext, step, streams, task
from helmr.testing import Harness, RepeatedCall
from helmr_runtime.replay import outside_steps

go = streams.input("go", schema=bool)


@step
async def inside(port: int) -> float:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    return time.time() + random.random() + uuid.uuid4().int


@step
def inside_a_thread() -> float:
    return time.time()


@task(id="careful")
async def careful(port: int, ctx: TaskContext) -> bool:
    ctx.log.info("logging reads the clock itself")
    logging.getLogger("user").warning("so does this")
    await inside(port)
    await inside_a_thread()
    ctx.now(), ctx.random().random(), ctx.uuid()
    return await go.wait().unwrap()


def draws() -> list[object]:
    now = time.time()  # clock
    number = random.randint(1, 6)  # chance
    return [now, number, uuid.uuid4()]  # id


@task(id="careless")
async def careless(port: int) -> bool:
    draws()
    _, writer = await asyncio.open_connection("127.0.0.1", port)  # network
    writer.close()
    await writer.wait_closed()
    return await go.wait().unwrap()


LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


def place(mark: str) -> str:
    line = next(i for i, one in enumerate(LINES, 1) if one.endswith(f"  # {mark}"))
    return f"{__file__}:{line}"


async def said_by(
    harness: Harness, name: str, caplog: pytest.LogCaptureFixture, *, after: int = 0
) -> list[str]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with caplog.at_level(logging.WARNING, "helmr.run"):
            session = await harness.start(name, port)
            await session.answer(True)
            assert await session.result() is True
    return [one.getMessage() for one in caplog.records if one.name == "helmr.run"][after:]


async def test_each_line_is_named_once_over_all_replays(caplog: pytest.LogCaptureFixture):
    outside_steps.forget()
    async with Harness(careless, careful, replay_always=False) as harness:
        said = await said_by(harness, "careless", caplog)
    another = "outside of steps: each resume gets another value"
    assert said[:3] == [
        f"{place('clock')}: time.time() {another}; use ctx.now()",
        f"{place('chance')}: random.randint() {another}; use ctx.random()",
        f"{place('id')}: uuid.uuid4() {another}; use ctx.uuid()",
    ]
    [connection] = said[3:]
    assert connection.startswith(f"{place('network')}: a connection to 127.0.0.1:")
    assert connection.endswith(f"outside of steps: {outside_steps.AGAIN}; {outside_steps.STEP}")
    with pytest.warns(RepeatedCall, match="here it was made again"):
        async with Harness(careless, careful, replay_always=True) as harness:
            [again] = await said_by(harness, "careless", caplog, after=4)
    assert again.startswith(f"{place('network')}: a connection to 127.0.0.1:")
    assert again.endswith(f"outside of steps: {outside_steps.MADE_AGAIN}; {outside_steps.STEP}")


async def test_steps_libraries_and_what_is_recorded_are_left_alone(
    caplog: pytest.LogCaptureFixture,
):
    outside_steps.forget()
    async with Harness(careful, replay_always=True) as harness:
        draws()  # the test's own
        assert await said_by(harness, "careful", caplog) == []


async def test_nothing_stays_wrapped_behind_a_harness():
    before = time.time, random.random, uuid.uuid4, socket.socket.connect
    async with Harness(careful):
        async with Harness(careless):
            assert time.time is not before[0]
        assert time.time is not before[0]
    assert before == (time.time, random.random, uuid.uuid4, socket.socket.connect)


async def test_what_somebody_else_wraps_meanwhile_stays(monkeypatch: pytest.MonkeyPatch):
    def frozen() -> float:
        return 1.0

    async with Harness(careful):
        monkeypatch.setattr(time, "time", frozen)
    assert time.time is frozen
