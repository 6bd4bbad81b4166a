"""What type checkers know of the SDK; checked by `test_typing.py`, never run.

Pyright narrows by `ok is True` and by `error is None`, mypy also by `ok` alone: those lines say so.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Literal, TypeVar, assert_type

from pydantic import BaseModel

from helmr import (
    AsyncClient,
    ChildFailed,
    Client,
    InputStream,
    OutputStream,
    PendingWait,
    Record,
    Step,
    Task,
    TaskContext,
    WaitCancelled,
    WaitResult,
    WaitTimeout,
    sessions,
    step,
    step_call,
    step_key,
    streams,
    task,
    timers,
    tokens,
)
from helmr.client import AsyncStartedSession, StartedSession
from helmr.testing import Harness

T = TypeVar("T")


class Decision(BaseModel):
    decision: Literal["approve", "reject"]
    note: str | None = None


approval = streams.input("approval", schema=Decision)
anything = streams.input("anything")
numbers = streams.input("numbers", schema=list[int])
progress = streams.output("progress", schema=str)
grade = streams.input("grade", schema=Literal["good", "bad"])
maybe = streams.input("maybe", schema=Decision | None)
either = streams.output("either", schema=str | int)

assert_type(approval, InputStream[Decision])
assert_type(anything, InputStream[Any])
assert_type(numbers, InputStream[list[int]])
assert_type(progress, OutputStream[str])
assert_type(grade, InputStream[Literal["good", "bad"]])
assert_type(maybe, InputStream[Decision | None])
assert_type(either, OutputStream[str | int])


def of_types_that_are_known_at_run_time(known: type[T], unknown: Any) -> None:
    assert_type(streams.input("known", schema=known), InputStream[T])
    assert_type(streams.input("unknown", schema=unknown), InputStream[Any])
    assert_type(streams.output("known", schema=known), OutputStream[T])
    assert_type(streams.output("unknown", schema=unknown), OutputStream[Any])


@step
async def bare(text: str, *, loud: bool = False) -> int:
    return len(text)


@step
def bare_sync(text: str) -> Decision:
    return Decision(decision="approve", note=text)


@step(loop="run")
async def on_the_runs_loop(text: str) -> int:
    return len(text)


@step(retries=3, backoff="1s", retry_on=(ValueError, KeyError), timeout="10s")
async def with_arguments(text: str) -> int:
    return len(text)


@step(formerly=["older"], dry_run_safe=True)
async def renamed(text: str) -> int:
    return len(text)


def takes_the_new_way(ctx: TaskContext) -> None:
    assert_type(ctx.patched("p"), bool)


@step(name="other")
def with_arguments_sync(text: str) -> int:
    return len(text)


class Service:
    @step
    async def charge(self, amount: int, *, note: str = "") -> str:
        return note

    @step(retries=1)
    def refund(self, amount: int) -> int:
        return amount

    @staticmethod
    @step
    async def check(amount: int) -> int:
        return amount


@task
async def plain(payload: str) -> dict[str, int]:
    return {payload: 1}


@task(id="publish-review", retries=1, streams=[approval, progress], on_idle_input="run")
async def review(payload: Decision, ctx: TaskContext) -> str:
    pending = approval.wait(timeout="30m", correlation_id="x", subject="Publish?")
    assert_type(pending, PendingWait[Decision])
    assert_type(await pending, WaitResult[Decision])
    decision = await approval.wait().unwrap()
    assert_type(decision, Decision)
    result = await approval.wait()
    assert_type(result.value, Decision | None)
    assert_type(result.record, Record | None)
    assert_type(result.ok, bool)
    if result.ok:
        assert_type(result.value, Decision)  # pyright: ignore[reportAssertTypeFailure]
    if result.ok is True:
        assert_type(result.value, Decision)
    if result.error is None:
        assert_type(result.value, Decision)
    assert_type(await anything.wait().unwrap(), Any)
    assert_type(await numbers.wait().unwrap(), list[int])
    assert_type(await grade.wait().unwrap(), Literal["good", "bad"])
    assert_type(await maybe.wait().unwrap(), Decision | None)
    assert_type(await anything.wait(schema=Decision).unwrap(), Decision)
    assert_type(await anything.wait(schema=Literal["a", "b"]).unwrap(), Literal["a", "b"])
    assert_type(await anything.wait(schema={"type": "boolean"}).unwrap(), Any)
    token = await tokens.create(schema=int | None)
    assert_type(await token.wait(schema=int | None).unwrap(), int | None)
    assert_type(await token.wait(schema=Decision).unwrap(), Decision)
    assert_type(await token.wait().unwrap(), Any)
    assert_type(await tokens.wait("tok_1", schema=Literal[1, 2]).unwrap(), Literal[1, 2])
    async for message in approval.iter(timeout=5):
        assert_type(message, Decision)
    assert_type(await approval.peek(), list[Decision])
    assert_type(await approval.history(), list[Decision])
    assert_type(await progress.history(from_seq=3, last=2), list[str])
    assert_type(await progress.append("x"), int)
    assert_type(await bare("x", loud=True), int)
    assert_type(await bare_sync("x"), Decision)
    assert_type(await with_arguments("x"), int)
    assert_type(await with_arguments_sync(text="x"), int)
    service = Service()
    assert_type(await service.charge(1, note="x"), str)
    assert_type(await Service.charge(service, 1), str)
    assert_type(await service.refund(1), int)
    assert_type(await Service.check(1), int)
    assert_type(service.charge.name, str)
    assert_type(await on_the_runs_loop("x"), int)
    assert_type(ctx.now(), datetime)
    assert_type(ctx.uuid(), uuid.UUID)
    assert_type(ctx.random(), random.Random)
    assert_type(ctx.attempt, int)
    assert_type(step_key(), str)
    await timers.sleep("2h")
    if decision.decision == "reject":
        await ctx.continue_as(payload)
    return "posted"


@task
async def judge(payload: str) -> Decision:
    return Decision(decision="approve", note=payload)


def clients(client: Client) -> None:
    started = client.sessions.start(plain, "x", tags=["a"])
    assert_type(started, StartedSession[dict[str, int]])
    assert_type(client.sessions.start(review, Decision(decision="approve")), StartedSession[str])
    by_id = client.sessions.start_and_wait("publish-review", {}, timeout=3)
    assert_type(by_id, StartedSession[Any])
    assert_type(by_id.result, Any)
    assert_type(client.sessions.start_and_wait(plain, "x").result, dict[str, int])
    assert_type(client.sessions.start_and_wait(judge, "x").result, Decision)
    assert_type(judge.result_codec.decode(client.runs.get("run_1").result), Decision)
    assert_type(started.fork(reason="why"), StartedSession[Any])
    left_out: StartedSession = client.sessions.start_and_wait(judge, "x")
    assert_type(left_out.result, Any)
    client.waits.list(task=review)


async def async_clients(client: AsyncClient) -> None:
    started = await client.sessions.start_and_wait(plain, "x", timeout="1m")
    assert_type(started, AsyncStartedSession[dict[str, int]])
    assert_type(started.result, dict[str, int])
    assert_type((await client.sessions.start(judge, "x")).result, Decision)
    left_out: AsyncStartedSession = await client.sessions.start("judge", "x")
    assert_type(left_out.result, Any)


async def harness(harness: Harness) -> None:
    session = await harness.start(judge, "x")
    assert_type(await session.result(judge), Decision)
    assert_type(await session.result(), Any)


def declarations() -> None:
    call: Coroutine[Any, Any, dict[str, int]] = plain("x")
    call.close()
    a_task: Task[[Decision, TaskContext], str] = review
    a_step: Step[[str], int] = with_arguments
    assert a_task.id
    assert a_step.name


async def fetched(url: str, size: int) -> bytes:
    return url.encode()[:size]


async def calls_by_name() -> None:
    assert_type(await step_call("read", fetched, "a", 3, result=Decision), Decision)
    assert_type(await step_call("read", fetched, "a", 3, result=Decision | None), Decision | None)
    assert_type(await step_call("read", fetched, "a", 3, retries=2), Any)


@task
async def starts_children(payload: Decision, ctx: TaskContext) -> None:
    child = await sessions.start(review, payload)
    assert_type(child, sessions.Child[str])
    ended = await child.result(timeout="1h")
    if ended.ok is True:
        assert_type(ended.value, str)
    else:
        assert_type(ended.error, WaitTimeout | WaitCancelled)
    assert_type(await (await sessions.start(plain, "x")).result().unwrap(), dict[str, int])
    async for one in sessions.as_ended([child]):
        assert_type(one.child, sessions.Child[str])
        if one.ok:
            assert_type(one.value, str)  # pyright: ignore[reportAssertTypeFailure]
        if one.error is None:
            assert_type(one.value, str)
        else:
            assert_type(one.error, ChildFailed | WaitCancelled)
