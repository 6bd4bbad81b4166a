"""A ledger whose log stands in a store that other machines reach: its file is a cache that can be made anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from helmr.errors import (
    LedgerBehind,
    LedgerSuperseded,
    OutcomeUnknown,
    SessionNotFound,
    StoreUnavailable,
    Unavailable,
    UsageError,
)
from helmr_runtime.clock import FakeClock
from helmr_runtime.core import shared_log
from helmr_runtime.core.commands import OperationKey, Prune
from helmr_runtime.core.entries import EntryKind
from helmr_runtime.core.shared_log import LogRecord, epoch_floor, record_bytes
from helmr_runtime.ledger.actor import LedgerActor, LedgerPlace
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log import group, object_log
from helmr_runtime.ledger.log.commit_log import text_of
from helmr_runtime.ledger.log.object_log import ObjectLog, record_key
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.snapshots import SNAPSHOTS, marker_of
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables.appends import Appends
from helmr_runtime.ledger.tools.stored_log import move_to_disk, move_to_store
from tests.ledger.sessions import ALICE, SMALL, Hand, begin, running, start_of
from tests.ledger.shared_objects import FakeObjects
from tests.longer import long_but

pytestmark = pytest.mark.allows_blocking

Opener = Callable[..., Awaitable[DuckLedger]]


@pytest.fixture
def objects() -> FakeObjects:
    """The store."""
    return FakeObjects()


@pytest.fixture
async def machine(tmp_path: Path, clock: FakeClock, objects: FakeObjects) -> AsyncIterator[Opener]:
    """Opens the ledger on a machine, by its name; all are closed at the end."""
    opened: list[DuckLedger] = []

    async def open_on(name: str, store: FakeObjects | None = objects) -> DuckLedger:
        log = ObjectLog(store) if store is not None else None
        ledger = await open_ledger(
            tmp_path / name / "ledger.duckdb", clock=clock, settings=SMALL, log=log
        )
        opened.append(ledger)
        return ledger

    yield open_on
    for ledger in opened:
        await ledger.close()


def is_released(objects: FakeObjects) -> bool:
    """The one at work has said goodbye."""
    found = ObjectLog(objects).lease()
    return found is not None and found[0].released


async def whole(ledger: DuckLedger, hand: Hand) -> None:
    """The session is there as its hand has written it."""
    assert await ledger.verify_chain(hand.session_id) == hand.seq
    assert (await ledger.snapshot(hand.session_id)).entries[-1].hash == hand.last_hash


# --- an empty machine, and an old cache -------------------------------------------------------------


async def test_an_empty_machine_starts_from_the_log_alone(machine, clock, tmp_path):
    ledger = await machine("a")
    hand = await running(ledger, clock)
    await hand.stored(hand.step())
    other = await machine("b")
    await whole(other, hand)
    assert [e.kind for e in await other.entries_after(0, 100)].count(EntryKind.LEDGER_OPENED) == 2


async def test_an_empty_machine_starts_from_a_snapshot_and_the_log_behind_it(
    machine, clock, objects
):
    ledger = await machine("a")
    first = await running(ledger, clock)
    await ledger.snapshots.make()
    second = await running(ledger, clock)
    await ledger.snapshots.make()
    third = await running(ledger, clock)
    root = ObjectLog(objects).require_root()
    assert root.floor == root.snapshots[0].number > 0
    # The record that opened the log stays.
    assert record_key(1) in objects.stored
    assert record_key(2) not in objects.stored
    other = await machine("b")
    for hand in (first, second, third):
        await whole(other, hand)


async def test_what_a_machine_has_read_before_it_ended_is_not_taken_twice(
    machine, clock, objects, monkeypatch
):
    """It ends, as by a kill, before it has opened the log: nothing is written there."""
    ledger = await machine("a")
    hand = await running(ledger, clock)
    await hand.stored(hand.step())

    async def killed(self: DuckLedger, writer: str) -> None:
        raise StoreUnavailable("killed")

    for _ in range(2):
        monkeypatch.setattr(DuckLedger, "take_log", killed)
        with pytest.raises(StoreUnavailable):
            await machine("b")
    monkeypatch.undo()
    await whole(await machine("b"), hand)


async def test_the_newest_two_snapshots_stay(machine, clock, objects):
    ledger = await machine("a")
    for _ in range(4):
        await begin(ledger, clock)
        await ledger.snapshots.make()
    root = ObjectLog(objects).require_root()
    names = {key.split("/")[1] for key in objects.stored if key.startswith(SNAPSHOTS)}
    assert names == {one.name for one in root.snapshots}
    assert len(names) == 2


@long_but(1, "trims", [False, True], ids=["beside the log", "behind the floor"])
@pytest.mark.parametrize("damage", ["old", "gone", "damaged", "no database"])
async def test_a_cache_that_lacks_something_is_made_anew(damage, trims, machine, clock, tmp_path):
    path = tmp_path / "a" / "ledger.duckdb"
    ledger = await machine("a")
    hand = await running(ledger, clock)
    await ledger.close()
    old = path.read_bytes()
    ledger = await machine("a")
    await hand.adopt()
    hand.ledger = ledger
    await hand.adopt()
    await hand.stored(hand.step())
    if trims:
        await ledger.snapshots.make()
        await begin(ledger, clock)
        await ledger.snapshots.make()
    await hand.stored(hand.step_done())
    await ledger.close()
    if damage == "old":
        path.write_bytes(old)
    elif damage == "gone":
        path.unlink()
    elif damage == "damaged":
        path.write_bytes(path.read_bytes()[:4096] + bytes(8192))
    else:
        path.write_bytes(b"something else")
    again = await machine("a")
    await whole(again, hand)


async def test_a_snapshot_that_was_not_finished_is_nothing(machine, clock, objects):
    ledger = await machine("a")
    hand = await running(ledger, clock)
    objects.create(f"{SNAPSHOTS}0000000000000001-dead-0/000000", b"x")
    await ledger.snapshots.make()
    assert not [key for key in objects.stored if "dead" in key]
    await whole(await machine("b"), hand)


async def test_snapshots_are_made_by_themselves_when_one_is_due(
    machine, clock, objects, monkeypatch
):
    monkeypatch.setattr(shared_log, "SNAPSHOT_RECORDS", 5)
    monkeypatch.setattr("helmr_runtime.ledger.snapshot_maker.LOOK_EVERY_S", 0.01)
    ledger = await machine("a")
    async with asyncio.timeout(30):
        while not ObjectLog(objects).require_root().snapshots:
            await begin(ledger, clock)
            await asyncio.sleep(0)


# --- who may write ----------------------------------------------------------------------------------


async def test_the_one_that_opened_last_is_the_only_one_that_acknowledges(machine, clock):
    first = await machine("a")
    hand = await running(first, clock)
    second = await machine("b")
    with pytest.raises(LedgerSuperseded, match="another runtime has opened the log"):
        await hand.stored(hand.step())
    with pytest.raises(LedgerSuperseded):
        await begin(first, clock)
    with pytest.raises(LedgerSuperseded):
        await first.load(hand.session_id, "slot-2")
    assert (await first.stats())["failure"].startswith("another runtime")
    assert await second.verify_chain(hand.session_id) == hand.seq - 1


async def test_epochs_of_one_opening_are_above_those_of_all_before(machine, clock):
    first = await machine("a")
    hand = await running(first, clock)
    assert epoch_floor(first.openings) <= hand.epoch < epoch_floor(first.openings + 1)
    second = await machine("b")
    hand.ledger = second
    hand.seq, hand.last_hash = 2, hand.entries[0].hash
    loaded = await hand.adopt()
    assert loaded.epoch >= epoch_floor(first.openings + 1)


async def test_a_superseded_ledger_is_not_opened_again_by_the_next_call(
    tmp_path, clock, objects, machine
):
    place = LedgerPlace(tmp_path / "a" / "ledger.duckdb", lambda: ObjectLog(objects))
    actor = LedgerActor(place, clock=clock, settings=SMALL)
    await actor.start(start_of())
    other = await machine("b")
    for _ in range(3):
        with pytest.raises(LedgerSuperseded):
            await actor.start(start_of())
    await other.start(start_of())
    await actor.close()


async def test_a_record_that_comes_late_does_not_keep_a_machine_from_starting(
    tmp_path, clock, objects, machine
):
    """One of a writer that is gone is stored between what a start has read and its own record."""
    ledger = await machine("a")
    hand = await running(ledger, clock)
    await ledger.close()
    late: list[int] = []

    class Late(ObjectLog):
        def append(self, number: int, record: bytes, *, opens: bool = False) -> None:
            if opens and len(late) < 2:
                late.append(number)
                made = LogRecord(number, "gone", "n", False, text_of(Appends()))
                objects.create(record_key(number), record_bytes(made))
            super().append(number, record, opens=opens)

    place = LedgerPlace(tmp_path / "b" / "ledger.duckdb", lambda: Late(objects))
    actor = LedgerActor(place, clock=clock, settings=SMALL)
    await actor.start(start_of())
    assert late[1] == late[0] + 1
    assert await actor.verify_chain(hand.session_id) == hand.seq
    await actor.close()


# --- the store is away ------------------------------------------------------------------------------


async def test_while_the_store_is_away_nothing_is_acknowledged_and_then_all_goes_on(
    machine, clock, objects, monkeypatch
):
    monkeypatch.setattr(group, "AWAY_S", 0.2)
    ledger = await machine("a")
    hand = await running(ledger, clock)
    objects.share = 1.0
    wanted = start_of(operation=OperationKey(id="op-1", request_hash="hash"))
    with pytest.raises(OutcomeUnknown):
        await ledger.start(wanted)
    with pytest.raises(StoreUnavailable):
        await ledger.start(start_of())
    # Reads go on, and a flush waits.
    assert await ledger.verify_chain(hand.session_id) == hand.seq
    storing = asyncio.ensure_future(hand.stored(hand.step()))
    assert "has not answered" in (await ledger.stats())["failure"]
    objects.share = 0.0
    async with asyncio.timeout(30):
        await storing
        again = await ledger.start(wanted)
    assert again.session_id == wanted.session_id
    assert (await ledger.stats())["failure"] is None
    await whole(await machine("b"), hand)


async def test_a_ledger_closes_while_the_store_is_away(machine, clock, objects, monkeypatch):
    monkeypatch.setattr(group, "AWAY_S", 0.2)
    monkeypatch.setattr(group, "ENDS_AFTER_S", 0.1)
    ledger = await machine("a")
    objects.share = 1.0
    with pytest.raises(OutcomeUnknown):
        await begin(ledger, clock)
    async with asyncio.timeout(20):
        await ledger.close()
    objects.share = 0.0
    await begin(await machine("a"), clock)


async def test_a_commit_that_is_in_flight_at_a_close_has_an_unknown_outcome(
    machine, clock, objects, monkeypatch
):
    monkeypatch.setattr(group, "ENDS_AFTER_S", 0.1)
    ledger = await machine("a")
    objects.share = 1.0
    starting = asyncio.ensure_future(ledger.start(start_of()))
    async with asyncio.timeout(20):
        while not ledger._group._current:
            await asyncio.sleep(0.01)
        await ledger.close()
    with pytest.raises(OutcomeUnknown):
        await starting


async def test_what_is_queued_behind_a_commit_at_a_close_is_stored_and_answered(
    machine, clock, objects
):
    ledger = await machine("a")
    first = asyncio.ensure_future(ledger.start(start_of()))
    async with asyncio.timeout(20):
        while not ledger._group._current:
            await asyncio.sleep(0)
        queued = asyncio.ensure_future(ledger.start(start_of()))
        while not ledger._group._queue:
            assert ledger._group._current, "it was not queued while a commit was in flight"
            await asyncio.sleep(0)
        await ledger.close()
    started = [await first, await queued]
    other = await machine("b")
    for one in started:
        assert (await other.snapshot(one.session_id)).entries


async def test_a_goodbye_is_said_before_the_tables_are_written(
    machine, clock, objects, monkeypatch
):
    ledger = await machine("a")
    session_id = (await ledger.start(start_of())).session_id
    project, released = ledger._group.project, []

    async def noting():
        released.append(is_released(objects))
        return await project()

    monkeypatch.setattr(ledger._group, "project", noting)
    await ledger.close()
    assert released == [True]
    assert (await (await machine("b")).snapshot(session_id)).entries


async def test_a_close_that_is_asked_for_again_returns_when_the_file_is_closed(
    tmp_path, clock, objects
):
    actor = LedgerActor(
        LedgerPlace(tmp_path / "ledger.duckdb", lambda: ObjectLog(objects)),
        clock=clock,
        settings=SMALL,
    )
    await actor.open()
    given_up = asyncio.ensure_future(actor.close())
    await asyncio.sleep(0)
    given_up.cancel()
    await actor.close()
    assert is_released(objects)
    await (
        await open_ledger(
            tmp_path / "ledger.duckdb", clock=clock, settings=SMALL, log=ObjectLog(objects)
        )
    ).close()


async def test_a_commit_whose_answer_was_lost_is_stored_once(machine, clock, objects, monkeypatch):
    monkeypatch.setattr(object_log, "AGAIN_S", (0.001,))
    ledger = await machine("a")
    objects.share = 0.3
    hands = [await running(ledger, clock) for _ in range(20)]
    objects.share = 0.0
    other = await machine("b")
    for hand in hands:
        await whole(other, hand)


# --- prune ------------------------------------------------------------------------------------------


async def test_what_was_pruned_is_gone_everywhere_and_after_two_snapshots_from_the_store(
    machine, clock, objects
):
    ledger = await machine("a")
    gone = await running(ledger, clock)
    await gone.stored(gone.succeeded("a secret thing"), gone.closed(), release=True)
    await ledger.snapshots.make()
    clock.move_to(clock.now() + timedelta(days=40))
    stays = await running(ledger, clock)
    prune = Prune(principal=ALICE, age_s=timedelta(days=30).total_seconds())
    assert (await ledger.prune(prune)).sessions == 1
    with pytest.raises(SessionNotFound):
        await ledger.snapshot(gone.session_id)
    other = await machine("b")
    with pytest.raises(SessionNotFound):
        await other.snapshot(gone.session_id)
    await whole(other, stays)
    assert other.snapshots.is_due()
    for _ in range(2):
        await other.snapshots.make()
        await begin(other, clock)
    assert not other.snapshots.is_due()
    assert not [key for key, (data, _) in objects.stored.items() if b"a secret thing" in data]
    await whole(await machine("c"), stays)


# --- what is refused --------------------------------------------------------------------------------


async def test_a_ledger_of_its_own_is_not_taken_for_a_cache(machine, clock):
    ledger = await machine("a", store=None)
    hand = await running(ledger, clock)
    await ledger.close()
    with pytest.raises(UsageError, match="whose commits stand beside it"):
        await machine("a")
    ledger = await machine("a", store=None)
    assert await ledger.verify_chain(hand.session_id) == hand.seq


async def test_a_cache_is_not_opened_without_its_log(machine, clock):
    await (await machine("a")).close()
    with pytest.raises(UsageError, match="stand in fake://log"):
        await machine("a", store=None)


async def test_the_store_of_another_ledger_is_refused(machine, clock):
    await (await machine("a")).close()
    other = FakeObjects()
    await (await machine("b", other)).close()
    with pytest.raises(LedgerBehind, match="another ledger"):
        await machine("a", other)


async def test_an_empty_store_beside_a_cache_is_refused(machine):
    await (await machine("a")).close()
    with pytest.raises(LedgerBehind, match="is empty"):
        await machine("a", FakeObjects())


async def test_a_store_that_has_lost_what_the_cache_has_is_refused(machine, clock, objects):
    ledger = await machine("a")
    await begin(ledger, clock)
    older = dict(objects.stored)
    await begin(ledger, clock)
    await ledger.close()
    objects.stored = older
    with pytest.raises(LedgerBehind, match="ends before commit"):
        await machine("a")


# --- moved there and back ---------------------------------------------------------------------------


def to_store(path: Path, objects: FakeObjects) -> int:
    return move_to_store(path, ObjectLog(objects))


async def test_a_ledger_moves_into_a_store_and_back(machine, clock, objects, tmp_path):
    path = tmp_path / "a" / "ledger.duckdb"
    ledger = await machine("a", store=None)
    hand = await running(ledger, clock)
    await ledger.close()
    moved = to_store(path, objects)
    with pytest.raises(UsageError, match="stand in fake://log"):
        await machine("a", store=None)
    for name in ("a", "b"):
        ledger = await machine(name)
        hand.ledger = ledger
        assert (await hand.adopt()).epoch >= epoch_floor(ledger.openings)
        await hand.stored(hand.step())
        await ledger.close()
    number = await move_to_disk(path, lambda: ObjectLog(objects), LedgerKeys(None), clock)
    assert number > moved
    with pytest.raises(UsageError, match="was moved"):
        await machine("b")
    last = hand.epoch
    ledger = hand.ledger = await machine("a", store=None)
    assert (await hand.adopt()).epoch > last
    await hand.stored(hand.step_done())
    await whole(ledger, hand)
    await ledger.close()
    to_store(path, objects)
    await whole(await machine("c"), hand)


@long_but(1, "goes_back", [False, True], ids=["there", "back"])
async def test_a_move_that_was_ended_anywhere_leaves_the_ledger_in_one_place(
    goes_back, machine, clock, tmp_path, monkeypatch
):
    """Every call of the store is the last once; the same move again finishes it."""
    monkeypatch.setattr(group, "AWAY_S", 0.05)
    monkeypatch.setattr(group, "ENDS_AFTER_S", 0.05)
    path = tmp_path / "a" / "ledger.duckdb"
    ledger = await machine("a", store=None)
    hand = await running(ledger, clock)
    await ledger.close()
    objects = FakeObjects()
    if goes_back:
        to_store(path, objects)

    async def move() -> int:
        if goes_back:
            return await move_to_disk(path, lambda: ObjectLog(objects), LedgerKeys(None), clock)
        return to_store(path, objects)

    for calls in range(100):
        left = calls

        def last() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise StoreUnavailable("the machine is gone")

        objects.pause = last
        try:
            await move()
        except Unavailable:
            objects.pause = lambda: None
            is_cache = marker_of(path).exists()
            with pytest.raises((UsageError, LedgerBehind)):
                await machine("a", store=None if is_cache else objects)
            continue
        break
    objects.pause = lambda: None
    assert calls > 3
    again = await machine("a", store=None if goes_back else objects)
    await whole(again, hand)


async def test_a_ledger_does_not_move_into_the_log_of_another(machine, clock, objects, tmp_path):
    await (await machine("a", store=None)).close()
    await (await machine("b")).close()
    with pytest.raises(UsageError, match="another ledger"):
        to_store(tmp_path / "a" / "ledger.duckdb", objects)
    with pytest.raises(UsageError, match="stand in"):
        to_store(tmp_path / "b" / "ledger.duckdb", objects)
