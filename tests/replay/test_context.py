"""What the context gives, the ends of runs, and where durable calls are refused (S-5, S-8, S-30)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from helmr import StepFailed, TaskContext, errors, step, streams, task, timers
from helmr.context import TaskContext as Context
from helmr_runtime.core.commands import Deadline
from helmr_runtime.replay import Raised, driver
from tests.core.builder import ALICE
from tests.replay.bench import Bench, bench, finished

messages = streams.input("messages", schema=str)


@step
async def quick(value: str) -> str:
    return value


@step
async def fails(text: str = "boom") -> None:
    raise ValueError(text)


async def replayed_whole(run: Bench) -> Bench:
    last = max(i for i, e in enumerate(run.story.entries) if e.kind.value.startswith("run."))
    return await run.replayed(last).start().until_closed()


async def test_time_uuids_and_random_numbers_are_the_same_at_every_replay():
    @task
    async def body(payload: Any, ctx: TaskContext) -> list[Any]:
        drawn = [str(ctx.uuid()), str(ctx.uuid()), ctx.random().random(), ctx.random().random()]
        drawn.append(ctx.now().isoformat())
        await quick("x")
        return [*drawn, str(ctx.uuid()), ctx.random().random(), ctx.now().isoformat()]

    done = await finished(body)
    drawn = done.result
    assert len(set(map(str, drawn[:4] + drawn[5:7]))) == 6
    for seqs in range(4, len(done.story.entries)):
        again = done.replayed(seqs)
        again.clock.move_to(again.clock.now() + timedelta(days=1))
        await again.start().until_closed()
        recorded = len([e for e in done.story.entries[:seqs] if e.kind.value == "clock.read"])
        stable = [*range(4), *([4] if recorded else []), 5, 6, *([7] if recorded == 2 else [])]
        assert [again.result[i] for i in stable] == [drawn[i] for i in stable]


async def test_uuids_and_random_numbers_differ_between_runs_and_branches():
    seen: list[str] = []

    @task
    async def body(payload: Any, ctx: TaskContext) -> list[str]:
        async def branch() -> str:
            await quick("x")
            return f"{ctx.uuid()} {ctx.random().random()}"

        return list(await asyncio.gather(branch(), branch(), branch()))

    for number in range(3):
        run = Bench(body)
        run.story.run.id = f"run_{number}"
        await run.start().until_closed()
        seen += run.result
    assert len(set(seen)) == 9


async def test_the_context_knows_its_session_run_and_attempt():
    @task
    async def body(payload: Any, ctx: TaskContext) -> list[Any]:
        return [ctx.session.id, ctx.run.id, ctx.attempt, payload]

    assert (await finished(body, {"n": 1})).result == ["ses_1", "run_1", 1, {"n": 1}]


async def test_a_task_may_do_without_the_context():
    @task
    async def body(payload: str) -> str:
        return payload

    assert (await finished(body, "hello")).result == "hello"


async def test_the_log_is_silent_and_replaying_is_true_only_while_outcomes_are_delivered_again(
    caplog: pytest.LogCaptureFixture,
):
    @task(id="talker")
    async def body(payload: Any, ctx: TaskContext) -> list[bool]:
        seen = [ctx.replaying]
        await quick("a")
        seen.append(ctx.replaying)
        ctx.log.info("after a")
        await quick("b")
        ctx.log.info("after b")
        return [*seen, ctx.replaying]

    with caplog.at_level(logging.INFO, logger="helmr.task.talker"):
        done = await finished(body)
        assert done.result == [False, False, False]
        assert [r.getMessage() for r in caplog.records] == ["after a", "after b"]
        caplog.clear()
        at_b = next(i for i, e in enumerate(done.story.entries) if e.op == 2) + 1
        again = await done.replayed(at_b).start().until_closed()
        assert again.result[0] is True
        assert again.result[-1] is False
        assert [r.getMessage() for r in caplog.records] == ["after b"]


# --- outside runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda: messages.wait(),
        lambda: messages.wait().unwrap(),
        lambda: messages.peek(),
        lambda: messages.history(),
        lambda: streams.output("o").append("x"),
        lambda: timers.sleep("1s"),
    ],
    ids=["wait", "unwrap", "peek", "history", "append", "sleep"],
)
async def test_durable_calls_outside_a_run_are_refused(call: Any):
    with pytest.raises(errors.NotInTask):
        await call()


async def test_a_task_called_outside_a_run_runs_as_a_function():
    @task
    async def body(payload: str, ctx: TaskContext | None = None) -> str:
        return await quick(payload)

    assert await body("plain") == "plain"


# --- continuing -------------------------------------------------------------------------------------


class Payload(BaseModel):
    number: int


async def test_continue_as_never_returns_and_carries_the_encoded_payload():
    went_on: list[str] = []

    @task
    async def body(payload: Payload, ctx: Context) -> None:
        await quick("x")
        try:
            await ctx.continue_as(Payload(number=payload.number + 1))
        except BaseException as error:
            went_on.append(type(error).__name__)
            raise
        finally:
            try:
                await quick("refused")
            except BaseException as error:
                went_on.append(type(error).__name__)

    run = await finished(body, {"number": 1})
    await run.until(lambda: run.continued is not None, "continued")
    assert run.continued == {"number": 2}
    assert run.end is None
    assert run.is_clean
    assert went_on == ["RunContinued", "RunContinued"]
    assert run.story.kinds[-2:] == ["run.succeeded", "run.created"]
    assert list(run.asks) == [1, 0]


@pytest.mark.parametrize(
    "payload",
    [{"number": "x"}, {}, None, object(), {"number": float("nan")}],
    ids=["type", "missing", "none", "object", "nan"],
)
async def test_a_bad_payload_is_refused_and_the_run_goes_on(payload: Any):
    @task
    async def body(first: Payload, ctx: Context) -> str:
        try:
            await ctx.continue_as(payload)
        except errors.SchemaMismatch:
            return await quick("went on")

    run = await finished(body, {"number": 1})
    assert run.result == "went on"
    assert run.continued is None


@pytest.mark.parametrize("payload", [float("nan"), "\ud800", "x" * 1024 * 1024])
async def test_a_payload_that_is_not_json_or_too_large_is_refused(payload: Any):
    @task
    async def body(first: Any, ctx: Context) -> str:
        try:
            await ctx.continue_as(payload)
        except (errors.SchemaMismatch, errors.TooLarge):
            return "went on"

    assert (await finished(body)).result == "went on"


# --- limits -----------------------------------------------------------------------------------------


async def test_a_run_that_asks_for_too_many_ops_fails_and_may_not_retry(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(driver, "OPS_MAX", 10)

    @task(retries=5)
    async def body(payload: Any, ctx: TaskContext) -> str:
        try:
            while True:
                ctx.now()
        except errors.RunTooLong:
            return "swallowed"

    run = await finished(body)
    assert isinstance(run.end, Raised)
    assert run.end.error["code"] == "run_too_long"
    assert not run.end.may_retry
    assert run.story.run.op_max == 10
    assert run.story.run.status.value == "failed"


# --- which op failed (S-5) --------------------------------------------------------------------------


async def raises_as_it_is() -> None:
    await fails()


async def raises_from_it() -> None:
    try:
        await fails()
    except StepFailed as failed:
        raise KeyError("mine") from failed


async def raises_in_its_handler() -> None:
    try:
        await fails()
    except StepFailed:
        raise KeyError("mine")  # noqa: B904 - through __context__


async def raises_from_none() -> None:
    try:
        await fails()
    except StepFailed:
        raise KeyError("mine") from None


async def raises_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fails())


async def raises_deep_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(raises_in_a_group())


async def raises_at_the_end_of_a_long_chain() -> None:
    async def fall(depth: int) -> None:
        if depth == 0:
            await fails()
        try:
            await fall(depth - 1)
        except Exception as error:
            raise ValueError(depth) from error

    await fall(150)


@pytest.mark.parametrize(
    "how",
    [
        raises_as_it_is,
        raises_from_it,
        raises_in_its_handler,
        raises_from_none,
        raises_in_a_group,
        raises_deep_in_a_group,
        raises_at_the_end_of_a_long_chain,
    ],
    ids=lambda how: how.__name__,
)
async def test_the_op_whose_exception_ended_the_attempt_is_found(how: Any):
    @task
    async def body(payload: Any) -> None:
        await quick("before")
        await how()

    run = await finished(body)
    assert isinstance(run.end, Raised)
    assert run.end.failed_op == 2


async def test_an_exception_of_the_tasks_own_names_no_op():
    @task
    async def body(payload: Any) -> None:
        with contextlib.suppress(StepFailed):
            await fails()
        raise ValueError("mine")

    run = await finished(body)
    assert isinstance(run.end, Raised)
    assert run.end.failed_op is None


async def test_a_timed_out_wait_that_is_unwrapped_names_its_op():
    @task
    async def body(payload: Any) -> None:
        await quick("x")
        await messages.wait(timeout=1).unwrap()

    async with bench(body) as run:
        await run.until_waiting()
        run.story.now += timedelta(seconds=1)

        run.write(*run.story.decide(Deadline(principal=ALICE, wait_id=run.story.wait.id)).drafts)
        await run.until_closed()
        assert isinstance(run.end, Raised)
        assert run.end.failed_op == 2
        assert run.end.error["code"] == "wait_timeout"


async def test_the_error_of_a_run_tells_code_type_message_and_a_traceback_without_values():
    secret = "s3cret-value"

    @task
    async def body(payload: Any) -> None:
        token = secret
        raise ValueError(f"{len(token)} characters")

    run = await finished(body)
    assert isinstance(run.end, Raised)
    error = run.end.error
    assert (error["code"], error["type"]) == ("exception", "ValueError")
    assert error["message"] == "12 characters"
    assert "in body" in error["traceback"]
    assert secret not in error["traceback"]


async def test_an_exception_that_can_not_be_read_ends_the_run_all_the_same():
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @task
    async def body(payload: Any) -> None:
        raise Unspeakable

    run = await finished(body)
    assert isinstance(run.end, Raised)
    assert run.end.error["type"] == "Unspeakable"
    assert run.is_clean


async def test_lone_surrogates_in_an_exceptions_text_are_replaced():
    @task
    async def body(payload: Any) -> None:
        raise ExceptionGroup("g\ud800", [ValueError("\udfff")])

    run = await finished(body)
    assert isinstance(run.end, Raised)
    run.end.error["message"].encode()
    assert "ValueError" in run.end.error["message"]


async def test_a_task_that_cancels_itself_has_failed():
    @task
    async def body(payload: Any) -> None:
        raise asyncio.CancelledError

    run = await finished(body)
    assert isinstance(run.end, Raised)
    assert run.end.error["type"] == "CancelledError"


async def test_a_replayed_failure_is_the_same_failure():
    @task
    async def body(payload: Any) -> str:
        try:
            await fails("first")
        except StepFailed as failed:
            return f"{failed.type} {failed.text} {failed.op} {failed.message}"
        return ""

    run = await finished(body)
    again = await replayed_whole(run)
    assert again.result == run.result
    assert run.result.startswith("ValueError first 1 ")
    assert again.executed == []
