"""What a task reads of its session's past, however it comes back (S-128)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helmr import TaskContext, streams, task
from helmr.errors import UsageError
from helmr.testing import Harness
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.replay import durable_context

messages = streams.input("messages", schema=str)
replies = streams.output("replies", schema=dict[str, Any])


@task(id="chat")
async def chat(number: int, ctx: TaskContext) -> list[Any]:
    """Answers with what it knows of before, in a fresh journal for each two messages."""
    past = [one["text"] for one in await replies.history()]
    async for message in messages.iter():
        if message == "end":
            return [past, await replies.history(last=2), await messages.history(from_seq=2)]
        past.append(message)
        number = await replies.append({"text": message, "past": len(past)})
        if number % 2 == 0:
            await ctx.continue_as(number)
    return past


@pytest.mark.parametrize("how", ["hot", "parked", "killed"])
async def test_a_chat_over_many_runs_reads_its_past_back(harness, how: str) -> None:
    async with harness(chat) as h:
        session = await h.start("chat", 0)
        for text in "abcde":
            if how == "parked":
                await session.park()
            if how == "killed":
                await session.kill()
            await session.send("messages", text)
        await session.send("messages", "end")
        past, last, later = await session.result()
        assert past == ["a", "b", "c", "d", "e"]
        assert [one["past"] for one in last] == [4, 5]
        assert later == ["b", "c", "d", "e", "end"]
        reads = [e for e in await session.transcript() if e.kind is EntryKind.HISTORY_READ]
        assert [read.body["through_seq"] for read in reads] == [0, 2, 4, 5, 6]
        assert all(len(json.dumps(read.body)) < 200 for read in reads)


async def test_what_a_rewind_set_aside_is_in_no_later_history(harness) -> None:
    async with harness(chat) as h:
        session = await h.start("chat", 0)
        for text in "abc":
            await session.send("messages", text)
        opened = [e for e in await session.transcript() if e.kind is EntryKind.WAIT_OPENED]
        await session.rewind(wait_id=opened[-2].body["wait_id"], keep_answers=False)
        for text in ("right", "end"):
            await session.send("messages", text)
        past, last, _ = await session.result()
        assert past == ["a", "b", "right"]
        assert [one["text"] for one in last] == ["b", "right"]
        assert len(await session.outputs("replies")) == 4, "readers keep what they were given"


@task(id="looks_back")
async def looks_back(payload: None) -> list[Any]:
    await replies.append({"text": "before"})
    await messages.wait()
    await replies.append({"text": "behind"})
    return [await replies.history(), await messages.history()]


async def test_a_dry_run_reads_what_is_stored_and_what_it_has_made(harness) -> None:
    async with harness(looks_back) as h:
        session = await h.start("looks_back")
        found = await session.dry_run("go")
        assert found.result == [[{"text": "before"}, {"text": "behind"}], ["go"]]
        assert await session.outputs("replies") == [{"text": "before"}]


@task(id="waits_behind")
async def waits_behind(payload: None) -> list[Any]:
    await replies.append({"text": "before"})
    past = await replies.history()
    await messages.wait()
    return past


async def test_records_that_are_gone_block_the_run_and_name_the_first_that_is_left(
    harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness(waits_behind) as h:
        session = await h.start("waits_behind")
        await session.park()

        async def nothing(session_id: str, watermark: object) -> list[Any]:
            return []

        monkeypatch.setattr(h.ledger, "records", nothing)
        await session.send("messages", "go")
        error = await session.error()
        assert error is not None
        assert error["code"] == "schema_mismatch"
        assert "of records 1 to 1 of output stream replies none is left" in error["message"]


async def test_code_that_reads_another_part_is_not_the_same_code(harness) -> None:
    async with harness(waits_behind) as h:
        session = await h.start("waits_behind")
        [read] = [e for e in await session.transcript() if e.kind is EntryKind.HISTORY_READ]
        assert read.body["asked"]

        @task(id="waits_behind")
        async def other(payload: None) -> list[Any]:
            await replies.append({"text": "before"})
            past = await replies.history(last=1)
            await messages.wait()
            return past

        [found] = await h.check(other)
        assert found.drift, found


@pytest.mark.parametrize("asked", [{"from_seq": 0}, {"last": 0}])
async def test_a_place_before_the_first_is_refused(asked: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="count from 1"):
        await replies.history(**asked)


@pytest.mark.parametrize("bound_s", [0.0, 60.0])
async def test_a_resume_that_takes_much_of_a_processor_is_logged_with_the_way_out(
    bound_s: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(durable_context, "RESUME_LONG_S", bound_s)
    async with Harness(chat, replay_always=False) as h:
        session = await h.start("chat", 0)
        await session.send("messages", "hello")
        assert "resume" not in caplog.text, "code that was not resumed"
        await session.kill()
        await session.send("messages", "there")
    told = [one.getMessage() for one in caplog.records if "the resume of" in one.getMessage()]
    assert len(told) == (bound_s == 0.0)
    assert all("of CPU, for 4 ops: ctx.continue_as" in one for one in told), told
