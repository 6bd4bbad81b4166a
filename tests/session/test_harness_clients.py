"""Clients of a harness: what they add to the contract that every way keeps (`tests/contract`)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from helmr import Client, step, streams, task
from helmr.errors import SessionNotFound, UsageError, WaitNotFound
from helmr.testing import Harness
from helmr.wire.ids import SYSTEM_STREAM

numbers = streams.input("numbers", schema=int)
clients: list[Client] = []

WITHOUT_FRAMEWORK = """
import asyncio, sys
sys.modules["starlette"] = None
from helmr import task
from helmr.errors import MissingExtra
from helmr.testing import Harness

@task(id="t")
async def t(payload: int) -> int:
    return payload

async def main():
    async with Harness(t) as harness:
        assert await (await harness.start("t", 1)).result() == 1
        for make in (harness.async_client, harness.client):
            try:
                make()
            except MissingExtra as error:
                assert error.facts["extra"] == "local", error.facts
            else:
                sys.exit("no refusal")

asyncio.run(main())
"""

WITHOUT_ENGINES = """
import asyncio, sys
from helmr.examples.chat import chat
from helmr.testing import Harness

async def main():
    async with Harness(chat) as harness, harness.async_client() as client:
        assert [one.id async for one in client.tasks.list()] == ["chat"]

asyncio.run(main())
loaded = {"duckdb", "pyarrow", "ray", "textual", "uvicorn"} & set(sys.modules)
assert not loaded, loaded
"""


@step
def starts_another() -> str:
    """Code under test that was handed a blocking client."""
    return clients[0].sessions.start("takes", 2).id


@task(id="takes", streams=[numbers])
async def takes(count: int) -> list[int]:
    return [await numbers.wait(timeout="1d").unwrap() for _ in range(count)]


@task(id="starts")
async def starts(payload: None) -> str:
    return await starts_another()


async def test_a_call_returns_when_what_it_set_off_is_done() -> None:
    async with Harness(takes) as harness, harness.async_client() as client:
        started = await client.sessions.start("takes", 2)
        session = client.sessions.open(started.id)
        assert (await session.get()).wait is not None
        for number in range(2):
            await session.input("numbers").send(number)
        run = await client.runs.get(started.started_run.id)
        assert (run.status, run.result) == ("succeeded", [0, 1])


async def test_the_clock_is_the_harnesss() -> None:
    async with Harness(takes) as harness, harness.async_client() as client:
        started = await client.sessions.start("takes", 1)
        assert (await client.health()).now == harness.clock.now()
        await harness.advance("1d")
        run = await client.runs.get(started.started_run.id)
        assert run.error is not None
        assert run.error.type == "WaitTimeout"


async def test_a_sync_step_may_use_the_blocking_client() -> None:
    async with Harness(takes, starts, replay_always=True) as harness:
        clients[:] = [harness.client()]
        try:
            session = await harness.start("starts")
            other = await session.result()
            assert [e.session_id for e in harness.entries() if e.kind == "wait.opened"] == [other]
        finally:
            await asyncio.to_thread(clients.pop().close)


async def test_a_hundred_sends_to_a_parked_session_adopt_it_once() -> None:
    async with Harness(takes) as harness, harness.async_client() as client:
        session = await harness.start("takes", 100)
        await session.park()
        stream = client.sessions.open(session.id).input("numbers")
        receipts = await asyncio.gather(*(stream.send(number) for number in range(100)))
        assert sorted(receipt.seq for receipt in receipts) == list(range(1, 101))
        assert len(await session.result()) == 100


async def test_old_sessions_are_pruned() -> None:
    async with Harness(takes) as harness, harness.async_client() as client:
        old, still = await harness.start("takes", 1), await harness.start("takes", 1)
        await client.sessions.open(old.id).cancel()
        await old.park()
        await harness.advance("2d")
        counted = await client.prune("1d", dry_run=True)
        receipt = await client.prune("1d")
        assert (receipt.sessions, receipt.entries) == (1, counted.entries)
        assert (await client.prune("1d")).is_last
        with pytest.raises(SessionNotFound):
            await client.sessions.open(old.id).get()
        assert [one.id async for one in client.sessions.list()] == [still.id]
        assert {e.session_id for e in harness.entries(after=1)} <= {still.id, SYSTEM_STREAM}


async def test_a_wait_that_was_pruned_with_its_session_is_not_found() -> None:
    async with Harness(takes) as harness, harness.async_client() as client:
        session = await harness.start("takes", 1)
        wait_id = str((await session.wait())["wait_id"])
        await client.waits.assign(wait_id, assignee="ada")
        await client.sessions.open(session.id).cancel()
        await session.park()
        await harness.advance("2d")
        await client.prune("1d")
        for call in (
            client.waits.assign(wait_id, assignee="tom"),
            client.waits.answer(wait_id, 1),
            client.waits.claim(wait_id),
        ):
            with pytest.raises(WaitNotFound):
                await call


async def test_a_blocking_client_on_the_harnesss_loop_is_refused() -> None:
    async with Harness(takes) as harness:
        client = harness.client()
        with pytest.raises(UsageError, match="event loop"):
            client.health()
        client.close()


@pytest.mark.parametrize("script", [WITHOUT_FRAMEWORK, WITHOUT_ENGINES], ids=["missing", "light"])
def test_what_the_clients_need(script: str, project_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project_root,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


class Verdict(BaseModel):
    score: int


@task(id="judge")
async def judge(score: int) -> Verdict:
    return Verdict(score=score)


async def test_a_start_gives_the_result_as_its_task_says_and_json_by_its_id() -> None:
    async with Harness(judge, takes) as harness, harness.async_client() as client:
        judged = await client.sessions.start_and_wait(judge, 3)
        assert (judged.result, judged.started_run.result) == (Verdict(score=3), {"score": 3})
        assert (await client.sessions.start_and_wait("judge", 4)).result == {"score": 4}
        waiting = await client.sessions.start_and_wait(takes, 1)
        with pytest.raises(UsageError, match=r"^run_\w+ has no result: it is waiting$"):
            _ = waiting.result
        session = await harness.start(judge, 5)
        assert await session.result() == {"score": 5}
        assert await session.result(judge) == Verdict(score=5)

        def blocking() -> Verdict:
            with harness.client() as client:
                return client.sessions.start_and_wait(judge, 6).result

        assert await asyncio.to_thread(blocking) == Verdict(score=6)
