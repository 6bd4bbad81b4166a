"""Waits as code sees them: one at a time, given up, timed out, replayed (S-10…S-15)."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helmr import ConcurrentWaitError, WaitCancelled, WaitTimeout, step, streams, task, timers
from helmr.errors import BadDuration, UsageError
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.commands import CloseSession, Deadline
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.replay import Raised
from tests.core.builder import ALICE, T0, seconds
from tests.replay.bench import WAIT_S, Bench, bench, finished

messages = streams.input("messages", schema=str)


@step
async def quick(value: str) -> str:
    return value


@step
async def fails() -> None:
    raise ValueError("boom")


async def replayed_whole(run: Bench) -> Bench:
    """The same run from everything but its end; it must ask nothing new."""
    last = max(i for i, e in enumerate(run.story.entries) if e.kind.value.startswith("run."))
    again = await run.replayed(last).start().until_closed()
    assert again.asks == {}
    assert again.end == run.end
    return again


@task
async def takes_two(payload: Any) -> list[Any]:
    first = await messages.wait(correlation_id=" X ", subject="Which?")
    second = await messages.wait().unwrap()
    assert first.record is not None
    return [first.ok, first.value, first.record.correlation_id, second]


async def test_records_reach_the_code_and_the_replay_gets_the_same():
    async with bench(takes_two) as run:
        await run.until_waiting()
        run.send("for nobody", correlation_id="Y")
        run.send("first", correlation_id="X")
        await run.until_closed()
        assert run.result == [True, "first", "X", "for nobody"]
        await replayed_whole(run)


async def test_a_parked_wait_is_asked_again_and_goes_on():
    async with bench(takes_two) as run:
        await run.until_waiting()
        await run.abort()
        again = run.replayed(len(run.story.entries)).start()
        await again.until(lambda: again.again == [1], "asked again")
        assert again.asks == {}
        again.send("x", correlation_id="X")
        again.send("y")
        await again.until_closed()
        assert again.result == [True, "x", "X", "y"]


async def test_a_timeout_is_a_result_and_unwrap_raises_it():
    @task
    async def body(payload: Any) -> list[Any]:
        result = await messages.wait(timeout=60)
        seen: list[Any] = [result.ok, result.value, type(result.error).__name__]
        try:
            await messages.wait(timeout=60).unwrap()
        except WaitTimeout as timeout:
            seen.append(timeout.op)
        return seen

    async with bench(body) as run:
        for _ in range(2):
            await run.until_waiting()
            run.story.now += seconds(60)
            decision = run.story.decide(Deadline(principal=ALICE, wait_id=run.story.wait.id))
            run.write(*decision.drafts)
        await run.until_closed()
        assert run.result == [False, None, "WaitTimeout", 2]
        await replayed_whole(run)


async def test_the_end_of_input_ends_an_iteration_and_cancels_a_wait():
    @task
    async def body(payload: Any) -> list[Any]:
        seen: list[Any] = [message async for message in messages.iter()]
        try:
            await messages.wait().unwrap()
        except WaitCancelled as cancelled:
            seen.append(cancelled.facts["reason"])
        return seen

    async with bench(body) as run:
        await run.until_waiting()
        run.send("one")
        await run.until_waiting()
        decision = run.story.decide(CloseSession(principal=ALICE, end_input=True))
        run.write(*decision.drafts)
        await run.until_closed()
        assert run.result == ["one", "input_ended"]


async def test_a_second_wait_is_refused_at_once_and_the_first_is_unharmed():
    @task
    async def body(payload: Any) -> list[str]:
        first = asyncio.create_task(messages.wait(correlation_id="A").unwrap())
        await quick("first is open")
        refused = []
        for _ in range(2):
            try:
                await messages.wait(correlation_id="B")
            except ConcurrentWaitError as error:
                refused.append(error.code)
        return [*refused, await first, await messages.wait().unwrap()]

    async with bench(body) as run:
        await run.until(lambda: len(run.story.entries) > 5, "refused")
        await run.until_waiting()
        run.send("a", correlation_id="A")
        run.send("next")
        await run.until_closed()
        assert run.result == ["concurrent_wait", "concurrent_wait", "a", "next"]
        await replayed_whole(run)


async def test_a_wait_given_up_by_an_asyncio_timeout_is_cancelled_and_replays_so():
    @task
    async def body(payload: Any) -> list[str]:
        seen: list[str] = []
        try:
            async with asyncio.timeout(0.02):
                await messages.wait(correlation_id="never")
        except TimeoutError:
            seen = ["gave up"]
        return [*seen, await messages.wait().unwrap()]

    async with bench(body) as run:
        await run.until(lambda: run.given_up == [1], "given up")
        await run.until_waiting()
        run.send("hello")
        await run.until_closed()
        assert run.result == ["gave up", "hello"]
        cancelled = [e for e in run.story.entries if e.kind is EntryKind.WAIT_CANCELLED]
        assert [e.body["reason"] for e in cancelled] == ["task"]
        await replayed_whole(run)


@pytest.mark.allows_blocking
@pytest.mark.parametrize("kept_by", ["send", "answer"])
async def test_a_record_that_came_before_the_code_gave_up_is_there_for_the_next_wait(kept_by: str):
    """Given up while the fulfilment is under way: a sent record is given back, an answer was for that wait alone."""
    entered, gate = threading.Event(), threading.Event()

    @task
    async def body(payload: Any) -> list[Any]:
        waiting = asyncio.create_task(messages.wait(correlation_id="X").unwrap())
        await quick("the wait is open")
        entered.set()
        gate.wait(WAIT_S)  # blocks the code's loop: what comes now is on its way and not there
        waiting.cancel()
        (gone,) = await asyncio.gather(waiting, return_exceptions=True)
        seen: list[Any] = [isinstance(gone, asyncio.CancelledError)]
        seen += [await messages.peek(), await messages.history()]
        return [*seen, await messages.wait().unwrap()]

    async with bench(body) as run:
        await run.until_waiting()
        assert await asyncio.to_thread(entered.wait, WAIT_S)
        if kept_by == "send":
            run.send("early", correlation_id="X")
        else:
            before = len(run.story.entries)
            run.story.answer("early")
            run._hand_over(run.story.entries[before:])
        gate.set()
        await run.until(lambda: run.given_up == [2], "given up")
        if kept_by == "answer":
            await run.until_waiting()
            run.send("later")
        await run.until_closed()
        returned = [e.body for e in run.story.entries if e.kind is EntryKind.INPUT_RETURNED]
        first = next(e for e in run.story.entries if e.kind is EntryKind.WAIT_FULFILLED)
        if kept_by == "send":
            assert run.result == [True, ["early"], ["early"], "early"]
            assert [body["wait_id"] for body in returned] == [first.body["wait_id"]]
        else:
            assert run.result == [True, [], ["early"], "later"]
            assert returned == []
        await replayed_whole(run)
        # A crash at any point after the fulfilment: the code comes to the same end.
        for following in run.story.entries[first.seq :]:
            # A wait and what fulfils it at once are one commit.
            if kept_by == "send" and following.kind is not EntryKind.WAIT_FULFILLED:
                again = await run.replayed(following.seq - 1).start().until_closed()
                assert again.result == run.result, following


async def test_a_record_that_came_after_the_code_gave_up_is_there_for_the_next_wait():
    @task
    async def body(payload: Any) -> list[Any]:
        waiting = asyncio.create_task(messages.wait(correlation_id="X").unwrap())
        await quick("the wait is open")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await messages.wait(correlation_id="other")
        return [await messages.peek(), await messages.wait().unwrap()]

    async with bench(body) as run:
        await run.until(lambda: run.given_up == [2], "given up")
        await run.until_waiting()
        run.send("late", correlation_id="X")
        run.send("", correlation_id="other")
        await run.until_closed()
        assert run.result == [["late"], "late"]
        assert "input.returned" not in run.story.kinds
        await replayed_whole(run)


async def test_a_failing_branch_of_a_group_cancels_the_wait_beside_it():
    @task
    async def body(payload: Any) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(messages.wait().unwrap())
                group.create_task(fails())
        except BaseExceptionGroup as failures:
            return ",".join(type(e).__name__ for e in failures.exceptions)
        return "nothing failed"

    done = await finished(body)
    assert done.result == "StepFailed"
    assert done.given_up == [1]
    await replayed_whole(done)


@pytest.mark.parametrize("in_group", [True, False])
async def test_a_retry_after_a_failing_branch_runs_all_that_the_failure_cancelled(in_group: bool):
    """S-5 with concurrent ops: the next attempt goes through, and nobody waits for a cancellation."""
    calls: list[str] = []

    @step
    async def flaky() -> str:
        calls.append("flaky")
        if calls.count("flaky") == 1:
            raise ValueError("first time")
        return "flaky"

    @step
    async def slow() -> str:
        calls.append("slow")
        if calls.count("slow") == 1:
            await asyncio.Event().wait()
        return "slow"

    @task(retries=1, backoff=0)
    async def body(payload: Any) -> list[str]:
        before = await quick("before")
        if in_group:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(s()) for s in (slow, flaky)]
            return [before, *(t.result() for t in running)]
        return [before, *await asyncio.gather(slow(), flaky())]

    first = await finished(body, silence_s=2.0)
    assert isinstance(first.end, Raised)
    assert first.end.failed_op == 3
    assert first.story.run.attempt == 2
    again = await first.replayed(len(first.story.entries), silence_s=2.0).start().until_closed()
    assert again.result == ["before", "slow", "flaky"]
    assert [text.split(":")[1] for text in again.executed] == ["slow", "flaky"]


async def test_a_timer_waits_and_is_gone():
    @task
    async def body(payload: Any) -> str:
        await timers.sleep("2h")
        await timers.until(datetime.fromisoformat("2029-01-01T00:00:00+02:00"))
        return "awake"

    async with bench(body) as run:
        await run.until_waiting()
        assert run.story.wait.deadline_at == run.story.now + timedelta(hours=2)
        run.story.now += timedelta(hours=2)
        run.write(*run.story.decide(Deadline(principal=ALICE, wait_id=run.story.wait.id)).drafts)
        await run.until_closed()
        assert run.result == "awake"
        await replayed_whole(run)


async def test_a_timer_of_more_than_ten_years_is_refused_where_it_is_called_and_in_every_replay():
    too_far: list[str] = []

    @task
    async def body(payload: Any) -> str:
        await quick("x")
        for moment in (T0 + timedelta(days=3_661), datetime.max.replace(tzinfo=UTC)):
            try:
                await timers.until(moment)
            except BadDuration as error:
                too_far.append(error.message)
        await timers.sleep("1d")
        return "awake"

    async with bench(body) as run:
        await run.until_waiting()
        assert len(too_far) == 2
        assert all("more than ten years away" in message for message in too_far)
        # The refused ones asked for nothing; the run goes on with its next op.
        assert list(run.asks) == [1, 2]
        run.story.now += timedelta(days=30)
        run.write(*run.story.decide(Deadline(principal=ALICE, wait_id=run.story.wait.id)).drafts)
        await run.until_closed()
        # A month later the first moment is less than ten years away, and yet the replay goes the same way.
        again = run.replayed(len(run.story.entries) - 1)
        again.clock = FakeClock(run.story.now)
        await again.start().until_closed()
        assert again.asks == {}
        assert again.end == run.end
        assert len(too_far) == 4


async def test_a_timer_of_ten_years_is_taken():
    @task
    async def body(payload: Any) -> str:
        await timers.until(T0 + timedelta(days=3_660))
        return "awake"

    async with bench(body) as run:
        await run.until_waiting()
        assert run.story.wait.deadline_at == T0 + timedelta(days=3_660)


async def test_peek_and_history_show_the_same_in_a_replay_also_when_more_came():
    @task
    async def body(payload: Any) -> list[list[str]]:
        await quick("x")
        seen = [await messages.peek(), await messages.history()]
        await messages.wait()
        seen += [await messages.peek(), await messages.history()]
        await messages.wait(correlation_id="go")
        return seen

    async with bench(body) as run:
        run.send("a")
        run.send("b")
        await run.until(lambda: "wait.opened" in run.story.kinds, "first wait")
        await run.until_waiting()
        run.send("c")
        run.send("go", correlation_id="go")
        await run.until_closed()
        assert run.result[:2] == [["a", "b"], ["a", "b"]]
        assert run.result[2:] == [["b"], ["a", "b"]]
        await replayed_whole(run)


@pytest.mark.parametrize("empty", ["", "  ", "\t"])
async def test_a_wait_with_an_empty_correlation_id_is_an_error_and_takes_nothing(empty: str):
    """An unset variable must not open what it was to close; what an earlier release let in goes on."""

    @task
    async def body(payload: Any) -> str:
        await quick("x")
        return await messages.wait(correlation_id=ids[-1]).unwrap()

    ids: list[Any] = [empty]
    async with bench(body) as run:
        await run.until_closed()
        assert isinstance(run.end, Raised)
        assert run.end.error["type"] == "UsageError"
        assert "would take any record" in run.end.error["message"]
        assert list(run.asks) == [1]
    ids.append(None)
    async with bench(body) as run:
        await run.until_waiting()
        run.send("any")
        await run.until_closed()
        ids.append(empty)  # as the journals of releases before
        await replayed_whole(run)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"timeout": 0}, BadDuration),
        ({"timeout": "eleven years"}, BadDuration),
        ({"timeout": "4000d"}, BadDuration),
        ({"correlation_id": "c" * 513}, UsageError),
        ({"correlation_id": "\ud800"}, UsageError),
    ],
    ids=lambda value: str(value).encode("ascii", "replace").decode()[:30],
)
async def test_a_wait_that_can_not_be_opened_is_refused_where_it_is_called(
    arguments: dict[str, Any], error: type[Exception]
):
    with pytest.raises(error):
        messages.wait(**arguments)
