"""Many at once: deadlines in bulk, one transaction for what is queued, one bad flush among good ones."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from datetime import timedelta

import duckdb
import pytest

from helmr.errors import DataError, StoreUnavailable
from runtime.clock import FakeClock, SystemClock
from runtime.core.entries import EntryKind, from_iso
from runtime.ports import Committed
from runtime.store.duck import appends as appends_module
from runtime.store.duck import group
from runtime.store.duck.ledger import DuckLedger, open_ledger
from tests.store.sessions import SMALL, begin, parked, running, start_of


@pytest.mark.slow
async def test_ten_thousand_deadlines_at_once_are_on_disk_within_five_seconds(duck, clock):
    count = 10_000
    await _park_many(duck, clock, count)
    began = time.perf_counter()
    clock.move_to(clock.now() + timedelta(seconds=60))
    async with asyncio.timeout(20):
        while len(duck.book._ready) < count:
            await duck.changed(1)
    assert time.perf_counter() - began < 5
    outcomes = await duck.read_tables(
        lambda connection: connection.execute(
            "SELECT status, count(*) FROM waits GROUP BY status"
        ).fetchall()
    )
    assert outcomes == [("timed_out", count)]


async def _park_many(duck: DuckLedger, clock: FakeClock, count: int) -> None:
    async def park() -> None:
        hand = await begin(duck, clock)
        await hand.adopt()
        wait = hand.wait(deadline_at=clock.now() + timedelta(seconds=60))
        await hand.stored(hand.started(), wait, checkpoint=True, release=True)

    for _ in range(0, count, 500):
        await asyncio.gather(*(park() for _ in range(500)))


@pytest.mark.slow
async def test_a_deadline_is_on_disk_within_100_ms_of_due(path):
    clock = SystemClock()
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    lags_s = []
    for _ in range(5):
        hand, wait = await parked(ledger, clock, timeout_s=0.3)
        async with asyncio.timeout(10):
            while ledger.book.heads[hand.session_id].wait is not None:
                await ledger.changed(1)
        lags_s.append((clock.now() - from_iso(wait.body["deadline_at"])).total_seconds())
        assert (await hand.adopt()).entries[0].kind is EntryKind.WAIT_TIMED_OUT
    assert 0 <= sorted(lags_s)[2] < 0.1
    await ledger.close()


async def test_what_is_queued_is_one_transaction(duck, clock, monkeypatch):
    hands = [await running(duck, clock) for _ in range(40)]
    sizes = []
    commit = group.GroupCommit._commit

    async def counted(self, writes):
        sizes.append(len(writes))
        await commit(self, writes)

    monkeypatch.setattr(group.GroupCommit, "_commit", counted)
    await asyncio.gather(*(hand.stored(hand.step()) for hand in hands))
    assert sum(sizes) == 40
    assert len(sizes) <= 3


async def test_a_flush_that_the_engine_refuses_does_not_harm_its_neighbours(
    duck, clock, monkeypatch
):
    hands = [await running(duck, clock) for _ in range(5)]
    bad = hands[2]

    def refusing(connection, appends):
        appends_module.append(connection, appends)
        if any(entry.session_id == bad.session_id for entry in appends.entries):
            raise duckdb.ConversionException("this value can't be stored")

    monkeypatch.setattr(group, "append", refusing)
    replies = await asyncio.gather(
        *(hand.stored(hand.step()) for hand in hands), return_exceptions=True
    )
    monkeypatch.undo()
    assert [isinstance(reply, StoreUnavailable) for reply in replies] == [
        False,
        False,
        True,
        False,
        False,
    ]
    offsets = [reply.first_feed_offset for reply in replies if isinstance(reply, Committed)]
    assert offsets == [16, 17, 18, 19]
    for hand in hands:
        assert await duck.verify_chain(hand.session_id) == (3 if hand is bad else 4)


async def test_entries_that_cannot_be_folded_are_refused_before_they_are_stored(duck, clock):
    good, bad = await running(duck, clock), await running(duck, clock)
    never_opened = bad.wait()
    replies = await asyncio.gather(
        good.stored(good.step()),
        bad.stored(bad.fulfilled(never_opened)),
        return_exceptions=True,
    )
    assert isinstance(replies[1], DataError)
    assert await duck.verify_chain(bad.session_id) == 3
    await good.stored(good.step_done())


async def test_an_adoption_waits_for_the_commit_on_its_way(duck, clock):
    for _ in range(20):
        hand = await running(duck, clock)
        committing = asyncio.create_task(hand.commit(hand.step()))
        async with asyncio.timeout(5):
            for _ in itertools.count():
                if duck._group.is_claimed(hand.session_id):
                    break
                await asyncio.sleep(0)
        loaded = await duck.load(hand.session_id, "slot-2")
        reply = await committing
        assert isinstance(reply, Committed)
        assert loaded.entries[-1].feed_offset == reply.first_feed_offset
        hand.follow(loaded)
        await hand.stored(hand.step_done())


async def test_a_queued_flush_is_refused_after_an_adoption(duck, clock):
    hand = await running(duck, clock)
    committing = asyncio.create_task(hand.commit(hand.step()))
    await asyncio.sleep(0)
    loaded = await duck.load(hand.session_id, "slot-2")
    reply = await committing
    stored = {entry.seq for entry in loaded.entries}
    assert (4 in stored) == hasattr(reply, "first_feed_offset")


async def test_a_full_queue_is_told_and_nothing_is_kept(duck, monkeypatch):
    monkeypatch.setattr(group, "QUEUE_MAX", 3)
    replies = await asyncio.gather(
        *(duck.start(start_of()) for _ in range(8)), return_exceptions=True
    )
    refused = [reply for reply in replies if isinstance(reply, StoreUnavailable)]
    assert len(refused) == 5
    assert duck.book.head_offset == 2 * 3


async def test_after_close_every_call_is_refused(duck, clock):
    hand = await running(duck, clock)
    await duck.close()
    with pytest.raises(StoreUnavailable):
        await hand.commit(hand.step())


async def test_ended_sessions_leave_memory_and_come_back_when_asked(duck, clock, monkeypatch):
    from runtime.store import book

    monkeypatch.setattr(book, "ENDED_HEADS_MAX", 3)
    hands = [await running(duck, clock) for _ in range(8)]
    for hand in hands:
        await hand.stored(hand.succeeded(), hand.closed(), release=True)
    await duck._group.project()
    assert sum(hand.session_id in duck.book.heads for hand in hands) == 3
    for hand in hands:
        assert await duck.verify_chain(hand.session_id) == 5
        await hand.adopt()
        await hand.stored(hand.draft(EntryKind.NOTE_ADDED, note_id="n", text="hi"), release=True)


@pytest.mark.perf
async def test_group_commit_beats_one_by_one(duck, clock, capsys):
    hands = [await running(duck, clock) for _ in range(128)]

    async def rate(concurrent: int, rounds: int) -> float:
        began = time.perf_counter()
        for _ in range(rounds):
            await asyncio.gather(*(hand.stored(hand.accepted(1)) for hand in hands[:concurrent]))
        return concurrent * rounds / (time.perf_counter() - began)

    one, many = await rate(1, 300), await rate(128, 30)
    with capsys.disabled():
        sys.stdout.write(
            f"\none caller {one:.0f}/s, 128 callers {many:.0f}/s: {many / one:.1f} times"
        )
    assert many > 3 * one


@pytest.mark.perf
async def test_parked_sessions_cost_little_memory(clock, capsys):
    import tracemalloc

    from runtime.store.memory import MemoryLedger

    count = 10_000
    ledger = MemoryLedger(clock)
    tracemalloc.start()
    for _ in range(count):
        await parked(ledger, clock, timeout_s=3600)
    ledger.stored.entries.clear()
    ledger.stored.checkpoints.clear()
    ledger.stored.holdings.clear()
    size = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    with capsys.disabled():
        sys.stdout.write(f"\n{size:.0f} bytes for a parked session")
    assert size < 2_000
