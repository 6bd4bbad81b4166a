"""An adoption that ends against its actor's will: the actor is soon free for another session, or ends (S-34, S-62)."""

from __future__ import annotations

from typing import Any

import pytest

from helmr import ids, step, task
from helmr.errors import Moved
from helmr.models import RunStatus
from helmr.testing import TESTER, Harness
from helmr_runtime.core.commands import CancelSession, Resume, StartRun
from helmr_runtime.ports import Death, Flush
from tests.session.adopting import (
    actor_of,
    cancel,
    go_on,
    holds_a_thread,
    in_a_steps_thread,
    messages,
    send,
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


def steal_at_the_next_commit(h: Harness, session_id: str) -> None:
    """Another actor takes the session over just before the next flush reaches the ledger."""

    async def steal(flush: Flush) -> None:
        if flush.session_id == session_id:
            h.ledger.before_commit = None
            await h.ledger.abandon(session_id, flush.epoch)

    h.ledger.before_commit = steal


async def test_a_session_lost_before_its_code_started_leaves_the_actor_free() -> None:
    async with Harness(waits) as h:
        session = await h.start(waits)
        await session.park()
        actor = actor_of(h, [])
        steal_at_the_next_commit(h, session.id)
        death = Death(cause="killed", executing=True)
        with pytest.raises(Moved):
            await actor.adopt(session.id, command=send(), death=death, catalog_hash="test")
        await until(lambda: actor._state == "free")
        other = await h.start(waits)
        await other.park()
        await actor.adopt(
            other.id, command=Resume(principal=TESTER), death=None, catalog_hash="test"
        )
        await actor.crash()


@pytest.mark.allows_blocking
async def test_a_lost_sessions_thread_is_waited_for_before_another_session_comes() -> None:
    async with Harness(holds_a_thread) as h:
        actor, held = await in_a_steps_thread(h, holds_a_thread, [])
        steal_at_the_next_commit(h, held.id)
        with pytest.raises(Moved):
            await actor.command(held.id, send())
        await until(lambda: not held.execution.has_code)
        with pytest.raises(Moved):
            await actor.adopt(held.id, command=None, death=None, catalog_hash="test")
        go_on.set()
        await until(lambda: actor._state == "free")


async def test_an_actor_that_must_end_and_loses_its_session_ends() -> None:
    async with Harness(waits) as h:
        session = await h.start(waits)
        await session.park()
        ended: list[str] = []
        actor = actor_of(h, ended)
        await actor.adopt(session.id, command=None, death=None, catalog_hash="test")
        steal_at_the_next_commit(h, session.id)
        actor.end("its code did not end")
        await until(lambda: ended == ["its code did not end"])


@pytest.mark.allows_blocking
async def test_a_severed_steps_thread_is_waited_for_no_longer_than_the_step_may_take() -> None:
    async with Harness(holds_a_thread_for_long) as h:
        ended: list[str] = []
        actor, held = await in_a_steps_thread(h, holds_a_thread_for_long, ended)
        await actor.command(held.id, CancelSession(principal=TESTER))
        await until(lambda: bool(ended))
        assert "did not end in time" in ended[0]


@pytest.mark.allows_blocking
async def test_what_is_to_run_beside_code_that_did_not_end_runs_elsewhere() -> None:
    async with Harness(holds_a_thread_for_long) as h:
        ended: list[str] = []
        actor, held = await in_a_steps_thread(h, holds_a_thread_for_long, ended)
        await actor.command(held.id, cancel(held))
        next_run = StartRun(
            principal=TESTER, run_id=ids.new_id(ids.RUN), payload=None, payload_given=True
        )
        await actor.command(held.id, next_run)
        assert held.state.run is not None
        assert held.state.run.status is RunStatus.QUEUED
        await until(lambda: bool(ended))
        assert actor._held is None
        [left] = [item for item in h.ledger.index.work.items() if item.session_id == held.id]
        assert left.kind == "run"
