"""When tables are written: late for few entries, soon for many, at once for who asks."""

from __future__ import annotations

import asyncio
import threading

import pytest

from helmr.errors import DataError, StoreUnavailable
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.entries import Draft, EntryKind
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log import projector
from helmr_runtime.ledger.tables.table_writer import Tables
from tests.ledger.sessions import ALICE, Hand, running

FEW, MANY = 20, 60


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few entries are written after a minute, which no test here takes."""
    monkeypatch.setattr(projector, "PROJECT_AFTER_S", 60.0)
    monkeypatch.setattr(projector, "PROJECT_LOOK_S", 0.02)
    monkeypatch.setattr(projector, "PROJECT_MANY", MANY)


def lack(duck: DuckLedger) -> int:
    """Entries that the tables don't show."""
    own = duck._group.projector
    return own.projection.through - own.projected_offset


async def add(hand: Hand, count: int) -> None:
    notes = (
        Draft(EntryKind.NOTE_ADDED, {"note_id": f"note_{n}"}, principal=ALICE) for n in range(count)
    )
    await hand.stored(*notes)


async def until_written(duck: DuckLedger) -> None:
    async with asyncio.timeout(10):
        while lack(duck):
            await asyncio.sleep(0.01)


async def test_few_entries_wait(duck: DuckLedger, clock: FakeClock) -> None:
    await add(await running(duck, clock), FEW)
    lacking = lack(duck)
    await asyncio.sleep(0.3)
    assert lack(duck) == lacking >= FEW


async def test_many_entries_are_written_soon_however_late_they_come(
    duck: DuckLedger, clock: FakeClock
) -> None:
    hand = await running(duck, clock)
    await add(hand, FEW)
    await asyncio.sleep(0.2)  # several looks later
    await add(hand, MANY)
    await until_written(duck)
    await add(hand, MANY)
    await until_written(duck)


async def test_few_entries_are_written_when_their_time_is_over(
    duck: DuckLedger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "PROJECT_AFTER_S", 0.1)
    await add(await running(duck, clock), FEW)
    assert lack(duck) >= FEW
    await until_written(duck)


async def test_who_asks_does_not_wait_for_others(duck: DuckLedger, clock: FakeClock) -> None:
    hand = await running(duck, clock)
    await add(hand, FEW)
    counted = await duck.read_tables(
        lambda connection: connection.execute("SELECT next_seq - 1 FROM sessions").fetchall()
    )
    assert counted == [(hand.seq,)]
    assert not lack(duck)


async def test_who_waits_for_tables_while_the_ledger_closes_is_told(
    duck: DuckLedger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(await running(duck, clock), FEW)
    own, writes, may_write = duck._group.projector, threading.Event(), threading.Event()
    write_tables = own._write_tables

    def slowly(tables: Tables) -> None:
        writes.set()
        may_write.wait(10)
        write_tables(tables)

    monkeypatch.setattr(own, "_write_tables", slowly)
    reading = asyncio.ensure_future(duck.read_tables(lambda _: None))
    await asyncio.to_thread(writes.wait, 10)
    duck._group.failing_since = clock.now()  # it does not try to write them at the end
    closing = asyncio.ensure_future(duck.close())
    await asyncio.sleep(0.05)
    may_write.set()
    async with asyncio.timeout(5):
        await closing
        with pytest.raises(StoreUnavailable):
            await reading


async def test_who_waits_for_tables_that_can_not_be_made_is_told(
    duck: DuckLedger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(await running(duck, clock), FEW)

    def failing(*_: object) -> Tables:
        raise KeyError("what nobody expected")

    monkeypatch.setattr(duck._group.projector, "_tables", failing)
    async with asyncio.timeout(5):
        with pytest.raises(DataError):
            await duck.read_tables(lambda _: None)
    assert duck.is_broken
