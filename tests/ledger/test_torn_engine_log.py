"""A torn tail of the engine's own log costs nothing that the log of commits has; damage is told apart (S-52, S-63)."""

from __future__ import annotations

import logging
import random
import shutil
from pathlib import Path

import duckdb
import pytest

from helmr.errors import DataError, LedgerBehind, LedgerDamaged, StoreUnavailable
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.log.files import LOG_SUFFIX, MARK_SUFFIX, WAL_SUFFIX
from helmr_runtime.ledger.log.rebuild import LedgerKeys
from helmr_runtime.ledger.log.stored import stored_ledger
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables.engine import unopened
from helmr_runtime.ledger.tools.audit import audit
from helmr_runtime.ledger.tools.repair import repair
from tests.ledger.sessions import SMALL, START_AT, Hand, running
from tests.ledger.test_damaged_log import flip
from tests.ledger.test_restart import killed
from tests.longer import long_but

pytestmark = pytest.mark.allows_blocking

SECTOR = 512
KEYS = LedgerKeys(None)


class Made:
    """A killed ledger whose engine wrote a transaction last, and where that begins in its log."""

    def __init__(self, path: Path, hand: Hand, place: int) -> None:
        self.path = path
        self.hand = hand
        self.place = place

    def beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    @property
    def wal(self) -> Path:
        return self.beside(WAL_SUFFIX)


@pytest.fixture
async def made(path: Path, clock: FakeClock, tmp_path: Path) -> Made:
    """Its log of commits still has what that transaction took from it."""
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    hand = await running(ledger, clock)
    await ledger.verify_chain(hand.session_id)
    wal = path.with_name(path.name + WAL_SUFFIX)
    for number in range(3):
        await hand.stored(hand.accepted("y" * 3_000, stream_seq=number + 1))
    before = wal.stat().st_size
    log = path.with_name(path.name + LOG_SUFFIX).read_bytes()
    await ledger.verify_chain(hand.session_id)
    assert wal.stat().st_size > before + 3_000
    copy = killed(path, tmp_path / "lost")
    assert copy.with_name(copy.name + LOG_SUFFIX).read_bytes() == log
    await ledger.close()
    return Made(copy, hand, before)


async def opened_whole(made: Made, clock: FakeClock) -> None:
    """It opens, twice, has every entry, and an audit passes."""
    for _ in range(2):
        ledger = await open_ledger(made.path, clock=clock, settings=SMALL)
        assert await ledger.verify_chain(made.hand.session_id) == made.hand.seq
        await ledger.close()
    with stored_ledger(made.path) as stored:
        audit(stored, KEYS, START_AT)


@pytest.mark.long  # tests/programs/powerloss
async def test_whatever_sectors_the_disk_kept_of_its_last_transaction_the_ledger_opens(
    made: Made, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(1)
    whole, cuts = made.wal.read_bytes(), 0
    for number in range(12):
        data = bytearray(whole)
        for at in range(made.place - made.place % SECTOR + SECTOR, len(data), SECTOR):
            if chance.random() < 0.5:
                data[at : at + SECTOR] = bytes(len(data[at : at + SECTOR]))
        image = tmp_path / f"image-{number}"
        shutil.copytree(made.path.parent, image)
        torn = Made(image / made.path.name, made.hand, made.place)
        torn.wal.write_bytes(data)
        before = {file.name: file.read_bytes() for file in image.iterdir()}
        with stored_ledger(torn.path) as stored:
            assert stored.head_offset == made.hand.seq
            audit(stored, KEYS, START_AT)
        after = {f.name: f.read_bytes() for f in image.iterdir() if not f.name.endswith(".lock")}
        assert after == before, "verify changes nothing"
        with caplog.at_level(logging.WARNING):
            await opened_whole(torn, clock)
        if torn.beside(f"{WAL_SUFFIX}.cut").exists():
            assert torn.beside(f"{WAL_SUFFIX}.cut").read_bytes() == data
            assert "was torn by a loss of power" in caplog.text
            cuts += 1
        caplog.clear()
    assert cuts > 6


async def test_a_bad_transaction_with_others_behind_it_is_damage(
    made: Made, clock: FakeClock
) -> None:
    """It was synced: the next one is written only then. Nothing is cut, and the way out is named and works."""
    flip(made.wal, made.place // 2, 3)
    before = made.wal.read_bytes()
    for _ in range(2):
        with pytest.raises(LedgerDamaged, match="other transactions follow") as caught:
            await open_ledger(made.path, clock=clock, settings=SMALL)
        assert "`helmr repair`" in str(caught.value.hint)
    with pytest.raises(LedgerDamaged, match="other transactions follow"), stored_ledger(made.path):
        pass
    assert made.wal.read_bytes() == before
    with pytest.raises(LedgerDamaged) as caught:
        repair(made.path, KEYS, START_AT)
    (told,) = [word for word in str(caught.value.hint).split("`") if word.startswith("--drop-from")]
    repair(made.path, KEYS, START_AT, drop_from=int(told.split()[1]))
    ledger = await open_ledger(made.path, clock=clock, settings=SMALL)
    await ledger.close()


@pytest.mark.parametrize("lost", ["log", "log and mark"])
async def test_a_torn_tail_is_not_cut_if_the_log_of_commits_does_not_reach_back(
    made: Made, clock: FakeClock, lost: str
) -> None:
    flip(made.wal, made.place + 600, 3)
    before = made.wal.read_bytes()
    if lost == "log":
        made.beside(LOG_SUFFIX).write_bytes(b"")
    else:
        # Begins behind what the database then has.
        log = made.beside(LOG_SUFFIX)
        log.write_bytes(log.read_bytes()[4_000:])
        made.beside(MARK_SUFFIX).unlink()
    for _ in range(2):
        with pytest.raises(LedgerDamaged, match=r"\.wal is damaged at byte") as caught:
            await open_ledger(made.path, clock=clock, settings=SMALL)
        assert "`helmr repair`" in str(caught.value.hint)
        assert made.wal.read_bytes() == before
    assert not made.beside(f"{WAL_SUFFIX}.cut").exists()
    with pytest.raises(LedgerDamaged) as caught:
        repair(made.path, KEYS, START_AT)
    (told,) = [word for word in str(caught.value.hint).split("`") if word.startswith("--drop-from")]
    done = repair(made.path, KEYS, START_AT, drop_from=int(told.split()[1]))
    assert done.checked.through == 3
    ledger = await open_ledger(made.path, clock=clock, settings=SMALL)
    await ledger.close()


async def test_a_kill_while_the_tail_is_tried_leaves_the_log_as_it_was(
    made: Made, clock: FakeClock
) -> None:
    flip(made.wal, made.place + 600, 3)
    torn = made.wal.read_bytes()
    made.wal.rename(made.beside(f"{WAL_SUFFIX}.aside"))
    made.wal.write_bytes(torn[: made.place // 2])
    await opened_whole(made, clock)
    assert made.beside(f"{WAL_SUFFIX}.cut").read_bytes() == torn


async def test_the_head_of_a_log_made_again_may_be_torn(made: Made, clock: FakeClock) -> None:
    """The engine has put all into the file and begins its log again: one transaction, and no place is named."""
    with duckdb.connect(str(made.path)) as connection:
        connection.execute("CHECKPOINT")
        connection.execute("UPDATE meta SET number = number + 1 WHERE name = 'openings'")
        database, wal = made.path.read_bytes(), made.wal.read_bytes()
    made.path.write_bytes(database)
    made.wal.write_bytes(bytes([wal[0] ^ 0x40]) + wal[1:])
    made.wal.chmod(0o600)
    await opened_whole(made, clock)


@long_but(
    3,
    ("error", "passes"),
    [
        (OSError(28, "No space left on device"), True),
        (duckdb.TransactionException("Failed to commit: No space left on device"), True),
        (duckdb.FatalException("Corrupt? Disk quota exceeded"), True),
        (duckdb.IOException("Cannot open file: Too many open files"), True),
        (duckdb.IOException('Cannot open file "/corrupt/ledger.duckdb": Is a directory'), True),
        (duckdb.OutOfMemoryException("failed to allocate"), True),
        (duckdb.IOException("Corrupt database file: computed checksum"), False),
        (duckdb.IOException("Could not read enough bytes from file"), False),
        (duckdb.CatalogException("Type with name awaited_kind does not exist"), False),
        (duckdb.SerializationException("Failed to deserialize"), False),
        (duckdb.InternalException("assertion"), False),
    ],
)
def test_what_time_does_not_heal_is_no_matter_of_trying_again(
    error: Exception, passes: bool
) -> None:
    made = unopened(Path("/corrupt/ledger.duckdb"), error)
    assert isinstance(made, StoreUnavailable if passes else DataError)
    assert made.retryable is passes
    assert passes or made.hint


async def test_a_log_that_is_another_ledgers_is_refused(made: Made, clock: FakeClock) -> None:
    with duckdb.connect(str(made.path.with_name("other"))) as connection:
        connection.execute("CREATE TABLE t AS FROM range(3)")
        shutil.copy(made.path.with_name("other.wal"), made.wal)
    with pytest.raises((LedgerDamaged, LedgerBehind)):
        await open_ledger(made.path, clock=clock, settings=SMALL)
