"""Many at once: deadlines in bulk, one transaction for what is queued, one bad flush among good ones."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from datetime import timedelta
from typing import Any

import pytest

from helmr.errors import DataError, NotAllowed, StoreUnavailable, TokenCompleted
from helmr.wire import ids
from helmr_runtime.clock import FakeClock, SystemClock
from helmr_runtime.core.entries import EntryKind, from_iso
from helmr_runtime.core.public_tokens import RevokeCompletionToken
from helmr_runtime.core.tokens import CancelToken, LedgerCommand
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log import group
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables import reads
from helmr_runtime.ports import Committed
from helmr_runtime.security.keys import KeyRing, MasterKey
from tests.ledger.facts import complete_token, create_public_token, create_token
from tests.ledger.own_time import OwnTime
from tests.ledger.sessions import ALICE, SMALL, begin, parked, running, start_of


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_deadlines_at_once_are_on_disk_at_two_thousand_a_second(duck, clock, count):
    await _park_many(duck, clock, count)
    began = OwnTime()
    clock.move_to(clock.now() + timedelta(seconds=60))
    async with asyncio.timeout(40):
        while duck.index.work.counts()["ready"] < count:
            await duck.changed(1)
    assert began.seconds() < count / 2_000
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
            while ledger.index.heads[hand.session_id].wait is not None:
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


async def test_facts_of_many_clients_are_one_transaction(duck, clock, monkeypatch):
    sizes = []
    commit = group.GroupCommit._commit

    async def counted(self, writes):
        sizes.append(len(writes))
        await commit(self, writes)

    monkeypatch.setattr(group.GroupCommit, "_commit", counted)
    made = await asyncio.gather(*(duck.fact(create_token()) for _ in range(40)))
    tokens = [one["token_id"] for one in made]
    assert len(set(tokens)) == 40
    hands = [await running(duck, clock) for _ in range(5)]
    sizes.clear()
    ends: list[LedgerCommand] = [
        complete_token(token_id, n) for n, token_id in enumerate(tokens[:30])
    ]
    ends += [CancelToken(principal=ALICE, token_id=token_id) for token_id in tokens[30:]]
    replies = await asyncio.gather(
        *(duck.fact(end) for end in ends), *(hand.stored(hand.step()) for hand in hands)
    )
    assert [reply["token_id"] for reply in replies[:40]] == tokens
    assert sum(sizes) == 45
    assert len(sizes) <= 3
    for n, token_id in enumerate(tokens):
        end = await duck.token_end(token_id)
        assert (end["status"], end.get("data")) == (
            ("completed", n) if n < 30 else ("cancelled", None)
        )
    found = await duck.read(reads.verify_chain, ids.SYSTEM_STREAM, 0, None)
    assert found == 80


async def test_facts_about_one_thing_are_decided_in_the_order_in_which_they_came(duck, clock):
    token_id = (await duck.fact(create_token()))["token_id"]
    public = await duck.fact(create_public_token(token_id, clock.now()))
    replies: Any = await asyncio.gather(
        duck.fact(complete_token(token_id, "first")),
        duck.fact(complete_token(token_id, "second")),
        duck.fact(
            RevokeCompletionToken(principal=ALICE, public_token_id=public["public_token_id"])
        ),
        duck.fact(complete_token(token_id, "first", public["public_token_id"])),
        duck.fact(create_token()),
        return_exceptions=True,
    )
    first, second, revoked, too_late, other = replies
    assert first["outcome"] == "completed"
    assert isinstance(second, TokenCompleted)
    assert second.facts["completed_at"] == first["completed_at"]
    assert revoked["status"] == "revoked"
    assert isinstance(too_late, NotAllowed)
    assert other["token_id"] != token_id


async def test_facts_that_are_left_for_the_next_transaction_keep_their_order(duck, clock):
    token_id = (await duck.fact(create_token()))["token_id"]
    replies: Any = await asyncio.gather(
        duck.fact(create_public_token(token_id, clock.now())),
        *(duck.fact(complete_token(token_id, n)) for n in range(5)),
        return_exceptions=True,
    )
    _, first, *others = replies
    assert first["outcome"] == "completed"
    assert [type(one) for one in others] == [TokenCompleted] * 4


async def test_a_stream_of_facts_does_not_keep_tokens_from_expiring(duck, clock):
    short = [(await duck.fact(create_token(timeout_s=60)))["token_id"] for _ in range(3)]
    clock.move_to(clock.now() + timedelta(seconds=60))
    for _ in range(5):
        await asyncio.gather(*(duck.fact(create_token()) for _ in range(20)))
    assert [(await duck.token_end(one) or {}).get("status") for one in short] == ["expired"] * 3


async def test_a_session_whose_master_key_is_gone_does_not_keep_others_from_timing_out(path, clock):
    old, new = (MasterKey(name, name.encode() * 16) for name in ("k1", "k2"))
    ledger = await open_ledger(path, clock=clock, settings=SMALL, ring=KeyRing((old,)))
    lost, _ = await parked(ledger, clock, timeout_s=60)
    await ledger.close()
    ledger = await open_ledger(path, clock=clock, settings=SMALL, ring=KeyRing((old, new)))
    found, _ = await parked(ledger, clock, timeout_s=60)
    await ledger.close()
    ledger = await open_ledger(path, clock=clock, settings=SMALL, ring=KeyRing((new,)))
    clock.move_to(clock.now() + timedelta(seconds=60))
    async with asyncio.timeout(10):
        while ledger.index.heads[found.session_id].wait is not None:
            await ledger.changed(1)
    assert not ledger.is_broken
    assert ledger.index.heads[lost.session_id].wait is not None
    await ledger.close()
    # The key is back, and the wait is overdue.
    ledger = await open_ledger(path, clock=clock, settings=SMALL, ring=KeyRing((old, new)))
    async with asyncio.timeout(10):
        while ledger.index.heads[lost.session_id].wait is not None:
            await ledger.changed(1)
    await ledger.close()


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
    assert duck.index.head_offset == 2 * 3


async def test_after_close_every_call_is_refused(duck, clock):
    hand = await running(duck, clock)
    await duck.close()
    with pytest.raises(StoreUnavailable):
        await hand.commit(hand.step())


async def test_ended_sessions_leave_memory_and_come_back_when_asked(duck, clock, monkeypatch):
    from helmr_runtime.ledger.index import ledger_index

    monkeypatch.setattr(ledger_index, "ENDED_HEADS_MAX", 3)
    hands = [await running(duck, clock) for _ in range(8)]
    for hand in hands:
        await hand.stored(hand.succeeded(), hand.closed(), release=True)
    await duck._group.project()
    assert sum(hand.session_id in duck.index.heads for hand in hands) == 3
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

    from helmr_runtime.ledger.memory import MemoryLedger

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


@pytest.mark.perf
async def test_facts_of_many_clients_beat_one_by_one(duck, capsys):
    async def rate(concurrent: int, rounds: int) -> tuple[float, float]:
        made, began = [], time.perf_counter()
        for _ in range(rounds):
            made += await asyncio.gather(*(duck.fact(create_token()) for _ in range(concurrent)))
        created_s, began = time.perf_counter() - began, time.perf_counter()
        for first in range(0, len(made), concurrent):
            some = made[first : first + concurrent]
            await asyncio.gather(*(duck.fact(complete_token(one["token_id"])) for one in some))
        return len(made) / created_s, len(made) / (time.perf_counter() - began)

    one, many = await rate(1, 200), await rate(128, 20)
    with capsys.disabled():
        for what, single, together in zip(("created", "completed"), one, many, strict=True):
            sys.stdout.write(
                f"\ntokens {what}: one caller {single:.0f}/s, 128 callers {together:.0f}/s: "
                f"{together / single:.1f} times"
            )
    assert min(together / single for single, together in zip(one, many, strict=True)) > 3
