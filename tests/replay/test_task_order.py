"""What asyncio leaves to chance has an order on the loop of a run (S-30)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from helmr import TaskContext, step, task
from helmr.testing import Harness
from helmr_runtime.replay import loop
from helmr_runtime.replay.loop import make_loop


@step
async def first(i: int) -> int:
    return i


@step
async def second(i: int) -> int:
    return i


@step
async def third(i: int) -> int:
    return i


STEPS = (first, second, third)


async def branch(i: int) -> int:
    """A coroutine of the user's own, which hashes by its address."""
    return await STEPS[i](i)


async def by_calls(ctx: TaskContext) -> list[int]:
    return [await one for one in asyncio.as_completed([first(0), second(1), third(2)])]


async def by_coroutines(ctx: TaskContext) -> list[int]:
    return [await one for one in asyncio.as_completed([branch(0), branch(1), branch(2)])]


async def by_tasks(ctx: TaskContext) -> list[int]:
    tasks = [asyncio.create_task(branch(i)) for i in range(3)]
    return [await one for one in asyncio.as_completed(tasks, timeout=60)]


async def by_done(ctx: TaskContext) -> list[int]:
    """The order in which `wait` gives what is done, and a step for each."""
    done, _ = await asyncio.wait([asyncio.create_task(branch(i % 3)) for i in range(9)])
    return [await STEPS[one.result()](one.result()) for one in done]


def junk(count: int) -> list[object]:
    """What any program leaves in memory: other addresses at a replay."""
    return [bytearray(64 * i) for i in range(count)]


@pytest.mark.parametrize(
    "body", [by_calls, by_coroutines, by_tasks, by_done], ids=lambda one: one.__name__
)
async def test_a_replay_starts_them_in_the_same_order(
    body: Callable[[TaskContext], Coroutine[Any, Any, list[int]]],
):
    kept: list[object] = []

    @task(id="body")
    async def run(payload: int, ctx: TaskContext) -> list[int]:
        kept.extend(junk(payload % 7))
        found = await body(ctx)
        kept.extend(junk(payload % 5))
        return found

    async with Harness(run, replay_always=True) as harness:
        for i in range(10):
            session = await harness.start(run, i)
            assert await session.error() is None
            assert set(await session.result()) == {0, 1, 2}


def test_as_completed_starts_what_it_gets_in_the_order_given():
    begun: list[int] = []

    async def one(i: int) -> int:
        begun.append(i)
        await asyncio.sleep(0)
        return i

    async def main() -> list[int]:
        kept = [object() for _ in range(100)]
        calls = [one(i) for i in range(50)]
        del kept
        found = [await call for call in asyncio.as_completed(reversed(calls), timeout=60)]
        single = one(1)
        with pytest.raises(TypeError):
            next(iter(asyncio.as_completed(single)))  # type: ignore[arg-type]
        single.close()
        return found

    loop = make_loop(lambda: False, lambda: None, lambda: None, 60.0, "run_1")
    try:
        assert loop.run_until_complete(main()) == list(reversed(range(50)))
    finally:
        loop.close()
    assert begun == list(reversed(range(50)))


def test_other_loops_keep_asyncios_own():
    assert asyncio.as_completed is loop.as_completed
    assert loop.as_completed.__wrapped__.__module__ == "asyncio.tasks"

    async def main() -> list[int]:
        return sorted(
            [await one for one in asyncio.as_completed([asyncio.sleep(0, i) for i in (2, 1)])]
        )

    assert asyncio.run(main()) == [1, 2]


def test_the_python_that_runs_is_one_whose_as_completed_was_read():
    """A newer one may make its set elsewhere: read it, then raise this."""
    assert (3, 11) <= sys.version_info[:2] <= (3, 14)


def test_tasks_of_different_runs_hash_far_apart():
    async def nothing() -> None:
        return None

    hashes = set()
    for run_id in ("run_1", "run_2", "run_1"):
        loop = make_loop(lambda: False, lambda: None, lambda: None, 60.0, run_id)

        async def main() -> list[int]:
            return [hash(asyncio.ensure_future(nothing())) for _ in range(3)]

        hashes.add(tuple(loop.run_until_complete(main())))
        loop.close()
    assert len(hashes) == 2
