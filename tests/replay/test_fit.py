"""A check names exactly the runs that code would block, and changes nothing (S-89)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings

from helmr import TaskContext, step, streams, task
from helmr.cli.check import _why
from helmr.models import CheckVerdict, RunCheck, RunJournal
from helmr.tasks import Task
from helmr.testing import Harness
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.state import SessionState
from helmr_runtime.replay.detached import check_run
from helmr_runtime.replay.replay_log import journal_of, state_of
from helmr_runtime.session.dry_run import read_snapshot
from tests.replay.programs import Item, data_for, pairs, program, waits_of


async def settled_state(session: Any, old_wait: str) -> SessionState:
    """The state once the run blocked, ended or waits for something else."""
    async with asyncio.timeout(30):
        while True:
            state: SessionState = await session.state()
            run = state.run
            assert run is not None
            is_still = run.wait is not None and run.wait.id == old_wait
            if not is_still and run.status.value not in ("queued", "running"):
                return state
            await asyncio.sleep(0.005)


async def compare(old: Sequence[Item], new: Sequence[Item]) -> None:
    """Check runs of the old code at each of its waits, then resume every one with the new."""
    async with Harness(program(old), silence_s=0.05) as harness:
        waiting = []
        for depth in range(waits_of(old)):
            session = await harness.start("changing", 1)
            for _ in range(depth):
                await session.answer(3)
            waiting.append(session)
        before = len(harness.entries())
        checks = {c.session_id: c for c in await harness.check(program(new), silence_s=0.5)}
        assert len(harness.entries()) == before, "a check stores nothing"
        assert set(checks) == {session.id for session in waiting}
        for session in waiting:
            await session.park()
        harness.deploy(program(new))
        for session in waiting:
            opened = await session.wait()
            await session.answer(data_for(new, opened["stream"]), settle=False)
            state = await settled_state(session, opened["wait_id"])
            assert state.run is not None
            await harness.settle()
            assert_same(checks[session.id], state, await session.error())


def assert_same(check: RunCheck, state: SessionState, error: dict[str, Any] | None) -> None:
    assert state.run is not None
    if state.run.status.value != "blocked":
        assert check.verdict is CheckVerdict.FITS, (check, state.run.status)
        return
    assert error is not None
    if error["code"] == "nondeterminism":
        assert check.verdict is CheckVerdict.DIFFERS
        assert (check.op, check.recorded, check.met) == (
            error["op"],
            error["recorded"],
            error["met"],
        )
    else:
        assert (check.verdict, error["code"]) == (CheckVerdict.SCHEMA, "schema_mismatch")
        assert (check.op, check.message) == (error.get("op"), error["message"])


@settings(max_examples=30, deadline=None)
@given(pairs)
def test_a_check_names_exactly_the_runs_that_then_block(
    pair: tuple[list[Item], list[Item]],
):
    asyncio.run(compare(*pair))


@pytest.mark.long
@pytest.mark.timeout(300)
@settings(max_examples=1000, deadline=None)
@given(pairs)
def test_a_check_names_exactly_the_runs_that_then_block_at_length(
    pair: tuple[list[Item], list[Item]],
):
    asyncio.run(compare(*pair))


# --- one verdict each -------------------------------------------------------------------------------

approval = streams.input("approval", schema=int)


@step(name="charge")
async def charge() -> int:
    return 4


@task(id="pay")
async def pay(payload: int, ctx: TaskContext) -> int:
    await charge()
    ctx.now()
    await approval.history()
    first = await approval.wait().unwrap()
    await approval.peek()
    return first + await approval.wait().unwrap()


def as_pay(body: Callable[[TaskContext], Any], payload: type = int) -> Task[..., Any]:
    async def changed(payload: Any, ctx: TaskContext) -> Any:
        return await body(ctx)

    changed.__annotations__["payload"] = payload
    return task(id="pay", streams=[approval])(changed)


async def sleeps(ctx: TaskContext) -> None:
    await asyncio.sleep(60)


async def waits_for_a_thread(ctx: TaskContext) -> None:
    await asyncio.to_thread(time.sleep, 0.5)


def burn(clock: Callable[[], float]) -> None:
    until = clock() + 0.6
    while clock() < until:
        pass


async def computes(ctx: TaskContext) -> None:
    burn(time.thread_time)  # on a loaded machine it takes longer, as the check does


async def awaits_nothing_durable(ctx: TaskContext) -> None:
    await asyncio.get_running_loop().create_future()


async def one_check(body: Task[..., Any], **more: Any) -> RunCheck:
    async with Harness(pay) as harness:
        session = await harness.start(pay, 1)
        await session.answer(2)
        [found] = await harness.check(body, **more)
        return found


@pytest.mark.parametrize(
    ("body", "silence_s"), [(sleeps, 0.1), (waits_for_a_thread, 0.1), (computes, 0.02)]
)
async def test_code_that_awaits_what_is_not_durable_is_unsure(body: Any, silence_s: float):
    found = await one_check(as_pay(body), silence_s=silence_s)
    assert found.verdict is CheckVerdict.UNSURE
    assert "awaits what is not a durable call, such as asyncio.sleep" in str(found.message)


async def test_code_that_has_not_come_to_rest_is_given_more_time():
    """It computes, or gets no turn on a loaded machine."""

    async def slow(ctx: TaskContext) -> int:
        burn(time.monotonic)
        return await pay.function(1, ctx)

    found = await one_check(as_pay(slow), silence_s=0.1)
    assert found.verdict is CheckVerdict.FITS


async def test_code_that_nothing_can_wake_differs_as_the_live_run_would():
    found = await one_check(as_pay(awaits_nothing_durable), silence_s=0.5)
    assert (found.verdict, found.op, found.recorded) == (CheckVerdict.DIFFERS, 1, "step charge")


async def test_a_task_that_is_gone_is_missing():
    @task(id="other")
    async def other(payload: int) -> None:
        """Nothing."""

    found = await one_check(other)
    assert (found.verdict, found.message) == (CheckVerdict.MISSING, "the code has no task pay")


async def test_a_difference_names_the_line_that_asks():
    @step
    async def charge_card() -> None:
        """Another name."""

    async def renamed(ctx: TaskContext) -> None:
        await charge_card()

    line = renamed.__code__.co_firstlineno + 1
    found = await one_check(as_pay(renamed))
    assert (found.recorded, found.met) == ("step charge", "step charge_card")
    assert found.place == f"tests/replay/test_fit.py:{line}"
    assert _why(found) == (
        "op 1: the journal has step charge, the code asks for step charge_card at "
        f'tests/replay/test_fit.py:{line}; if it was renamed: @step(formerly=["charge"])'
    )


async def test_a_refused_payload_names_its_path():
    found = await one_check(as_pay(sleeps, payload=dict[str, int]))
    assert (found.verdict, found.op) == (CheckVerdict.SCHEMA, None)
    assert "payload" in (found.message or "")


async def test_a_refused_record_names_op_and_path():
    wanted = streams.input("approval", schema=dict[str, int])

    async def first(ctx: TaskContext) -> None:
        await charge()
        ctx.now()
        await approval.history()
        await wanted.wait()

    async def body(payload: int, ctx: TaskContext) -> None:
        await first(ctx)

    found = await one_check(task(id="pay", streams=[])(body))
    assert (found.verdict, found.op) == (CheckVerdict.SCHEMA, 4)
    assert found.path is not None


async def test_runs_that_have_ended_are_passed_over_and_blocked_ones_are_checked():
    async with Harness(pay) as harness:
        ended = await harness.start(pay, 1)
        await ended.answer(2)
        await ended.answer(3)
        waiting = await harness.start(pay, 1)
        await waiting.park()
        harness.deploy(as_pay(awaits_nothing_durable))
        assert [c.session_id for c in await harness.check(pay)] == [waiting.id]


async def test_a_checked_steps_body_is_never_executed_and_no_wait_opens():
    calls: list[str] = []

    @step(name="later")
    async def later() -> None:
        calls.append("later")

    async def body(ctx: TaskContext) -> None:
        await charge()
        ctx.now()
        await approval.history()
        await asyncio.gather(later(), approval.wait())

    async with Harness(pay) as harness:
        await harness.start(pay, 1)
        before = harness.entries()
        [found] = await harness.check(as_pay(body))
        assert found.verdict is CheckVerdict.DIFFERS  # `later` stands where the wait was
        assert calls == []
        assert harness.entries() == before


async def test_a_journal_on_the_wire_replays_as_the_state_does():
    async with Harness(pay) as harness:
        session = await harness.start(pay, 1)
        await session.send("approval", 9)
        await session.send("approval", 8, correlation_id="x")
        snapshot = await read_snapshot(harness.ledger, session.id)
        state, histories = snapshot.state, snapshot.histories
        sent = journal_of(state, histories).model_dump_json()
        restored = state_of(RunJournal.model_validate_json(sent))
        for body in (pay, as_pay(awaits_nothing_durable), as_pay(sleeps, payload=str)):
            checks = [
                await check_run(body, *given, clock=FakeClock(), silence_s=0.5)
                for given in ((state, histories), restored)
            ]
            assert checks[0].model_copy(update={"status": checks[1].status}) == checks[1]
