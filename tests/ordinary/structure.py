"""Threads, groups, limits and cleaning up, in tasks and in steps."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio

from helmr import StepFailed, step, streams, task
from tests.ordinary.moments import Places, go_on, thrice

pool = ThreadPoolExecutor(2, "own-pool")
never = streams.input("never", schema=str)


def double(number: int) -> int:
    return 2 * number


@step
async def one(number: int) -> int:
    return number


@step
async def fails(text: str) -> None:
    raise ValueError(text)


@step
async def in_thread(number: int) -> int:
    return await asyncio.to_thread(double, number)


@step
async def in_pool(number: int) -> list[int]:
    loop = asyncio.get_running_loop()
    return [
        await loop.run_in_executor(None, double, number),
        await loop.run_in_executor(pool, partial(double, number)),
    ]


@step
async def in_anyio(count: int) -> list[int]:
    said: list[int] = []

    async def add(number: int) -> None:
        said.append(await anyio.to_thread.run_sync(double, number))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(add, number)
    return sorted(said)


@step
async def group_in_a_step(count: int) -> list[int]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(0.001, number)) for number in range(count)]
    return [task.result() for task in tasks]


@step
async def limits_itself() -> str:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
    except TimeoutError:
        return "timed out"
    return "ended"


@step(timeout="20ms")
async def too_slow() -> None:
    await asyncio.sleep(60)


@step(retries=2, backoff="1ms")
async def works_at_the_third_try(tries: list[int]) -> int:
    tries.append(1)
    if len(tries) < 3:
        raise ConnectionError("not yet")
    return len(tries)


@step
async def cleans_up(log: list[str]) -> None:
    try:
        raise KeyError("inside")
    finally:
        await asyncio.sleep(0.001)
        log.append("cleaned")


@step
async def exits() -> None:
    raise SystemExit(3)


@step
async def leaves_a_task_behind() -> str:
    left.append(asyncio.create_task(asyncio.sleep(0.01, "done")))
    return "left"


@step
async def awaits_what_was_left() -> str:
    return str(await left.pop()) if left else "done"  # in another process: nothing was left


left: list[asyncio.Task[str]] = []


@step
async def reads_a_generator() -> list[int]:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0)
            yield number

    return [number async for number in numbers()]


@step
async def waits_inside() -> str:
    return await never.wait().unwrap()


@step
def thread_local_loop() -> int:
    return asyncio.run(asyncio.sleep(0, 5))


async def to_thread(places: Places) -> Any:
    return await asyncio.gather(*(in_thread(n) for n in range(4)))


async def executors(places: Places) -> Any:
    return await in_pool(4)


async def anyio_task_group_and_threads(places: Places) -> Any:
    return await in_anyio(4)


async def task_group_of_steps(places: Places) -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(n)) for n in range(4)]
    return [task.result() for task in tasks]


async def task_group_in_a_step(places: Places) -> Any:
    return await group_in_a_step(4)


async def except_star(places: Places) -> Any:
    said = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails("one"))
            group.create_task(one(1))
    except* StepFailed as errors:
        said = [error.facts["type"] for error in errors.exceptions if isinstance(error, StepFailed)]
    return said


async def timeout_in_a_step(places: Places) -> Any:
    return await limits_itself()


async def timeout_of_a_step(places: Places) -> Any:
    try:
        await too_slow()
    except StepFailed as error:
        return error.facts["type"]


async def retries_of_a_step(places: Places) -> Any:
    return await works_at_the_third_try([])


async def finally_with_awaits(places: Places) -> Any:
    """In the task around steps, and in a step."""
    log: list[str] = []
    try:
        await cleans_up(log)
    except StepFailed as error:
        log.append(str(error.facts["type"]))
    finally:
        log.append(str(await one(7)))
    return log[-2:]


async def background_task_of_the_task(places: Places) -> Any:
    beside = asyncio.create_task(one(1))
    first = await one(2)
    return [first, await beside]


async def background_task_of_a_step(places: Places) -> Any:
    return [await leaves_a_task_behind(), await awaits_what_was_left()]


async def async_generator_in_a_step(places: Places) -> Any:
    return await reads_a_generator()


async def async_generator_of_steps(places: Places) -> Any:
    async def values() -> AsyncIterator[int]:
        for number in range(3):
            yield await one(number)

    return [value async for value in values()]


async def async_context_manager_of_steps(places: Places) -> Any:
    log: list[int] = []

    @asynccontextmanager
    async def opened() -> AsyncIterator[int]:
        log.append(await one(1))
        try:
            yield 2
        finally:
            log.append(await one(3))

    async with opened() as value:
        log.append(value)
    return log


async def exit_in_a_step(places: Places) -> Any:
    try:
        await exits()
    except StepFailed as error:
        return error.facts["type"]


async def loop_in_a_sync_step(places: Places) -> Any:
    return await thread_local_loop()


async def wait_inside_a_step(places: Places) -> Any:
    return await waits_inside()


async def two_waits_at_once(places: Places) -> Any:
    waiting = asyncio.ensure_future(never.wait(timeout="1h"))
    await asyncio.sleep(0)
    try:
        return await never.wait(timeout="1h")
    finally:
        waiting.cancel()
        await asyncio.wait([waiting])


HABITS = (
    to_thread,
    executors,
    anyio_task_group_and_threads,
    task_group_of_steps,
    task_group_in_a_step,
    except_star,
    timeout_in_a_step,
    timeout_of_a_step,
    retries_of_a_step,
    finally_with_awaits,
    background_task_of_the_task,
    background_task_of_a_step,
    async_generator_in_a_step,
    async_generator_of_steps,
    async_context_manager_of_steps,
    exit_in_a_step,
    loop_in_a_sync_step,
    wait_inside_a_step,
    two_waits_at_once,
)


@task(id="structure", streams=[go_on])
async def structure(places: Places) -> dict[str, list[Any]]:
    return await thrice("structure", HABITS, places)
