"""A ledger that stands by: it follows another's log, and goes on where that one has ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from helmr.errors import (
    LedgerBehind,
    LedgerDamaged,
    LedgerSuperseded,
    LogNewer,
    OutcomeUnknown,
    Standby,
    StoreUnavailable,
    Unavailable,
)
from helmr.models import SessionStatus
from helmr_runtime.clock import FakeClock
from helmr_runtime.core import shared_log
from helmr_runtime.core.commands import OperationKey, Prune
from helmr_runtime.core.entries import EntryKind, iso
from helmr_runtime.core.shared_log import LogRecord, StoreLease, record_bytes, record_of
from helmr_runtime.ledger import standby
from helmr_runtime.ledger.actor import LedgerActor, LedgerPlace
from helmr_runtime.ledger.index.heads import Head
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.log import lease
from helmr_runtime.ledger.log.object_log import LOG, ObjectLog, record_key
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.standby import LeaseWatch, StandbyMemory
from tests.ledger.sessions import ALICE, SMALL, begin, parked, running, start_of
from tests.ledger.shared_objects import FakeObjects

pytestmark = pytest.mark.allows_blocking

LEASE_S = 0.6
DAY_S = 86_400.0
KEY = OperationKey(id="op-1", request_hash="ab" * 32)
Machine = Callable[[str], LedgerActor]


@pytest.fixture(autouse=True)
def quick_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of its time, so that no test waits for long."""
    monkeypatch.setattr(shared_log, "LEASE_S", LEASE_S)
    for module in (shared_log, lease, standby):
        monkeypatch.setattr(module, "RENEW_S", LEASE_S / 3)


@pytest.fixture
def objects() -> FakeObjects:
    """The store."""
    return FakeObjects()


@pytest.fixture
async def machine(tmp_path: Path, clock: FakeClock, objects: FakeObjects) -> AsyncIterator[Machine]:
    """A ledger on a machine, by its name; all are closed at the end."""
    made: list[LedgerActor] = []

    def make(name: str) -> LedgerActor:
        place = LedgerPlace(tmp_path / name / "ledger.duckdb", lambda: ObjectLog(objects))
        made.append(LedgerActor(place, clock=clock, settings=SMALL))
        return made[-1]

    yield make
    for one in made:
        await one.close()


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    """Return when that holds."""
    async with asyncio.timeout(60):
        while not await ask():
            await asyncio.sleep(0.02)


async def level(ledger: LedgerActor) -> None:
    """It stands by, and has all that the lease names."""

    async def is_level() -> bool:
        stats = await ledger.stats()
        assert not stats["open"], stats
        return bool(stats["code"] == "standby" and stats["behind"] == 0)

    await until(is_level)


async def works(ledger: LedgerActor) -> None:
    """It has taken over."""

    async def is_open() -> bool:
        return bool((await ledger.stats())["open"])

    await until(is_open)


def in_memory(memory: StandbyMemory) -> dict[str, Any]:
    """All that decides, in a form that can be compared; of sessions that are over only what an opening would read."""
    index: LedgerIndex = memory._group.index

    def shown(head: Head) -> dict[str, Any]:
        found = {one.name: getattr(head, one.name) for one in fields(Head)}
        return found | {"tail": list(head.tail), "open_steps": frozenset(head.open_steps)}

    return {
        "heads": {
            name: shown(head)
            for name, head in index.heads.items()
            if head.status is SessionStatus.OPEN or head.is_held
        },
        "offset": index.head_offset,
        "operations": dict(index.operations),
        "names": {key: list(found) for key, found in index.names.items()},
        "keys": dict(index.start_keys),
        "counts": index.counts(),
        "due": index.next_due_at(),
        "marks": index.marks(),
        "held": sorted(index.holdings(), key=lambda one: one.session_id),
    }


class Held(LeaseWatch):
    """Holds an opening before it takes the log, and ends it when a test has looked at what it has."""

    def __init__(self) -> None:
        self.memory: asyncio.Future[StandbyMemory] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()

    async def until_due(self, memory: StandbyMemory) -> None:
        self.memory.set_result(memory)
        await self.over.wait()
        raise Unavailable("looked at")


@asynccontextmanager
async def standing_by(
    folder: Path, clock: FakeClock, objects: FakeObjects
) -> AsyncIterator[StandbyMemory]:
    """The memory of a ledger that has opened its file and not the log."""
    watch = Held()
    opening = asyncio.create_task(
        open_ledger(
            folder / "ledger.duckdb",
            clock=clock,
            settings=SMALL,
            log=ObjectLog(objects),
            watch=watch,
        )
    )
    try:
        yield await watch.memory
    finally:
        watch.over.set()
        with pytest.raises(Unavailable, match="looked at"):
            await opening


# --- what it follows --------------------------------------------------------------------------------


async def test_what_a_standby_has_in_memory_is_what_an_opening_would_restore(
    machine: Machine, clock: FakeClock, tmp_path: Path, objects: FakeObjects
) -> None:
    first = machine("a")
    await first.open()
    hands = [await running(first, clock) for _ in range(3)]
    async with standing_by(tmp_path / "b", clock, objects) as memory:
        for hand in hands:
            await hand.stored(hand.step())
            clock.move_to(clock.now() + timedelta(seconds=1))
        await hands[0].stored(hands[0].step_done(), checkpoint=True)
        await memory.fold(await memory.read())
        await hands[1].stored(hands[1].step_done())
        await hands[1].stored(checkpoint=True, release=True)
        await hands[2].stored(hands[2].step_done(), hands[2].accepted("yes", operation=KEY))
        await parked(first, clock, timeout_s=60, external_id="named", idempotency_key="once")
        await memory.fold(await memory.read())
        await hands[0].stored(hands[0].step())
        done = await running(first, clock)
        await done.stored(done.succeeded(), done.closed())
        await begin(first, clock)
        await memory.fold(await memory.read())
        await memory.fold(await memory.read())
        async with standing_by(tmp_path / "c", clock, objects) as restored:
            assert in_memory(memory) == in_memory(restored)


async def test_sessions_that_the_primary_prunes_are_gone_here_too(
    machine: Machine, clock: FakeClock, tmp_path: Path, objects: FakeObjects
) -> None:
    first = machine("a")
    await first.open()
    async with standing_by(tmp_path / "b", clock, objects) as memory:
        done, kept = await running(first, clock), await running(first, clock)
        await done.stored(done.succeeded(), done.closed(), checkpoint=True, release=True)
        clock.move_to(clock.now() + timedelta(days=2))
        pruned = await first.prune(Prune(principal=ALICE, age_s=DAY_S, is_archived=False))
        assert pruned.sessions == 1
        await kept.stored(kept.step())
        await memory.fold(await memory.read())
        found = in_memory(memory)
        assert done.session_id not in found["heads"]
        assert found["heads"][kept.session_id]["next_seq"] == kept.seq + 1
        assert found["marks"]["pruned_offset"]


async def test_a_standby_that_trimming_has_passed_begins_with_a_snapshot_and_stands_by(
    machine: Machine, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machine("a"), machine("b")
    await first.open()
    await level(second)
    read, passed = StandbyMemory.read, list[int]()

    async def finds_it_trimmed(self: StandbyMemory) -> Any:
        if not passed:
            passed.append(self.number)
            raise LedgerBehind("the log begins behind it", trimmed=self.number + 1)
        return await read(self)

    monkeypatch.setattr(StandbyMemory, "read", finds_it_trimmed)
    await begin(first, clock)
    codes: set[str] = set()

    async def is_level() -> bool:
        stats = await second.stats()
        codes.add(stats["code"])
        return bool(passed) and stats.get("behind") == 0

    await until(is_level)
    assert codes == {"standby"}


# --- when it takes over -----------------------------------------------------------------------------


async def test_a_goodbye_is_taken_at_once_and_a_silence_when_the_lease_has_lapsed(
    machine: Machine, clock: FakeClock, objects: FakeObjects
) -> None:
    first, second, third = machine("a"), machine("b"), machine("c")
    await first.open()
    hand = await running(first, clock)
    await level(second)
    with pytest.raises(Standby, match="stands by, level with it"):
        await second.load(hand.session_id, "slot-2")
    await first.close()
    await works(second)
    # Silent from here on: its lease is not written any more.
    await level(third)
    objects.replaces = False
    before_s = asyncio.get_running_loop().time()
    await works(third)
    assert asyncio.get_running_loop().time() - before_s >= LEASE_S / 2
    objects.replaces = True
    hand.ledger = third
    await hand.adopt()
    await hand.stored(hand.step())
    with pytest.raises(LedgerSuperseded):
        await begin(second, clock)


async def test_a_standby_that_a_client_turns_to_sees_a_goodbye_before_its_next_look(
    machine: Machine, clock: FakeClock, objects: FakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = machine("a"), machine("b")
    await first.open()
    await running(first, clock)
    await level(second)
    look, looks = LeaseWatch.look, list[bool]()

    async def noting(watch: LeaseWatch) -> bool:
        looks.append(await look(watch))
        return looks[-1]

    async def has_looked() -> bool:
        return bool(looks)

    for module in (shared_log, standby):  # after its next look it would sleep through this test
        monkeypatch.setattr(module, "RENEW_S", 600.0)
    monkeypatch.setattr(shared_log, "LEASE_S", 600.0)
    monkeypatch.setattr(LeaseWatch, "look", noting)
    await until(has_looked)
    await first.close()
    count = len(looks)
    for own in (second.feed_head, second.held, second.numbers):
        with pytest.raises(Standby):
            await own()
    await second.stats()
    assert len(looks) == count
    with pytest.raises(Standby):
        await second.freshness()
    await works(second)


async def test_a_goodbye_is_said_although_a_renewal_was_ended_on_its_way(
    clock: FakeClock, objects: FakeObjects
) -> None:
    log = ObjectLog(objects)

    async def run(call: Callable[..., Any], *args: Any) -> Any:
        """As a thread, which goes on when its caller does not wait any more."""
        done = call(*args)
        await asyncio.sleep(0)
        return done

    for renewals in (1, 3):
        keeper = lease.LeaseKeeper(log, renewals, lambda: 7, run, clock.now)
        for _ in range(renewals - 1):
            assert await keeper._renew()
        leasing = asyncio.create_task(keeper.keep())
        await asyncio.sleep(0)
        leasing.cancel()
        await asyncio.wait([leasing])
        await keeper.say_goodbye()
        found = log.lease()
        assert found is not None
        assert found[0].released

    other = lease.LeaseKeeper(log, 4, lambda: 8, run, clock.now)
    log.write_lease(StoreLease("another", 5), None)
    await other.say_goodbye()
    found = log.lease()
    assert found is not None
    assert not found[0].released


async def test_a_primary_that_commits_nothing_finds_out_that_it_is_superseded(
    machine: Machine, clock: FakeClock
) -> None:
    first, second = machine("a"), machine("b")
    await first.open()
    await level(second)
    assert await first.superseded() is None
    await second.take_over()
    await works(second)

    async def is_superseded() -> bool:
        return await first.superseded() is not None

    await until(is_superseded)
    with pytest.raises(LedgerSuperseded):
        await begin(first, clock)
    assert await second.superseded() is None
    await begin(second, clock)


async def test_an_order_to_take_over_outlives_every_race_that_is_lost_to_the_primary(
    machine: Machine, clock: FakeClock, objects: FakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever number the record would have that opens the log, a commit of the primary has it before."""
    monkeypatch.setattr(shared_log, "LOOK_CALLED_S", 0.01)  # it tries before the primary has read
    first, second = machine("a"), machine("b")
    await first.open()
    await level(second)
    loop, lost = asyncio.get_running_loop(), []
    create = objects.create

    def commit_before(key: str, data: bytes) -> None:
        if key.startswith(LOG) and record_of(int(key.removeprefix(LOG)), data).opens:
            with suppress(LedgerSuperseded, OutcomeUnknown):
                asyncio.run_coroutine_threadsafe(begin(first, clock), loop).result(60)
                lost.append(key)
        create(key, data)

    objects.create = commit_before  # type: ignore[method-assign]
    await second.take_over()
    await works(second)
    assert lost
    assert await first.superseded() is not None
    await begin(second, clock)


async def test_one_that_is_told_to_take_over_does_while_the_primary_commits_without_a_pause(
    machine: Machine, clock: FakeClock
) -> None:
    first, second = machine("a"), machine("b")
    await first.open()
    await level(second)

    async def commit() -> None:
        while True:
            await begin(first, clock)

    callers = [asyncio.create_task(commit()) for _ in range(3)]
    await second.take_over()
    await works(second)
    for one in callers:
        with pytest.raises((LedgerSuperseded, OutcomeUnknown)):
            await one
    await begin(second, clock)


async def test_an_order_to_take_over_holds_for_what_is_tried_after_a_failure(
    machine: Machine, objects: FakeObjects
) -> None:
    """The try that it was given to has failed for another reason than a lost race."""
    first, second = machine("a"), machine("b")
    await first.open()
    await level(second)
    create, failures = objects.create, iter([True])

    def fail_once(key: str, data: bytes) -> None:
        if key.startswith(LOG) and next(failures, False):
            raise LedgerDamaged("once")
        create(key, data)

    objects.create = fail_once  # type: ignore[method-assign]
    await second.take_over()
    await works(second)
    assert not next(failures, False)


async def test_a_ledger_that_is_closed_before_it_knows_that_it_stands_by_ends(
    machine: Machine, objects: FakeObjects
) -> None:
    """Else it would wait for the other one's end, take the log over and end then."""
    first, second = machine("a"), machine("b")
    await first.open()
    await level(second)
    third, looks = machine("c"), threading.Event()

    def look() -> None:
        assert looks.wait(60)

    objects.pause = look
    opening = asyncio.create_task(third.open())
    await asyncio.sleep(0)
    closing = asyncio.create_task(third.close())
    await asyncio.sleep(0)
    objects.pause = lambda: None
    looks.set()
    async with asyncio.timeout(60):
        await closing
    with suppress(Standby, asyncio.CancelledError):
        await opening
    assert await first.superseded() is None


async def test_a_claim_of_a_runtime_that_ended_is_a_lease_that_lapses(
    machine: Machine, objects: FakeObjects
) -> None:
    """It was told to take over, had the primary end, and died before it opened the log."""
    first, second = machine("a"), machine("b")
    await first.open()
    await level(second)
    log = ObjectLog(objects)
    found = log.lease()
    assert found is not None
    log.write_lease(found[0].claimed("died"), found[1])

    async def is_superseded() -> bool:
        return await first.superseded() is not None

    await until(is_superseded)
    await works(second)


async def test_what_is_on_its_way_to_the_store_is_not_acknowledged_by_one_that_is_superseded(
    machine: Machine, clock: FakeClock, objects: FakeObjects
) -> None:
    """It is stored: who repeats it at the other one gets its receipt."""
    first, second = machine("a"), machine("b")
    await first.open()
    await level(second)
    answers, waits = threading.Event(), [True]

    def answer(key: str, data: bytes) -> None:
        if key.startswith(LOG) and waits:
            waits.clear()
            assert answers.wait(60)

    async def is_stored() -> bool:
        return not waits

    objects.on_create = answer
    start = start_of()
    starting = asyncio.create_task(first.start(start))
    try:
        await until(is_stored)
        await second.take_over()
        await works(second)
        with pytest.raises(OutcomeUnknown):
            await starting
    finally:
        answers.set()
    await second.load(start.session_id, "slot-1")


async def test_a_ledger_in_the_place_of_a_dead_one_finds_out_that_its_runtime_is_superseded(
    machine: Machine,
) -> None:
    """Its process died, and before the next one opened the log another runtime had."""
    first, second = machine("a"), machine("b")
    await first.open()
    await first.close()
    await works(second)
    again = machine("a")
    await level(again)
    assert await again.superseded() is not None
    assert await second.superseded() is None


async def test_what_is_due_is_done_by_the_one_that_has_taken_over(
    machine: Machine, clock: FakeClock
) -> None:
    first, second = machine("a"), machine("b")
    await first.open()
    await parked(first, clock, timeout_s=60)
    await level(second)
    await first.close()
    await works(second)
    clock.move_to(clock.now() + timedelta(seconds=61))

    opened = second._ledger
    assert opened is not None

    async def is_timed_out() -> bool:
        kinds = [entry.kind for entry in await opened.entries_after(0, 100)]
        return EntryKind.WAIT_TIMED_OUT in kinds

    await until(is_timed_out)


async def test_a_primary_that_can_not_renew_its_lease_says_until_when_its_reads_have_everything(
    machine: Machine, objects: FakeObjects, clock: FakeClock
) -> None:
    first = machine("a")
    await first.open()
    found = await first.freshness()
    assert found.stale_as_of is None
    assert 0.0 < found.for_s <= LEASE_S
    at = clock.now()

    def away() -> None:
        raise StoreUnavailable("away")

    objects.pause = away
    clock.move_to(at + timedelta(minutes=1))

    async def is_stale() -> bool:
        return (await first.freshness()).stale_as_of is not None

    assert "store_away_since" not in await first.stats()
    await until(is_stale)
    assert (await first.freshness()).stale_as_of == iso(at)
    assert (await first.stats())["store_away_since"] == iso(at)
    objects.pause = lambda: None

    async def is_current() -> bool:
        return (await first.freshness()).stale_as_of is None

    await until(is_current)
    assert "store_away_since" not in await first.stats()


async def test_no_one_takes_over_because_the_store_was_away(objects: FakeObjects) -> None:
    """The primary could not renew its lease, and has as long as ever to do it from the store's return on."""
    log = ObjectLog(objects)
    log.write_lease(StoreLease("another", 1), None)

    async def run(ask: Callable[[], Any]) -> Any:
        return ask()

    def away() -> None:
        raise StoreUnavailable("away")

    watch = LeaseWatch(log, None, run)
    assert not await watch.look()
    objects.pause = away
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + 1.5 * LEASE_S

    async def is_still_away() -> bool:
        with pytest.raises(StoreUnavailable):
            await watch.look()
        return loop.time() > ends_s

    await until(is_still_away)
    objects.pause = lambda: None
    assert not await watch.look()
    await until(watch.look)


async def test_an_idle_pair_asks_the_store_no_more_than_it_may(
    machine: Machine, objects: FakeObjects
) -> None:
    first, second = machine("a"), machine("b")
    await first.open()
    await level(second)

    async def has_snapshot() -> bool:  # the first is made at once
        return bool(ObjectLog(objects).require_root().snapshots)

    await until(has_snapshot)
    calls = objects.calls
    loop = asyncio.get_running_loop()
    began_s = loop.time()

    async def has_passed() -> bool:
        return loop.time() - began_s > 3 * LEASE_S

    await until(has_passed)
    looks = (loop.time() - began_s) / (LEASE_S / 3)
    assert looks < objects.calls - calls <= 2 * (looks + 1)


async def test_a_connection_that_died_with_the_store_costs_a_takeover_one_look(
    tmp_path: Path, clock: FakeClock, objects: FakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one that reads records, which is not used while nothing is committed; the lease has another."""
    log = ObjectLog(objects)
    reads, dies = StandbyMemory.read, [True]

    async def read(memory: StandbyMemory) -> Any:
        if dies.pop() if dies else False:
            raise StoreUnavailable("the connection was lost")
        return await reads(memory)

    async def run(ask: Callable[[], Any]) -> Any:
        return ask()

    look, looks = LeaseWatch.look, list[bool]()

    async def noting(watch: LeaseWatch) -> bool:
        looks.append(await look(watch))
        return looks[-1]

    monkeypatch.setattr(LeaseWatch, "look", noting)
    monkeypatch.setattr(StandbyMemory, "read", read)
    log.write_lease(StoreLease("another", 1), None)
    async with standing_by(tmp_path, clock, objects) as memory:
        watch = LeaseWatch(log, None, run)
        await watch.until_due(memory)
        assert not dies
        assert looks[0] is False
        assert looks[-2:] == [True, True]  # the lease is not counted from its beginning again
        assert looks.count(True) == 2
        assert not watch.is_waiting

        dies.append(True)  # nothing to wait for: who opens the log hears of it
        with pytest.raises(StoreUnavailable):
            await LeaseWatch(log, "another", run).until_due(memory)


class Gated:
    """A store as one machine reaches it: while its gate is closed calls wait, as those of a paused machine."""

    def __init__(self, objects: FakeObjects) -> None:
        self._objects = objects
        self.gate = threading.Event()
        self.gate.set()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._objects, name)

        def called(*args: Any) -> Any:
            assert self.gate.wait(60)
            return found(*args)

        return called if callable(found) else found


async def test_a_writer_and_a_standby_that_were_paused_across_two_trims(
    clock: FakeClock, objects: FakeObjects, tmp_path: Path
) -> None:
    stores = [Gated(objects) for _ in range(3)]
    first, second, third = (
        LedgerActor(
            LedgerPlace(tmp_path / str(number) / "ledger.duckdb", partial(ObjectLog, store)),
            clock=clock,
            settings=SMALL,
        )
        for number, store in enumerate(stores)
    )
    try:
        await first.open()
        hand = await running(first, clock)
        await hand.stored(hand.step())
        await level(second)
        await level(third)
        for one in stores[:2]:
            one.gate.clear()
        seq, late = hand.seq, asyncio.create_task(hand.stored(hand.step_done()))
        await works(third)
        assert third._ledger is not None
        snapshots = third._ledger.snapshots
        assert snapshots is not None
        for _ in range(3):
            await begin(third, clock)
            await snapshots.make()
        floor = ObjectLog(objects).require_root().floor
        kept = await running(third, clock)
        for one in stores[:2]:
            one.gate.set()
        with pytest.raises(LedgerSuperseded):
            await late
        await level(second)
        assert floor > 1
        await third.close()
        await works(second)
        assert await second.verify_chain(hand.session_id) == seq, "the late one is nowhere"
        assert await second.verify_chain(kept.session_id) == kept.seq
    finally:
        for one in stores:
            one.gate.set()
        for ledger in (first, second, third):
            await ledger.close()


async def test_a_standby_of_an_earlier_edition_stops_at_a_commit_of_a_later_one(
    machine: Machine, clock: FakeClock, objects: FakeObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which it can't read, so that it neither follows nor takes over, however often it is asked."""
    first, second = machine("a"), machine("b")
    await first.open()
    await begin(first, clock)
    await level(second)
    number = 1 + max(int(key.removeprefix(LOG)) for key in objects.stored if key.startswith(LOG))
    later = LogRecord(number, writer="later", nonce="nonce", opens=False, text=b"")
    with monkeypatch.context() as patched:
        patched.setattr(shared_log, "FORMAT", shared_log.FORMAT + 1)
        written = record_bytes(later)
    objects.create(record_key(number), written)
    await first.close()
    for _ in range(3):

        async def has_stopped() -> bool:
            return (await second.stats()).get("code") == "log_newer"

        await until(has_stopped)
        with pytest.raises(LogNewer, match="reads up to"):
            await begin(second, clock)
    assert record_key(number + 1) not in objects.stored
