"""Steps as the driver executes them (S-4, S-32, S-33)."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from datetime import date
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel, Field

from helmr import StepFailed, errors, step, step_key, streams, task
from helmr.current import StepCall, current_step
from helmr.models import VALUE_BYTES_MAX
from helmr.tasks import Task
from helmr_runtime.host_status import SlotMark
from helmr_runtime.replay import Raised
from helmr_runtime.replay.ends import StepEnd
from helmr_runtime.replay.steps import StepRunner
from tests.replay.bench import Bench, bench, finished

messages = streams.input("messages", schema=str)
color = contextvars.ContextVar("color", default="none")


class Review(BaseModel):
    day: date
    marks: tuple[int, ...] = ()


class Payload(BaseModel):
    number: int = Field(alias="pull-request")


@step
async def reviewed() -> Review:
    return Review(day=date(2030, 1, 2), marks=(1, 2))


@step
async def aliased() -> Payload:
    return Payload.model_validate({"pull-request": 7})


@step
def thread_name() -> str:
    return threading.current_thread().name


@step
async def seen_color() -> str:
    return color.get()


@step
def seen_color_in_thread() -> str:
    return color.get()


@step
async def own_key() -> str:
    return step_key()


@step
async def inner() -> str:
    step_ref = current_step.get()
    return step_ref.name if step_ref is not None else "none"


@step
async def outer() -> str:
    return await inner()


def only(call: Any) -> Task[Any, Any]:
    """A task that awaits one call and tells its value."""

    @task
    async def body(payload: Any) -> Any:
        return await call()

    return body


def raising(error: BaseException, *, in_thread: bool) -> Any:
    if in_thread:

        @step(name="raises")
        def raises() -> None:
            raise error

        return raises

    @step(name="raises")
    async def raises_async() -> None:
        raise error

    return raises_async


async def error_of(body: Task[Any, Any]) -> dict[str, Any]:
    done = await finished(body)
    assert isinstance(done.end, Raised), done.end
    assert done.is_clean
    return done.end.error


async def test_the_task_gets_the_value_decoded_from_the_record_also_the_first_time():
    @task
    async def body(payload: Any) -> list[str]:
        value = await reviewed()
        return [type(value).__name__, type(value.marks).__name__, str(value.day)]

    done = await finished(body)
    assert done.result == ["Review", "tuple", "2030-01-02"]
    recorded = done.story.entries[-2].body
    assert recorded == {"value": {"day": "2030-01-02", "marks": [1, 2]}}


async def test_a_value_with_aliases_is_recorded_so_that_it_can_be_read():
    @task
    async def body(payload: Any) -> int:
        return (await aliased()).number

    assert (await finished(body)).result == 7


async def test_a_sync_step_runs_in_a_thread_of_its_own():
    assert (await finished(only(thread_name))).result == "step thread_name"


@pytest.mark.parametrize("call", [seen_color, seen_color_in_thread], ids=["async", "sync"])
async def test_steps_see_the_callers_context_variables(call: Any):
    @task
    async def body(payload: Any) -> str:
        color.set("red")
        return str(await call())

    assert (await finished(body)).result == "red"
    assert color.get() == "none"


async def test_a_step_inside_a_step_is_a_plain_call():
    done = await finished(only(outer))
    assert done.result == "outer"
    assert list(done.asks) == [1]


async def test_a_step_outside_a_run_is_a_plain_call():
    assert (await reviewed()).marks == (1, 2)
    assert (await thread_name()).startswith("asyncio_")
    with pytest.raises(errors.NotInTask):
        await own_key()


async def test_the_step_key_is_stable_over_tries_and_processes():
    keys: list[str] = []

    @step(retries=2, backoff=0)
    async def flaky() -> str:
        keys.append(step_key())
        if len(keys) < 3:
            raise ValueError(len(keys))
        return step_key()

    done = await finished(only(flaky))
    assert len(set(keys)) == 1
    assert len(keys) == 3
    keys[:] = keys[:2] * 2
    again = await done.replayed(4).start().until_closed()
    assert again.again == [1]
    assert again.result == done.result


@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize(
    ("error", "type_"),
    [
        (ValueError("boom"), "ValueError"),
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError("self"), "CancelledError"),
        (StopIteration(), "RuntimeError"),
        (StopAsyncIteration(), "StopAsyncIteration"),
        (GeneratorExit(), "GeneratorExit"),
        (TimeoutError("their own"), "TimeoutError"),
        (BaseExceptionGroup("group", [SystemExit(1)]), "BaseExceptionGroup"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_whatever_a_step_raises_is_its_outcome(
    in_thread: bool, error: BaseException, type_: str
):
    call = raising(error, in_thread=in_thread)

    @task
    async def body(payload: Any) -> list[str]:
        try:
            await call()
        except StepFailed as failed:
            return [failed.type, str(failed.op)]
        return ["nothing"]

    assert (await finished(body)).result == [type_, "1"]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_an_exception_that_fails_at_its_own_text_is_an_outcome_too(in_thread: bool):
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    error = await error_of(only(raising(Unspeakable(), in_thread=in_thread)))
    assert error["type"] == "StepFailed"
    assert "Unspeakable" in error["message"]


async def test_retries_and_retry_on():
    tried: list[str] = []

    @step(retries=3, backoff=0, retry_on=(ValueError,))
    async def flaky(what: str) -> str:
        tried.append(what)
        if what == "value" and len(tried) < 4:
            raise ValueError(what)
        if what == "key":
            raise KeyError(what)
        return what

    @task
    async def body(payload: Any) -> list[str]:
        first = await flaky("value")
        try:
            await flaky("key")
        except StepFailed as failed:
            return [first, failed.type]
        return [first]

    done = await finished(body)
    assert done.result == ["value", "KeyError"]
    assert tried == ["value"] * 4 + ["key"]
    assert done.story.kinds.count("step.try_failed") == 3
    assert done.story.kinds.count("step.failed") == 1


async def test_a_function_says_which_failures_are_retried():
    tried: list[int] = []

    @step(retries=3, backoff=0, retry_on=lambda error: error.args != (3,))
    async def flaky() -> None:
        tried.append(1)
        raise ValueError(len(tried))

    error = await error_of(only(flaky))
    assert (error["message"], len(tried)) == ("step flaky (op 1) failed: ValueError: 3", 3)


async def test_a_function_for_retries_that_fails_ends_the_step_with_its_error():
    @step(retries=3, backoff=0, retry_on=lambda error: error.args[0])
    async def flaky() -> None:
        raise ValueError

    error = await error_of(only(flaky))
    assert "IndexError" in error["message"]


async def test_only_exceptions_are_retried_never_what_ends_programs():
    tried: list[int] = []

    @step(retries=3, backoff=0)
    async def exits() -> None:
        tried.append(1)
        raise SystemExit(1)

    await error_of(only(exits))
    assert tried == [1]


async def test_a_timeout_of_an_async_step_is_a_failure():
    @step(timeout="50ms")
    async def hangs() -> None:
        await asyncio.Event().wait()

    error = await error_of(only(hangs))
    assert error["message"] == "step hangs (op 1) failed: TimeoutError: took longer than 0.05 s"


async def test_a_failure_without_words_is_its_type():
    @step
    async def quits() -> None:
        raise LookupError

    @step(timeout="1m")
    async def gives_up() -> None:
        raise TimeoutError

    for one, type_ in ((quits, "LookupError"), (gives_up, "TimeoutError")):
        message = (await error_of(only(one)))["message"]
        assert message == f"step {one.name} (op 1) failed: {type_}"


async def test_a_timeout_of_a_sync_step_drops_its_late_result():
    release = threading.Event()

    @step(timeout="50ms")
    def hangs() -> str:
        release.wait(20)
        return "late"

    async with bench(only(hangs)) as run:
        await run.until_closed()
        assert isinstance(run.end, Raised)
        assert run.driver is not None
        assert run.driver.has_threads
        release.set()
        await _until_no_threads(run)
        assert "step.succeeded" not in run.story.kinds


async def test_an_aborted_sync_step_is_not_interrupted_and_its_result_is_dropped():
    release, begun = threading.Event(), threading.Event()

    @step
    def works() -> str:
        begun.set()
        release.wait(20)
        return "late"

    async with bench(only(works)) as run:
        await run.until(lambda: run.executing, "executing")
        await asyncio.to_thread(begun.wait, 20)
        await run.abort(errors.RunCancelled("cancelled"))
        assert run.is_clean
        assert run.driver is not None
        assert run.driver.has_threads
        release.set()
        await _until_no_threads(run)
        assert run.story.kinds[-1] == "step.started"


async def _until_no_threads(run: Bench) -> None:
    driver = run.driver
    assert driver is not None
    async with asyncio.timeout(20):
        while driver.has_threads:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (float("nan"), float),
        ("\ud800", str),
        ({1, 2, object()}, Any),
        (object(), Any),
        ("x" * VALUE_BYTES_MAX, str),
        ("text", int),
        (lambda: 1, Any),
    ],
    ids=["nan", "surrogate", "set of objects", "object", "too large", "wrong type", "function"],
)
async def test_a_value_that_is_not_json_or_does_not_fit_fails_the_step(value: Any, annotation: Any):
    async def gives() -> Any:
        return value

    gives.__annotations__["return"] = annotation
    call = step(gives)

    @task
    async def body(payload: Any) -> list[str]:
        try:
            await call()
        except (errors.SchemaMismatch, errors.TooLarge) as refused:
            return [str(refused.op), refused.code]
        return []

    done = await finished(body)
    code = (
        "too_large"
        if isinstance(value, str) and len(value) >= VALUE_BYTES_MAX
        else "schema_mismatch"
    )
    assert done.result == ["1", code]
    assert done.story.kinds.count("step.failed") == 1


async def test_a_value_of_exactly_the_limit_is_recorded():
    @step
    async def large() -> str:
        return "x" * (VALUE_BYTES_MAX - 2)

    @task
    async def body(payload: Any) -> int:
        return len(await large())

    assert (await finished(body)).result == VALUE_BYTES_MAX - 2


async def test_the_deepest_value_is_recorded_and_a_deeper_one_fails():
    @step
    async def deep(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return value

    @task
    async def body(payload: Any) -> str:
        await deep(64)
        try:
            await deep(65)
        except errors.SchemaMismatch:
            return "refused"
        return "recorded"

    assert (await finished(body)).result == "refused"


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (float("nan"), "schema_mismatch"),
        (object(), "schema_mismatch"),
        ("x" * VALUE_BYTES_MAX, "too_large"),
    ],
    ids=["nan", "object", "too large"],
)
async def test_a_result_that_is_not_json_fails_the_run(result: Any, code: str):
    @task
    async def body(payload: Any) -> Any:
        return result

    assert (await error_of(body))["code"] == code


async def test_an_output_that_does_not_fit_fails_where_it_is_appended():
    progress = streams.output("progress", schema=int)
    raw = streams.output("raw")

    @task
    async def body(payload: Any) -> list[int]:
        refused = 0
        for stream, value in ((progress, "x"), (raw, "\ud800"), (raw, "x" * 256 * 1024)):
            try:
                await stream.append(value)  # type: ignore[arg-type]
            except (errors.SchemaMismatch, errors.TooLarge):
                refused += 1
        return [refused, await progress.append(1), await progress.append(2)]

    assert (await finished(body)).result == [3, 1, 2]


@pytest.mark.parametrize("call", [messages.wait, messages.peek, messages.history])
async def test_a_durable_call_inside_a_step_is_refused(call: Any):
    @step
    async def wrong() -> None:
        await call()

    error = await error_of(only(wrong))
    assert "NotInTask" in error["message"]


async def test_a_step_given_up_is_abandoned_and_its_result_ignored():
    stopped = threading.Event()

    @step
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    @task
    async def body(payload: Any) -> str:
        try:
            async with asyncio.timeout(0.5):
                await slow()
        except TimeoutError:
            return "gave up"
        return "never"

    done = await finished(body)
    assert done.result == "gave up"
    assert done.given_up == [1]
    assert stopped.is_set()
    again = await done.replayed(len(done.story.entries) - 1).start().until_closed()
    assert again.result == "gave up"
    assert again.asks == {}


async def test_a_step_whose_annotation_cant_be_read_is_refused_before_its_body_runs():
    class Typing(TypedDict):
        name: str

    executed: list[int] = []

    async def body() -> Any:
        executed.append(1)

    body.__annotations__["return"] = Typing if sys.version_info < (3, 12) else threading.Lock
    error = await error_of(only(step(body)))
    assert error["code"] == errors.BadDefinition.code
    if sys.version_info < (3, 12):
        assert "from typing_extensions import TypedDict" in error["message"]
    assert executed == []


async def test_a_try_that_begins_before_the_last_one_is_gone_is_still_known_to_execute():
    loop = asyncio.get_running_loop()
    ends: list[StepEnd] = []
    second_ends = asyncio.Event()

    async def body() -> None:
        if not ends:
            raise ValueError("first")
        await second_ends.wait()

    def ended(op: int, end: StepEnd) -> None:
        ends.append(end)
        loop.call_soon(steps.start, op, "key", 1, ended)

    steps = StepRunner(loop, SlotMark(), "run", lambda: None)
    call = StepCall(
        name="body",
        call=body,
        is_async=True,
        encode=lambda value: value,
        decode=lambda value: value,
        retries=1,
        backoff_s=0,
        retry_on=(Exception,),
        timeout_s=None,
        loop="run",
    )
    steps.expect(1, call)
    steps.start(1, "key", 0, ended)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(ends) == 1
    assert steps.is_busy
    steps.give_up(1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not steps.is_busy
