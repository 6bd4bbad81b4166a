"""Concurrent branches interleave in a replay as they did the first time (S-30)."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from helmr import TaskContext, step, streams, task
from tests.replay.bench import Bench, finished

messages = streams.input("messages", schema=str)
progress = streams.output("progress", schema=str)


@step
async def echo(value: str) -> str:
    return value


@step(name="same")
async def same(value: str) -> str:
    return value


@step(name="same")
def same_in_thread(value: str) -> str:
    return value


@task
async def sequence(payload: Any) -> list[str]:
    first = await echo("a")
    second = await same_in_thread("b")
    await progress.append("between")
    return [first, second, await echo("c")]


@task
async def two_branches(payload: Any) -> list[list[str]]:
    async def branch(name: str) -> list[str]:
        return [await same(f"{name}{number}") for number in range(3)]

    return list(await asyncio.gather(branch("a"), branch("b")))


@task
async def branches_through_gather_and_wait_for(payload: Any) -> list[list[str]]:
    async def one() -> list[str]:
        return [(await asyncio.gather(same(f"a{number}")))[0] for number in range(3)]

    async def other() -> list[str]:
        return [await asyncio.wait_for(same(f"b{number}"), 3600) for number in range(3)]

    return list(await asyncio.gather(one(), other()))


@task
async def many_shapes(payload: Any, ctx: TaskContext) -> list[Any]:
    seen: list[str] = []

    async def leaf(name: str) -> str:
        value = await same(name)
        seen.append(f"{value} {ctx.random().random()}")
        return value

    async def inner(name: str) -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(leaf(f"{name}.{number}")) for number in range(2)]
        await progress.append(name)
        return [t.result() for t in tasks]

    done = await asyncio.gather(inner("x"), inner("y"), leaf("z"))
    ctx.now()
    return [done, seen, str(ctx.uuid())]


BODIES = [two_branches, branches_through_gather_and_wait_for, many_shapes]


async def test_ops_are_numbered_in_the_order_asked():
    done = await finished(sequence)
    assert done.result == ["a", "b", "c"]
    assert [(op, str(ask)) for op, ask in done.asks.items()] == [
        (1, "step echo"),
        (2, "step same"),
        (3, "output progress"),
        (4, "step echo"),
    ]
    assert done.is_clean


async def test_a_sequence_replayed_from_every_prefix_repeats_nothing_recorded():
    done = await finished(sequence)
    for seqs in range(2, len(done.story.entries)):
        again = await done.replayed(seqs).start().until_closed()
        assert again.result == done.result
        recorded = {e.op for e in done.story.entries[:seqs] if e.kind.value == "step.succeeded"}
        assert recorded.isdisjoint(int(text.split(":")[0]) for text in again.executed)
        assert again.asks.keys() | recorded | {3} >= {1, 2, 3, 4}


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.id)
@pytest.mark.parametrize(
    "block", [0, *(pytest.param(block, marks=pytest.mark.long) for block in range(1, 5))]
)
async def test_random_interleavings_replay_from_every_prefix(body: Any, block: int):
    """100 per body, over all blocks: each is recorded, then cut anywhere and gone on with."""
    for seed in range(block * 20, block * 20 + 20):
        random = Random(seed)
        done = await finished(body, shuffle=random)
        orders = [e.op for e in done.story.entries if e.kind.value == "step.succeeded"]
        last = len(done.story.entries) - 1
        cuts = range(3, last + 1) if seed % 20 == 0 else sorted(random.sample(range(3, last), 3))
        for seqs in cuts:
            again = await done.replayed(seqs, shuffle=Random(-seed)).start().until_closed()
            assert again.is_clean
            assert _values(again) == _values(done), (seed, seqs, orders)
        whole = await done.replayed(last).start().until_closed()
        assert whole.end == done.end, seed
        assert whole.asks == {}
        assert whole.executed == []


def _values(run: Bench) -> Any:
    """What the branches got; what `many_shapes` saw in between depends on the order after the cut."""
    return run.result[0] if run.task is many_shapes else run.result


async def test_interleavings_really_differ():
    orders = set()
    for seed in range(20):
        done = await finished(two_branches, shuffle=Random(seed))
        orders.add(tuple(e.op for e in done.story.entries if e.kind.value == "step.succeeded"))
    assert len(orders) > 3


async def test_outcomes_are_delivered_one_at_a_time():
    """Two outcomes at once: the first's branch asks its next op before the second's goes on."""
    order: list[str] = []

    @task
    async def body(payload: Any) -> list[str]:
        async def branch(name: str) -> None:
            await same(name)
            order.append(name)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append(f"{name} asks")
            await same(name)

        await asyncio.gather(branch("a"), branch("b"))
        return order

    done = await finished(body, shuffle=Random(1))
    first = done.result
    order.clear()
    cut = len(done.story.entries) - 1
    again = await done.replayed(cut).start().until_closed()
    assert again.result == first
    assert first[0] == first[1].split()[0]
