"""An aborted run: its durable calls raise, its tree ends or is reported, nothing of it goes on (S-6, S-34)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import time
import warnings
from collections.abc import Coroutine
from typing import Any

import pytest

from helmr import errors, step, streams, task
from helmr.errors import RunCancelled, RunParked
from helmr_runtime.replay import Raised
from tests.replay.bench import bench

messages = streams.input("messages", schema=str)
progress = streams.output("progress", schema=str)


@step
async def quick(value: str) -> str:
    return value


@step
async def hangs() -> None:
    await asyncio.Event().wait()


class Witness:
    """What an aborted tree did; one per test, since a tree may outlive its test."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.release = threading.Event()

    def saw(self, error: BaseException) -> None:
        self.seen.append(type(error).__name__)


async def assert_aborted(body: Any, signal: errors.HelmrSignal) -> None:
    """The tree ends, the thread ends, and nothing is asked after the signal."""
    async with bench(body) as run:
        await run.until_waiting()
        entries = len(run.story.entries)
        await run.abort(signal)
        assert run.is_clean
        assert run.end is None
        assert len(run.story.entries) == entries
        assert run.driver is not None
        run.driver._thread.join(10)
        assert not run.driver._thread.is_alive()


@pytest.mark.parametrize("signal", [RunParked("parked"), RunCancelled("cancelled")], ids=str)
async def test_the_signal_is_raised_at_the_pending_await(signal: errors.HelmrSignal):
    witness = Witness()

    @task
    async def body(payload: Any) -> None:
        try:
            await messages.wait()
        except Exception as error:
            witness.saw(error)
        except BaseException as error:
            witness.saw(error)
            raise
        finally:
            with contextlib.suppress(BaseException):
                await quick("cleanup is refused")
                witness.seen.append("ran")

    await assert_aborted(body, signal)
    assert witness.seen == [type(signal).__name__]


async def test_gather_with_return_exceptions_does_not_hide_the_signal_for_long():
    @task
    async def body(payload: Any) -> None:
        while True:
            await asyncio.gather(messages.wait(), hangs(), return_exceptions=True)

    await assert_aborted(body, RunParked("parked"))


async def test_a_task_group_wraps_the_signal_and_ends():
    @task
    async def body(payload: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(messages.wait().unwrap())
            group.create_task(asyncio.sleep(3600))

    await assert_aborted(body, RunCancelled("cancelled"))


async def test_catching_base_exceptions_changes_nothing():
    witness = Witness()

    @task
    async def body(payload: Any) -> str:
        for call in (messages.wait, messages.peek, messages.history):
            try:
                await call()
            except BaseException as error:
                witness.saw(error)
        try:
            await progress.append("x")
        except BaseException as error:
            witness.saw(error)
        return "what an aborted run returns is ignored"

    await assert_aborted(body, RunCancelled("cancelled"))
    assert witness.seen == ["RunCancelled"] * 4


async def test_shielded_children_and_background_tasks_end_too():
    witness = Witness()
    kept: list[asyncio.Task[None]] = []

    @task
    async def body(payload: Any) -> None:
        async def child(name: str) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                witness.seen.append(name)

        kept.append(asyncio.create_task(child("background")))
        shielded = asyncio.ensure_future(child("shielded"))
        await asyncio.gather(messages.wait(), asyncio.shield(shielded))

    await assert_aborted(body, RunParked("parked"))
    assert sorted(witness.seen) == ["background", "shielded"]


async def test_an_iteration_over_messages_ends():
    witness = Witness()

    @task
    async def body(payload: Any) -> None:
        try:
            async for _ in messages.iter():
                witness.seen.append("message")
        finally:
            witness.seen.append("end")

    await assert_aborted(body, RunParked("parked"))
    assert witness.seen == ["end"]


async def test_an_async_step_is_cancelled_and_tells_no_outcome():
    witness = Witness()

    @step
    async def works() -> None:
        try:
            witness.release.set()
            await asyncio.Event().wait()
        except BaseException as error:
            witness.saw(error)
            raise

    @task
    async def body(payload: Any) -> None:
        await asyncio.gather(messages.wait(), works())

    async with bench(body) as run:
        await run.until_waiting()
        await asyncio.to_thread(witness.release.wait, 20)
        await run.abort(RunCancelled("cancelled"))
    assert witness.seen == ["CancelledError"]
    assert run.story.kinds[-1] in ("step.started", "wait.opened")


@pytest.mark.slow
async def test_code_that_swallows_every_cancellation_is_reported_as_not_ended():
    witness = Witness()

    @task
    async def body(payload: Any) -> None:
        while not witness.release.is_set():
            with contextlib.suppress(BaseException):
                await messages.wait()
            with contextlib.suppress(BaseException):
                await asyncio.sleep(0.01)

    async with bench(body) as run:
        await run.until_waiting()
        started = time.monotonic()
        await run.abort(RunParked("parked"))
        assert run.is_clean is False
        assert 4 < time.monotonic() - started < 8
        witness.release.set()


@pytest.mark.allows_blocking
async def test_code_that_spins_over_refused_calls_neither_blocks_the_actor_nor_grows():
    """Each refused call raises the same signal; its traceback must not grow with every one."""
    witness = Witness()
    depths: list[int] = []

    @task
    async def body(payload: Any) -> None:
        while not witness.release.is_set():
            try:
                await messages.wait()
            except BaseException as error:
                trace, depth = error.__traceback__, 0
                while trace is not None:
                    trace, depth = trace.tb_next, depth + 1
                depths.append(depth)
                if len(depths) > 2000:
                    break

    async with bench(body) as run:
        await run.until_waiting()
        await run.abort(RunParked("parked"))
    assert len(depths) > 2000
    assert max(depths) < 20


async def test_a_branch_that_was_just_made_is_cancelled_when_it_has_begun():
    """What it was given to await would otherwise be told as never awaited: a task group's tasks are made so."""

    async def awaits(given: Coroutine[Any, Any, None]) -> None:
        await given

    @task
    async def body(payload: Any) -> None:
        branches: set[asyncio.Task[Any]] = {asyncio.create_task(messages.wait())}
        while True:
            branches.add(asyncio.create_task(awaits(asyncio.sleep(60))))
            await asyncio.sleep(0)

    gc.collect()  # of other tests
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        async with bench(body) as run:
            await run.until_waiting()
            await run.abort(RunParked("parked"))
            assert run.is_clean
        gc.collect()
    assert [str(one.message) for one in said if "never awaited" in str(one.message)] == []


async def test_an_aborted_run_whose_branches_were_cut_off_leaves_nothing_in_the_log(
    caplog: pytest.LogCaptureFixture,
):
    @task
    async def body(payload: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(messages.wait())
            group.create_task(asyncio.Event().wait())

    gc.collect()  # of other tests
    caplog.clear()
    await assert_aborted(body, RunParked("parked"))
    gc.collect()
    told = [record.getMessage() for record in caplog.records]
    assert [one for one in told if "never retrieved" in one] == []


async def test_an_aborted_run_tells_nothing_of_its_own_exception():
    @task
    async def body(payload: Any) -> None:
        try:
            await messages.wait()
        except BaseException as error:
            raise ValueError("from the cleanup") from error

    await assert_aborted(body, RunCancelled("cancelled"))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
async def test_exits_from_an_aborted_run_end_its_thread_only(error: BaseException):
    @task
    async def body(payload: Any) -> None:
        try:
            await messages.wait()
        finally:
            raise error

    await assert_aborted(body, RunParked("parked"))


@pytest.mark.parametrize("in_child", [False, True])
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
async def test_exits_from_the_task_fail_the_run(error: BaseException, in_child: bool):
    @task
    async def body(payload: Any) -> None:
        async def leave() -> None:
            raise error

        await quick("before")
        if in_child:
            await asyncio.create_task(leave())
        await leave()

    async with bench(body) as run:
        await run.until_closed()
        assert isinstance(run.end, Raised)
        assert run.end.error["type"] == type(error).__name__
        assert run.is_clean


async def test_aborting_twice_keeps_the_first_signal():
    witness = Witness()

    @task
    async def body(payload: Any) -> None:
        try:
            await messages.wait()
        except BaseException as error:
            witness.saw(error)
            raise

    async with bench(body) as run:
        await run.until_waiting()
        assert run.driver is not None
        run.driver.abort(RunCancelled("first"))
        run.driver.abort(RunParked("second"))
        await run.until_closed()
    assert witness.seen == ["RunCancelled"]


async def test_aborting_before_the_first_step_and_after_the_end_is_harmless():
    @task
    async def body(payload: Any) -> str:
        await quick("x")
        return "done"

    async with bench(body) as run:
        assert run.driver is not None
        run.driver.abort(RunCancelled("at once"))
        await run.until_closed()
        assert run.is_clean
        run.driver.abort(RunCancelled("again"))
        run.driver.run_step(1, "key", 0)
    async with bench(body) as run:
        await run.until_closed()
        assert run.result == "done"
        assert run.driver is not None
        run.driver.abort(RunParked("late"))


@pytest.mark.allows_blocking
async def test_a_blocked_task_thread_delays_no_delivery_of_its_host():
    witness = Witness()

    @task
    async def body(payload: Any) -> str:
        assert sys.getswitchinterval() > 0
        await quick("x")
        witness.release.wait(20)
        return (await messages.wait().unwrap()) or ""

    async with bench(body) as run:
        await run.until(lambda: "step.succeeded" in run.story.kinds, "step done")
        receipt = run.send("while blocked")
        assert receipt["outcome"] == "buffered"
        witness.release.set()
        await run.until_closed()
        assert run.result == "while blocked"
