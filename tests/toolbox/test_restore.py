"""A backup restored elsewhere is the ledger that it was taken of, or nothing (S-66)."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from helmr.errors import DataError, LedgerDamaged, StoreUnavailable, UsageError
from helmr_runtime.clock import FakeClock
from helmr_runtime.core.session_file import BackupHeader, BackupReader
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables.schema import SCHEMA
from helmr_runtime.ledger.tools.restore import Restored, restore, stored_backup
from helmr_runtime.ports.ledger import restore as restored_state
from helmr_runtime.security.keys import key_ring_text, read_key_ring
from helmr_runtime.service.exports import Backups
from tests.core.builder import picture
from tests.ledger.sessions import SMALL, start_of
from tests.ledger.test_disk_full import fill, small_disk
from tests.ledger.test_restart import tables_of
from tests.toolbox.conftest import RING

__all__ = ["small_disk"]

pytestmark = pytest.mark.allows_blocking

Restore = Callable[[Path], Restored]


@pytest.fixture
def backup(path: Path, tmp_path: Path) -> Path:
    """A backup of the ledger at rest."""
    file = tmp_path / "some.backup"
    file.write_bytes(b"".join(stored_backup(path, "1.0")))
    return file


@pytest.fixture
def restored(backup: Path, keys: LedgerKeys, now: datetime) -> Restore:
    """Restores the backup into that folder."""

    def into(folder: Path) -> Restored:
        assert keys.ring is not None
        ring = (RING, key_ring_text(keys.ring))
        return restore(backup, folder / "ledger.duckdb", keys, ring, now)

    return into


def test_a_copy_is_the_original_line_by_line(
    backup: Path, restored: Restore, tmp_path: Path
) -> None:
    made = restored(tmp_path / "copy")
    assert made.checked.entries == made.header.through
    again = b"".join(stored_backup(tmp_path / "copy" / "ledger.duckdb", "1.0"))
    assert again == backup.read_bytes()
    mode = (tmp_path / "copy").stat().st_mode, (tmp_path / "copy" / RING).stat().st_mode
    assert [one & 0o077 for one in mode] == [0, 0]


async def test_a_copy_opens_with_the_same_tables_and_states(
    path: Path, restored: Restore, tmp_path: Path, keys: LedgerKeys, now: datetime
) -> None:
    folder = tmp_path / "copy"
    restored(folder)
    ring = read_key_ring(folder / RING, {})
    original = await open_ledger(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    copy = await open_ledger(
        folder / "ledger.duckdb", clock=FakeClock(now), settings=SMALL, ring=ring
    )
    kept, made = await tables_of(original), await tables_of(copy)
    for table in ("runs", "waits", "send_keys", "operations"):
        assert made[table] == kept[table]
    assert len(made["sessions"]) == len(kept["sessions"]) > 10
    for head in list(original.index.heads.values())[1:]:
        one = restored_state(head.session_id, await original.snapshot(head.session_id))
        other = restored_state(head.session_id, await copy.snapshot(head.session_id))
        assert picture(one) == picture(other)
    assert copy.index.counts() == original.index.counts()
    epoch = (await original.load(head.session_id, "there")).epoch
    assert (await copy.load(head.session_id, "here")).epoch >= epoch
    await original.close()
    await copy.close()


async def test_a_backup_of_a_ledger_at_work_ends_where_it_began(
    path: Path, tmp_path: Path, keys: LedgerKeys, now: datetime
) -> None:
    actor = LedgerActor(path, clock=FakeClock(now), settings=SMALL, ring=keys.ring)
    before = await actor.stats()
    lines: list[bytes] = []
    async for piece in await Backups(actor, "1.0").stream():
        lines.append(piece)
        await actor.start(start_of())  # while it goes on
    assert (await actor.stats())["feed_offset"] > before["feed_offset"]
    await actor.close()
    reader = BackupReader(io.BytesIO(b"".join(lines)))
    rows = list(reader.rows())
    assert reader.header.through == before["feed_offset"]
    assert [row[1] for row in rows if row[0] == "e"] == list(range(1, reader.header.through + 1))
    file = tmp_path / "live.backup"
    file.write_bytes(b"".join(lines))
    made = restore(file, tmp_path / "copy" / path.name, keys, None, now)
    assert made.checked.through == before["feed_offset"]
    assert made.header == BackupHeader(
        "1.0", SCHEMA, made.checked.through, made.header.openings, True
    )


def test_a_folder_that_holds_something_is_left_alone(restored: Restore, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        restored(folder)
    assert [one.name for one in folder.iterdir()] == ["mine"]
    (folder / "mine").unlink()
    restored(folder)
    with pytest.raises(UsageError, match="not empty"):
        restored(folder)


def test_without_its_keys_nothing_is_restored(backup: Path, tmp_path: Path, now: datetime) -> None:
    with pytest.raises((UsageError, DataError), match="key"):
        restore(backup, tmp_path / "copy" / "ledger.duckdb", LedgerKeys(None), None, now)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "some.backup"]


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 8))]
)
def test_a_damaged_backup_leaves_nothing(
    backup: Path, restored: Restore, tmp_path: Path, seed: int
) -> None:
    data, chance = backup.read_bytes(), random.Random(seed)
    place = chance.randrange(20, len(data))
    changed = data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
    backup.write_bytes(changed if seed % 2 else data[:place])
    with pytest.raises(LedgerDamaged) as caught:
        restored(tmp_path / "copy")
    assert caught.value.facts["line"] == data[:place].count(b"\n") + 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "some.backup"]


def test_a_full_disk_leaves_nothing(
    backup: Path, keys: LedgerKeys, now: datetime, small_disk: Path
) -> None:
    fill(small_disk / "ballast")
    with pytest.raises(StoreUnavailable, match="no room"):
        restore(backup, small_disk / "copy" / "ledger.duckdb", keys, None, now)
    assert [one.name for one in small_disk.iterdir()] == ["ballast"]
