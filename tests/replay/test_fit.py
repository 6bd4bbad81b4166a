"""A check names exactly the runs that code would block, and changes nothing (S-89)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr import TaskContext, step, streams, task
from helmr.models import CheckVerdict, RunCheck, RunJournal
from helmr.steps import Step
from helmr.tasks import Task
from helmr.testing import Harness
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.state import SessionState
from helmr_runtime.replay.fit import check_run
from helmr_runtime.replay.journal import journal_of, state_of
from helmr_runtime.session.snapshot import read_snapshot

# --- programs that hypothesis can change -----------------------------------------------------------

STEPS = ("alpha", "beta", "gamma")
INPUTS = ("red", "blue")


@dataclass(frozen=True)
class Do:
    """One durable call of a program. `kind`: step, wait, out, clock, peek, history, uuid, fail."""

    kind: str
    name: str = ""
    formerly: str = ""
    is_text: bool = False
    """The step gives, or the stream takes, text instead of a number."""
    patch: str = ""
    """Done only where this patch's new way is taken."""


@dataclass(frozen=True)
class Together:
    """Calls in concurrent branches."""

    branches: tuple[Do, ...]
    how: str
    """gather or group."""


Item = Do | Together


def step_of(do: Do) -> Step[[], Any]:
    if do.is_text:

        async def text() -> str:
            return "7"

        return step(name=do.name, formerly=[do.formerly] if do.formerly else ())(text)

    async def number() -> int:
        return 7

    return step(name=do.name, formerly=[do.formerly] if do.formerly else ())(number)


def program(items: Sequence[Item]) -> Task[..., Any]:
    """A task that does these one after another."""
    dos = [d for i in items for d in (i.branches if isinstance(i, Together) else (i,))]
    types = {
        d.name: str if d.is_text else int for d in dos if d.kind in ("wait", "peek", "history")
    }
    inputs = {name: streams.input(name, schema=types.get(name, int)) for name in INPUTS}
    output = streams.output("out", schema=int)
    steps = {d: step_of(d) for d in dos if d.kind == "step"}

    async def call(do: Do, ctx: TaskContext) -> None:
        if do.patch and not ctx.patched(do.patch):
            return
        match do.kind:
            case "step":
                await steps[do]()
            case "wait":
                await inputs[do.name].wait().unwrap()
            case "peek":
                await inputs[do.name].peek()
            case "history":
                await inputs[do.name].history()
            case "out":
                await output.append(1)
            case "clock":
                ctx.now()
            case "uuid":
                ctx.uuid()
            case _:
                raise ValueError("a bug")

    @task(id="changing", streams=[*inputs.values(), output])
    async def changing(payload: int, ctx: TaskContext) -> None:
        for item in items:
            if isinstance(item, Do):
                await call(item, ctx)
            elif item.how == "gather":
                await asyncio.gather(*(call(one, ctx) for one in item.branches))
            else:
                async with asyncio.TaskGroup() as group:
                    for one in item.branches:
                        group.create_task(call(one, ctx))

    return changing


instants = st.sampled_from(["out", "clock", "uuid"]).map(Do)
reads = st.builds(Do, st.sampled_from(["peek", "history"]), st.sampled_from(INPUTS))
some_steps = st.builds(Do, st.just("step"), st.sampled_from(STEPS))
waits = st.builds(Do, st.just("wait"), st.sampled_from(INPUTS))
groups = st.builds(
    Together,
    st.tuples(some_steps, some_steps, some_steps | waits).map(tuple) | st.tuples(some_steps, waits),
    st.sampled_from(["gather", "group"]),
)
items = some_steps | some_steps | waits | waits | instants | reads | groups
programs = st.lists(items, min_size=2, max_size=7).filter(lambda made: _waits(made) > 0)


def _waits(made: Sequence[Item]) -> int:
    dos = [d for i in made for d in (i.branches if isinstance(i, Together) else (i,))]
    return sum(d.kind == "wait" for d in dos)


@st.composite
def changes(draw: st.DrawFn, made: Sequence[Item]) -> list[Item]:
    """The program after one or two changes."""
    changed = list(made)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        match draw(
            st.sampled_from(
                ["rename", "alias", "insert", "patch", "delete", "swap", "type", "group", "fail"]
            )
        ):
            case "insert":
                changed.insert(at, draw(items))
            case "patch":
                done = draw(some_steps | instants)
                changed.insert(at, replace(done, patch=draw(st.sampled_from(["p", "q"]))))
            case "fail":
                changed.insert(at, Do("fail"))
            case "delete" if len(changed) > 1:
                _delete(draw, changed, at)
            case "swap" if len(changed) > 1:
                other = draw(st.integers(0, len(changed) - 1))
                changed[at], changed[other] = changed[other], changed[at]
            case "rename":
                changed[at] = _each(changed[at], "step", lambda d: replace(d, name="delta"))
            case "alias":
                changed[at] = _each(
                    changed[at], "step", lambda d: replace(d, name=d.name + "2", formerly=d.name)
                )
            case "type":
                kind, name = draw(
                    st.sampled_from([("step", n) for n in STEPS] + [("", n) for n in INPUTS])
                )
                changed = [_each(i, kind, partial(_as_text, name=name)) for i in changed]
            case "group" if len(changed) > 1:
                pair = [d for d in changed[at : at + 2] if isinstance(d, Do) and d.kind != "fail"]
                if len(pair) == 2 and sum(d.kind == "wait" for d in pair) < 2:
                    changed[at : at + 2] = [
                        Together((pair[0], pair[1]), draw(st.sampled_from(["gather", "group"])))
                    ]
    return changed


def _as_text(do: Do, *, name: str) -> Do:
    return replace(do, is_text=do.is_text or do.name == name)


def _delete(draw: st.DrawFn, changed: list[Item], at: int) -> None:
    item = changed[at]
    if isinstance(item, Together) and draw(st.booleans()):
        gone = draw(st.integers(0, len(item.branches) - 1))
        left = tuple(d for n, d in enumerate(item.branches) if n != gone)
        changed[at] = replace(item, branches=left)
    else:
        del changed[at]


def _each(item: Item, kind: str, change: Callable[[Do], Do]) -> Item:
    if isinstance(item, Together):
        return replace(item, branches=tuple(_do(d, kind, change) for d in item.branches))
    return _do(item, kind, change)


def _do(do: Do, kind: str, change: Callable[[Do], Do]) -> Do:
    is_meant = do.kind == kind if kind else do.kind in ("wait", "peek", "history")
    return change(do) if is_meant else do


pairs = programs.flatmap(lambda made: st.tuples(st.just(made), changes(made)))


def data_for(new: Sequence[Item], stream: str) -> Any:
    """What the new code's schema of a stream takes."""
    dos = [d for i in new for d in (i.branches if isinstance(i, Together) else (i,))]
    reading = [d for d in dos if d.name == stream and d.kind in ("wait", "peek", "history")]
    return "3" if reading and reading[-1].is_text else 3


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
        for depth in range(_waits(old)):
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


async def computes(ctx: TaskContext) -> None:
    until = time.monotonic() + 0.6
    while time.monotonic() < until:
        pass


async def awaits_nothing_durable(ctx: TaskContext) -> None:
    await asyncio.get_running_loop().create_future()


async def one_check(body: Task[..., Any], **more: Any) -> RunCheck:
    async with Harness(pay) as harness:
        session = await harness.start(pay, 1)
        await session.answer(2)
        [found] = await harness.check(body, **more)
        return found


@pytest.mark.parametrize("body", [sleeps, waits_for_a_thread, computes])
async def test_code_that_awaits_what_is_not_durable_is_unsure(body: Any):
    assert (await one_check(as_pay(body), silence_s=0.1)).verdict is CheckVerdict.UNSURE


async def test_code_that_nothing_can_wake_differs_as_the_live_run_would():
    found = await one_check(as_pay(awaits_nothing_durable), silence_s=0.1)
    assert (found.verdict, found.op, found.recorded) == (CheckVerdict.DIFFERS, 1, "step charge")


async def test_a_task_that_is_gone_is_missing():
    @task(id="other")
    async def other(payload: int) -> None:
        """Nothing."""

    assert (await one_check(other)).verdict is CheckVerdict.MISSING


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
                await check_run(body, *given, clock=FakeClock(), silence_s=0.1)
                for given in ((state, histories), restored)
            ]
            assert checks[0].model_copy(update={"status": checks[1].status}) == checks[1]
