"""Nothing is skipped in silence: a durable call that was made and never awaited fails its run (S-125)."""

# mypy: disable-error-code="unused-coroutine"

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from helmr import (
    Approval,
    TaskContext,
    ask_approval,
    auth,
    sessions,
    step,
    step_call,
    streams,
    task,
    timers,
    tokens,
)
from helmr.tasks import Task
from helmr.testing import Harness, RunFailed

approval = streams.input("approval", schema=bool)
approvals = streams.input("approvals", schema=Approval)
other = streams.input("other", schema=bool)
report = streams.output("report", schema=str)

sent: list[str] = []

LINES = Path(__file__).read_text(encoding="utf-8").splitlines()


@step
async def send_mail(text: Any) -> str:
    sent.append(str(text))
    return f"sent {text}"


@step
def look(text: str) -> str:
    return text


class Service:
    @step
    async def charge(self, cents: int) -> int:
        return cents


@task(id="child")
async def child(payload: None) -> int:
    return 1


Body = Callable[[TaskContext], Coroutine[Any, Any, Any]]


def as_task(body: Body) -> Task[Any, Any]:
    @task(id="body", streams=[approval, approvals, other, report])
    async def run(payload: None, ctx: TaskContext) -> Any:
        return await body(ctx)

    return run


async def error_of(body: Body, **options: Any) -> dict[str, Any]:
    """How the run of this code failed, with no warning of Python's and no mail that was sent."""
    sent.clear()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        async with Harness(as_task(body), child, **options) as harness:
            session = await harness.start("body")
            error = await session.error()
            gc.collect()
    # The collector also meets what tests before this one have left (pyproject says which).
    said = [str(one.message) for one in seen if one.category is not ResourceWarning]
    assert said == []
    assert error is not None
    return error


def line_of(body: Body, text: str) -> int:
    code = body.__code__
    return next(i for i, one in enumerate(LINES, 1) if i > code.co_firstlineno and text in one)


# --- every kind of call, forgotten before a step ------------------------------------------------------


async def a_wait(ctx: TaskContext) -> Any:
    approval.wait(timeout="7d", subject="Send?")  # forgotten
    return await send_mail("x")


async def a_value(ctx: TaskContext) -> Any:
    approval.wait().unwrap()  # forgotten
    return await send_mail("x")


async def an_approval(ctx: TaskContext) -> Any:
    ask_approval(approvals, "refund", {"cents": 1})  # forgotten
    return await send_mail("x")


async def a_step(ctx: TaskContext) -> Any:
    look("x")  # forgotten
    return await send_mail("x")


async def a_method(ctx: TaskContext) -> Any:
    Service().charge(1)  # forgotten
    return await send_mail("x")


async def a_named_step(ctx: TaskContext) -> Any:
    step_call("named", str, 1)  # forgotten
    return await send_mail("x")


async def an_output(ctx: TaskContext) -> Any:
    report.append("x")  # forgotten
    return await send_mail("x")


async def a_timer(ctx: TaskContext) -> Any:
    timers.sleep("1h")  # forgotten
    return await send_mail("x")


async def a_moment(ctx: TaskContext) -> Any:
    timers.until(datetime(2031, 1, 1, tzinfo=UTC))  # forgotten
    return await send_mail("x")


async def a_token(ctx: TaskContext) -> Any:
    tokens.create()  # forgotten
    return await send_mail("x")


async def a_wait_on_a_token(ctx: TaskContext) -> Any:
    token = await tokens.create()
    token.wait()  # forgotten
    return await send_mail("x")


async def a_completion(ctx: TaskContext) -> Any:
    token = await tokens.create()
    tokens.complete(token.id, 1)  # forgotten
    return await send_mail("x")


async def a_public_token(ctx: TaskContext) -> Any:
    auth.create_public_token(scope=auth.send_to(approval))  # forgotten
    return await send_mail("x")


async def a_child(ctx: TaskContext) -> Any:
    sessions.start(child, None)  # forgotten
    return await send_mail("x")


async def a_childs_result(ctx: TaskContext) -> Any:
    (await sessions.start(child, None)).result()  # forgotten
    return await send_mail("x")


async def a_look(ctx: TaskContext) -> Any:
    approval.peek()  # forgotten
    return await send_mail("x")


async def a_history(ctx: TaskContext) -> Any:
    approval.history()  # forgotten
    return await send_mail("x")


async def a_next_run(ctx: TaskContext) -> Any:
    ctx.continue_as(None)  # forgotten
    return await send_mail("x")


FORGOTTEN: dict[Body, str] = {
    a_wait: "approval.wait()",
    a_value: "approval.wait().unwrap()",
    an_approval: "ask_approval()",
    a_step: "look()",
    a_method: "charge()",
    a_named_step: "named()",
    an_output: "report.append()",
    a_timer: "timers.sleep()",
    a_moment: "timers.until()",
    a_token: "tokens.create()",
    a_wait_on_a_token: "tokens.wait()",
    a_completion: "tokens.complete()",
    a_public_token: "auth.create_public_token()",
    a_child: "sessions.start()",
    a_childs_result: "child.result()",
    a_look: "approval.peek()",
    a_history: "approval.history()",
    a_next_run: "ctx.continue_as()",
}


@pytest.mark.parametrize("body", FORGOTTEN, ids=lambda one: one.__name__)
async def test_the_next_op_fails_the_run_with_file_and_line(body: Body):
    error = await error_of(body)
    line = line_of(body, "# forgotten")
    assert error["code"] == "not_awaited"
    what, _, place = error["message"].partition(" at ")
    assert what == FORGOTTEN[body]
    assert place.endswith(f"/test_not_awaited.py:{line} was made and never awaited")
    assert f'test_not_awaited.py", line {line}, in {body.__name__}' in error["traceback"]
    assert sent == []


# --- other ways to forget ------------------------------------------------------------------------------


async def at_the_end(ctx: TaskContext) -> Any:
    await send_mail("x")
    report.append("x")  # forgotten


async def kept_to_the_end(ctx: TaskContext) -> Any:
    asked = approval.wait()  # forgotten
    return 1 if asked is None else 2


async def before_the_clock(ctx: TaskContext) -> Any:
    report.append("x")  # forgotten
    return ctx.now().year


async def before_the_next_run(ctx: TaskContext) -> Any:
    report.append("x")  # forgotten
    await ctx.continue_as(None)


async def caught(ctx: TaskContext) -> Any:
    report.append("x")  # forgotten
    try:
        await send_mail("x")
    except Exception:
        await send_mail("y")


async def in_a_handler(ctx: TaskContext) -> Any:
    try:
        raise ValueError("x")
    except ValueError:
        approval.wait()  # forgotten
        await send_mail("x")


async def before_what_raises(ctx: TaskContext) -> Any:
    try:
        approval.wait()  # forgotten
        raise ValueError("x")
    except ValueError:
        await send_mail("x")


async def in_a_branch(ctx: TaskContext) -> Any:
    async def branch() -> None:
        approval.wait()  # forgotten
        await send_mail("x")

    await asyncio.gather(branch(), asyncio.sleep(0))


async def in_a_helper(ctx: TaskContext) -> Any:
    def helper() -> None:
        kept = approval.wait()  # forgotten
        assert kept is not None

    helper()
    await send_mail("x")


async def as_a_condition(ctx: TaskContext) -> Any:
    if approval.wait().unwrap():  # forgotten
        await send_mail("x")


async def compared(ctx: TaskContext) -> Any:
    if approval.wait().unwrap() == "no":  # forgotten
        return
    await send_mail("x")


@pytest.mark.parametrize(
    "body",
    [
        at_the_end,
        kept_to_the_end,
        before_the_clock,
        before_the_next_run,
        caught,
        in_a_handler,
        before_what_raises,
        in_a_branch,
        in_a_helper,
        as_a_condition,
        compared,
    ],
    ids=lambda one: one.__name__,
)
async def test_however_it_was_forgotten_the_run_fails(body: Body):
    error = await error_of(body)
    assert error["code"] == "not_awaited"
    assert f":{line_of(body, '# forgotten')} was " in error["message"]
    assert [one for one in sent if body is not at_the_end] == []


async def test_a_kept_call_that_is_tested_for_truth_counts_as_forgotten():
    async def body(ctx: TaskContext) -> Any:
        approved = approval.wait().unwrap()
        if approved:
            await send_mail("x")

    error = await error_of(body)
    assert error["code"] == "not_awaited"
    assert error["message"].endswith("was tested for truth and not awaited")
    assert sent == []


async def test_a_call_that_is_given_to_a_step_is_refused():
    async def body(ctx: TaskContext) -> Any:
        await send_mail(look("x"))

    error = await error_of(body)
    assert error["code"] == "not_awaited"
    assert error["message"].startswith("send_mail() was given look() at ")
    assert sent == []


async def test_no_attempt_tries_it_again():
    @task(id="body", retries=3, streams=[report])
    async def body(payload: None) -> None:
        report.append("x")

    async with Harness(body) as harness:
        session = await harness.start(body)
        assert (await session.state()).run.status.value == "failed"  # type: ignore[union-attr]


async def test_what_a_replay_forgets_stops_it_too():
    """Code that lost its `await` while the run waited does not go past the person."""
    asks = True

    async def body(ctx: TaskContext) -> Any:
        await other.wait()
        if asks:
            await approval.wait()
        else:
            approval.wait()
        await send_mail("x")

    sent.clear()
    async with Harness(as_task(body)) as harness:
        session = await harness.start("body")
        await session.park()
        asks = False
        await session.send("other", True)
        error = await session.error()
    assert error is not None
    assert error["code"] == "not_awaited"
    assert sent == []


# --- what people may write ------------------------------------------------------------------------------


async def later(ctx: TaskContext) -> Any:
    asked = approval.wait()
    await send_mail("x")
    return (await asked).ok


async def gathered(ctx: TaskContext) -> Any:
    return (await asyncio.gather(send_mail("a"), approval.wait(), look("b")))[0]


async def gathered_values(ctx: TaskContext) -> Any:
    calls = [send_mail(str(i)) for i in range(3)]
    first = approval.wait().unwrap()
    return [await first, *await asyncio.gather(*calls)]


async def in_a_group(ctx: TaskContext) -> Any:
    async with asyncio.TaskGroup() as group:
        one = group.create_task(approval.wait().unwrap())
        group.create_task(send_mail("a"))
    return one.result()


async def as_a_task(ctx: TaskContext) -> Any:
    one = asyncio.create_task(approval.wait())
    await send_mail("a")
    return (await one).ok


async def bounded(ctx: TaskContext) -> Any:
    async with asyncio.timeout(60):
        await asyncio.wait_for(asyncio.shield(send_mail("a")), 60)
    return await approval.wait().unwrap()


async def cancelled_before_it_began(ctx: TaskContext) -> Any:
    one = asyncio.create_task(look("x"))
    one.cancel()
    await asyncio.wait([one])
    return await approval.wait().unwrap()


async def closed_on_purpose(ctx: TaskContext) -> Any:
    look("x").close()
    return await approval.wait().unwrap()


async def an_exception_between(ctx: TaskContext) -> Any:
    try:
        await asyncio.gather(look("x"), look(1 / 0))  # type: ignore[arg-type]
    finally:
        await approval.wait()


async def an_exception_that_ends_it(ctx: TaskContext) -> Any:
    await approval.wait()
    asked = look("x")
    raise ValueError(str(asked is None))


async def awaited_after_a_test(ctx: TaskContext) -> Any:
    asked = approval.wait() if ctx.attempt else None
    return (await asked).ok if asked else None


async def yielded(ctx: TaskContext) -> Any:
    async def answers() -> AsyncIterator[Any]:
        for call in (one for one in (send_mail("a"), approval.wait())):
            yield await call

    first, *_ = [one async for one in answers()]
    return first


async def as_completed(ctx: TaskContext) -> Any:
    await approval.wait()
    return sorted([await one for one in asyncio.as_completed([send_mail("a"), look("b")])])


async def awaited_in_steps_and_helpers(ctx: TaskContext) -> Any:
    def make() -> Any:
        return send_mail("a"), approval.wait()

    mail, asked = make()
    return await mail, (await asked).ok, await step_call("outer", outer)


async def outer() -> str:
    return await look("inner")


ALLOWED: dict[Body, Any] = {
    later: True,
    gathered: "sent a",
    gathered_values: [True, "sent 0", "sent 1", "sent 2"],
    in_a_group: True,
    as_a_task: True,
    bounded: True,
    cancelled_before_it_began: True,
    closed_on_purpose: True,
    an_exception_between: "ZeroDivisionError",
    an_exception_that_ends_it: "ValueError",
    awaited_after_a_test: True,
    yielded: "sent a",
    as_completed: ["b", "sent a"],
    awaited_in_steps_and_helpers: ["sent a", True, "inner"],
}


@pytest.mark.parametrize("replay_always", [False, True])
@pytest.mark.parametrize("body", ALLOWED, ids=lambda one: one.__name__)
async def test_what_is_awaited_at_some_time_passes(body: Body, replay_always: bool):
    async with Harness(as_task(body), replay_always=replay_always) as harness:
        session = await harness.start("body")
        await session.answer(True)
        try:
            assert await session.result() == ALLOWED[body]
        except RunFailed:
            error = await session.error()
            assert error is not None
            assert error["type"] == ALLOWED[body]
    gc.collect()


async def test_a_call_is_awaited_once():
    async def body(ctx: TaskContext) -> Any:
        asked = look("x")
        return await asked + await asked

    error = await error_of(body)
    assert error["message"] == "cannot reuse already awaited coroutine"


async def test_a_session_that_is_cut_off_says_nothing_of_what_was_not_awaited_yet():
    async def body(ctx: TaskContext) -> Any:
        asked = other.wait()
        await approval.wait()
        return (await asked).ok

    async with Harness(as_task(body)) as harness:
        session = await harness.start("body")
        await session.park()
        await session.answer(True)
        await session.kill()
        await session.answer(True)
        assert await session.result() is True
