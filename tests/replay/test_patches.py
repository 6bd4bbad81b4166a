"""`ctx.patched` and names that steps had: new code meets journals of the old (S-88)."""

from __future__ import annotations

from typing import Any

import pytest

from helmr import TaskContext, step, streams, task
from helmr.errors import BadDefinition, NotInTask
from helmr.tasks import Task
from helmr.testing import Harness, HarnessSession
from helmr_runtime.core.decide import ops
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.requests import PatchRequest
from tests.core.builder import Story

approval = streams.input("approval", schema=str)


@step
async def one() -> str:
    return "one"


@step
async def two() -> str:
    return "two"


def version(body: Any) -> Task[..., Any]:
    @task(id="changing", streams=[approval])
    async def changing(payload: Any, ctx: TaskContext) -> Any:
        return await body(ctx)

    return changing


async def old(ctx: TaskContext) -> list[Any]:
    return [await one(), await approval.wait().unwrap(), await approval.wait().unwrap()]


async def marks(session: HarnessSession) -> list[tuple[int | None, str]]:
    entries = await session.transcript()
    return [(e.op, e.body["name"]) for e in entries if e.kind is EntryKind.PATCH_MARKED]


async def test_a_patch_is_false_where_the_journal_goes_on_and_true_where_it_ends():
    answers: list[tuple[str, bool]] = []

    async def new(ctx: TaskContext) -> None:
        answers.append(("before", ctx.patched("before")))
        await one()
        answers.append(("between", ctx.patched("between")))
        await approval.wait()
        answers.append(("after", ctx.patched("after")))
        await approval.wait()

    async with Harness(version(old)) as harness:
        session = await harness.start("changing")
        await session.park()
        harness.deploy(version(new))
        await session.answer("yes")
        assert answers == [("before", False), ("between", False), ("after", True)]
        assert await marks(session) == [(2, "after")]
        await session.park()
        await session.answer("and again")
        assert answers[3:] == answers[:3]
        assert await marks(session) == [(2, "after")]
        assert await session.result() is None


@pytest.mark.parametrize("replay_always", [False, True])
async def test_a_new_run_takes_every_new_way_and_replays_it(replay_always: bool):
    async def new(ctx: TaskContext) -> list[Any]:
        got: list[Any] = []
        if ctx.patched("first"):
            got.append(await two())
        got.append(await one())
        if ctx.patched("last") and ctx.patched("last"):
            got.append(await approval.wait().unwrap())
        return got

    async with Harness(version(new), replay_always=replay_always) as harness:
        session = await harness.start("changing")
        await session.park()
        await session.answer("yes")
        assert await session.result() == ["two", "one", "yes"]
        assert await marks(session) == [(0, "first"), (2, "last")]


async def test_code_without_the_call_passes_its_mark_by():
    async def patched(ctx: TaskContext) -> list[Any]:
        ctx.patched("gone")
        return await old(ctx)

    async with Harness(version(patched)) as harness:
        session = await harness.start("changing")
        assert await marks(session) == [(0, "gone")]
        await session.park()
        harness.deploy(version(old))
        await session.answer("a")
        await session.answer("b")
        assert await session.result() == ["one", "a", "b"]


async def test_a_patch_stays_true_over_a_retry_that_repeats_the_op_it_stands_under():
    fails = [True]

    @step
    async def flaky() -> str:
        if fails.pop() if fails else False:
            raise ValueError("once")
        return "well"

    async def new(ctx: TaskContext) -> str:
        await one()
        if ctx.patched("careful"):
            await two()
        return await flaky()

    async with Harness(version(new)) as harness:
        session = await harness.start("changing")
        assert (await session.error() or {})["type"] == "StepFailed"
        await session.retry()
        assert await session.result() == "well"
        assert await marks(session) == [(1, "careful")]


def mark(story: Story, op: int) -> None:
    story.write(ops.mark_patch(story.run, op, PatchRequest("p")))


def held(story: Story) -> list[int | None]:
    return [e.op for e in story.run.journal if e.kind is EntryKind.PATCH_MARKED]


def test_a_mark_under_a_failed_op_stays_if_ops_behind_it_do():
    story = Story().execute()
    ask = story.open_step(1)
    mark(story, 1)
    story.open_step(2)
    story.end_step(2)
    story.fail_try(1, ask, may_retry=False)
    story.fail(failed_op=1)
    story.retry()
    assert [e.op for e in story.run.journal if e.kind is EntryKind.STEP_SUCCEEDED] == [2]
    assert held(story) == [1]


def test_a_mark_made_after_the_failure_goes():
    story = Story().execute()
    story.fail_try(1, story.open_step(1), may_retry=False)
    mark(story, 1)
    story.fail(failed_op=1)
    story.retry()
    assert held(story) == []


async def test_a_step_is_known_by_a_name_that_it_had():
    @step(name="uno", formerly=["one", "eins"])
    async def uno() -> str:
        return "never: it is recorded"

    async def new(ctx: TaskContext) -> list[Any]:
        return [await uno(), await approval.wait().unwrap(), await approval.wait().unwrap()]

    async with Harness(version(old)) as harness:
        session = await harness.start("changing")
        await session.park()
        harness.deploy(version(new))
        await session.answer("a")
        await session.answer("b")
        assert await session.result() == ["one", "a", "b"]
        fresh = await harness.start("changing")
        names = [e.body["name"] for e in await fresh.transcript() if e.kind == "step.started"]
        assert names == ["uno"]


def test_one_name_is_no_list_of_names():
    with pytest.raises(BadDefinition, match="formerly is a list"):
        step(formerly="old")(lambda: None)


async def test_a_patch_needs_a_name_and_a_run():
    seen: list[str] = []

    async def new(ctx: TaskContext) -> None:
        try:
            ctx.patched("no spaces")
        except BadDefinition as error:
            seen.append(error.message)

        @step
        async def inside() -> None:
            try:
                ctx.patched("in-a-step")
            except NotInTask as error:
                seen.append(error.message)

        await inside()

    async with Harness(version(new)) as harness:
        session = await harness.start("changing")
        await session.result()
    assert len(seen) == 2


async def test_an_answer_to_a_stream_that_newer_code_lacks_is_kept_and_the_run_blocked():
    letters = streams.input("letters", schema=str)

    @task(id="changing", streams=[letters])
    async def waits(payload: Any) -> str:
        return await letters.wait().unwrap()

    async def without_it(ctx: TaskContext) -> None:
        await one()

    async with Harness(waits) as harness:
        session = await harness.start("changing")
        await session.park()
        harness.deploy(version(without_it))
        assert (await session.answer("kept"))["outcome"] == "fulfilled"
        assert (await session.error() or {})["recorded"] == "wait input letters"
        await session.park()
        harness.deploy(waits)
        await session.retry()
        assert await session.result() == "kept"
