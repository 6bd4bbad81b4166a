"""Runs: recovery, retries, ends, the next run (S-1…S-8, S-31…S-33)."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from helmr import streams, task
from helmr.errors import IdleInputRejected, RunActive, RunNotRetryable, SessionTerminal
from helmr.testing import RunFailed
from helmr_runtime.catalog import Registry
from helmr_runtime.core import checkpoint
from tests.session import tasks


@pytest.fixture(autouse=True)
def fresh_world() -> None:
    tasks.done.clear()
    tasks.switches.clear()


async def test_five_completed_steps_then_a_kill_and_none_is_repeated(harness) -> None:
    async with harness(tasks.five_steps) as h:
        session = await h.start("five_steps")
        await session.kill()
        await session.send("messages", "go")
        assert await session.result() == [f"STEP{n}" for n in range(5)]
    assert all(count == 1 for count in tasks.done.values())


async def test_crash_inside_a_step_repeats_only_that_step_with_the_same_key(harness) -> None:
    async with harness(hangs_once) as h:
        keys.clear()
        starting = asyncio.create_task(h.start("hangs_once"))
        async with asyncio.timeout(10):
            while len(keys) < 3:
                await asyncio.sleep(0.001)
        [session_id] = h._hosts
        await h.kill(session_id)
        session = await starting
        assert await session.result() == "done"
    names = [name for name, _ in keys]
    assert names == ["one", "two", "three", "three", "four"]
    assert keys[2] == keys[3]


async def test_concurrent_steps_of_both_kinds_keep_their_values(harness) -> None:
    async with harness(tasks.concurrent) as h:
        session = await h.start("concurrent")
        assert await session.result() == [f"A{n}" for n in range(6)]
    assert all(count == 1 for count in tasks.done.values())


async def test_retry_runs_the_failed_step_again_and_no_earlier_one(harness) -> None:
    async with harness(tasks.fails_late) as h:
        session = await h.start("fails_late")
        with pytest.raises(RunFailed, match="bad is broken"):
            await session.result()
        await session.park()
        tasks.switches["broken"] = False
        await session.retry()
        assert await session.result() == "mended"
        with pytest.raises(RunNotRetryable):
            await session.retry()
    assert tasks.done == {"good": 1, "bad": 2}


async def test_retry_policy_tries_the_run_again_after_its_backoff(harness) -> None:
    async with harness(tasks.retries_itself) as h:
        session = await h.start("retries_itself")
        await h.advance("1m")
        assert tasks.done["bad"] == 2
        with pytest.raises(RunFailed):
            await session.result()
        failed = [e for e in await session.transcript() if e.kind == "run.attempt_failed"]
        assert [e.body["next_attempt"] for e in failed] == [2, 3]
    assert tasks.done == {"good": 1, "bad": 3}


async def test_long_backoff_of_a_step_is_a_timer_that_parks(harness) -> None:
    async with harness(tasks.patient) as h:
        session = await h.start("patient")
        state = await session.state()
        assert state.wait is not None
        assert state.wait.is_backoff
        await session.park()
        assert await session.result() == 4
    assert tasks.done["flaky"] == 4


async def test_short_backoff_of_a_step_stays_in_memory(harness) -> None:
    async with harness(tasks.patient, linger="1h") as h:
        session = await h.start("patient")
        assert (await session.state()).wait is None
        assert await session.result() == 4


async def test_continue_as_begins_the_next_run_with_an_empty_journal(harness) -> None:
    async with harness(tasks.counts_down) as h:
        session = await h.start("counts_down", 3)
        assert await session.result() == "done"
        transcript = await session.transcript()
        assert [e.body["payload"] for e in transcript if e.kind == "run.created"] == [3, 2, 1, 0]
        ended = [e.body for e in transcript if e.kind == "run.succeeded"]
        assert [b["result"] for b in ended] == [None, None, None, "done"]
        assert all(e.op == 1 for e in transcript if e.kind == "step.started")
    assert tasks.done == {"run3": 1, "run2": 1, "run1": 1, "run0": 1}


async def test_idle_input_starts_one_run_per_record_and_the_end_starts_the_next(harness) -> None:
    async with harness(tasks.per_message) as h:
        session = await h.start("per_message")
        await session.send("messages", "a")
        assert await session.result() == "a"
        receipt = await session.send("messages", "b")
        assert receipt["outcome"] == "buffered"
        assert await session.result() == "b"
        transcript = await session.transcript()
        assert len([e for e in transcript if e.kind == "run.created"]) == 2


async def test_of_messages_that_come_while_a_run_is_at_one_each_is_taken(harness) -> None:
    """`helmr session get` says how many are left meanwhile."""
    are_sent = threading.Event()

    @task(on_idle_input="run", streams=[tasks.messages])
    async def slow_at_one(payload: Any) -> str:
        text = await tasks.messages.wait().unwrap()
        while not are_sent.is_set():
            await asyncio.sleep(0.001)
        return text

    async with harness(slow_at_one) as h:
        session = await h.start("slow_at_one")
        client = h.async_client()
        for text in ("a", "b", "c"):
            await session.send("messages", text, settle=False)
        assert (await client.sessions.open(session.id).get()).unconsumed == 2
        are_sent.set()
        assert await session.result() == "c"
        transcript = await session.transcript()
        results = [e.body["result"] for e in transcript if e.kind == "run.succeeded"]
        assert results == ["a", "b", "c"]
        assert (await client.sessions.open(session.id).get()).unconsumed == 0


async def test_records_that_no_run_takes_are_counted_and_start_one_run_each(harness) -> None:
    async with harness(tasks.per_answer) as h:
        session = await h.start("per_answer")
        for text in ("a", "b"):
            await session.send("messages", text, correlation_id="other")
        for runs in (1, 2, 3):
            state = await session.state()
            assert (state.runs_count, state.activity.value) == (runs, "waiting")
            await session.cancel_run()
        info = await h.async_client().sessions.open(session.id).get()
        assert (info.activity.value, info.unconsumed) == ("idle", 2)


async def test_the_run_that_follows_a_cancelled_one_starts_although_that_ones_code_waited(
    harness,
) -> None:
    async with harness(tasks.per_answer) as h:
        session = await h.start("per_answer")
        await session.send("messages", "b", correlation_id="other")
        await session.cancel_run()
        state = await session.state()
        assert state.run is not None
        assert (state.runs_count, state.activity.value) == (2, "waiting")
        assert (await session.answer("a"))["run_id"] == state.run.id
        assert await session.result() == "a"


async def test_idle_input_can_be_rejected(harness) -> None:
    async with harness(tasks.rejecting) as h:
        session = await h.start("rejecting")
        assert await session.result() == "done"
        with pytest.raises(IdleInputRejected):
            await session.send("messages", "x")


async def test_after_run_close_closes_the_session(harness) -> None:
    async with harness(tasks.closing) as h:
        session = await h.start("closing")
        assert await session.result() == "done"
        assert (await session.state()).status == "closed"
        with pytest.raises(SessionTerminal):
            await session.run()


async def test_next_run_needs_an_idle_session(harness) -> None:
    async with harness(tasks.approve, tasks.rejecting) as h:
        session = await h.start("approve", "k")
        with pytest.raises(RunActive):
            await session.run("k")
        with pytest.raises(RunActive):
            await session.close()
        idle = await h.start("rejecting")
        await idle.run(as_before=True)
        assert await idle.result() == "done"
        assert (await idle.state()).runs_count == 2


async def test_cancel_is_recorded_and_idempotent(harness) -> None:
    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        await session.cancel_run()
        await session.cancel_run()
        await session.cancel()
        await session.cancel()
        kinds = [e.kind for e in await session.transcript()]
        assert kinds.count("run.cancelled") == 1
        assert kinds.count("session.cancelled") == 1
        assert kinds.index("wait.cancelled") < kinds.index("run.cancelled")
    assert tasks.done == {"before": 1}


async def test_parked_session_is_cancelled_without_running_its_code(harness) -> None:
    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        await session.park()
        await session.cancel()
        with pytest.raises(RunFailed, match="cancelled"):
            await session.result()
        assert not any(e.kind == "run.resumed" for e in await session.transcript())


async def test_changed_code_blocks_the_run_and_the_old_code_goes_on(harness) -> None:
    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        await session.park()
        good = h._registry
        h._registry = Registry([changed_approve], code_hash="test")
        await session.send("approval", {"decision": "approve"}, correlation_id="k")
        with pytest.raises(RunFailed, match=r"step before.*|step touch") as blocked:
            await session.result()
        error = blocked.value.facts["error"]
        assert (error["code"], error["op"]) == ("nondeterminism", 1)
        assert error["recorded"] == "step touch"
        assert error["met"] == "wait input approval"
        await session.park()
        h._registry = good
        await session.retry()
        assert await session.result() == "approve"
    assert tasks.done == {"before": 1, "after": 1}


async def test_third_crash_with_no_outcome_between_blocks_the_run(harness) -> None:
    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        for _ in range(3):
            await h.kill(session.id)
            h._crashes[session.id] = crash_of()
            await session.send("messages", "touch")
        state = await session.state()
        assert state.run is not None
        assert state.run.status == "blocked"
        assert (await session.send("approval", {"decision": "approve"}, correlation_id="k"))[
            "outcome"
        ] == "fulfilled"
        await session.retry()
        assert await session.result() == "approve"


async def test_crashes_that_did_not_execute_are_recorded_and_not_counted(harness) -> None:
    async with harness(tasks.approve) as h:
        session = await h.start("approve", "k")
        for _ in range(5):
            await session.kill()
            await session.send("messages", "touch")
        assert (await session.state()).activity == "waiting"
        await session.send("approval", {"decision": "reject"}, correlation_id="k")
        assert await session.result() == "reject"


def crash_of():
    from helmr_runtime.ports import Crash

    return Crash(cause="exit code 1", executing=True, op=2)


keys: list[tuple[str, str]] = []


def _step(name: str):
    from helmr import step, step_key

    @step(name=name)
    async def body() -> str:
        keys.append((name, step_key()))
        if [n for n, _ in keys].count("three") == 1 and name == "three":
            await asyncio.Event().wait()
        return name

    return body


_one, _two, _three, _four = (_step(n) for n in ("one", "two", "three", "four"))


@task
async def hangs_once(payload: Any) -> str:
    """The third step hangs the first time."""
    await _one()
    await _two()
    await _three()
    await _four()
    return "done"


_approval = streams.input("approval")


@task(id="approve")
async def changed_approve(key: str) -> str:
    """`approve` without its first step."""
    await _approval.wait(correlation_id=key)
    return "changed"


async def test_a_run_whose_journal_is_stored_in_pieces_goes_on_with_all_of_it(
    harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PIECE_BYTES_MIN", 2_000)
    monkeypatch.setattr(checkpoint, "PIECES_MAX", 3)
    seen: set[int] = set()
    async with harness(tasks.chat) as h:
        session = await h.start("chat")
        for n in range(30):
            await session.send("messages", f"m{n}")
            await h.park(session.id)
            stored = list(h.ledger.stored.checkpoints.values())[-1]
            seen.add(len(checkpoint.pieces(stored)))
        await session.close(end_input=True)
        assert await session.result() == 30
        outputs = [
            e.body["data"] for e in await session.transcript() if e.kind == "output.appended"
        ]
    assert outputs == [f"{n + 1}: m{n}" for n in range(30)]
    assert seen == {0, 1, 2}
