"""A ledger of each earlier edition opens by folding its entries; until the new file is whole the old one stays."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from helmr.errors import (
    LedgerDamaged,
    LedgerSuperseded,
    MasterKeyMissing,
    NotReady,
    StoreUnavailable,
    UsageError,
)
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger import actor as actors
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.ledger import EPOCHS_PER_OPENING, DuckLedger
from helmr_runtime.ledger.log import carry_over, stored
from helmr_runtime.ledger.log.carry_over import CarryProgress
from helmr_runtime.ledger.log.rebuild import LedgerKeys, Page
from helmr_runtime.ledger.log.stored import StoredLedger, stored_ledger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables.recovery import FOLLOWS, SUPERSEDED, WHOLE_FROM
from helmr_runtime.ledger.tables.schema import SCHEMA
from helmr_runtime.ledger.tools.audit import audit
from helmr_runtime.ledger.tools.repair import repair
from helmr_runtime.security.keys import read_key_ring
from tests.fixtures.earlier import Earlier
from tests.fixtures.editions import OF_0_1_0, SCHEMAS, bring_to
from tests.ledger.sessions import SMALL, start_of
from tests.ledger.test_restart import folded, tables_of

pytestmark = pytest.mark.allows_blocking

EARLIER = Earlier("ledger_0_1_0")
RING = "master-keys.json"
OPENED = """
import asyncio, os, signal, sys
from datetime import datetime
from pathlib import Path
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.log import carry_over
from helmr_runtime.ledger.log import rebuild
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.security.keys import read_key_ring

path, at, where = Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2]), sys.argv[3]


def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)


if where == "entries":
    rebuild.insert_rows = killed
elif where == "tables":
    rebuild.project = killed
elif where == "mark":
    rebuild.write_mark = killed
elif where == "name":
    carry_over._check_settled = killed
else:
    carry_over.sync_directory = killed
ring = read_key_ring(path.parent / "master-keys.json", {})
asyncio.run(open_ledger(path, clock=FakeClock(at), ring=ring))
"""
"""Opens a ledger and is killed on the way."""


@pytest.fixture
def now() -> datetime:
    """A minute after the ledger was made: nothing is due yet."""
    return EARLIER.made_at + timedelta(minutes=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The ledger of 0.1.0 as it was left."""
    return EARLIER.unpack(tmp_path / "data")


@pytest.fixture
def keys(path: Path) -> LedgerKeys:
    return LedgerKeys(read_key_ring(path.parent / RING, {}))


async def opened(path: Path, keys: LedgerKeys, now: datetime) -> DuckLedger:
    return await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)


def numbers(path: Path) -> dict[str, int]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return dict(connection.execute("SELECT name, number FROM meta").fetchall())


def set_number(path: Path, name: str, number: int) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ($1, $2)", [name, number])


def entries_of(path: Path) -> list[tuple[object, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute("FROM entries ORDER BY feed_offset").fetchall()


def beside(path: Path) -> set[str]:
    """Files that no ledger leaves."""
    return {one.name for one in path.parent.iterdir() if one.name.startswith(".")}


@pytest.mark.parametrize(
    "schema",
    [
        # The first, which is encrypted as it was then, and the last.
        pytest.param(schema, marks=[pytest.mark.long] * (place not in (0, len(SCHEMAS) - 1)))
        for place, schema in enumerate(SCHEMAS)
    ],
)
async def test_a_ledger_of_each_edition_opens_and_its_tables_are_the_fold_of_its_entries(
    path: Path, keys: LedgerKeys, now: datetime, schema: int
) -> None:
    bring_to(path, schema)
    before = entries_of(path)
    ledger = await opened(path, keys, now)
    assert await tables_of(ledger) == await folded(ledger, FakeClock(now))
    await ledger.close()
    assert entries_of(path) == before
    with stored_ledger(path) as stored:
        found = audit(stored, keys, now)
    assert (found.schema, found.tables, found.entries) == (SCHEMA, True, len(before))
    assert found.checkpoints > 10
    assert not beside(path)


@pytest.mark.long  # those of the oldest, the middle and the newest edition do
async def test_a_ledger_of_schema_11_opens(path: Path, keys: LedgerKeys, now: datetime) -> None:
    await (await opened(path, keys, now)).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("DROP VIEW wait_rows")
        connection.execute("ALTER TABLE waits DROP COLUMN parent")
    set_number(path, "schema", 11)
    ledger = await opened(path, keys, now)
    assert await tables_of(ledger) == await folded(ledger, FakeClock(now))
    await ledger.close()
    assert numbers(path)["schema"] == SCHEMA


async def test_epochs_go_on_above_those_of_every_opening_before(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    openings = numbers(path)["openings"]
    with duckdb.connect(str(path)) as connection:
        highest = connection.execute("SELECT max(epoch) FROM sessions").fetchall()[0][0]
    ledger = await opened(path, keys, now)
    assert ledger.openings == openings
    assert not await ledger.held()
    session_id = next(iter(EARLIER.made["plain"]["sessions"].values()))
    loaded = await ledger.load(session_id, "slot-1")
    assert loaded.epoch >= openings * EPOCHS_PER_OPENING > highest
    await ledger.close()


async def test_a_ledger_that_was_superseded_stays_so(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    set_number(path, SUPERSEDED, 2)
    ledger = await opened(path, keys, now)
    with pytest.raises(LedgerSuperseded):
        await ledger.start(start_of())
    await ledger.close()


async def test_the_log_says_how_long_it_takes(
    path: Path, keys: LedgerKeys, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=carry_over.__name__)
    count = len(entries_of(path))
    await (await opened(path, keys, now)).close()
    first, last = (record.getMessage() for record in caplog.records)
    assert f"has schema {OF_0_1_0}: its {count} entries" in first
    assert first.endswith(" s")
    assert f"has schema {SCHEMA} now, after" in last
    caplog.clear()
    await (await opened(path, keys, now)).close()
    assert not caplog.records, "it is carried over once"


async def test_without_its_keys_an_encrypted_ledger_stays_as_it_is(
    path: Path, now: datetime
) -> None:
    before = entries_of(path)
    with pytest.raises(MasterKeyMissing):
        await opened(path, LedgerKeys(None), now)
    assert entries_of(path) == before
    assert numbers(path)["schema"] == OF_0_1_0
    assert not beside(path)


async def test_a_bad_entry_is_named_and_the_file_stays(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE entries SET principal = '{}' WHERE feed_offset = 50")
    before = entries_of(path)
    with pytest.raises(LedgerDamaged, match="feed offset 50"):
        await opened(path, keys, now)
    assert entries_of(path) == before
    assert numbers(path)["schema"] == OF_0_1_0
    assert not beside(path)
    # What `helmr repair` leaves out is the operator's to name; what it writes has today's schema.
    repair(path, keys, now, drop_from=50)
    assert numbers(path)["schema"] == SCHEMA
    await (await opened(path, keys, now)).close()


@pytest.mark.long
async def test_it_asks_for_room_before_it_begins(
    path: Path, keys: LedgerKeys, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_full = SimpleNamespace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: is_full)
    with pytest.raises(StoreUnavailable, match="no room to write it again beside it"):
        await opened(path, keys, now)
    monkeypatch.undo()
    assert numbers(path)["schema"] == OF_0_1_0
    await (await opened(path, keys, now)).close()


def run_killed(path: Path, now: datetime, where: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", OPENED, str(path), now.isoformat(), where],
        check=False,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize(
    "where",
    [
        "entries",
        "name",
        *(pytest.param(where, marks=pytest.mark.long) for where in ("tables", "mark", "directory")),
    ],
)
async def test_a_kill_on_the_way_leaves_a_ledger_that_opens(
    path: Path, keys: LedgerKeys, now: datetime, where: str
) -> None:
    before = entries_of(path)
    killed = await asyncio.to_thread(run_killed, path, now, where)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    is_named = where == "directory"
    assert numbers(path)["schema"] == (SCHEMA if is_named else OF_0_1_0)
    ledger = await opened(path, keys, now)
    assert await tables_of(ledger) == await folded(ledger, FakeClock(now))
    await ledger.close()
    assert entries_of(path) == before
    assert not beside(path) or is_named


async def test_a_followers_copy_of_an_earlier_schema_is_no_ledger_until_it_was_repaired(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    for name, number in {FOLLOWS: 1, WHOLE_FROM: 7}.items():
        set_number(path, name, number)
    with pytest.raises(UsageError, match="follower's copy"):
        await opened(path, keys, now)
    before = entries_of(path)
    assert repair(path, keys, now).damage == "a follower's copy, which has no tables"
    assert entries_of(path) == before
    ledger = await opened(path, keys, now)
    assert await tables_of(ledger) == await folded(ledger, FakeClock(now))
    await ledger.close()


# --- how far it is ----------------------------------------------------------------------------------


def test_progress_says_what_is_left_by_the_speed_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(carry_over, "time", SimpleNamespace(monotonic=lambda: now_s))
    progress = CarryProgress()
    assert (progress.lasts_s, progress.total) == (0.0, 0)
    progress.begin(3_000_000)
    assert "0 of 3,000,000 entries are done, about 3m 20s left" in str(progress)
    now_s += 60
    progress.advance(1_000_000)
    assert progress.lasts_s == 60
    assert "1,000,000 of 3,000,000 entries are done, about 2m left" in str(progress)
    progress.end()
    assert progress.lasts_s == 0


class Pages:
    """Small pages of a ledger, each of which waits for leave."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.leave = threading.Semaphore(0)
        self.count = 0
        given = StoredLedger.pages

        def pages(ledger: StoredLedger) -> Iterator[Page]:
            for page in given(ledger):
                self.leave.acquire()
                self.count += 1
                yield page

        monkeypatch.setattr(stored, "CHUNK", 10)
        monkeypatch.setattr(StoredLedger, "pages", pages)
        monkeypatch.setattr(actors, "CARRY_PATIENCE_S", 0.0)
        monkeypatch.setattr(actors, "CARRY_LOOK_S", 0.01)

    def let(self, count: int) -> None:
        """Have so many more pages read."""
        self.leave.release(count)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    pages = Pages(monkeypatch)
    yield pages
    pages.let(1_000)  # a thread that waits would hold up the end of the loop


def carried(path: Path, keys: LedgerKeys, now: datetime) -> LedgerActor:
    return LedgerActor(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)


async def told(actor: LedgerActor) -> NotReady:
    with pytest.raises(NotReady, match="a ledger of an earlier edition is carried over") as caught:
        await actor.feed_head()
    return caught.value


async def test_callers_are_told_how_far_it_is_until_it_is_over(
    path: Path, keys: LedgerKeys, now: datetime, slow: Pages
) -> None:
    actor = carried(path, keys, now)
    total = len(entries_of(path))
    error = await told(actor)
    assert error.retryable
    assert (error.facts["entries_done"], error.facts["entries"]) == (0, total)
    slow.let(3)
    async with asyncio.timeout(20):
        while (await told(actor)).facts["entries_done"] < 20:
            await asyncio.sleep(0.01)
    waiting = asyncio.create_task(actor.open())
    slow.let(1_000)
    await asyncio.wait_for(waiting, 60)
    assert await actor.feed_head() >= total
    await actor.close()
    assert numbers(path)["schema"] == SCHEMA


async def test_a_close_ends_it_between_two_pages_and_the_file_stays(
    path: Path, keys: LedgerKeys, now: datetime, slow: Pages
) -> None:
    before = entries_of(path)
    actor = carried(path, keys, now)
    await told(actor)
    closing = asyncio.create_task(actor.close())
    await asyncio.sleep(0.05)
    slow.let(1_000)
    await asyncio.wait_for(closing, 20)
    assert slow.count <= 2, "not to the end"
    with pytest.raises(NotReady, match="closed"):
        await actor.feed_head()
    assert numbers(path)["schema"] == OF_0_1_0
    assert entries_of(path) == before
    assert not beside(path)


@pytest.mark.long  # test_a_bad_entry_is_named_and_the_file_stays
async def test_every_caller_hears_of_an_entry_that_is_damaged(
    path: Path, keys: LedgerKeys, now: datetime, slow: Pages
) -> None:
    """It is not folded again and again: who is told that it goes on may hear of the end from the next call."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE entries SET principal = '{}' WHERE feed_offset = 50")
    actor = carried(path, keys, now)
    await told(actor)
    slow.let(1_000)
    with pytest.raises(LedgerDamaged, match="feed offset 50"):
        await asyncio.wait_for(actor.open(), 60)
    count = slow.count
    for _ in range(2):
        assert (await actor.stats())["code"] == "ledger_damaged"
        with pytest.raises(LedgerDamaged, match="feed offset 50"):
            await actor.feed_head()
    assert slow.count == count
    await actor.close()
