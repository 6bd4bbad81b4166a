"""Code that differs from its journal is aborted at once and says where (S-21, S-31)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel

from helmr import TaskContext, step, streams, task
from helmr.tasks import Task
from helmr_runtime.replay import Mismatch, Unreadable
from tests.replay.bench import Bench, bench, finished

messages = streams.input("messages", schema=str)
numbers = streams.input("messages", schema=int)
progress = streams.output("progress", schema=str)


@step
async def one(value: str = "x") -> str:
    return value


@step
async def two(value: str = "x") -> str:
    return value


def as_task(function: Callable[[TaskContext], Awaitable[Any]]) -> Task[Any, Any]:
    @task(id="changing")
    async def body(payload: Any, ctx: TaskContext) -> Any:
        return await function(ctx)

    return body


async def recorded(function: Callable[[TaskContext], Awaitable[Any]]) -> Bench:
    """A run of the old code, cut before its end."""
    done = await finished(as_task(function))
    assert done.is_clean
    return done


async def replay_with(
    old: Bench, function: Callable[[TaskContext], Awaitable[Any]], **more: Any
) -> Bench:
    """The new code along the old code's journal."""
    last = next(i for i, e in enumerate(old.story.entries) if e.kind.value == "run.succeeded")
    again = old.replayed(last, **more)
    again.task = as_task(function)
    return await again.start().until_closed()


async def old_code(ctx: TaskContext) -> str:
    await one("a")
    ctx.now()
    await progress.append("b")
    await two("c")
    return "done"


async def other_step(ctx: TaskContext) -> None:
    await two("a")


async def other_kind(ctx: TaskContext) -> None:
    await one("a")
    await progress.append("b")


async def clock_instead(ctx: TaskContext) -> None:
    ctx.now()


async def other_stream(ctx: TaskContext) -> None:
    await one("a")
    ctx.now()
    await streams.output("elsewhere").append("b")


async def ends_early(ctx: TaskContext) -> str:
    return await one("a")


async def raises_early(ctx: TaskContext) -> None:
    await one("a")
    raise KeyError("early")


async def continues_early(ctx: TaskContext) -> None:
    await one("a")
    await ctx.continue_as({"n": 2})


@pytest.mark.parametrize(
    ("new", "op", "journal", "met"),
    [
        (other_step, 1, "step one", "step two"),
        (other_kind, 2, "clock", "output progress"),
        (clock_instead, 1, "step one", "clock"),
        (other_stream, 3, "output progress", "output elsewhere"),
        (ends_early, 2, "clock", "the end of the task"),
        (raises_early, 2, "clock", "KeyError: 'early'"),
        (continues_early, 2, "clock", "continue"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
async def test_a_difference_names_op_recorded_and_met(new: Any, op: int, journal: str, met: str):
    old = await recorded(old_code)
    again = await replay_with(old, new)
    assert isinstance(again.end, Mismatch), again.end
    assert (again.end.error.op, again.end.error.recorded, again.end.error.met) == (op, journal, met)
    assert again.is_clean
    assert again.asks == {}
    assert again.continued is None
    assert again.story.kinds[-1] == "run.blocked"


async def test_the_old_code_put_back_goes_on_after_a_retry():
    old = await recorded(old_code)
    again = await replay_with(old, other_kind)
    again.story.retry()
    third = again.replayed(len(again.story.entries))
    third.task = as_task(old_code)
    await third.start().until_closed()
    assert third.result == "done"
    assert third.executed == []


async def test_catching_the_mismatch_changes_nothing():
    old = await recorded(old_code)
    caught: list[str] = []

    async def stubborn(ctx: TaskContext) -> str:
        for _ in range(3):
            try:
                await two("a")
            except BaseException as error:
                caught.append(type(error).__name__)
        return "looks fine"

    again = await replay_with(old, stubborn)
    assert isinstance(again.end, Mismatch)
    assert caught == ["NondeterminismError"] * 3
    assert again.asks == {}


async def test_more_ops_than_the_journal_has_are_new_ones():
    old = await recorded(ends_early)

    async def longer(ctx: TaskContext) -> str:
        await one("a")
        return await two("new")

    again = await replay_with(old, longer)
    assert again.result == "new"
    assert list(again.asks) == [2]


async def gather_of_three(ctx: TaskContext) -> list[str]:
    return list(await asyncio.gather(one("a"), one("b"), one("c")))


async def test_a_gather_of_fewer_is_noticed_by_silence():
    old = await recorded(gather_of_three)

    async def gather_of_two(ctx: TaskContext) -> list[str]:
        await asyncio.gather(one("a"), one("b"))
        return [await one("c")]

    again = await replay_with(old, gather_of_two, silence_s=0.2)
    assert isinstance(again.end, Mismatch)
    assert again.end.error.op == 3
    assert "not a durable call" in again.end.error.met


async def test_a_gather_of_more_asks_for_new_ops_and_every_branch_gets_its_own_value():
    old = await recorded(gather_of_three)

    async def gather_of_four(ctx: TaskContext) -> list[str]:
        return list(await asyncio.gather(*(one(name) for name in "abcd")))

    again = await replay_with(old, gather_of_four)
    assert again.result == ["a", "b", "c", "d"]
    assert list(again.asks) == [4]


async def test_silence_is_not_a_slow_step():
    """A step that runs again holds the replay up as long as it likes."""
    begun, release = asyncio.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    @step
    async def slow() -> str:
        loops.append(asyncio.get_running_loop())
        begun.set()
        await asyncio.sleep(0.6 if len(loops) > 1 else 0)
        return "slow"

    async def code(ctx: TaskContext) -> list[str]:
        return list(await asyncio.gather(slow(), one("b")))

    old = await recorded(code)
    kinds = [(e.kind.value, e.op) for e in old.story.entries]
    lost = kinds.index(("step.succeeded", 1))
    if ("step.succeeded", 2) in kinds[:lost]:
        cut = lost
    else:
        cut = kinds.index(("step.started", 2)) + 1
    again = old.replayed(cut, silence_s=0.1)
    await again.start().until_closed()
    assert again.result == ["slow", "b"]
    assert not release.is_set()


async def test_a_wait_of_months_is_not_silence():
    async def code(ctx: TaskContext) -> str:
        await one("a")
        return await messages.wait().unwrap()

    async with bench(as_task(code), silence_s=0.05) as run:
        await run.until_waiting()
        await run.abort()
        again = run.replayed(len(run.story.entries), silence_s=0.05).start()
        await again.until(lambda: again.again == [2], "asked again")
        assert again.driver is not None
        await asyncio.to_thread(again.driver._thread.join, 0.4)
        assert again.end is None
        again.send("hello")
        await again.until_closed()
        assert again.result == "hello"


async def test_an_op_no_longer_given_up_is_noticed_by_silence():
    async def gives_up(ctx: TaskContext) -> str:
        try:
            async with asyncio.timeout(0.02):
                await messages.wait(correlation_id="X")
        except TimeoutError:
            await one("after")
        return "done"

    async def waits(ctx: TaskContext) -> str:
        await messages.wait(correlation_id="X")
        return "done"

    old = await recorded(gives_up)
    again = await replay_with(old, waits, silence_s=0.2)
    assert isinstance(again.end, Mismatch)
    assert again.end.error.op == 1
    assert again.end.error.recorded == "the end of wait input messages"


# --- recorded values that no longer fit (S-21) --------------------------------------------------------


async def test_a_buffered_value_that_newer_code_refuses_blocks_the_run():
    async def code(ctx: TaskContext) -> str:
        await one("a")
        return str(await numbers.wait().unwrap())

    async with bench(as_task(code)) as run:
        run.send("not a number")
        await run.until_closed()
        assert isinstance(run.end, Unreadable)
        assert run.end.op == 2
        assert "messages" in run.end.message
        assert run.story.run.status.value == "blocked"
        assert run.is_clean


@pytest.mark.parametrize("look", ["peek", "history"])
async def test_a_value_that_newer_code_refuses_also_blocks_a_look(look: str):
    async def code(ctx: TaskContext) -> Any:
        await one("a")
        try:
            return await getattr(numbers, look)()
        except Exception:
            return "swallowed"

    async with bench(as_task(code)) as run:
        run.send("not a number")
        await run.until_closed()
        assert isinstance(run.end, Unreadable)


async def test_a_step_value_that_newer_code_refuses_blocks_the_run():
    class Old(BaseModel):
        a: int = 1

    class New(BaseModel):
        b: int

    def code_with(model: type[BaseModel]) -> Callable[[TaskContext], Awaitable[Any]]:
        async def read() -> Any:
            return model()

        read.__annotations__["return"] = model
        call = step(read)

        async def code(ctx: TaskContext) -> str:
            await call()
            return "read"

        return code

    old = await recorded(code_with(Old))
    again = await replay_with(old, code_with(New))
    assert isinstance(again.end, Unreadable)
    assert again.end.op == 1


async def test_a_payload_that_newer_code_refuses_blocks_the_run():
    class Payload(BaseModel):
        number: int

    @task
    async def body(payload: Any) -> str:
        return "ran"

    body.function.__annotations__["payload"] = Payload
    done = await finished(body, {"number": "x"})
    assert isinstance(done.end, Unreadable)
    assert done.end.op is None
