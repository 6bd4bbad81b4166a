"""What a host tells its directory, and when: a session that is called again and again is not news."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from helmr import task
from helmr.errors import Moved
from helmr.testing import TESTER, Harness
from helmr_runtime.core.commands import Resume
from helmr_runtime.core.entries import Watermark
from helmr_runtime.ports import Busy, HostReport, KnownKey, SlotState
from helmr_runtime.session import host as host_module
from helmr_runtime.session.host import HostActor
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


def told(report: HostReport) -> dict[str, SlotState]:
    """By session, what a report says."""
    return {one.session_id: one.state for one in report.slots}


def is_parkable(host: HostActor) -> bool:
    """The host's one session can be parked, and that is to be told."""
    [slot] = host.slots.values()
    return slot.report is not None and slot.report.state is SlotState.PARKABLE


async def waiting(h: Harness) -> tuple[HostActor, str, int]:
    """A host whose session waits, and the version of the report that said so."""
    session = await h.start(listens)
    await session.park()
    host = host_of(h)
    await host.adopt(session.id, command=Resume(principal=TESTER), crash=None, catalog_hash="test")
    await until(lambda: host.is_settled and is_parkable(host))
    report = await host.watch(-1)
    assert told(report) == {session.id: SlotState.PARKABLE}
    return host, session.id, report.version


async def test_a_call_to_a_waiting_session_is_told_after_a_moment() -> None:
    async with Harness(listens) as h:
        host, session_id, known = await waiting(h)
        await host.command(session_id, send())
        async with asyncio.timeout(5):
            report = await host.watch(known)
        assert (told(report), report.version > known) == ({session_id: SlotState.PARKABLE}, True)
        await host.crash()


async def test_what_changes_all_the_time_is_told_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_module, "REPORT_EVERY_S", 60.0)
    async with Harness(listens) as h:
        host, session_id, known = await waiting(h)
        watch = asyncio.ensure_future(host.watch(known))
        for _ in range(5):
            await host.command(session_id, send())
            await until(lambda: host.is_settled and is_parkable(host))
        await asyncio.sleep(0.05)
        assert not watch.done()
        watch.cancel()
        await host.crash()


async def test_a_lost_session_is_told_at_once_and_again_when_nothing_of_it_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host_module, "REPORT_EVERY_S", 60.0)
    async with Harness(listens) as h:
        host, session_id, known = await waiting(h)
        steal_at_the_next_commit(h, session_id)
        with pytest.raises(Moved):
            await host.command(session_id, send())
        states = []
        async with asyncio.timeout(5):
            while SlotState.GONE not in states:
                report = await host.watch(known)
                states += [one.state for one in report.slots]
                known = report.version
        assert states[-1] is SlotState.GONE
        assert not host.slots
        assert (await host.lease(session_id)) is None


async def test_who_was_refused_a_session_hears_when_it_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if the call that kept it decided nothing."""
    async with Harness(listens) as h:
        session = await h.start(listens)
        once = replace(send(), idempotency_key="once")
        await session.park()
        host = host_of(h)
        await host.adopt(session.id, command=once, crash=None, catalog_hash="test")
        await until(lambda: host.is_settled and is_parkable(host))
        await host.release(session.id, "linger")
        await host.adopt(
            session.id, command=Resume(principal=TESTER), crash=None, catalog_hash="test"
        )
        await until(lambda: host.is_settled and is_parkable(host))
        heard = await host.watch(-1)
        known_key, asked, may_answer = h.ledger.known_key, asyncio.Event(), asyncio.Event()

        async def slowly(session_id: str, stream: str, key_hash: str) -> KnownKey | None:
            asked.set()
            await may_answer.wait()
            return await known_key(session_id, stream, key_hash)

        monkeypatch.setattr(h.ledger, "known_key", slowly)
        repeated = asyncio.ensure_future(host.command(session.id, once))
        await asked.wait()
        assert isinstance(await host.release(session.id, "evict"), Busy)
        may_answer.set()
        assert (await repeated)["duplicate"]
        async with asyncio.timeout(5):
            report = await host.watch(heard.version)
        assert told(report) == {session.id: SlotState.PARKABLE}
        await host.crash()


@pytest.mark.allows_blocking
async def test_the_end_of_a_cancelled_runs_last_thread_is_told() -> None:
    async with Harness(holds_a_thread) as h:
        host, held = await in_a_steps_thread(h, holds_a_thread)
        await host.command(held.id, cancel(held))
        await until(lambda: not held.execution.has_code)
        assert told(await host.watch(-1)) == {held.id: SlotState.BUSY}
        go_on.set()
        await until(lambda: not held.execution.is_busy)
        await until(lambda: is_parkable(host))
        await host.crash()


async def test_a_run_cancelled_while_it_starts_leaves_its_session_parkable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Harness(looks_back) as h:
        session = await h.start(looks_back)
        await session.send("messages", "hello")
        await session.park()
        records, asked, may_answer = h.ledger.records, asyncio.Event(), asyncio.Event()

        async def slowly(session_id: str, watermark: Watermark) -> Sequence[Any]:
            asked.set()
            await may_answer.wait()
            return await records(session_id, watermark)

        monkeypatch.setattr(h.ledger, "records", slowly)
        host = host_of(h)
        await host.adopt(session.id, command=send(), crash=None, catalog_hash="test")
        await asked.wait()
        held = host.slots[session.id].live
        await host.command(held.id, cancel(held))
        may_answer.set()
        await until(lambda: host.is_settled)
        await until(lambda: is_parkable(host))
        await host.crash()
