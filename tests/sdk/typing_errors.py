"""What a type checker refuses; checked by `test_typing.py`, never run.

Each line must have exactly this error: an ignore that ignores nothing is one too.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from helmr import Client, TaskContext, sessions, step, streams, task, timers, tokens


class Decision(BaseModel):
    decision: str


approval = streams.input("approval", schema=Decision)
progress = streams.output("progress", schema=str)
grade = streams.input("grade", schema=Literal["good", "bad"])


@step
async def post(text: str, *, loud: bool = False) -> int:
    return len(text)


@step(retries=3)
def post_sync(text: str) -> int:
    return len(text)


class Service:
    @step
    async def charge(self, amount: int) -> str:
        return str(amount)


@task
async def body(payload: str, ctx: TaskContext) -> int:
    await post(1)  # type: ignore[arg-type]
    await post()  # type: ignore[call-arg]
    await post("x", quiet=True)  # type: ignore[call-arg]
    await post_sync(1)  # type: ignore[arg-type]
    text: str = await post("x")  # type: ignore[assignment]
    number: int = post("x")  # type: ignore[assignment]
    await progress.append(1)  # type: ignore[arg-type]
    await progress.wait()  # type: ignore[attr-defined]
    await approval.append(text)  # type: ignore[attr-defined]
    await approval.wait(timeout=[number])  # type: ignore[call-overload]
    await approval.wait(priority="soon")  # type: ignore[call-overload]
    point: int = await grade.wait().unwrap()  # type: ignore[assignment]
    wrong: str = await approval.wait().unwrap()  # type: ignore[assignment]
    (await approval.wait()).value.decision  # type: ignore[union-attr]  # noqa: B018
    (await approval.wait()).unwrap()  # type: ignore[union-attr]
    "yes" in await approval.wait()  # type: ignore[operator]  # noqa: B015
    approval.history() + [wrong]  # type: ignore[operator]  # noqa: RUF005
    [one async for one in approval.history()]  # type: ignore[attr-defined]
    await Service().charge("x")  # type: ignore[arg-type]
    await Service().charge()  # type: ignore[call-arg]
    await Service.charge(1)  # type: ignore[call-arg, arg-type]
    approval.wait().unwrap()  # type: ignore[unused-coroutine]
    post("x")  # type: ignore[unused-coroutine]
    Service().charge(1)  # type: ignore[unused-coroutine]
    progress.append("x")  # type: ignore[unused-coroutine]
    timers.sleep("1h")  # type: ignore[unused-coroutine]
    tokens.create()  # type: ignore[unused-coroutine]
    sessions.start(forgets, None)  # type: ignore[unused-coroutine]
    ctx.continue_as("x")  # type: ignore[unused-coroutine]
    return len(wrong) + point


@task
async def forgets(payload: None) -> None: ...


@task(on_idle_input="drop")  # type: ignore[call-overload]
async def with_bad_policy(payload: Any) -> None: ...


@task  # type: ignore[arg-type]
def not_async(payload: Any) -> None: ...


@step(retries="three")  # type: ignore[call-overload]
def bad_step() -> None: ...


async def calls_a_task(ctx: TaskContext) -> None:
    await body(1, ctx)  # type: ignore[arg-type]
    await body("x")  # type: ignore[call-arg]
    body("x", ctx)  # type: ignore[unused-coroutine]


def starts(client: Client) -> None:
    client.sessions.start(body, 1)  # type: ignore[arg-type]
    client.sessions.start_and_wait(body, 1)  # type: ignore[arg-type]
    result: str = client.sessions.start_and_wait(body, "x").result  # type: ignore[assignment]
    del result
    client.sessions.start(body)  # type: ignore[call-overload]
    client.sessions.start("body", 1, timeout=3)  # type: ignore[call-overload]


@step(loop="run")  # type: ignore[arg-type]
def sync_on_the_runs_loop() -> None: ...


@step(formerly=3)  # type: ignore[call-overload]
async def formerly_nothing() -> None: ...


@step(loop="mine")  # type: ignore[call-overload]
async def on_no_loop() -> None: ...


async def starts_children() -> None:
    await sessions.start(body, 1)  # type: ignore[arg-type]
    await sessions.start("body", 1)  # type: ignore[call-overload]
    await sessions.start(body, "x", on_parent_cancel="keep")  # type: ignore[call-overload]
