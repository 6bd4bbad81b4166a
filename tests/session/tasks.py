"""Tasks that the engine tests run."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel

from helmr import TaskContext, step, streams, task, timers
from helmr.errors import ConcurrentWaitError

done: Counter[str] = Counter()
"""What touched the world, and how often; tests clear it."""

switches: dict[str, Any] = {}
"""What the world is like; tests set it."""


class Decision(BaseModel):
    decision: Literal["approve", "reject"]


approval = streams.input("approval", schema=Decision)
messages = streams.input("messages", schema=str)
remarks = streams.input("remarks", schema=str)
replies = streams.output("replies", schema=str)


@step
async def touch(name: str) -> str:
    done[name] += 1
    return name.upper()


@step
def touch_in_thread(name: str) -> str:
    done[name] += 1
    return name.upper()


@task
async def approve(key: str) -> str:
    """Waits for one decision."""
    await touch("before")
    decision = await approval.wait(timeout="30m", correlation_id=key).unwrap()
    await touch("after")
    return decision.decision


@task
async def any_message(payload: Any) -> list[str]:
    """Takes two messages, whoever they are for."""
    first = await messages.wait().unwrap()
    second = await messages.wait().unwrap()
    return [first, second]


@task
async def two_for_x(payload: Any) -> list[str]:
    """Takes two messages for x."""
    return [await messages.wait(correlation_id="x").unwrap() for _ in range(2)]


@task
async def chat(payload: Any) -> int:
    """Echoes until the input ends."""
    count = 0
    async for message in messages.iter():
        count += 1
        await replies.append(f"{count}: {message}")
    return count


@task
async def five_steps(payload: Any) -> list[str]:
    """Five steps, then a wait."""
    names = [await touch(f"step{n}") for n in range(5)]
    await messages.wait()
    return names


@task
async def concurrent(payload: Any) -> list[str]:
    """Concurrent steps of both kinds."""
    return list(
        await asyncio.gather(
            *(touch(f"a{n}") if n % 2 else touch_in_thread(f"a{n}") for n in range(6))
        )
    )


@step
async def fail_until_mended(name: str) -> str:
    done[name] += 1
    if switches.get("broken", True):
        raise ValueError(f"{name} is broken")
    return "mended"


@task
async def fails_late(payload: Any) -> str:
    """A good step, a bad one."""
    await touch("good")
    return await fail_until_mended("bad")


@task(retries=2, backoff="1m")
async def retries_itself(payload: Any) -> str:
    """As `fails_late`, tried three times."""
    await touch("good")
    return await fail_until_mended("bad")


@step(retries=3, backoff="10m")
async def flaky() -> int:
    done["flaky"] += 1
    if done["flaky"] < 4:
        raise OSError("not yet")
    return done["flaky"]


@task
async def patient(payload: Any) -> int:
    """A step with long backoffs."""
    return await flaky()


@task
async def two_waits(payload: Any) -> str:
    """Opens a second wait beside the first."""

    async def second() -> str:
        try:
            await approval.wait()
        except ConcurrentWaitError:
            return "refused"
        return "accepted"

    first = asyncio.ensure_future(messages.wait(correlation_id="1").unwrap())
    await asyncio.sleep(0)
    verdict = await second()
    return f"{verdict} {await first}"


@task
async def timeout_is_a_result(payload: Any) -> str:
    """Goes on after a timeout."""
    result = await approval.wait(timeout="1h")
    return "on time" if result.ok else type(result.error).__name__


@task
async def sleeper(payload: Any, ctx: TaskContext) -> list[str]:
    """Reads the clock around a sleep."""
    before = ctx.now()
    await timers.sleep("2h")
    return [before.isoformat(), ctx.now().isoformat()]


@task
async def looks(payload: Any) -> dict[str, list[str]]:
    """Peeks and reads history."""
    await messages.wait(correlation_id="go")
    peeked = await messages.peek()
    taken = await messages.wait().unwrap()
    return {"peeked": peeked, "taken": [taken], "history": await messages.history()}


@task
async def counts_down(number: int, ctx: TaskContext) -> str:
    """Continues as the next run until zero."""
    await touch(f"run{number}")
    if number > 0:
        await ctx.continue_as(number - 1)
    return "done"


@task(on_idle_input="run")
async def per_message(payload: Any) -> str:
    """One run per message."""
    return await messages.wait().unwrap()


@task(on_idle_input="run")
async def per_answer(payload: Any) -> str:
    """One run per message, each of which takes only answers."""
    return await messages.wait(correlation_id="answer").unwrap()


@task(on_idle_input="reject")
async def rejecting(payload: Any) -> str:
    """Takes no input when idle."""
    return "done"


@task(after_run="close")
async def closing(payload: Any) -> str:
    """Closes its session."""
    return "done"


@task
async def gives_up(payload: Any) -> str:
    """An asyncio timeout around a wait, then the next wait."""
    try:
        async with asyncio.timeout(0.02):
            await messages.wait(correlation_id="never")
    except TimeoutError:
        pass
    return await messages.wait(correlation_id="later").unwrap()


@task
async def gives_up_too_late(payload: Any) -> list[Any]:
    """Cancels a wait while its fulfilment is on the way, then takes the next record."""
    waiting = asyncio.create_task(messages.wait(correlation_id="x").unwrap())
    await touch("open")
    switches["entered"].set()
    switches["gate"].wait(20)  # blocks the code's loop, so that nothing that comes now is delivered
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return [await messages.history(), await messages.wait().unwrap()]


@task
async def group_fails(payload: Any) -> str:
    """A failing step of a TaskGroup cancels the wait beside it."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(messages.wait(correlation_id="never").unwrap())
            group.create_task(fail_until_mended("in group"))
    except* Exception:
        pass
    return await messages.wait(correlation_id="later").unwrap()
