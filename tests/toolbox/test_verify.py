"""`verify` changes nothing, passes what is whole, and names what is not (S-67)."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from helmr.errors import DataError, LedgerDamaged, RuntimeHeld, UsageError
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.log.files import HeadMark, HeadPosition
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tools.audit import Audit, audit
from helmr_runtime.ledger.tools.restore import stored_backup
from tests.ledger.sessions import SMALL, start_of
from tests.toolbox.conftest import EARLIER
from tests.toolbox.damage import CHANGED, damage

pytestmark = pytest.mark.allows_blocking

PLACES = [
    8,
    pytest.param(20, marks=pytest.mark.long),
    pytest.param(200, marks=pytest.mark.soak),
]


def verified(path: Path, keys: LedgerKeys, now: datetime) -> Audit:
    with stored_ledger(path) as ledger:
        return audit(ledger, keys, now)


def digests(folder: Path) -> dict[str, str]:
    files: Iterable[Path] = (one for one in folder.iterdir() if not one.name.endswith(".lock"))
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in files}


def test_a_whole_ledger_passes_and_is_left_as_it_is(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    before = digests(path.parent)
    found = verified(path, keys, now)
    assert (found.entries, found.through) == (found.through, found.projected)
    assert found.sessions == sum(
        len(EARLIER.made[prefix]["sessions"]) for prefix in ("plain", "sealed")
    )
    assert found.checkpoints > 10
    assert digests(path.parent) == before


async def test_what_only_the_log_has_is_read_and_left_there(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    ledger = await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    started = await ledger.start(start_of())
    aside = path.parent.with_name("killed")
    shutil.copytree(path.parent, aside)  # what a kill at this moment would leave
    await ledger.close()
    before = digests(aside)
    assert (aside / f"{path.name}.commits").read_bytes().strip(b"\0")
    found = verified(aside / path.name, keys, now)
    assert found.through > found.projected, "the tables are behind, and that is not damage"
    assert started.created
    rows = rows_of(aside / path.name)
    assert digests(aside) == before
    # What is read beside the log is what a ledger holds that takes it in.
    again = await open_ledger(
        aside / path.name, clock=FakeClock(now), settings=SMALL, ring=keys.ring
    )
    await again.close()
    assert rows_of(aside / path.name)[: len(rows)] == rows


def rows_of(path: Path) -> list[bytes]:
    """The rows of a backup, without what chains its lines."""
    lines = b"".join(stored_backup(path, "1")).splitlines()
    return [line.rsplit(b",", 1)[0] for line in lines if line.startswith((b'["e"', b'["c"'))]


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.timeout(600)
def test_each_changed_value_is_found(
    path: Path, keys: LedgerKeys, now: datetime, places: int
) -> None:
    chance = random.Random(places)
    tables = list(CHANGED)
    tried = 0
    for number in range(places):
        # Half of them in entries and checkpoints, which everything else follows from.
        table = ("entries", "checkpoints")[number // 2 % 2] if number % 2 else tables[number % 11]
        copy = path.with_name("copy.duckdb")
        shutil.copy(path, copy)
        shutil.copy(f"{path}.head", f"{copy}.head")
        done = damage(copy, chance, table)
        if done is None:
            continue
        tried += 1
        with pytest.raises(DataError) as caught:
            verified(copy, keys, now)
        assert caught.value.exit_code == 7
        facts = caught.value.facts
        assert facts.get("table") == table or "seq" in facts, (done, caught.value)
    assert tried > places * 3 // 4


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.timeout(600)
def test_a_changed_byte_of_the_file_is_found_or_was_nobodys(
    path: Path, keys: LedgerKeys, now: datetime, places: int
) -> None:
    whole = list(stored_backup(path, "1"))
    data, chance = path.read_bytes(), random.Random(places)
    found = 0
    for _ in range(places):
        copy = path.with_name("copy.duckdb")
        shutil.copy(f"{path}.head", f"{copy}.head")
        place = chance.randrange(len(data))
        copy.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            verified(copy, keys, now)
        except (DataError, UsageError):
            found += 1
        else:
            assert list(stored_backup(copy, "1")) == whole
    assert found > 0


def test_a_missing_entry_is_named(path: Path, keys: LedgerKeys, now: datetime) -> None:
    with duckdb.connect(str(path)) as connection:
        session, seq = connection.execute(
            "SELECT session, seq FROM entries WHERE seq = 3 ORDER BY feed_offset LIMIT 1"
        ).fetchall()[0]
        connection.execute("DELETE FROM entries WHERE session = $1 AND seq = $2", [session, seq])
    with pytest.raises(LedgerDamaged, match="entry 3 is missing") as caught:
        verified(path, keys, now)
    assert caught.value.facts["seq"] == 4


@pytest.mark.parametrize(
    "table",
    [
        "waits",
        "chains",
        *(
            pytest.param(table, marks=pytest.mark.long)
            for table in ("sessions", "runs", "tokens", "send_keys")
        ),
    ],
)
def test_a_missing_row_of_a_table_is_named(
    path: Path, keys: LedgerKeys, now: datetime, table: str
) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"DELETE FROM {table} WHERE rowid = (SELECT min(rowid) FROM {table})")
    with pytest.raises(LedgerDamaged, match=f"table {table}, row") as caught:
        verified(path, keys, now)
    assert caught.value.facts["table"] == table


def test_a_mark_ahead_of_the_entries_is_named(path: Path, keys: LedgerKeys, now: datetime) -> None:
    mark = HeadMark(path.with_name(path.name + ".head"))
    mark.write(HeadPosition(10_000, b"\x01" * 32))
    mark.close()
    with pytest.raises(LedgerDamaged, match="head mark names entry 10000"):
        verified(path, keys, now)


async def test_a_ledger_that_is_open_is_refused(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    ledger = await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    with pytest.raises(RuntimeHeld):
        await asyncio.to_thread(verified, path, keys, now)
    await ledger.close()


def test_without_the_keys_nothing_is_called_whole(path: Path, now: datetime) -> None:
    with pytest.raises((UsageError, DataError)):
        verified(path, LedgerKeys(None), now)


def test_a_ledger_of_an_older_schema_needs_its_keys_too(tmp_path: Path, now: datetime) -> None:
    path = EARLIER.unpack(tmp_path / "old")
    with pytest.raises(UsageError, match="master key 'k1', and there are no keys here") as caught:
        verified(path, LedgerKeys(None), now)
    assert caught.value.hint is not None
    assert "--keys" in caught.value.hint


def test_what_is_no_ledger_is_refused(tmp_path: Path, now: datetime) -> None:
    with pytest.raises(UsageError, match="holds no ledger"):
        verified(tmp_path / "ledger.duckdb", LedgerKeys(None), now)
    (tmp_path / "ledger.duckdb").write_bytes(b"no database at all")
    with pytest.raises(DataError, match="not a DuckDB database"):
        verified(tmp_path / "ledger.duckdb", LedgerKeys(None), now)
