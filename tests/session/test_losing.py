"""Adoptions that end at once or against their host's will, and what is left of their code (S-34, S-62)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from helmr import step, task
from helmr.errors import Moved, StreamNotFound
from helmr.models import RunStatus
from helmr.testing import TESTER, Harness
from helmr.wire import ids
from helmr_runtime.core.commands import CancelSession, Resume, StartRun
from helmr_runtime.ports import Crash, Flush, SessionReleased, SlotState
from helmr_runtime.ports.ledger import FROM_START
from tests.session.adopting import (
    cancel,
    go_on,
    holds_a_thread,
    host_of,
    in_a_steps_thread,
    messages,
    send,
    steal_at_the_next_commit,
    until,
)


@step(timeout="300ms")
def in_a_thread_for_long() -> None:
    """Takes longer than it may, and nothing interrupts it."""
    go_on.wait(20)


@task
async def holds_a_thread_for_long(payload: Any) -> None:
    await messages.wait()
    await in_a_thread_for_long()


@task
async def waits(payload: Any) -> str:
    return await messages.wait().unwrap()


went_on: list[str] = []
"""What `lives_alone` was told, wherever it went on."""


@task(isolated=True)
async def lives_alone(payload: Any) -> str:
    said = await messages.wait().unwrap()
    went_on.append(said)
    return said


async def test_a_session_lost_before_its_code_started_leaves_its_slot_empty() -> None:
    async with Harness(waits) as h:
        session = await h.start(waits)
        await session.park()
        host = host_of(h)
        steal_at_the_next_commit(h, session.id)
        crash = Crash(cause="killed", executing=True)
        with pytest.raises(Moved):
            await host.adopt(session.id, command=send(), crash=crash, catalog_hash="test")
        await until(lambda: host.is_settled and not host.slots)
        await host.adopt(
            session.id, command=Resume(principal=TESTER), crash=None, catalog_hash="test"
        )
        await host.crash()


async def test_a_session_that_was_taken_is_not_released() -> None:
    """Whoever asked would else believe that nobody has it."""
    async with Harness(waits) as h:
        session = await h.start(waits)
        await session.park()
        host = host_of(h)
        await host.adopt(
            session.id, command=Resume(principal=TESTER), crash=None, catalog_hash="test"
        )
        await until(lambda: host.is_settled and host.slots[session.id].live.is_parkable)
        steal_at_the_next_commit(h, session.id)
        with pytest.raises(Moved):
            await host.release(session.id, "linger")
        assert not host.slots
        assert await host.lease(session.id) is None


async def test_a_host_adopts_nothing_of_an_earlier_term() -> None:
    async with Harness(waits) as h:
        session = await h.start(waits)
        await session.park()
        term = await h.ledger.lead("one")
        await h.ledger.lead("another")
        host = host_of(h)
        with pytest.raises(Moved):
            await host.adopt(
                session.id,
                command=Resume(principal=TESTER),
                crash=None,
                catalog_hash="test",
                term=term,
            )
        assert not host.slots
        assert session.id not in {held.session_id for held in await h.ledger.held()}


@pytest.mark.allows_blocking
async def test_a_lost_sessions_thread_is_waited_for_and_keeps_nobody_waiting() -> None:
    async with Harness(holds_a_thread, waits) as h:
        other = await h.start(waits)
        await other.park()
        host, held = await in_a_steps_thread(h, holds_a_thread)
        steal_at_the_next_commit(h, held.id)
        with pytest.raises(Moved):
            await host.command(held.id, send())
        await until(lambda: not held.execution.has_code)
        await host.adopt(other.id, command=None, crash=None, catalog_hash="test")
        assert not host.is_settled
        go_on.set()
        await until(lambda: host.is_settled)
        assert [lease.session_id for lease in (await host.who()).leases] == [other.id]
        await host.crash()


@pytest.mark.allows_blocking
async def test_an_aborted_steps_thread_is_waited_for_no_longer_than_the_step_may_take() -> None:
    async with Harness(holds_a_thread_for_long) as h:
        host, held = await in_a_steps_thread(h, holds_a_thread_for_long)
        await host.command(held.id, CancelSession(principal=TESTER))
        await until(lambda: host.retiring is not None)
        assert "did not end in time" in str(host.retiring)
        with pytest.raises(Moved, match="takes nothing new"):
            await host.adopt("ses_other", command=None, crash=None, catalog_hash="test")


@pytest.mark.allows_blocking
async def test_what_is_to_run_beside_code_that_did_not_end_runs_elsewhere() -> None:
    async with Harness(holds_a_thread_for_long) as h:
        host, held = await in_a_steps_thread(h, holds_a_thread_for_long)
        await host.command(held.id, cancel(held))
        next_run = StartRun(
            principal=TESTER, run_id=ids.new_id(ids.RUN), payload=None, payload_given=True
        )
        await host.command(held.id, next_run)
        assert held.state.run is not None
        assert held.state.run.status is RunStatus.QUEUED
        await until(lambda: host.retiring is not None)
        report = await host.watch(-1)
        assert report.retiring == host.retiring
        assert [one.state for one in report.slots] == [SlotState.PARKABLE]
        assert isinstance(await host.release(held.id, "drain"), SessionReleased)
        assert not host.slots
        [left] = [
            item
            for item in h.ledger.index.work.since(FROM_START).added
            if item.session_id == held.id
        ]
        assert left.kind == "run"


async def test_without_room_a_command_is_decided_and_the_session_given_up_in_one_commit() -> None:
    async with Harness(waits) as h:
        session = await h.start(waits)
        await session.park()
        flushes: list[Flush] = []

        async def note(flush: Flush) -> None:
            flushes.append(flush)

        h.ledger.before_commit = note
        host = host_of(h)
        adopted = await host.adopt(
            session.id, command=send(), crash=None, catalog_hash="test", executes=False
        )
        assert adopted.released
        assert adopted.reply is not None
        assert adopted.reply["outcome"] == "fulfilled"
        assert [(len(flush.entries) > 0, flush.release) for flush in flushes] == [(True, True)]
        assert not host.slots
        h.ledger.before_commit = None
        await h.settle()
        run = (await session.state()).run
        assert run is not None
        assert run.status is RunStatus.SUCCEEDED


async def test_what_is_refused_without_room_leaves_the_session_unheld() -> None:
    async with Harness(waits) as h:
        session = await h.start(waits)
        await session.park()
        host = host_of(h)
        with pytest.raises(StreamNotFound):
            await host.adopt(
                session.id,
                command=replace(send(), stream="none"),
                crash=None,
                catalog_hash="test",
                executes=False,
            )
        assert not host.slots
        assert not [held for held in await h.ledger.held() if held.session_id == session.id]


@pytest.mark.parametrize("crash", [None, Crash(cause="killed", executing=True)])
async def test_an_isolated_task_runs_in_no_host_with_others(crash: Crash | None) -> None:
    went_on.clear()
    async with Harness(lives_alone) as h:
        session = await h.start(lives_alone)
        await session.park()
        host = host_of(h)
        adopted = await host.adopt(session.id, command=send(), crash=crash, catalog_hash="test")
        assert (adopted.released, adopted.wants_own_host) == (True, True)
        assert not host.slots
        await asyncio.sleep(0.2)
        assert went_on == []
