"""The log of commits: what was acknowledged is read back, once, whatever ended the process or the write."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from helmr.errors import LedgerBehind, LedgerDamaged, StoreUnavailable
from helmr_runtime.core.entries import Draft, EntryKind, stamp
from helmr_runtime.ledger.log import file_store
from helmr_runtime.ledger.log.commit_log import CommitLog
from helmr_runtime.ledger.log.file_store import FileStore, file_log, read_unmerged
from helmr_runtime.ledger.log.files import LOG_SUFFIX
from helmr_runtime.ledger.log.merging import Merging
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables.appends import Appends, Checkpoint, LeaseRow
from helmr_runtime.ledger.tables.engine import entry_row
from tests.ledger.sessions import ALICE, SMALL, START_AT, begin, parked, running, start_of
from tests.ledger.test_restart import killed

pytestmark = pytest.mark.allows_blocking

LOG_ID = 77
SESSION = "ses_01m8bc7wc1ejdte581nx7revtp"
RUN = "run_01m8bc7wc1ejdte581nx7revtq"


def commit(number: int, text: str = "x") -> Appends:
    """What a commit appends."""
    entry = stamp(
        Draft(EntryKind.NOTE_ADDED, {"note_id": str(number), "text": text}, RUN, number, ALICE),
        session_id=SESSION,
        seq=number,
        recorded_at=START_AT,
        previous=bytes(32),
        key=None,
    )
    return Appends(
        [replace(entry, feed_offset=number)],
        [Checkpoint(number, SESSION, number, "{}")],
        [LeaseRow(SESSION, 1, None)],
    )


LEFT_OPEN: list[CommitLog] = []


def opened(path: Path, number: int = 0, log_id: int = LOG_ID) -> CommitLog:
    log = file_log(path)
    log.open(log_id, number)
    LEFT_OPEN.append(log)
    return log


@pytest.fixture(autouse=True)
def none_left_open() -> Iterator[None]:
    """Closed as the end of a process does, which empties nothing."""
    yield
    for log in LEFT_OPEN:
        assert isinstance(log._store, FileStore)
        if log._store._fd is not None:
            os.close(log._store._fd)
    LEFT_OPEN.clear()


def texts(appends: Appends) -> list[str]:
    return [entry.body_json for entry in appends.entries]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "ledger.duckdb.commits"


def test_every_value_comes_back_as_it_was(path: Path) -> None:
    made = commit(2**40, 'it\'s \u0000 "quoted" ☃ \U0001f600 \n')
    none = commit(2)
    none.entries[0] = replace(none.entries[0], run_id=None, op=None)
    log = opened(path)
    log.append(made)
    log.append(none)
    found = read_unmerged(path, LOG_ID, 0)
    for stored, wanted in zip(found.entries, (*made.entries, *none.entries), strict=True):
        assert entry_row(stored) == entry_row(wanted)
    assert found.checkpoints == [*made.checkpoints, *none.checkpoints]
    assert found.holdings == [*made.holdings, *none.holdings]
    assert opened(path, number=1).unmerged().checkpoints == none.checkpoints


def test_wherever_a_record_is_torn_those_before_it_are_read_and_it_is_not(path: Path) -> None:
    log = opened(path)
    for number in (1, 2, 3):
        log.append(commit(number))
    two = len(path.read_bytes().rstrip(b"\0"))
    log.append(commit(4, "last"))
    whole = path.read_bytes()
    four = len(whole.rstrip(b"\0"))
    chance = random.Random(1)
    for place in (two, two + 1, four - 1, *(chance.randrange(two, four) for _ in range(60))):
        path.write_bytes(whole[:place] + bytes(len(whole) - place))
        assert len(opened(path).unmerged().entries) == 3, place
        path.write_bytes(whole[:place])
        assert len(opened(path).unmerged().entries) == 3, place
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert len(opened(path).unmerged().entries) == 3, place
    path.write_bytes(whole)
    assert len(opened(path).unmerged().entries) == 4


def test_what_follows_a_torn_record_takes_its_place(path: Path) -> None:
    log = opened(path)
    log.append(commit(1))
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-1])
    again = opened(path)
    assert not again.has_unmerged
    again.append(commit(1, "other"))
    again.append(commit(2))
    assert [body.count("other") for body in texts(opened(path).unmerged())] == [1, 0]


def test_records_are_written_over_those_that_the_database_has(path: Path) -> None:
    """Whatever an earlier round has left behind the new ones, however they lie."""
    chance = random.Random(5)
    log = opened(path)
    number = 0
    for _ in range(40):
        wanted: list[str] = []
        for _ in range(chance.randint(1, 9)):
            number += 1
            made = commit(number, "x" * chance.choice((0, 7, 300, 5_000)))
            log.append(made)
            wanted += texts(made)
            assert texts(read_unmerged(path, LOG_ID, number - len(wanted))) == wanted
        log.merged(number)
        assert read_unmerged(path, LOG_ID, number).is_empty
    log.close()
    assert path.stat().st_size == 0


def test_a_text_that_looks_like_a_record_is_none(path: Path) -> None:
    log = opened(path)
    log.append(commit(1))
    forged = path.read_bytes().rstrip(b"\0").decode("latin-1")
    log.append(commit(2, forged))
    assert path.read_bytes().count(file_store.MARK) == 2
    log.merged(2)
    log.append(commit(3, "short"))
    assert [entry.seq for entry in read_unmerged(path, LOG_ID, 2).entries] == [3]


def test_the_log_of_another_ledger_and_one_with_a_gap_are_refused_and_left_alone(
    path: Path,
) -> None:
    log = opened(path)
    for number in (1, 2):
        log.append(commit(number))
    log.merged(2)
    log.append(commit(3))
    before = path.read_bytes()
    with pytest.raises(LedgerBehind, match="is not the log of the ledger beside it"):
        opened(path, number=2, log_id=LOG_ID + 1)
    with pytest.raises(LedgerBehind, match="begins with commit 3"):
        opened(path, number=1)
    with pytest.raises(LedgerBehind):
        read_unmerged(path, LOG_ID, 1)
    assert path.read_bytes() == before
    assert len(opened(path, number=2).unmerged().entries) == 1
    assert not opened(path, number=3).has_unmerged


def test_a_write_that_was_refused_is_not_read_after_a_kill(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = opened(path)
    log.append(commit(1))

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(file_store, "sync_data", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        log.append(commit(2))
    monkeypatch.undo()
    assert [entry.seq for entry in read_unmerged(path, LOG_ID, 0).entries] == [1]
    log.append(commit(2, "again"))
    assert [entry.seq for entry in read_unmerged(path, LOG_ID, 0).entries] == [1, 2]


# --- with its ledger --------------------------------------------------------------------------------


def in_database(path: Path) -> list[int]:
    """Feed offsets of the entries that the database itself has."""
    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.execute("SELECT feed_offset FROM entries ORDER BY feed_offset").fetchall()
    return [offset for (offset,) in rows]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where the ledger is."""
    return tmp_path / "ledger.duckdb"


async def test_what_the_database_took_before_a_kill_is_not_taken_twice(database, clock, tmp_path):
    """The kill comes between the transaction and the next record, so that the log still has what was moved."""
    ledger = await open_ledger(database, clock=clock, settings=SMALL)
    hand = await running(ledger, clock)
    log = database.with_name(database.name + LOG_SUFFIX)
    before = log.read_bytes()
    assert before.strip(b"\0")
    assert await ledger.verify_chain(hand.session_id) == 3
    copy = killed(database, tmp_path / "killed")
    copy.with_name(log.name).write_bytes(before)
    await ledger.close()
    again = await open_ledger(copy, clock=clock, settings=SMALL)
    assert await again.verify_chain(hand.session_id) == 3
    await begin(again, clock)
    await again.close()
    assert in_database(copy) == [1, 2, 3, 4, 5]


async def test_a_move_of_which_nobody_knows_is_done_once(database, clock, monkeypatch):
    """The engine raises, and has it on disk; more is committed before anybody looks."""
    ledger = await open_ledger(database, clock=clock, settings=SMALL)
    hand = await running(ledger, clock)
    moved = Merging.moved
    raised: list[bool] = []

    def durable_but_raises(self):
        if not raised:
            raised.append(True)
            raise duckdb.IOException("the automatic checkpoint failed")
        moved(self)

    monkeypatch.setattr(Merging, "moved", durable_but_raises)
    monkeypatch.setattr(type(ledger._database), "heal", lambda self: None)
    with pytest.raises(duckdb.IOException):
        ledger._database.merge()
    monkeypatch.undo()
    await hand.stored(hand.step())
    assert await ledger.verify_chain(hand.session_id) == hand.seq == 4
    await ledger.close()
    assert raised
    assert in_database(database) == [1, 2, 3, 4]


async def test_a_full_log_is_moved_into_the_database_by_itself(database, clock, monkeypatch):
    monkeypatch.setattr(file_store, "FULL_BYTES", 20_000)
    ledger = await open_ledger(database, clock=clock, settings=SMALL)
    hand = await running(ledger, clock)
    merges = 0
    for number in range(1, 60):
        had = len(ledger._database._log.unmerged().entries)
        await hand.stored(hand.accepted("y" * 2_000, stream_seq=number))
        merges += len(ledger._database._log.unmerged().entries) < had
    assert merges > 3
    assert database.with_name(database.name + LOG_SUFFIX).stat().st_size <= file_store.GROWS_BYTES
    assert await ledger.verify_chain(hand.session_id) == hand.seq
    await ledger.close()


async def test_a_log_that_the_database_cannot_take_is_full_and_told(database, clock, monkeypatch):
    monkeypatch.setattr(file_store, "FULL_BYTES", 2_000)
    ledger = await open_ledger(database, clock=clock, settings=SMALL)
    hand = await running(ledger, clock)

    def refused(self, connection):
        raise duckdb.IOException("No space left on device")

    monkeypatch.setattr(Merging, "move", refused)
    while not ledger._database._log.is_full:
        await hand.stored(hand.accepted("y" * 500, stream_seq=hand.seq))
    flush = hand.flush(hand.accepted("one too many", stream_seq=hand.seq))
    with pytest.raises(StoreUnavailable, match="No space left"):
        await ledger.commit(flush)
    monkeypatch.undo()
    await ledger.commit(flush)
    assert await ledger.verify_chain(hand.session_id) == hand.seq
    await ledger.close()


async def test_a_database_that_was_put_back_without_its_log_is_refused(database, clock, tmp_path):
    """An older copy of the database, and the log as it is now."""
    ledger = await open_ledger(database, clock=clock, settings=SMALL)
    hand = await running(ledger, clock)
    older = killed(database, tmp_path / "older")
    await hand.stored(hand.step())
    assert await ledger.verify_chain(hand.session_id) == 4
    await hand.stored(hand.step_done())
    for suffix in (LOG_SUFFIX, ".head"):
        shutil.copy(
            database.with_name(database.name + suffix), older.with_name(older.name + suffix)
        )
    await ledger.close()
    with pytest.raises(LedgerBehind, match="begins with commit"):
        await open_ledger(older, clock=clock, settings=SMALL)


async def test_a_clean_stop_leaves_an_empty_log(database, clock):
    ledger = await open_ledger(database, clock=clock, settings=SMALL)
    hand, _ = await parked(ledger, clock)
    await ledger.start(start_of())
    await ledger.close()
    assert database.with_name(database.name + LOG_SUFFIX).stat().st_size == 0
    assert len(in_database(database)) == hand.seq + 2


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"{}",
        b"[[[]], [], []]",
        b"[[], [[1]], []]",
        b"[" * 40_000,
        b"[1, 2, 3]",
        b"[[], [], [[[], 1, null]]]",
    ],
)
def test_a_whole_record_that_no_ledger_wrote_is_told(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "made.commits"
    checksum = file_store._checksum(LOG_ID, 1, text)
    header = file_store.HEADER.pack(file_store.MARK, LOG_ID, 1, len(text), checksum)
    path.write_bytes(header + text)
    with pytest.raises(LedgerDamaged, match="commit 1 is nothing"):
        file_log(path).open(LOG_ID, 0)
    with pytest.raises(LedgerDamaged, match="commit 1 is nothing"):
        read_unmerged(path, LOG_ID, 0)
