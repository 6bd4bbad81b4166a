"""A dry run names what an answer then does, stores nothing and lets nothing out (S-87)."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings

from helmr import TaskContext, step, streams, task, timers, tokens
from helmr.errors import SchemaMismatch, WaitResolved
from helmr.models import DryRun, DryRunEnd
from helmr.testing import Harness, HarnessSession
from helmr_runtime.core.entries import Entry
from helmr_runtime.replay.detached import DetachedRun
from helmr_runtime.replay.replay_log import opened_text
from helmr_runtime.session import dry_run
from tests.replay.programs import Item, data_for, executed, program, programs, waits_of

approval = streams.input("approval", schema=str)
progress = streams.output("progress", schema=str)

SLACK_S = 2.0
"""Of a busy machine; to abort code that blocks takes longer."""


def asked(entries: Sequence[Entry]) -> list[tuple[int | None, str]]:
    """The ops that were opened in these entries, by number."""
    found = [(e.op, text) for e in entries if (text := opened_text(e)) is not None]
    return sorted(found, key=lambda one: one[0] or 0)


def met(found: DryRun) -> list[tuple[int, str]]:
    """The ops that a dry run met."""
    return [(one.op, f"{one.kind} {one.name}".strip()) for one in found.ops]


async def compare(made: Sequence[Item]) -> None:
    """At each wait of a program: dry-run its answer, then give it."""
    executed.clear()
    async with Harness(program(made)) as harness:
        session = await harness.start("changing", 1)
        for _ in range(waits_of(made)):
            opened = await session.wait()
            before, done = harness.entries(), len(executed)
            found = await session.dry_run(data_for(made, opened["stream"]))
            assert harness.entries() == before, "a dry run writes no entry"
            assert len(executed) == done, "a dry run calls no step"
            await session.answer(data_for(made, opened["stream"]))
            happened = asked(harness.entries(after=len(before)))
            assert happened[: len(found.ops)] == met(found)
            run = (await session.state()).run
            assert run is not None
            match found.ended:
                case DryRunEnd.RETURNED:
                    assert (run.status, len(happened)) == ("succeeded", len(found.ops))
                case DryRunEnd.RAISED:
                    assert (run.status, len(happened)) == ("failed", len(found.ops))
                case _:
                    assert found.ended in (DryRunEnd.STEP, DryRunEnd.WAIT)
                    assert found.ops[-1].kind == found.ended


@settings(max_examples=40, deadline=None)
@given(programs)
def test_a_dry_run_names_what_the_answer_then_does_and_changes_nothing(made: list[Item]):
    asyncio.run(compare(made))


@pytest.mark.long
@pytest.mark.timeout(300)
@settings(max_examples=200, deadline=None)
@given(programs)
def test_two_hundred_dry_runs_name_what_the_answer_then_does(made: list[Item]):
    asyncio.run(compare(made))


# --- one behaviour each ------------------------------------------------------------------------------

charged: list[str] = []


@step
async def charge() -> None:
    charged.append("charged")


@step(dry_run_safe=True)
async def price() -> int:
    return 7


@step(dry_run_safe=True, retries=2)
async def broken() -> int:
    raise ValueError("no price")


def body_of(body: Any) -> Any:
    @task(id="try", streams=[approval, progress])
    async def tried(payload: Any, ctx: TaskContext) -> Any:
        answer = await approval.wait().unwrap()
        return await body(answer, ctx)

    return tried


async def run_dry(body: Any, data: Any = "yes") -> DryRun:
    async with Harness(body_of(body)) as harness:
        session = await harness.start("try", 1)
        before = harness.entries()
        found = await session.dry_run(data)
        assert harness.entries() == before
        return found


async def test_outputs_reads_clock_and_patches_are_made_in_memory():
    async def body(answer: str, ctx: TaskContext) -> list[Any]:
        first = ctx.now()
        seq = await progress.append(answer)
        history = await approval.history()
        left = await approval.peek()
        assert ctx.now() >= first
        return [seq, history, left, ctx.patched("new"), ctx.replaying]

    found = await run_dry(body)
    assert [one.kind for one in found.ops] == [
        "clock", "output", "history", "peek", "clock", "patch",
    ]  # fmt: skip
    assert found.ops[1].data == "yes"
    assert (found.ended, found.result) == (DryRunEnd.RETURNED, [1, ["yes"], [], True, False])


async def test_it_ends_at_a_step_and_the_step_is_not_executed():
    async def body(answer: str, ctx: TaskContext) -> None:
        await progress.append("before")
        await charge()

    charged.clear()
    found = await run_dry(body)
    assert met(found) == [(2, "output progress"), (3, "step charge")]
    assert (found.ended, charged) == (DryRunEnd.STEP, [])


async def test_a_dry_run_safe_step_is_executed_and_the_dry_run_goes_on():
    async def body(answer: str, ctx: TaskContext) -> None:
        await progress.append(f"costs {await price()}")
        await charge()

    found = await run_dry(body)
    assert [(one.name, one.data) for one in found.ops] == [
        ("price", 7), ("progress", "costs 7"), ("charge", None),
    ]  # fmt: skip


async def test_a_dry_run_safe_step_that_would_be_tried_again_ends_it():
    async def body(answer: str, ctx: TaskContext) -> None:
        await broken()

    found = await run_dry(body)
    assert (found.ended, met(found)) == (DryRunEnd.STEP, [(2, "step broken")])


@pytest.mark.parametrize(
    ("what", "ended", "name"),
    [
        (lambda: approval.wait(), DryRunEnd.WAIT, "wait input approval"),
        (lambda: timers.sleep("1h"), DryRunEnd.WAIT, "wait timer"),
        (lambda: tokens.create(), DryRunEnd.TOKEN, "token"),
    ],
)
async def test_it_ends_at_waits_timers_and_tokens(what: Any, ended: DryRunEnd, name: str):
    async def body(answer: str, ctx: TaskContext) -> None:
        await what()

    found = await run_dry(body)
    assert (found.ended, met(found)) == (ended, [(2, name)])


async def test_it_goes_on_as_the_next_run():
    @task(id="try", streams=[approval, progress])
    async def tried(payload: int, ctx: TaskContext) -> int:
        if payload < 3:
            await approval.wait()
            await ctx.continue_as(payload + 2)
        await progress.append(f"run {payload}")
        return payload

    async with Harness(tried) as harness:
        session = await harness.start("try", 1)
        found = await session.dry_run("yes")
        assert [(one.kind, one.op) for one in found.ops] == [("continue", 0), ("output", 1)]
        assert len({one.run_id for one in found.ops}) == 2
        assert (found.ended, found.result) == (DryRunEnd.RETURNED, 3)
        assert (await session.state()).runs_count == 1


async def test_endless_code_ends_at_a_thousand_ops():
    async def body(answer: str, ctx: TaskContext) -> None:
        while True:
            await progress.append("more")

    found = await run_dry(body)
    assert (found.ended, len(found.ops)) == (DryRunEnd.OPS, 1000)


async def test_code_that_computes_on_ends_by_the_clock(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dry_run, "DRY_RUN_S", 0.3)

    async def body(answer: str, ctx: TaskContext) -> None:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            await asyncio.sleep(0.01)

    assert (await run_dry(body)).ended is DryRunEnd.TIME


@pytest.mark.allows_blocking
async def test_it_is_answered_at_its_bound_also_if_the_code_blocks_its_thread(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(dry_run, "DRY_RUN_S", 0.2)
    is_over = threading.Event()

    async def body(answer: str, ctx: TaskContext) -> None:
        while not is_over.wait(0.01):
            pass

    async with Harness(body_of(body)) as harness:
        session = await harness.start("try", 1)
        try:
            began = time.monotonic()
            found = await session.dry_run("yes")
            took_s = time.monotonic() - began
        finally:
            is_over.set()
    assert found.ended is DryRunEnd.TIME
    assert took_s < 0.2 + SLACK_S


@pytest.mark.allows_blocking
async def test_a_host_whose_dry_run_code_does_not_end_retires_behind_the_answer(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(dry_run, "DRY_RUN_S", 0.1)
    monkeypatch.setattr(DetachedRun.has_left_nothing, "__kwdefaults__", {"within_s": 0.1})
    is_over = threading.Event()

    async def body(answer: str, ctx: TaskContext) -> None:
        while not is_over.wait(0.01):
            pass

    async with Harness(body_of(body)) as harness:
        session = await harness.start("try", 1)
        try:
            found = await session.dry_run("yes")
            [host] = harness._dry_run_hosts
            assert (found.ended, host.retiring) == (DryRunEnd.TIME, None)
            await host.crash()
            assert host.retiring == f"the code of {found.run_id} did not end when it was dry-run"
        finally:
            is_over.set()


async def test_what_the_task_raises_is_told_and_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
):
    async def body(answer: str, ctx: TaskContext) -> None:
        ctx.log.warning("never shown")
        raise KeyError(answer)

    with caplog.at_level(logging.DEBUG):
        found = await run_dry(body)
    assert (found.ended, found.message) == (DryRunEnd.RAISED, "KeyError: 'yes'")
    assert "never shown" not in caplog.text


async def test_an_answer_that_does_not_fit_or_comes_late_is_refused_as_the_real_one():
    async def body(answer: str, ctx: TaskContext) -> str:
        return answer

    async with Harness(body_of(body)) as harness:
        session = await harness.start("try", 1)
        with pytest.raises(SchemaMismatch):
            await session.dry_run(3)
        wait_id = (await session.wait())["wait_id"]
        await session.answer("yes")
        client = harness.async_client()
        with pytest.raises(WaitResolved):
            await client.waits.dry_run(wait_id, "no")


async def test_a_wait_on_a_token_is_dry_run_and_the_token_stays_pending():
    @task(id="try")
    async def tried(payload: int) -> Any:
        token = await tokens.create(timeout="1h")
        return await token.wait(schema=int).unwrap()

    async with Harness(tried) as harness:
        session = await harness.start(tried, 1)
        wait = await session.wait()
        client = harness.async_client()
        before = harness.entries()
        for found in (
            await session.dry_run(5),
            await client.waits.dry_run(wait["wait_id"], 5),
        ):
            assert (found.ended, found.result) == (DryRunEnd.RETURNED, 5)
        with pytest.raises(SchemaMismatch):
            await client.waits.dry_run(wait["wait_id"], "five")
        assert (await harness.token(wait["token_id"])).status == "pending"
        assert [e.kind for e in harness.entries()][: len(before)] == [e.kind for e in before]


async def test_the_live_run_goes_on_untouched_while_it_is_dry_run():
    async def body(answer: str, ctx: TaskContext) -> str:
        return answer

    async def again(session: HarnessSession) -> DryRun:
        return await session.dry_run("tried")

    async with Harness(body_of(body)) as harness:
        session = await harness.start("try", 1)
        found = await asyncio.gather(*(again(session) for _ in range(4)))
        assert {one.result for one in found} == {"tried"}
        await session.answer("real")
        assert await session.result() == "real"
