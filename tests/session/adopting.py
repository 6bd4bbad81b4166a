"""A host over a harness's ledger, and a task whose sync step holds a thread until a test lets it go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from helmr import step, streams, task
from helmr.tasks import Task
from helmr.testing import TESTER, Harness
from helmr.wire import ids
from helmr_runtime.core.commands import CancelRun, Send
from helmr_runtime.ports import Flush
from helmr_runtime.session.host import HostActor
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


def host_of(h: Harness) -> HostActor:
    """A host over the harness's ledger."""
    return HostActor("host-of-the-test", h.ledger, h.clock, lambda: h._registry)


async def until(holds: Callable[[], bool]) -> None:
    """Return when it holds; fail after 5 s."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def in_a_steps_thread(h: Harness, body: Task[..., Any]) -> tuple[HostActor, LiveSession]:
    """A host that holds a session whose sync step is in its thread."""
    session = await h.start(body)
    await session.park()
    host = host_of(h)
    await host.adopt(session.id, command=send(), crash=None, catalog_hash="test")
    held = host.slots[session.id].live
    await until(lambda: held.execution.driver is not None and held.execution.driver.has_threads)
    return host, held


def cancel(held: LiveSession) -> CancelRun:
    """Of its run."""
    assert held.state.run is not None
    return CancelRun(principal=TESTER, run_id=held.state.run.id, next_run_id=ids.new_id(ids.RUN))


def steal_at_the_next_commit(h: Harness, session_id: str) -> None:
    """Another host takes the session over just before the next flush reaches the ledger."""

    async def steal(flush: Flush) -> None:
        if flush.session_id == session_id:
            h.ledger.before_commit = None
            await h.ledger.abandon(session_id, flush.epoch)

    h.ledger.before_commit = steal
