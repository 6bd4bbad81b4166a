"""What an actor tells its directory, and when: a session that is called again and again is not news."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helmr import streams, task
from helmr.testing import TESTER, Harness
from runtime.actors import session as session_module
from runtime.actors.session import SessionActor
from runtime.core.commands import Touch
from tests.engine.test_losing import actor_of, send, until

messages = streams.input("messages", schema=str)


@task
async def listens(payload: Any) -> str:
    async for message in messages.iter():
        if message == "end":
            break
    return "done"


async def waiting(h: Harness) -> tuple[SessionActor, str, int]:
    """An actor whose session waits, and the version of the report that said so."""
    session = await h.start(listens)
    await session.park()
    actor = actor_of(h, [])
    await actor.adopt(session.id, command=Touch(principal=TESTER), death=None, catalog_hash="test")
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
        await actor.vanish()


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
