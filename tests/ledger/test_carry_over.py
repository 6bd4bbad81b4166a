"""A ledger of each earlier edition opens by folding its entries; until the new file is whole the old one stays."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from helmr.errors import LedgerDamaged, MasterKeyMissing, StoreUnavailable
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.ledger import EPOCHS_PER_OPENING, DuckLedger
from helmr_runtime.ledger.log import carry_over
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.open import FOLLOWS, open_ledger
from helmr_runtime.ledger.tables.recovery import SUPERSEDED
from helmr_runtime.ledger.tables.schema import SCHEMA
from helmr_runtime.ledger.tools.audit import audit
from helmr_runtime.ledger.tools.followed import WHOLE_FROM, followed_ledger
from helmr_runtime.ledger.tools.repair import repair
from helmr_runtime.security.keys import read_key_ring
from tests.fixtures.earlier import Earlier
from tests.fixtures.editions import OF_0_1_0, SCHEMAS, bring_to
from tests.ledger.sessions import SMALL
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


@pytest.mark.parametrize("schema", SCHEMAS)
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
    with pytest.raises(Exception, match="superseded"):
        await ledger.stamp()
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


@pytest.mark.parametrize("where", ["entries", "tables", "mark", "name", "directory"])
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


async def test_a_followers_rows_are_carried_over_without_keys(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    for name, number in {FOLLOWS: 1, WHOLE_FROM: 7}.items():
        set_number(path, name, number)
    before = entries_of(path)
    with followed_ledger(path) as followed:
        assert followed.meta["schema"] == SCHEMA
        assert followed.meta[WHOLE_FROM] == 7
        assert followed.position.offset == before[-1][0]
        assert followed.fold(keys, now).entries == len(before)
    assert entries_of(path) == before
