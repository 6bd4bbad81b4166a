"""Sessions whose task is gone from the code: what people send is kept, the run is blocked meanwhile (S-3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helmr import streams, task, timers, tokens
from helmr.current import WaitCall, current_run
from helmr.errors import SchemaMismatch, StreamNotFound, TaskNotFound
from helmr.testing import Harness, HarnessSession
from helmr.wait_details import WaitDetails

answers = streams.input("answers", schema=int)
others = streams.input("others", schema=int)
strangers = streams.input("strangers", schema=int)


@task(id="asks")
async def asks(kind: str) -> Any:
    """Waits in one of the ways."""
    if kind == "timer":
        await timers.sleep("1h")
        return "slept"
    if kind == "token":
        token = await tokens.create(timeout="1d")
        return await token.wait().unwrap()
    if kind == "schema":
        run = current_run.get()
        assert run is not None
        call = WaitCall(
            kind="input", stream="answers", details=WaitDetails(schema={"type": "integer"})
        )
        outcome = await run.wait(call)
        assert outcome.record is not None
        return outcome.record.data
    first = await others.wait(timeout="1m")
    return [first.ok, await answers.wait(subject="How many?").unwrap(), await others.peek()]


@task(id="else")
async def something_else(payload: None) -> None:
    """All that the new code has."""


Make = Callable[..., Harness]


async def asked(h: Harness, kind: str = "input") -> HarnessSession:
    """A parked session that waits."""
    session = await h.start(asks, kind)
    if kind == "input":
        await h.advance("1m")
    await session.park()
    return session


def taken_over(h: Harness, make: Make, *tasks: Any) -> Harness:
    """The same ledger under other code."""
    other = make(*tasks)
    other.ledger, other.clock = h.ledger, h.clock
    return other


async def is_blocked(session: HarnessSession) -> bool:
    run = (await session.state()).run
    assert run is not None
    error = await session.error()
    return run.status == "blocked" and error is not None and error["code"] == "task_missing"


async def test_an_answer_is_stored_and_the_run_goes_on_when_the_code_is_back(harness: Make) -> None:
    async with harness(asks) as h, taken_over(h, harness, something_else) as without:
        session = await asked(h)
        gone = HarnessSession(without, session.id)
        receipt = await gone.answer(7, on_behalf_of="ada")
        assert receipt["outcome"] == "fulfilled"
        assert await is_blocked(gone)
        await gone.park()  # it holds no place

        await session.retry()
        assert await session.result() == [False, 7, []]


async def test_an_answer_that_the_waits_own_schema_refuses_is_not_stored(harness: Make) -> None:
    async with harness(asks) as h, taken_over(h, harness, something_else) as without:
        session = await asked(h, "schema")
        gone = HarnessSession(without, session.id)
        before = len(await gone.transcript())
        with pytest.raises(SchemaMismatch):
            await gone.answer("many")
        assert len(await gone.transcript()) == before
        assert (await gone.answer(7))["outcome"] == "fulfilled"
        assert await is_blocked(gone)


async def test_an_answer_that_the_code_refuses_blocks_it_when_it_is_back(harness: Make) -> None:
    async with harness(asks) as h, taken_over(h, harness, something_else) as without:
        session = await asked(h)
        await HarnessSession(without, session.id).answer("many")
        await session.retry()
        error = await session.error()
        assert error is not None
        assert error["code"] == "schema_mismatch"


async def test_a_send_is_decided_on_the_streams_that_the_session_knows(harness: Make) -> None:
    async with harness(asks) as h, taken_over(h, harness, something_else) as without:
        session = await asked(h)
        gone = HarnessSession(without, session.id)
        assert (await gone.send("others", 1))["outcome"] == "late"
        with pytest.raises(StreamNotFound, match="strangers") as refused:
            await gone.send("strangers", 1)
        assert refused.value.facts["streams"] == ["answers", "others"]
        assert not await is_blocked(gone)
        assert (await gone.send("answers", 7))["outcome"] == "fulfilled"
        assert await is_blocked(gone)
        assert (await gone.send("answers", 8))["outcome"] == "buffered"
        await gone.park()

        await session.retry()
        assert await session.result() == [False, 7, [1]]


async def test_a_timer_that_ends_blocks_the_run(harness: Make) -> None:
    async with harness(asks) as h, taken_over(h, harness, something_else) as without:
        session = await asked(h, "timer")
        await without.advance("1h")
        assert await is_blocked(HarnessSession(without, session.id))
        await without.park(session.id)


async def test_a_token_that_is_completed_blocks_the_run(harness: Make) -> None:
    async with harness(asks) as h, taken_over(h, harness, something_else) as without:
        session = await asked(h, "token")
        state = await session.state()
        assert state.wait is not None
        assert state.wait.token_id is not None
        await without.complete_token(state.wait.token_id, "yes")
        gone = HarnessSession(without, session.id)
        assert await is_blocked(gone)
        await gone.park()
        await session.retry()
        assert await session.result() == "yes"


async def test_cancelling_needs_no_task_and_a_new_run_does(harness: Make) -> None:
    async with harness(asks) as h, taken_over(h, harness, something_else) as without:
        session = await asked(h)
        gone = HarnessSession(without, session.id)
        await gone.cancel_run()
        with pytest.raises(TaskNotFound, match="asks"):
            await gone.run("input")
