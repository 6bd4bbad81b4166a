"""A repeated operation gets its first receipt, whatever became of its session meanwhile (S-61)."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from helmr.errors import WaitResolved
from helmr.testing import TESTER, Harness
from helmr.wire import ids
from helmr_runtime.catalog import Registry
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.commands import AddNote, OperationKey, StartRun
from helmr_runtime.core.entries import EntryKind
from tests.contract.contract_tasks import TASKS
from tests.contract.repeating import KINDS, Prepared, Receipt
from tests.longer import long_but
from tests.session.adopting import go_on, holds_a_thread, send, until

AHEAD = timedelta(minutes=10)


def operation_id(at: datetime) -> str:
    """An operation id that was made then."""
    head = int(at.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62
    rest = secrets.randbits(12) << 64 | secrets.randbits(62)
    return ids.from_uuid(ids.OPERATION, uuid.UUID(int=head | rest))


# --- what becomes of the session ----------------------------------------------------------------


async def hot(h: Harness, client: Any, session_id: str) -> None:
    """Nothing."""


async def parked(h: Harness, client: Any, session_id: str) -> None:
    await h.park(session_id)


async def killed(h: Harness, client: Any, session_id: str) -> None:
    await h.kill(session_id)


async def parked_and_woken(h: Harness, client: Any, session_id: str) -> None:
    await h.park(session_id)
    await client.sessions.open(session_id).note("who woke it")


async def killed_and_woken(h: Harness, client: Any, session_id: str) -> None:
    await h.kill(session_id)
    await client.sessions.open(session_id).note("who woke it")


# --- how it is repeated ---------------------------------------------------------------------------


async def once(prepared: Prepared, operation: str) -> list[Receipt]:
    return [await prepared.call(operation)]


async def twice(prepared: Prepared, operation: str) -> list[Receipt]:
    return [await prepared.call(operation), await prepared.call(operation)]


async def at_once(prepared: Prepared, operation: str) -> list[Receipt]:
    return list(await asyncio.gather(*(prepared.call(operation) for _ in range(3))))


@pytest.mark.parametrize(
    "becomes",
    [
        *(pytest.param(one, marks=pytest.mark.long) for one in (hot, parked, killed)),
        pytest.param(parked_and_woken, marks=pytest.mark.long),
        killed_and_woken,
    ],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_repeated_operation_gets_its_first_receipt(
    kind: str, becomes: Callable[[Harness, Any, str], Awaitable[None]]
) -> None:
    async with Harness(*TASKS) as h, h.async_client() as client:
        for repeat in (once, twice, at_once):
            # A caller whose clock is ahead makes ids that look newer than the adoption: then the commit finds out.
            for ahead in (timedelta(), AHEAD):
                prepared = await KINDS[kind](client)
                operation = operation_id(h.clock.now() + ahead)
                first = await prepared.call(operation)
                if prepared.then is not None:
                    await prepared.then()
                await h.advance("1s")
                if prepared.session_id is not None:
                    await becomes(h, client, prepared.session_id)
                count = len(h.entries())
                receipts = await repeat(prepared, operation)
                assert receipts == [first] * len(receipts), (repeat.__name__, ahead)
                again = [e for e in h.entries(after=count) if "operation" in e.body]
                assert again == [], "nothing is done twice"


async def test_a_repetition_leaves_running_code_alone() -> None:
    note = AddNote(
        principal=TESTER,
        note_id="note_1",
        text="seen",
        operation=OperationKey(id=operation_id(FakeClock().now()), request_hash="h"),
    )
    async with Harness(holds_a_thread) as h:
        session = await h.start(holds_a_thread)
        first = await h.command(session.id, note)
        await h.park(session.id)
        await h.advance("1s")
        await h.command(session.id, send())
        await until(lambda: any(e.kind is EntryKind.STEP_STARTED for e in h.entries()))
        epoch = h.ledger.index.heads[session.id].epoch
        assert await h.command(session.id, note) == first
        go_on.set()
        assert await session.result() == "done"
        assert h.ledger.index.heads[session.id].epoch == epoch, "nobody adopted it anew"


async def test_a_task_that_is_gone_meanwhile_does_not_hide_the_first_receipt() -> None:
    async with Harness(holds_a_thread) as h:
        session = await h.start(holds_a_thread)
        sent = replace(send(), operation=OperationKey(id="op_1", request_hash="h"))
        first = await h.command(session.id, sent)
        go_on.set()
        assert await session.result() == "done"
        await h.park(session.id)
        h._registry = Registry((), code_hash="test")
        await h.command(session.id, AddNote(principal=TESTER, note_id="note_1", text="wake"))
        assert await h.command(session.id, sent) == first
        later = await h.command(session.id, replace(send(), record_id=ids.new_id(ids.RECORD)))
        assert later["record_id"] != first["record_id"]


async def test_a_run_begins_that_was_asked_for_twice_at_once() -> None:
    async with Harness(holds_a_thread) as h:
        session = await h.start(holds_a_thread)
        go_on.set()
        await h.command(session.id, send())
        assert await session.result() == "done"
        operation = OperationKey(id=operation_id(h.clock.now()), request_hash="h")
        await h.park(session.id)
        await h.advance("1s")  # so that the ledger, which may know the operation, is asked
        await h.command(session.id, AddNote(principal=TESTER, note_id="note_1", text="wake"))
        runs = [
            StartRun(
                principal=TESTER,
                operation=operation,
                run_id=ids.new_id(ids.RUN),
                payload=None,
                payload_given=False,
            )
            for _ in range(3)
        ]
        receipts = await asyncio.gather(*(h.command(session.id, one) for one in runs))
        assert receipts == [receipts[0]] * 3
        await h.settle()
        run = (await session.state()).run
        assert run is not None
        assert (run.id, run.status) == (receipts[0]["run_id"], "waiting")


async def test_an_operation_is_known_for_a_day() -> None:
    async with Harness(*TASKS) as h, h.async_client() as client:
        prepared = await KINDS["answer"](client)
        assert prepared.session_id is not None
        operation = operation_id(h.clock.now())
        first = await prepared.call(operation)
        await h.advance("23h")
        await parked_and_woken(h, client, prepared.session_id)
        assert await prepared.call(operation) == first
        await h.advance("2h")
        await parked_and_woken(h, client, prepared.session_id)
        with pytest.raises(WaitResolved):
            await prepared.call(operation)


@long_but(12, "kind", KINDS)
async def test_a_repetition_beside_its_original_gets_the_same_receipt(kind: str) -> None:
    async with Harness(*TASKS) as h, h.async_client() as client:
        prepared = await KINDS[kind](client)
        if prepared.session_id is not None:
            await h.park(prepared.session_id)
        operation = operation_id(h.clock.now())
        first, *others = await at_once(prepared, operation)
        assert others == [first] * len(others)
