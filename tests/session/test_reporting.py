"""What an actor tells its directory, and when: a session that is called again and again is not news."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from helmr import task
from helmr.testing import TESTER, Harness
from helmr_runtime.core.commands import Resume
from helmr_runtime.ports import Busy, KnownKey
from helmr_runtime.session import actor as session_module
from helmr_runtime.session.actor import SessionActor
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


@task
async def listens(payload: Any) -> str:
    async for message in messages.iter():
        if message == "end":
            break
    return "done"


@task
async def looks_back(payload: Any) -> str:
    await messages.wait()
    await messages.history()
    return await messages.wait().unwrap()


async def waiting(h: Harness) -> tuple[SessionActor, str, int]:
    """An actor whose session waits, and the version of the report that said so."""
    session = await h.start(listens)
    await session.park()
    actor = actor_of(h, [])
    await actor.adopt(session.id, command=Resume(principal=TESTER), death=None, catalog_hash="test")
    await until(lambda: actor.is_settled and actor._state == "parkable")
    report = await actor.watch(-1)
    assert (report.state, report.session_id) == ("parkable", session.id)
    return actor, session.id, report.version


async def test_a_call_to_a_waiting_session_is_told_after_a_moment() -> None:
    async with Harness(listens) as h:
        actor, session_id, known = await waiting(h)
        await actor.command(session_id, send())
        async with asyncio.timeout(5):
            report = await actor.watch(known)
        assert (report.state, report.version > known) == ("parkable", True)
        await actor.crash()


async def test_while_a_waiting_session_is_called_its_loss_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_module, "REPORT_AFTER_S", 60.0)
    async with Harness(listens) as h:
        actor, session_id, known = await waiting(h)
        watch = asyncio.ensure_future(actor.watch(known))
        for _ in range(5):
            await actor.command(session_id, send())
            await until(lambda: actor.is_settled and actor._state == "parkable")
        await asyncio.sleep(0.05)
        assert not watch.done()
        await actor.release(session_id, "linger")
        async with asyncio.timeout(5):
            report = await watch
        assert (report.state, report.session_id) == ("free", None)


async def test_who_was_refused_a_session_hears_when_it_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if the call that kept it decided nothing."""
    async with Harness(listens) as h:
        session = await h.start(listens)
        once = replace(send(), idempotency_key="once")
        await session.park()
        actor = actor_of(h, [])
        await actor.adopt(session.id, command=once, death=None, catalog_hash="test")
        await until(lambda: actor.is_settled and actor._state == "parkable")
        await actor.release(session.id, "linger")
        await actor.adopt(
            session.id, command=Resume(principal=TESTER), death=None, catalog_hash="test"
        )
        await until(lambda: actor.is_settled and actor._state == "parkable")
        told = await actor.watch(-1)
        known_key, asked, may_answer = h.ledger.known_key, asyncio.Event(), asyncio.Event()

        async def slowly(session_id: str, stream: str, key_hash: str) -> KnownKey | None:
            asked.set()
            await may_answer.wait()
            return await known_key(session_id, stream, key_hash)

        monkeypatch.setattr(h.ledger, "known_key", slowly)
        repeated = asyncio.ensure_future(actor.command(session.id, once))
        await asked.wait()
        assert isinstance(await actor.release(session.id, "evict"), Busy)
        may_answer.set()
        assert (await repeated)["duplicate"]
        async with asyncio.timeout(5):
            report = await actor.watch(told.version)
        assert (report.state, report.session_id) == ("parkable", session.id)
        await actor.crash()


@pytest.mark.allows_blocking
async def test_the_end_of_a_cancelled_runs_last_thread_is_told() -> None:
    async with Harness(holds_a_thread) as h:
        actor, held = await in_a_steps_thread(h, holds_a_thread, [])
        await actor.command(held.id, cancel(held))
        await until(lambda: not held.execution.has_code)
        assert (await actor.watch(-1)).state == "busy"
        go_on.set()
        await until(lambda: not held.execution.is_busy)
        await until(lambda: actor._state == "parkable")
        await actor.crash()


async def test_a_run_cancelled_while_it_starts_leaves_its_session_parkable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Harness(looks_back) as h:
        session = await h.start(looks_back)
        await session.send("messages", "hello")
        await session.park()
        records, asked, may_answer = h.ledger.records, asyncio.Event(), asyncio.Event()

        async def slowly(session_id: str, stream: str, through_seq: int) -> Sequence[Any]:
            asked.set()
            await may_answer.wait()
            return await records(session_id, stream, through_seq)

        monkeypatch.setattr(h.ledger, "records", slowly)
        actor = actor_of(h, [])
        await actor.adopt(session.id, command=send(), death=None, catalog_hash="test")
        await asked.wait()
        held = actor._held
        assert held is not None
        await actor.command(held.id, cancel(held))
        may_answer.set()
        await until(lambda: actor.is_settled)
        await until(lambda: actor._state == "parkable")
        await actor.crash()
