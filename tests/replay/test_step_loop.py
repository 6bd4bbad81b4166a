"""The loop that the bodies of all async steps share (S-32, S-34)."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from helmr import errors, step, streams, task
from helmr.tasks import Task
from helmr_runtime.replay import Raised
from helmr_runtime.replay.steps import step_loop
from tests.replay.bench import WAIT_S, bench, finished

messages = streams.input("messages", schema=str)

lock = asyncio.Lock()
room = asyncio.Semaphore(1)
signs: dict[str, asyncio.Event] = {}
queue: asyncio.Queue[int] = asyncio.Queue(1)


@step
async def where() -> tuple[int, str]:
    return id(asyncio.get_running_loop()), threading.current_thread().name


@step
async def in_turn(number: int) -> int:
    """Contends, which binds lock and semaphore to a loop."""
    async with lock, room:
        await asyncio.sleep(0.001)
    return number


@step
async def puts(number: int) -> None:
    await queue.put(number)


@step
async def gets() -> int:
    return await queue.get()


@task
async def places(payload: Any) -> list[tuple[int, str]]:
    return [await where(), (id(asyncio.get_running_loop()), threading.current_thread().name)]


def only(call: Any) -> Task[Any, Any]:
    """A task that awaits one call and tells its value."""

    @task
    async def body(payload: Any) -> Any:
        return await call()

    return body


async def error_of(body: Task[Any, Any]) -> dict[str, Any]:
    done = await finished(body)
    assert isinstance(done.end, Raised), done.end
    assert done.is_clean
    return done.end.error


async def until(condition: Any) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


async def test_bodies_of_all_runs_share_one_loop_which_is_not_their_runs():
    shared = [id(step_loop().loop), "helmr-steps"]
    for _ in range(2):
        of_step, of_run = (await finished(places)).result
        assert of_step == shared
        assert of_run[0] != shared[0]
        assert of_run[1].startswith("helmr-run_")


async def test_locks_and_semaphores_in_globals_serve_the_steps_of_several_runs():
    @task
    async def body(payload: Any) -> list[int]:
        return list(await asyncio.gather(*(in_turn(n) for n in range(5))))

    for _ in range(3):
        runs = await asyncio.gather(*(finished(body) for _ in range(4)))
        assert [run.result for run in runs] == [[0, 1, 2, 3, 4]] * 4


async def test_a_queue_in_a_global_passes_values_from_run_to_run():
    @task
    async def putting(payload: Any) -> None:
        for number in range(5):
            await puts(number)

    @task
    async def getting(payload: Any) -> list[int]:
        return [await gets() for _ in range(5)]

    _, got = await asyncio.gather(finished(putting), finished(getting))
    assert got.result == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("is_nested", [False, True], ids=["body", "task of the body"])
async def test_what_a_body_raises_is_its_outcome_and_the_loop_goes_on(
    kind: type[BaseException], is_nested: bool
):
    async def raises() -> None:
        raise kind("enough")

    @step
    async def raising() -> None:
        await (asyncio.create_task(raises()) if is_nested else raises())

    before = (await finished(places)).result[0]
    error = await error_of(only(raising))
    assert kind.__name__ in error["message"]
    assert (await finished(places)).result[0] == before


async def test_cancelling_reaches_the_body_and_the_run_is_not_quiet_before_its_end():
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    @step
    async def long() -> None:
        try:
            began.set()
            await asyncio.sleep(1000)
        finally:
            while not may_end.is_set():
                await asyncio.sleep(0.005)
            ended.set()

    @task
    async def body(payload: Any) -> None:
        asking = asyncio.ensure_future(long())
        await messages.wait()
        asking.cancel()
        await messages.wait()

    async with bench(body) as one:
        await one.until_waiting()
        await until(began.is_set)
        one.send("go")
        await until(lambda: one.given_up)
        await one.until_waiting()
        assert one.driver is not None
        assert not one.driver.is_quiet
        may_end.set()
        await until(lambda: one.driver.is_quiet)
        assert ended.is_set()


async def test_a_body_that_takes_its_time_limit_for_a_hint_keeps_its_value():
    """As `asyncio.timeout` around a coroutine that catches the cancellation and returns."""

    @step(timeout="20ms")
    async def partial() -> str:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            return "what there was"
        return "all"

    assert (await finished(only(partial))).result == "what there was"


@pytest.mark.allows_blocking
async def test_a_body_whose_time_is_up_before_its_first_turn_has_ended():
    """Something else held the step loop for longer than its time limit."""
    executed: list[str] = []

    @step(timeout="10ms")
    async def late() -> None:
        executed.append("late")

    step_loop().loop.call_soon_threadsafe(time.sleep, 0.2)
    error = await error_of(only(late))
    assert "took longer than" in error["message"], error
    assert executed == []


@pytest.mark.allows_blocking
async def test_a_body_that_is_aborted_before_its_first_turn_has_ended():
    @step
    async def late() -> None: ...

    step_loop().loop.call_soon_threadsafe(time.sleep, 0.2)
    async with bench(only(late)) as one:
        await until(lambda: "step.started" in one.story.kinds)
        await one.abort()
        assert one.is_clean


async def test_aborting_awaits_the_cleaning_up_of_a_body():
    said: list[str] = []
    began = threading.Event()

    @step
    async def long() -> None:
        try:
            began.set()
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            said.append("cleaned up")
            raise

    async with bench(only(long)) as one:
        await until(began.is_set)
        await one.abort()
        assert said == ["cleaned up"]
        assert one.is_clean


async def test_a_body_that_ignores_cancellation_leaves_its_run_unclean_and_its_neighbours_alone():
    began, enough = threading.Event(), threading.Event()

    @step
    async def stubborn() -> None:
        began.set()
        while not enough.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    async with bench(only(stubborn)) as one:
        await until(began.is_set)
        await one.abort()
        assert one.is_clean is False
        assert (await finished(places)).result[0][1] == "helmr-steps"
        enough.set()


async def test_a_step_of_the_runs_loop_uses_what_the_coroutine_around_it_made():
    @step(loop="run")
    async def awaits(future: asyncio.Future[int]) -> int:
        return await future

    @task
    async def body(payload: Any) -> int:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        loop.call_later(0.02, future.set_result, 5)
        return await awaits(future)

    assert (await finished(body)).result == 5


async def test_a_body_on_the_other_loop_than_its_objects_is_told_what_to_do():
    @step
    async def awaits(future: asyncio.Future[int]) -> int:
        return await future

    @task
    async def body(payload: Any) -> int:
        return await awaits(asyncio.get_running_loop().create_future())

    error = await error_of(body)
    assert "different loop" in error["message"]
    assert '@step(loop="run")' in error["message"]


async def test_code_outside_steps_that_shares_an_object_of_asyncio_is_told_what_to_do():
    own = asyncio.Lock()

    @step
    async def contends() -> None:
        await asyncio.gather(*(locked() for _ in range(3)))

    async def locked() -> None:
        async with own:
            await asyncio.sleep(0)

    @task
    async def body(payload: Any) -> None:
        await contends()
        await asyncio.gather(*(locked() for _ in range(3)))

    error = await error_of(body)
    assert "different event loop" in error["message"]
    assert "inside async steps" in error["message"]


# --- subprocesses -----------------------------------------------------------------------------


async def says(text: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; print(sys.stdin.read()[::-1])", stdin=-1, stdout=-1
    )
    out, _ = await process.communicate(text.encode())
    assert process.returncode == 0
    return out.decode().strip()


async def shell_says(text: str) -> str:
    process = await asyncio.create_subprocess_shell(f"echo {text}; exit 3", stdout=-1)
    out, _ = await process.communicate()
    assert process.returncode == 3
    return out.decode().strip()


@pytest.fixture(params=["the standard policy", "uvloop's policy"])
def policy(request: pytest.FixtureRequest) -> Iterator[None]:
    before = asyncio.get_event_loop_policy()
    if request.param == "uvloop's policy":
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    yield
    asyncio.set_event_loop_policy(before)


@pytest.mark.usefixtures("policy")
async def test_async_subprocesses_work_in_steps_and_outside_whatever_the_policy():
    saying, shell = step(says), step(shell_says)
    beside = step(loop="run", name="beside")(says)

    @task
    async def body(payload: Any) -> list[str]:
        inside = await asyncio.gather(saying("abc"), shell("def"), beside("ghi"))
        return [*inside, await says("jkl"), await shell_says("mno")]

    assert (await finished(body)).result == ["cba", "def", "ihg", "lkj", "mno"]


# --- a body that blocks -----------------------------------------------------------------------


@pytest.mark.allows_blocking
async def test_a_body_that_blocks_the_loop_is_named_in_the_log():
    said: list[str] = []
    told = threading.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            told.set()

    @step
    async def parses() -> bool:
        return told.wait(WAIT_S)  # what this step is for: it holds the loop until it is seen

    log, handler = logging.getLogger("helmr.steps"), Told()
    log.addHandler(handler)
    try:
        assert (await finished(only(parses))).result is True
    finally:
        log.removeHandler(handler)
    assert len(said) == 1
    assert said[0].startswith("step parses has held the loop of all async steps for ")
    assert "declared with `def`" in said[0]


# --- declaring --------------------------------------------------------------------------------


def test_a_sync_step_on_the_runs_loop_is_refused_at_its_declaration():
    def sync() -> None: ...

    with pytest.raises(errors.UsageError, match="loop='run' is for an async step") as caught:
        step(loop="run")(sync)  # type: ignore[arg-type]
    assert isinstance(caught.value, errors.BadDefinition)
    assert caught.value.hint is not None
    assert "async def" in caught.value.hint


def test_another_loop_is_refused_at_the_declaration():
    async def body() -> None: ...

    with pytest.raises(errors.BadDefinition, match="'steps' or 'run'"):
        step(loop="mine")(body)  # type: ignore[call-overload]


# --- the process ------------------------------------------------------------------------------

PROGRAM = """
import asyncio, os
from helmr import step, task
from helmr.testing import Harness

@step
async def inner() -> int:
    asyncio.create_task(asyncio.sleep(1000))
    return os.getpid()

@task
async def body(payload: None) -> int:
    return await inner()

async def main() -> int:
    asyncio.get_running_loop().slow_callback_duration = 50  # a busy machine is not told of
    async with Harness(body) as harness:
        return await (await harness.start(body)).result()

assert asyncio.run(main()) == os.getpid()
child = os.fork()
if child == 0:
    assert asyncio.run(main()) == os.getpid()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


@pytest.mark.slow
def test_a_program_ends_quietly_and_its_fork_has_a_loop_of_its_own(project_root: Any):
    environment = {**os.environ, "PYTHONPATH": str(project_root)}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM],
        env=environment,
        cwd=project_root,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
