"""Commits go on while the tables are written, also while that fails: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import copy
import random
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from helmr_runtime.clock import Clock, FakeClock
from helmr_runtime.ledger.index import ledger_index
from helmr_runtime.ledger.index.projection import Projection
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log import projector
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables import table_writer
from helmr_runtime.ledger.tables.engine import uuid_of
from helmr_runtime.ledger.tables.table_writer import Tables
from helmr_runtime.ledger.tools.audit import audit
from tests.ledger.sessions import SMALL, Hand, begin, running

BOUND_S = 20
HANDS = 12
ROUNDS = 25


class Gate:
    """Holds up the writing of tables, in the writer's thread."""

    def __init__(self, ledger: DuckLedger, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_writing, self.may_go_on = threading.Event(), threading.Event()
        self.failure: Exception | None = None
        self._write: Callable[[Tables], None] = ledger._group.projector._write_tables
        monkeypatch.setattr(ledger._group.projector, "_write_tables", self._held)

    def _held(self, tables: Tables) -> None:
        self.is_writing.set()
        assert self.may_go_on.wait(BOUND_S)
        if self.failure is not None:
            raise self.failure
        self._write(tables)


async def assert_whole(path: Path, clock: Clock) -> None:
    """The chains hold, and the tables are what the entries fold to."""

    def look() -> None:
        with stored_ledger(path) as stored:
            audit(stored, LedgerKeys(None), clock.now())

    await asyncio.to_thread(look)


async def test_commits_go_on_while_the_tables_are_written(
    duck: DuckLedger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = await running(duck, clock)
    gate = Gate(duck, monkeypatch)
    asked = asyncio.ensure_future(duck._group.project())
    assert await asyncio.to_thread(gate.is_writing.wait, BOUND_S)
    async with asyncio.timeout(BOUND_S):
        wait = hand.wait()
        await hand.stored(wait)
        other = await running(duck, clock)
        assert (await duck.get_session(hand.session_id))["wait"]["id"] == wait.body["wait_id"]
        assert (await duck.get_session(other.session_id))["activity"] == "running"
    assert not asked.done()
    gate.may_go_on.set()
    await asked
    assert duck._group.projector.is_behind
    async with asyncio.timeout(BOUND_S):
        shown = await duck.read_tables(
            lambda reader: reader.execute("SELECT next_seq - 1 FROM sessions ORDER BY 1").fetchall()
        )
    assert shown == sorted([(hand.seq,), (other.seq,)])


async def test_what_was_committed_while_they_could_not_be_written_gets_into_them(
    duck: DuckLedger, clock: FakeClock, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await running(duck, clock)
    wait = waiting.wait()
    await waiting.stored(wait)
    await waiting.stored(release=True)
    gate = Gate(duck, monkeypatch)
    gate.failure = duckdb.IOException("No space left on device")
    asked = asyncio.ensure_future(duck._group.project(lambda _: "shown all the same"))
    assert await asyncio.to_thread(gate.is_writing.wait, BOUND_S)
    async with asyncio.timeout(BOUND_S):
        await waiting.adopt()
        await waiting.stored(waiting.accepted("yes", key="once"), waiting.fulfilled(wait))
        await waiting.stored(waiting.wait(stream="second"))
        await begin(duck, clock, external_id="begun meanwhile")
    gate.may_go_on.set()
    shown = await asked
    assert shown is not None
    assert shown.value == "shown all the same"
    gate.failure = None
    await duck._group.project()
    found = await duck.read_tables(
        lambda reader: reader.execute(
            "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM send_keys),"
            " list(status::VARCHAR ORDER BY opened_offset) FROM waits"
        ).fetchall()
    )
    assert found == [(2, 1, ["fulfilled", "pending"])]
    await duck.close()
    await assert_whole(path, clock)


async def test_what_is_shown_of_tables_that_can_not_be_written_stays_as_it_was_when_it_was_asked_for(
    duck: DuckLedger, clock: FakeClock, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that shows it reads what the loop goes on to change."""
    hand = await running(duck, clock)
    tables = Gate(duck, monkeypatch)
    tables.failure = duckdb.IOException("No space left on device")
    tables.may_go_on.set()
    is_reading, may_read = threading.Event(), threading.Event()
    project = table_writer.project
    given: list[Projection] = []

    def held_up(connection: duckdb.DuckDBPyConnection, tables: Tables) -> None:
        given.append(copy.deepcopy(tables.projection))
        is_reading.set()
        assert may_read.wait(BOUND_S)
        given.append(copy.deepcopy(tables.projection))
        project(connection, tables)

    monkeypatch.setattr(projector, "project", held_up)
    asked = asyncio.ensure_future(
        duck._group.project(
            lambda reader: reader.execute("SELECT session FROM sessions").fetchall()
        )
    )
    assert await asyncio.to_thread(is_reading.wait, BOUND_S)
    wait = hand.wait()
    await hand.stored(wait)
    other = await running(duck, clock)
    assert (await duck.get_session(other.session_id))["activity"] == "running"
    assert (await duck.get_session(hand.session_id))["wait"]["id"] == wait.body["wait_id"]
    may_read.set()
    shown = await asked
    assert shown is not None
    assert shown.value == [(uuid_of(hand.session_id),)]
    assert given[0] == given[1]
    tables.failure = None
    monkeypatch.setattr(projector, "project", project)
    found = await duck.read_tables(
        lambda reader: reader.execute("SELECT session FROM sessions").fetchall()
    )
    assert sorted(found) == sorted((uuid_of(one.session_id),) for one in (hand, other))
    await duck.close()
    await assert_whole(path, clock)


@pytest.mark.long  # one after the other: the tests below
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 3))]
)
async def test_a_storm_of_commits_and_of_tables_that_now_and_then_can_not_be_written(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(ledger_index, "ENDED_HEADS_MAX", 2)
    monkeypatch.setattr(projector, "HOLDINGS_MAX", 5)
    chance = random.Random(seed)
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    write = ledger._group.projector._write_tables

    def now_and_then(tables: Tables) -> None:
        if chance.random() < 0.3:
            raise duckdb.IOException("not this time")
        write(tables)

    monkeypatch.setattr(ledger._group.projector, "_write_tables", now_and_then)
    is_over = asyncio.Event()

    async def look() -> None:
        while not is_over.is_set():
            await ledger._group.project(lambda _: None)
            await ledger.read(lambda reader: reader.execute("SELECT count(*) FROM entries"))

    hands: list[Hand] = []

    async def live() -> None:
        for number in range(ROUNDS):
            hand = await running(ledger, clock)
            hands.append(hand)
            wait = hand.wait()
            await hand.stored(hand.step(), hand.step_done(), wait)
            await hand.stored(release=True)
            await hand.adopt()
            await hand.stored(hand.accepted(number, key=f"{number}"), hand.fulfilled(wait))
            if number % 3:
                await hand.stored(hand.succeeded(), hand.closed(), release=True)

    looking = asyncio.ensure_future(look())
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for _ in range(HANDS):
            group.create_task(live())
    is_over.set()
    await looking
    for hand in hands:
        assert await ledger.verify_chain(hand.session_id) == hand.seq
    monkeypatch.setattr(ledger._group.projector, "_write_tables", write)
    monkeypatch.setattr(projector, "HOLDINGS_MAX", -1)
    await running(ledger, clock)  # the last write of the tables has something to write
    held = {one.session_id: one.epoch for one in ledger.index.holdings()}
    await ledger.close()
    await assert_whole(path, clock)
    again = await open_ledger(path, clock=clock, settings=SMALL)
    assert {one.session_id: one.epoch for one in again.index.holdings()} == held
    found = await again.read(
        lambda reader: reader.execute("SELECT session FROM holdings").fetchall()
    )
    assert sorted(found) == sorted((uuid_of(one),) for one in held)
    await again.close()
