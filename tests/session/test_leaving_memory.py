"""A session that its host has given up leaves memory at once, and so does its code.

One that waits for the collector costs more than its memory: each full collection walks through it and all that lives.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from helmr import TaskContext, step, task
from helmr.tasks import Task
from helmr.testing import Harness
from helmr_runtime.core.commands import SessionCommand
from helmr_runtime.ports import CommitReply, Flush, Refused, SessionReleased
from helmr_runtime.ports.ledger import Ledger
from helmr_runtime.session.committer import Committer, FlushQueue
from helmr_runtime.session.host import HostActor
from helmr_runtime.session.live_session import LiveSession
from helmr_runtime.session.warm_cache import WarmCache
from tests.longer import long_but
from tests.session.adopting import cancel, messages, send, until

pytestmark = pytest.mark.allows_blocking


@step
async def awaits() -> str:
    await asyncio.sleep(0)
    return "done"


@step
def in_a_thread() -> str:
    return "done"


@step(retries=0)
async def fails() -> None:
    raise ValueError("on purpose")


@task
async def waits(payload: Any) -> None:
    while await messages.wait():
        pass


@task
async def ends(payload: Any) -> list[str]:
    await messages.wait()
    return list(await asyncio.gather(awaits(), in_a_thread()))


@task
async def raises(payload: Any) -> None:
    await messages.wait()
    await fails()


@task
async def goes_on(payload: Any, ctx: TaskContext) -> None:
    await messages.wait()
    await ctx.continue_as("again")


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def parts_of(
    live: LiveSession, then: Callable[[LiveSession], SessionCommand] | None
) -> list[weakref.ref[Any]]:
    """The session, its code and what drives that, once all that it has to do is done."""
    await until(lambda: live.execution.driver is not None or live.is_parkable)
    parts = [live, live.execution, live.execution.driver]
    if then is not None:
        await live.command(then(live))
    await until(lambda: live.is_parkable)
    return [weakref.ref(part) for part in parts if part is not None]


@pytest.mark.usefixtures("no_collector")
@long_but(
    2,
    ("body", "then"),
    [(waits, None), (waits, cancel), (ends, None), (raises, None), (goes_on, None)],
    ids=["it waits", "it is cancelled", "it ends", "it fails", "its next run waits"],
)
async def test_a_session_that_is_given_up_leaves_memory_without_the_collector(
    body: Task[..., Any], then: Callable[[LiveSession], SessionCommand] | None
) -> None:
    async with Harness(body) as h:
        session = await h.start(body)
        await session.park()
        host = HostActor("host", h.ledger, h.clock, lambda: h._registry, kept=WarmCache(0))
        await host.adopt(session.id, command=send(), crash=None, catalog_hash="test")
        parts = await parts_of(host.slots[session.id].live, then)
        assert isinstance(await host.release(session.id, "drain"), SessionReleased)
        await until(lambda: all(part() is None for part in parts))


async def test_a_flush_whose_answer_comes_late_finds_who_asked() -> None:
    """The flush of a fact was answered meanwhile, so that nothing seemed under way when the session was given up."""
    answer: asyncio.Future[CommitReply] = asyncio.get_running_loop().create_future()
    heard: list[CommitReply] = []

    async def commit(_: Flush) -> CommitReply:
        return await answer

    flush = Flush(session_id="ses_1", epoch=1, first_seq=1, previous_hash=b"", entries=())
    ledger = cast(Ledger, SimpleNamespace(commit=commit))
    queue = SimpleNamespace(can_send=True, is_sending=False, next=lambda: flush)
    committer = Committer(ledger, cast(FlushQueue, queue), lambda _, reply: heard.append(reply))
    committer.flush_now()
    await asyncio.sleep(0)
    committer.free()
    answer.set_result(Refused(epoch=2, seq=1))
    await until(lambda: bool(heard))
    assert isinstance(heard[0], Refused)
