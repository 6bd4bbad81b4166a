"""Objects of asyncio in a module's globals, shared by steps."""

import asyncio
from contextvars import ContextVar
from typing import Any

from helmr import step, task
from tests.ordinary.moments import Places, go_on, thrice

lock = asyncio.Lock()
at_once = asyncio.Semaphore(2)
happened = asyncio.Event()
changed = asyncio.Condition()
jobs: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
color: ContextVar[str] = ContextVar("color", default="none")
inside = {"lock": 0, "semaphore": 0, "changes": 0}


@step
async def in_lock() -> int:
    async with lock:
        inside["lock"] += 1
        await asyncio.sleep(0.002)
        seen = inside["lock"]
        inside["lock"] -= 1
    return seen


@step
async def in_semaphore() -> int:
    async with at_once:
        inside["semaphore"] += 1
        await asyncio.sleep(0.002)
        seen = inside["semaphore"]
        inside["semaphore"] -= 1
    return seen


@step
async def waits_for_it() -> bool:
    await happened.wait()
    happened.clear()
    return True


@step
async def lets_it_happen() -> None:
    happened.set()


@step
async def waits_for_change() -> str:
    async with changed:
        await changed.wait_for(lambda: inside["changes"] > 0)
        inside["changes"] -= 1
    return "changed"


@step
async def changes() -> None:
    async with changed:
        inside["changes"] += 1
        changed.notify_all()


@step
async def produces(count: int) -> None:
    for number in range(count):
        await jobs.put(number)


@step
async def consumes(count: int) -> list[int]:
    return [await jobs.get() for _ in range(count)]


@step
async def sees_color() -> str:
    return color.get()


@step(loop="run")
async def awaits(future: asyncio.Future[str]) -> str:
    return await future


@step
async def awaits_on_the_wrong_loop(future: asyncio.Future[str]) -> str:
    return await future


async def global_lock(places: Places) -> Any:
    return await asyncio.gather(*(in_lock() for _ in range(4)))


async def global_semaphore(places: Places) -> Any:
    return max(await asyncio.gather(*(in_semaphore() for _ in range(6)))) <= 2


async def global_event(places: Places) -> Any:
    waited, _ = await asyncio.gather(waits_for_it(), lets_it_happen())
    return waited


async def global_condition(places: Places) -> Any:
    said, _ = await asyncio.gather(waits_for_change(), changes())
    return said


async def global_queue(places: Places) -> Any:
    _, got = await asyncio.gather(produces(5), consumes(5))
    return got


async def queue_of_the_task(places: Places) -> Any:
    """Made and used in the coroutine of the task, with steps between."""
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def producer() -> None:
        for _ in range(3):
            await queue.put(await sees_color())

    making = asyncio.create_task(producer())
    got = [await queue.get() for _ in range(3)]
    await making
    return got


async def context_variables(places: Places) -> Any:
    color.set("red")
    seen = await sees_color()
    color.set("none")
    return seen


async def future_of_the_task(places: Places) -> Any:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, "here")
    return await awaits(future)


async def future_of_the_task_without_saying_so(places: Places) -> Any:
    return await awaits_on_the_wrong_loop(asyncio.get_running_loop().create_future())


HABITS = (
    global_lock,
    global_semaphore,
    global_event,
    global_condition,
    global_queue,
    queue_of_the_task,
    context_variables,
    future_of_the_task,
    future_of_the_task_without_saying_so,
)


@task(id="coordination", streams=[go_on])
async def coordination(places: Places) -> dict[str, list[Any]]:
    return await thrice("coordination", HABITS, places)
