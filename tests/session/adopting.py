"""An actor over a harness's ledger, and a task whose sync step holds a thread until a test lets it go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from helmr import ids, step, streams, task
from helmr.tasks import Task
from helmr.testing import TESTER, Harness
from helmr_runtime.core.commands import CancelRun, Send
from helmr_runtime.session.actor import SessionActor
from helmr_runtime.session.live_session import LiveSession

messages = streams.input("messages", schema=str)
go_on = threading.Event()
"""Set, threads go on; each test here begins with it cleared."""


@step
def in_a_thread() -> str:
    """A sync step, which nothing interrupts."""
    go_on.wait(20)
    return "done"


@task
async def holds_a_thread(payload: Any) -> str:
    """Has its step in a thread after the first message."""
    await messages.wait()
    return await in_a_thread()


def send() -> Send:
    """A message."""
    return Send(
        principal=TESTER,
        record_id=ids.new_id(ids.RECORD),
        stream="messages",
        data="hello",
        next_run_id=ids.new_id(ids.RUN),
    )


def actor_of(h: Harness, ended: list[str]) -> SessionActor:
    """A slot; `ended` gets why it ended."""
    return SessionActor(
        "slot-of-the-test", "slot", h.ledger, h.clock, lambda: h._registry, on_retire=ended.append
    )


async def until(holds: Callable[[], bool]) -> None:
    """Return when it holds; fail after 5 s."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def in_a_steps_thread(
    h: Harness, body: Task[..., Any], ended: list[str]
) -> tuple[SessionActor, LiveSession]:
    """An actor that holds a session whose sync step is in its thread."""
    session = await h.start(body)
    await session.park()
    actor = actor_of(h, ended)
    await actor.adopt(session.id, command=send(), death=None, catalog_hash="test")
    held = actor._held
    assert held is not None
    await until(lambda: held.execution.driver is not None and held.execution.driver.has_threads)
    return actor, held


def cancel(held: LiveSession) -> CancelRun:
    """Of its run."""
    assert held.state.run is not None
    return CancelRun(principal=TESTER, run_id=held.state.run.id, next_run_id=ids.new_id(ids.RUN))
