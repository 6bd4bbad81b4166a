"""Waits and input, from the outside of the engine (S-10…S-27)."""

from __future__ import annotations

import asyncio
import threading

import pytest

from helmr.errors import (
    IdempotencyConflict,
    SchemaMismatch,
    SessionTerminal,
    StreamNotFound,
    WaitResolved,
    WaitTimedOut,
)
from helmr.testing import HarnessSession
from tests.session import tasks

YES = {"decision": "approve"}


@pytest.fixture(autouse=True)
def fresh_world() -> None:
    tasks.done.clear()
    tasks.switches.clear()


async def test_an_answer_resumes_the_run_where_it_stopped(harness) -> None:
    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        wait = await session.wait()
        assert (wait["stream"], wait["correlation_id"]) == ("approval", "k")
        receipt = await session.send("approval", YES, correlation_id="k")
        assert receipt["outcome"] == "fulfilled"
        assert receipt["wait_id"] == wait["wait_id"]
        assert await session.result() == "approve"
    assert tasks.done == {"before": 1, "after": 1}


async def test_send_before_the_wait_is_taken_when_it_opens(harness) -> None:
    async with harness(tasks.two_for_x) as h:
        session = await h.start("two_for_x")
        early = [await session.send("messages", m, correlation_id="x") for m in ("a", "b")]
        assert [r["outcome"] for r in early] == ["fulfilled", "fulfilled"]
        assert await session.result() == ["a", "b"]

    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        assert (await session.send("approval", YES))["outcome"] == "unmatched"


async def test_wait_without_correlation_id_takes_a_correlated_record(harness) -> None:
    async with harness(tasks.any_message) as h:
        session = await h.start("any_message")
        assert (await session.send("messages", "1", correlation_id="y"))["outcome"] == "fulfilled"
        await session.send("messages", "2")
        assert await session.result() == ["1", "2"]


async def test_wait_for_x_gets_none_then_y_then_x(harness) -> None:
    async with harness(tasks.two_for_x) as h:
        session = await h.start("two_for_x")
        outcomes = [
            (await session.send("messages", "none"))["outcome"],
            (await session.send("messages", "y", correlation_id="y"))["outcome"],
            (await session.send("messages", "x1", correlation_id=" x "))["outcome"],
            (await session.send("messages", "x2", correlation_id="x"))["outcome"],
        ]
        assert outcomes == ["unmatched", "unmatched", "fulfilled", "fulfilled"]
        assert await session.result() == ["x1", "x2"]


async def test_late_answer_is_buffered_and_says_late(harness) -> None:
    async with harness(tasks.approve, tasks.timeout_is_a_result) as h:
        session = await h.start("timeout_is_a_result")
        wait = await session.wait()
        await session.park()
        await h.advance("1h")
        assert await session.result() == "WaitTimeout"
        with pytest.raises(WaitResolved):
            await session.answer(YES, wait_id=wait["wait_id"])
        assert (await session.send("approval", YES))["outcome"] == "late"
        await session.run(as_before=True)
        assert await session.result() == "on time", "it was buffered all the same"


async def test_answer_at_the_deadline_is_refused_and_times_the_wait_out(harness) -> None:
    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        wait = await session.wait()
        h.clock._now = wait_deadline(wait)  # the instant itself, before any timer has fired
        with pytest.raises(WaitTimedOut):
            await session.answer(YES, wait_id=wait["wait_id"])
        kinds = [e.kind for e in await session.transcript()]
        assert "wait.timed_out" in kinds
        assert "input.accepted" not in kinds


async def test_send_at_the_deadline_times_the_wait_out_first_and_says_late(harness) -> None:
    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        h.clock._now = wait_deadline(await session.wait())
        receipt = await session.send("approval", YES, correlation_id="k")
        assert receipt["outcome"] == "late"
        kinds = [e.kind for e in await session.transcript()]
        assert kinds.index("wait.timed_out") < kinds.index("input.accepted")


def wait_deadline(wait):
    from helmr_runtime.core.entries import from_iso

    return from_iso(wait["deadline_at"])


async def test_second_wait_is_refused_and_the_first_is_unharmed(harness) -> None:
    async with harness(tasks.two_waits) as h:
        session = await h.start("two_waits")
        await session.park()
        await session.send("messages", "first", correlation_id="1")
        assert await session.result() == "refused first"


async def test_wait_cancelled_by_an_asyncio_timeout_is_recorded_and_the_run_goes_on(
    harness,
) -> None:
    async with harness(tasks.gives_up) as h:
        session = await h.start("gives_up")
        async with asyncio.timeout(10):
            while (await session.wait())["correlation_id"] != "later":
                await asyncio.sleep(0.01)
        cancelled = [e for e in await session.transcript() if e.kind == "wait.cancelled"]
        assert [e.body["reason"] for e in cancelled] == ["task"]
        await session.park()
        await session.send("messages", "now", correlation_id="later")
        async with asyncio.timeout(10):
            assert await session.result() == "now"


@pytest.mark.allows_blocking
async def test_record_that_came_before_the_code_gave_up_its_wait_is_taken_by_the_next(
    harness,
) -> None:
    entered, gate = (tasks.switches.setdefault(n, threading.Event()) for n in ("entered", "gate"))
    async with harness(tasks.gives_up_too_late) as h:
        # Neither call returns before the code is still, which it is only behind the gate.
        starting = asyncio.create_task(h.start("gives_up_too_late"))
        assert await asyncio.to_thread(entered.wait, 20)
        session_id = h.ledger.stored.entries[0].session_id
        sending = asyncio.create_task(
            HarnessSession(h, session_id).send("messages", "early", correlation_id="x")
        )
        async with asyncio.timeout(20):
            while "wait.fulfilled" not in [e.kind for e in h.ledger.entries_of(session_id)]:
                await asyncio.sleep(0.005)
            gate.set()
            session = await starting
            assert (await sending)["outcome"] == "fulfilled"
            assert await session.result() == [["early"], "early"]
        kinds = [e.kind for e in await session.transcript()]
        assert kinds.count("wait.fulfilled") == 2
        assert kinds.index("wait.fulfilled") < kinds.index("input.returned")
    assert tasks.done == {"open": 1}


async def test_failing_branch_of_a_group_cancels_the_wait_beside_it(harness) -> None:
    async with harness(tasks.group_fails) as h:
        session = await h.start("group_fails")
        assert (await session.wait())["correlation_id"] == "later"
        await session.park()
        await session.send("messages", "now", correlation_id="later")
        assert await session.result() == "now"
    assert tasks.done["in group"] == 1


async def test_bad_data_is_refused_and_nothing_is_stored(harness) -> None:
    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        before = len(await session.transcript())
        with pytest.raises(SchemaMismatch) as refused:
            await session.send("approval", {"decision": "maybe"}, correlation_id="k")
        assert refused.value.errors[0]["path"] == "decision"
        with pytest.raises(StreamNotFound, match="messages"):
            await session.send("nowhere", 1)
        assert len(await session.transcript()) == before


async def test_idempotency_key_gives_one_record_also_after_parking(harness) -> None:
    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        first = await session.send("approval", YES, idempotency_key="key")
        again = await session.send("approval", YES, idempotency_key="key")
        await session.park()
        parked = await session.send("approval", YES, idempotency_key="key")
        await session.send("approval", YES, correlation_id="k", idempotency_key="other")
        assert not first["duplicate"]
        assert again == parked == {**first, "duplicate": True}
        with pytest.raises(IdempotencyConflict):
            await session.send("approval", {"decision": "reject"}, idempotency_key="key")


@pytest.mark.parametrize("how", ["park", "kill"])
async def test_a_key_repeated_on_one_stream_says_nothing_of_another_stream(harness, how) -> None:
    """The repetition adopts the session, and brings along what the ledger knows of the key on its own stream."""
    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        first = await session.send("messages", "a", idempotency_key="delivery")
        if how == "kill":  # what the checkpoint holds of the session, the state does not know
            await session.park()
            await h.async_client().sessions.open(session.id).note("adopted")
        await getattr(session, how)()
        again = await session.send("messages", "a", idempotency_key="delivery")
        assert again == {**first, "duplicate": True}
        other = await session.send("remarks", "a", idempotency_key="delivery")
        assert (other["stream"], other["seq"], other["duplicate"]) == ("remarks", 1, False)
        assert other["record_id"] != first["record_id"]
        with pytest.raises(IdempotencyConflict):
            await session.send("remarks", "b", idempotency_key="delivery")
        stored = [
            e.body["stream"] for e in await session.transcript() if e.kind == "input.accepted"
        ]
        assert stored == ["messages", "remarks"]


async def test_100_concurrent_sends_are_1_to_100(harness) -> None:
    async with harness(tasks.chat) as h:
        session = await h.start("chat")
        receipts = await asyncio.gather(*(session.send("messages", f"m{n}") for n in range(100)))
        assert sorted(r["seq"] for r in receipts) == list(range(1, 101))
        await session.close(end_input=True)
        assert await session.result() == 100
        assert len(await session.outputs("replies")) == 100


async def test_peek_and_history_see_the_same_at_every_replay(harness) -> None:
    async with harness(tasks.looks) as h:
        session = await h.start("looks")
        await session.send("messages", "a")
        await session.send("messages", "b", correlation_id="b")
        await session.park()
        await session.send("messages", "go", correlation_id="go")
        assert await session.result() == {
            "peeked": ["a", "b"],
            "taken": ["a"],
            "history": ["a", "b", "go"],
        }


async def test_end_of_input_ends_the_iteration_and_closes_the_session(harness) -> None:
    async with harness(tasks.chat) as h:
        session = await h.start("chat")
        await session.send("messages", "hello")
        await session.park()
        await session.close(end_input=True)
        assert await session.result() == 1
        with pytest.raises(SessionTerminal):
            await session.send("messages", "too late")
        await session.close()


async def test_sleep_skips_time_and_the_clock_reads_the_same_again(harness) -> None:
    async with harness(tasks.sleeper) as h:
        session = await h.start("sleeper")
        await session.park()
        before, after = await session.result()
        assert before.startswith("2030-01-01T00:00:00")
        assert after.startswith("2030-01-01T02:00:00")
