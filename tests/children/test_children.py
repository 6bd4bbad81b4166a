"""A task starts sessions and gets their results (S-91), in the harness."""

from __future__ import annotations

import pytest

from helmr.errors import ForkRefused, HelmrError
from helmr.testing import Harness
from helmr.testing.session import RunFailed, RunNotEnded
from tests.children.tasks import (
    Job,
    counts,
    fan_out,
    grandparent,
    late,
    leaving,
    one,
    parent_of,
    racing,
    work,
)

ALL = (fan_out, grandparent, late, leaving, one, racing, work)


@pytest.fixture(params=[False, True], ids=["live", "replayed"])
def replay_always(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_the_result_of_a_child_is_what_its_task_returned(replay_always: bool) -> None:
    async with Harness(*ALL, replay_always=replay_always) as harness:
        parent = await harness.start(one, Job("otters"))
        assert await parent.result() == "otters"
        (child,) = await parent.children()
        assert await child.result() == "otters"


async def test_the_parent_parks_while_its_child_waits_for_a_person() -> None:
    async with Harness(*ALL) as harness:
        parent = await harness.start(one, Job("otters", asks=True))
        opened = await parent.wait()
        (child,) = await parent.children()
        assert (opened["kind"], opened["session_ids"]) == ("session", [child.id])
        await harness.park(parent.id)
        await child.answer(True)
        assert await parent.result() == "otters: yes"


async def test_a_child_that_ended_before_the_wait_is_had_at_once() -> None:
    async with Harness(*ALL) as harness:
        parent = await harness.start(late, Job("otters"))
        await parent.answer(True)
        assert await parent.result() == "otters"
        kinds = [e.kind for e in await parent.transcript() if e.kind.startswith("wait.")]
        assert kinds[-2:] == ["wait.opened", "wait.fulfilled"]


async def test_results_are_collected_as_they_end(replay_always: bool) -> None:
    jobs = [Job("slow", sleeps_s=20), Job("asks", asks=True), Job("bad", fails=True), Job("quick")]
    async with Harness(*ALL, replay_always=replay_always) as harness:
        parent = await harness.start(fan_out, jobs)
        assert set(await parent.outputs("collected")) == {"ChildFailed", "quick"}
        await harness.advance("20s")
        children = await parent.children()
        await children[1].answer(False)
        assert (await parent.result())[2:] == ["slow", "asks: no"]


async def test_a_child_that_failed_raises() -> None:
    async with Harness(*ALL) as harness:
        parent = await harness.start(one, Job("otters", fails=True))
        with pytest.raises(RunFailed, match="ValueError: otters can't"):
            await parent.result()
        error = await parent.error()
        assert error is not None
        assert (error["type"], error["code"]) == ("ChildFailed", "child_failed")


async def test_a_wait_on_a_child_times_out_and_the_child_goes_on() -> None:
    async with Harness(*ALL) as harness:
        parent = await harness.start(one, Job("otters", asks=True))
        await harness.advance("1h")
        assert await parent.result() == "WaitTimeout"
        (child,) = await parent.children()
        await child.answer(True)
        assert await child.result() == "otters: yes"


async def test_a_cancelled_child_is_told_to_its_parent() -> None:
    async with Harness(*ALL) as harness:
        parent = await harness.start(one, Job("otters", asks=True))
        (child,) = await parent.children()
        await child.cancel()
        assert await parent.result() == "WaitCancelled"


async def test_cancelling_a_run_cancels_its_children_down_the_tree() -> None:
    async with Harness(*ALL) as harness:
        parent = await harness.start(grandparent, Job("otters", asks=True))
        (child,) = await parent.children()
        (grandchild,) = await child.children()
        await parent.cancel_run()
        await harness.settle()
        for session in (child, grandchild):
            ended = (await session.transcript())[-1]
            assert ended.kind == "session.cancelled"
            assert ended.body["reason"] == "parent_cancelled"


async def test_a_child_that_is_to_be_left_goes_on() -> None:
    async with Harness(*ALL) as harness:
        parent = await harness.start(leaving, Job("otters", asks=True))
        (child,) = await parent.children()
        await parent.cancel()
        await child.answer(True)
        assert await child.result() == "otters: yes"


async def test_a_killed_parent_has_one_child() -> None:
    async with Harness(*ALL) as harness:
        parent = await harness.start(one, Job("otters", asks=True))
        await harness.kill(parent.id)
        await harness.settle()
        (child,) = await parent.children()
        await child.answer(True)
        assert await parent.result() == "otters: yes"


async def test_a_rewind_ends_the_children_behind_it_and_starts_others() -> None:
    async with Harness(*ALL) as harness:
        parent = await harness.start(one, Job("otters", asks=True))
        (first,) = await parent.children()
        seen = await parent.preview(to_op=1)
        assert seen.children == [first.id]
        await parent.rewind(to_op=1)
        ended = (await first.transcript())[-1]
        assert (ended.kind, ended.body["reason"]) == ("session.cancelled", "rewound")
        _, second = await parent.children()
        await second.answer(True)
        assert await parent.result() == "otters: yes"


async def test_a_rewind_may_keep_children() -> None:
    async with Harness(*ALL) as harness:
        parent = await harness.start(one, Job("otters", asks=True))
        (first,) = await parent.children()
        await parent.rewind(to_op=1, keep_children=True)
        assert len(await parent.children()) == 2
        await first.answer(False)
        assert await first.result() == "otters: no"
        with pytest.raises(RunNotEnded):
            await parent.result()


async def test_a_parent_keeps_the_outcome_of_a_rewound_child() -> None:
    async with Harness(*ALL) as harness:
        parent = await harness.start(late, Job("otters", asks=True))
        (child,) = await parent.children()
        await child.answer(True)
        await child.rewind(to_op=1, keep_answers=False)
        await child.answer(False)
        assert await child.result() == "otters: no"
        await parent.answer(True)
        assert await parent.result() == "otters: yes"


async def test_a_child_goes_on_as_its_next_run() -> None:
    async with Harness(counts, parent_of) as harness:
        parent = await harness.start(parent_of, 2)
        assert await parent.result() == "done"


async def test_clients_find_children_by_their_parent_and_no_wait_on_them_in_the_inbox() -> None:
    async with Harness(*ALL) as harness, harness.async_client() as client:
        parent = await harness.start(one, Job("otters", asks=True))
        await harness.start(work, Job("nobody's", asks=True))
        (found,) = [session async for session in client.sessions.list(parent=parent.id)]
        (child,) = await parent.children()
        assert found.id == child.id
        assert found.parent is not None
        assert (found.parent.session_id, found.parent.op) == (parent.id, 1)
        waits = [wait async for wait in client.waits.list()]
        assert {wait.kind for wait in waits} == {"input"}
        (waiting,) = [wait async for wait in client.waits.list(kind=["session"])]
        assert waiting.session_ids == [child.id]


async def test_a_fork_behind_an_open_wait_on_a_child_is_refused() -> None:
    async with Harness(*ALL) as harness, harness.async_client() as client:
        parent = await harness.start(racing, Job("otters", asks=True))
        with pytest.raises(ForkRefused, match="waits for ses_"):
            await client.sessions.open(parent.id).fork(to_op=4, reason="a test")
        started = await client.sessions.open(parent.id).fork(to_op=2, reason="a test")
        assert (await client.sessions.open(started.id).get()).parent is None


async def test_an_answer_to_a_wait_on_a_child_is_refused() -> None:
    async with Harness(*ALL) as harness, harness.async_client() as client:
        parent = await harness.start(one, Job("otters", asks=True))
        opened = await parent.wait()
        with pytest.raises(HelmrError):
            await client.waits.answer(opened["wait_id"], True)
        assert (await parent.wait())["wait_id"] == opened["wait_id"]
