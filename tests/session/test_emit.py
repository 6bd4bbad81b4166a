"""Chunks that code emits: in steps and outside, in order, refused by size and schema, silent in a replay (S-90)."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from typing import Any

import pytest

from helmr import TaskContext, step, streams, task
from helmr.errors import NotInTask, SchemaMismatch, StepFailed, TooLarge
from helmr.models import CHUNK_BYTES_MAX, ChunkInfo, ChunksEnd, RecordInfo
from helmr_runtime.core.chunks import EndedChunks as End

words = streams.output("words", schema=str)
asked = streams.input("asked", schema=str)
release = threading.Event()
tried: list[int] = []


@pytest.fixture(autouse=True)
def fresh_world() -> None:
    release.clear()
    tried.clear()


@step
async def says(*said: str) -> str:
    for word in said:
        words.emit(word)
        await asyncio.sleep(0)
    return " ".join(said)


@step
def says_in_a_thread(*said: str) -> int:
    for word in said:
        words.emit(word)
    return len(said)


@step(loop="run")
async def says_on_the_run_loop(word: str) -> None:
    words.emit(word)


@task(id="speaks")
async def speaks(payload: Any) -> str:
    text = await says("a", "b")
    await says_in_a_thread("c", "d")
    await says_on_the_run_loop("e")
    words.emit("f")
    await words.append(text)
    await asked.wait()
    words.emit("g")
    return text


def ends(harness, session) -> list[End]:
    return [one for one in harness.emitted(session.id) if isinstance(one, End)]


async def test_what_steps_and_task_emit_comes_in_order_and_once(harness):
    async with harness(speaks) as h:
        session = await h.start("speaks")
        assert await session.chunks("words") == ["a", "b", "c", "d", "e", "f"]
        assert await session.outputs("words") == ["a b"]
        await session.park()  # the answer finds the code gone: all of it is replayed
        await session.send("asked", "go on")
        assert await session.result() == "a b"
        assert await session.chunks("words") == ["a", "b", "c", "d", "e", "f", "g"]
        assert [(one.op, one.number, one.outcome) for one in ends(h, session)] == [
            (1, 2, "succeeded"),
            (2, 4, "succeeded"),
            (3, 5, "succeeded"),
            (None, 6, "next_entry"),
            (None, 1, "next_entry"),
        ]


async def test_nothing_of_it_is_stored(harness):
    async with harness(speaks) as h:
        session = await h.start("speaks")
        stored = [str(entry.body) for entry in await session.transcript()]
        assert len(await session.chunks("words")) == 6
        assert not any(repr(word) in text for text in stored for word in "cdef")


@step(retries=2, backoff="1ms")
async def fails_twice() -> str:
    tried.append(1)
    words.emit(f"try {len(tried)}")
    if len(tried) < 3:
        raise OSError("not yet")
    return "done"


@task(id="tries")
async def tries(payload: Any) -> str:
    return await fails_twice()


async def test_a_step_that_is_tried_again_says_so_and_emits_again(harness):
    async with harness(tries) as h:
        session = await h.start("tries")
        assert await session.result() == "done"
        assert await session.chunks("words") == ["try 1", "try 2", "try 3"]
        outcomes = [(one.op, one.number, one.outcome) for one in ends(h, session)]
        assert outcomes == [(1, 1, "retried"), (1, 2, "retried"), (1, 3, "succeeded")]


@step(timeout=0.05)
def goes_on_too_long() -> None:
    words.emit("in time")
    release.wait(10)
    words.emit("too late")
    tried.append(1)


@task(id="overruns")
async def overruns(payload: Any) -> str:
    try:
        await goes_on_too_long()
    except StepFailed:
        return "late"
    return "in time"


async def test_a_try_that_is_over_emits_nothing(harness):
    async with harness(overruns) as h:
        session = await h.start("overruns", settle=False)
        while not ends(h, session):
            await asyncio.sleep(0.005)
        release.set()
        while not tried:
            await asyncio.sleep(0.005)
        assert await session.result() == "late"
        assert await session.chunks("words") == ["in time"]
        assert [one.outcome for one in ends(h, session)] == ["failed"]


@step
async def emits_too_much(how: str) -> None:
    words.emit({"large": "x" * CHUNK_BYTES_MAX, "fits": "x" * (CHUNK_BYTES_MAX - 2)}[how])


@task(id="too-much")
async def too_much(payload: str, ctx: TaskContext) -> str:
    with pytest.raises(SchemaMismatch):
        words.emit(3)  # type: ignore[arg-type]
    with pytest.raises(TooLarge, match="16384"):
        words.emit("x" * CHUNK_BYTES_MAX)
    await emits_too_much(payload)
    return "fits"


async def test_a_chunk_over_16_kib_or_of_another_schema_is_refused_whoever_follows(harness):
    async with harness(too_much) as h:
        assert await (await h.start("too-much", "fits")).result() == "fits"
        session = await h.start("too-much", "large")
        error = await session.error()
        assert error is not None
        assert "16384" in error["message"]
        assert await session.chunks("words") == []


@step
async def appends() -> None:
    await words.append("a")


@task(id="appends-in-step")
async def appends_in_step(payload: Any) -> None:
    await appends()


async def test_append_in_a_step_is_refused_with_the_way_to_do_it(harness):
    async with harness(appends_in_step) as h:
        session = await h.start("appends-in-step")
        error = await session.error()
        assert error is not None
        assert "append() was called inside step appends" in error["message"]
    assert "words.emit(…)" in error_hint()


def error_hint() -> str:
    from helmr.current import StepRef, current_step

    token = current_step.set(StepRef("s", "k", 0, 1))
    try:
        coroutine = words.append("a")
        with pytest.raises(NotInTask) as caught:
            coroutine.send(None)
    finally:
        current_step.reset(token)
    return caught.value.hint or ""


def test_outside_a_run_nobody_follows_and_the_value_is_checked():
    words.emit("alone")
    with pytest.raises(SchemaMismatch):
        words.emit(1)  # type: ignore[arg-type]


@step(dry_run_safe=True)
async def looks() -> str:
    words.emit("looking")
    return "seen"


@task(id="dry_run")
async def dry_run(payload: Any) -> None:
    await asked.wait()
    await looks()
    words.emit("out")
    await words.append("never")


async def test_a_dry_run_lets_nothing_out_and_ends_where_something_is_emitted(harness):
    async with harness(dry_run) as h:
        session = await h.start("dry_run")
        found = await session.dry_run("go")
        assert (found.ended, [one.kind for one in found.ops]) == ("emit", ["step"])
        assert await session.chunks("words") == []


@task(id="many")
async def many(payload: int) -> str:
    for turn in range(payload):
        word = await asked.wait().unwrap()
        await says(*(f"{word} {turn} {n}" for n in range(3)))
        await words.append(word)
    return "over"


async def test_a_client_of_the_harness_follows_over_parks_and_a_kill(harness):
    async with harness(many) as h:
        session = await h.start("many", 3)
        client = h.async_client()
        seen: list[Any] = []
        told = seen.append

        async def follow() -> None:
            output = client.sessions.open(session.id).output("words")
            async with aclosing(output.follow_chunks()) as feed:
                async for one in feed:
                    told(one)

        following = asyncio.create_task(follow())
        while not any(gateway_follows(h, session.id)):
            await asyncio.sleep(0.005)
        for turn, how in enumerate((session.park, session.kill, h.settle)):
            await how()
            await session.send("asked", f"w{turn}")
            async with asyncio.timeout(10):
                while sum(isinstance(one, ChunksEnd) for one in seen) <= turn and turn < 2:
                    await asyncio.sleep(0.005)
        await session.close()  # what was emitted a moment ago is told all the same
        async with asyncio.timeout(10):
            await following
        await client.close()
    assert [one.data for one in seen if isinstance(one, ChunkInfo)] == [
        f"w{turn} {turn} {n}" for turn in range(3) for n in range(3)
    ]
    assert [one.outcome for one in seen if isinstance(one, ChunksEnd)] == ["succeeded"] * 3
    assert [one.seq for one in seen if isinstance(one, RecordInfo)] == [1, 2, 3]
    assert not any(one.lost for one in seen if isinstance(one, ChunkInfo | ChunksEnd))


def gateway_follows(h: Any, session_id: str) -> list[bool]:
    """Whether the session's host has a reader."""
    host = h._hosts.get(session_id)
    live = host._chunk_polls._live.get(session_id) if host is not None else None
    return [live._readers > 0] if live is not None else []
