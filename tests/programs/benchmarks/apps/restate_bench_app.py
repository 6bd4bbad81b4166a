"""The three tasks of the benchmark, for Restate; served by Hypercorn."""

import asyncio
from datetime import timedelta

import restate
from restate import Workflow, WorkflowContext, WorkflowSharedContext

LONG = timedelta(minutes=15)
chat = Workflow("Chat", inactivity_timeout=LONG)
busy = Workflow("Busy", inactivity_timeout=LONG)
steps = Workflow("Steps", inactivity_timeout=LONG)


@chat.main()
async def run(ctx: WorkflowContext, turns: int) -> int:
    """Gives each message back."""
    await ctx.promise("waits", type_hint=str).resolve("yes")
    for turn in range(turns):
        message = await ctx.promise(f"message-{turn}", type_hint=str).value()
        await ctx.promise(f"reply-{turn}", type_hint=str).resolve(message)
    return turns


@chat.handler()
async def send(ctx: WorkflowSharedContext, body: dict[str, str]) -> None:
    await ctx.promise(f"message-{body['turn']}", type_hint=str).resolve(body["message"])


@chat.handler()
async def promised(ctx: WorkflowSharedContext, name: str) -> str:
    """A promise's value, when it is there."""
    value: str = await ctx.promise(name, type_hint=str).value()
    return value


async def work(duration_s: float) -> str:
    await asyncio.sleep(duration_s)
    return "done"


@busy.main(name="run")
async def run_busy(ctx: WorkflowContext, duration_s: float) -> str:
    """One step that awaits."""
    done: str = await ctx.run_typed("work", work, duration_s=duration_s)
    return done


async def add_one(number: int) -> int:
    return number + 1


@steps.main(name="run")
async def run_steps(ctx: WorkflowContext, payload: int) -> int:
    """Three steps, one after the other."""
    number: int = payload
    for name in ("one", "two", "three"):
        number = await ctx.run_typed(name, add_one, number=number)
    return number


app = restate.app([chat, busy, steps])
