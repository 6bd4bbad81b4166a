"""`repair` makes again what entries say, keeps the old file, and drops only what it is told to (S-67)."""

from __future__ import annotations

import random
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from helmr.errors import DataError, LedgerDamaged
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.log.files import HeadMark, HeadPosition
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tools.repair import KEPT, repair
from helmr_runtime.ledger.tools.restore import stored_backup
from tests.ledger.sessions import SMALL, start_of
from tests.longer import long_but
from tests.toolbox.damage import damage
from tests.toolbox.test_verify import verified

pytestmark = pytest.mark.allows_blocking


def entries_of(path: Path) -> list[bytes]:
    lines = b"".join(stored_backup(path, "1")).splitlines()
    return [line.rsplit(b",", 1)[0] for line in lines if line.startswith(b'["e"')]


def test_a_whole_ledger_is_left_as_it_is(path: Path, keys: LedgerKeys, now: datetime) -> None:
    before = path.read_bytes()
    done = repair(path, keys, now)
    assert (done.damage, done.kept) == (None, None)
    assert path.read_bytes() == before


@long_but(
    1,
    "table",
    [
        "waits",
        "checkpoints",
        *(
            pytest.param(table, marks=pytest.mark.long)
            for table in ("sessions", "runs", "tokens", "api_keys")
        ),
    ],
)
def test_what_entries_say_is_made_again(
    path: Path, keys: LedgerKeys, now: datetime, table: str
) -> None:
    entries = entries_of(path)
    assert damage(path, random.Random(3), table) is not None
    bad = path.read_bytes()
    with pytest.raises(DataError) as caught:
        verified(path, keys, now)
    done = repair(path, keys, now)
    assert done.damage == caught.value.message
    assert done.kept == path.with_name(path.name + KEPT)
    assert done.kept.read_bytes() == bad
    assert (done.dropped_entries, done.dropped_checkpoints > 0) == (0, table == "checkpoints")
    verified(path, keys, now)
    assert entries_of(path) == entries


@pytest.mark.long
async def test_a_repaired_ledger_opens(path: Path, keys: LedgerKeys, now: datetime) -> None:
    damage(path, random.Random(1), "waits")
    repair(path, keys, now)
    ledger = await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    for session_id in list(ledger.index.heads)[1:]:
        await ledger.load(session_id, "here")
    await ledger.close()
    verified(path, keys, now)


async def test_what_only_the_log_has_is_kept_by_a_repair(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    ledger = await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    started = await ledger.start(start_of())
    aside = path.parent.with_name("killed")
    shutil.copytree(path.parent, aside)
    await ledger.close()
    killed = aside / path.name
    entries = entries_of(killed)
    damage(killed, random.Random(1), "waits")
    done = repair(killed, keys, now)
    assert (done.dropped_entries, done.kept) == (0, killed.with_name(killed.name + KEPT))
    assert entries_of(killed) == entries
    assert (aside / f"{killed.name}{KEPT}.commits").exists()
    again = await open_ledger(killed, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    assert again.index.heads[started.session_id].next_seq == 3
    await again.close()
    verified(killed, keys, now)


def test_a_bad_entry_is_dropped_only_when_told(path: Path, keys: LedgerKeys, now: datetime) -> None:
    entries = entries_of(path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE entries SET op = 77 WHERE feed_offset = 100")
    before = path.read_bytes()
    with pytest.raises(LedgerDamaged) as caught:
        repair(path, keys, now)
    assert "--drop-from 100" in str(caught.value.hint)
    assert path.read_bytes() == before
    assert sorted(one.name for one in path.parent.iterdir() if "part" in one.name) == []
    done = repair(path, keys, now, drop_from=100)
    assert (done.dropped_entries, done.checked.through) == (len(entries) - 99, 99)
    assert entries_of(path) == entries[:99]
    verified(path, keys, now)


@pytest.mark.long
def test_acknowledged_entries_that_are_gone_are_not_passed_over(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    last = verified(path, keys, now).through
    mark = HeadMark(path.with_name(path.name + ".head"))
    mark.write(HeadPosition(last + 5, b"\x01" * 32))
    mark.close()
    with pytest.raises(LedgerDamaged, match=f"entry {last + 5} was acknowledged") as caught:
        repair(path, keys, now)
    assert f"--drop-from {last + 1}" in str(caught.value.hint)
    done = repair(path, keys, now, drop_from=last + 1)
    assert (done.dropped_entries, done.checked.through) == (0, last)
    verified(path, keys, now)


@pytest.mark.long
def test_without_checkpoints_sessions_are_folded_from_entries(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    done = repair(path, keys, now, without_checkpoints=True)
    assert done.checked.checkpoints == 0
    again = repair(path, keys, now, without_checkpoints=True)
    assert again.kept == path.with_name(path.name + KEPT + "1")


# --- blocks that the engine refuses -----------------------------------------------------------------

BLOCK = 2**18
FIRST_BLOCK_AT = 12_288


@pytest.mark.long
def test_blocks_whose_checksums_alone_are_wrong_cost_nothing(
    path: Path, keys: LedgerKeys, now: datetime
) -> None:
    """As a loss of power leaves those that the engine wrote in place: what the file refers to is there."""
    entries = entries_of(path)
    data = bytearray(path.read_bytes())
    blocks = [at for at in range(FIRST_BLOCK_AT, len(data), BLOCK) if any(data[at : at + BLOCK])]
    assert len(blocks) > 2
    for at in blocks:
        data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(LedgerDamaged, match="computed checksum") as caught:
        verified(path, keys, now)
    assert "`helmr repair`" in str(caught.value.hint)
    done = repair(path, keys, now)
    assert done.damage is not None
    assert "computed checksum" in done.damage
    assert (done.dropped_entries, done.dropped_checkpoints) == (0, 0)
    assert done.kept is not None
    assert done.kept.read_bytes() == data
    assert sorted(one.name for one in path.parent.iterdir() if "repair-" in one.name) == []
    assert entries_of(path) == entries
    verified(path, keys, now)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 6))]
)
def test_a_changed_byte_in_a_block_is_never_taken_for_what_was_written(
    path: Path, keys: LedgerKeys, now: datetime, seed: int
) -> None:
    entries = entries_of(path)
    data, chance = bytearray(path.read_bytes()), random.Random(seed)
    place = chance.choice([n for n in range(FIRST_BLOCK_AT, len(data)) if data[n]])
    data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    with suppress(DataError):
        repair(path, keys, now)
        assert entries_of(path) == entries
        return
    assert path.read_bytes() == data
