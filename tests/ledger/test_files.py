"""The file and what stands beside it: the lock, the head mark, a lost log, the lock-down."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import sys
from contextlib import suppress

import pytest

from helmr.errors import DataError, LedgerBehind, RuntimeHeld, StoreUnavailable
from helmr_runtime.core.entries import GENESIS
from helmr_runtime.ledger.actor import LedgerActor
from helmr_runtime.ledger.index.ledger_index import LedgerIndex
from helmr_runtime.ledger.log import files
from helmr_runtime.ledger.log.commit_log import CommitLog
from helmr_runtime.ledger.log.files import HeadMark, HeadPosition
from helmr_runtime.ledger.open import open_ledger
from tests.ledger.sessions import SMALL, begin, running
from tests.ledger.test_restart import killed


async def test_a_second_opener_is_refused_and_told_who_holds(duck, path, clock):
    with pytest.raises(RuntimeHeld) as caught:
        await open_ledger(path, clock=clock, settings=SMALL)
    assert caught.value.facts["pid"] == os.getpid()
    assert str(os.getpid()) in caught.value.message


async def test_another_process_is_refused_too(duck, path):
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom helmr_runtime.clock import SystemClock\n"
        "from helmr_runtime.ledger.open import open_ledger\n"
        "asyncio.run(open_ledger(Path(sys.argv[1]), clock=SystemClock()))"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(path), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await child.communicate()
    assert child.returncode != 0
    assert f"pid {os.getpid()}" in errors.decode()


async def test_the_lock_is_free_after_close_and_after_a_failed_open(opener, path, clock):
    duck = await opener()
    await duck.close()
    path.with_name(path.name + ".head").write_text("garbage")
    for _ in range(2):
        with pytest.raises(LedgerBehind):
            await open_ledger(path, clock=clock, settings=SMALL)
    path.with_name(path.name + ".head").unlink()
    again = await open_ledger(path, clock=clock, settings=SMALL)
    await again.close()


async def test_a_removed_log_is_noticed(duck, path, clock, tmp_path):
    hand = await running(duck, clock)
    assert await duck.verify_chain(hand.session_id) == 3  # now the database has them
    copy = killed(path, tmp_path / "whole log")
    copy.with_name(copy.name + ".wal").unlink()
    again = await open_ledger(copy, clock=clock, settings=SMALL)
    assert await again.verify_chain(hand.session_id) == 3  # the log of commits has them too
    await again.close()
    await begin(duck, clock)  # takes their place in the log of commits
    copy = killed(path, tmp_path / "killed")
    copy.with_name(copy.name + ".wal").unlink()
    with pytest.raises(LedgerBehind) as caught:
        await open_ledger(copy, clock=clock, settings=SMALL)
    assert ".wal" in str(caught.value.hint)


async def test_a_removed_log_of_commits_is_noticed(duck, path, clock, tmp_path):
    await running(duck, clock)
    copy = killed(path, tmp_path / "killed")
    copy.with_name(copy.name + ".commits").unlink()
    with pytest.raises(LedgerBehind) as caught:
        await open_ledger(copy, clock=clock, settings=SMALL)
    assert caught.value.facts["acknowledged_offset"] == 3
    assert ".commits" in str(caught.value.hint)


async def test_a_removed_database_is_noticed(duck, path, clock, tmp_path):
    await running(duck, clock)
    copy = killed(path, tmp_path / "killed")
    copy.with_name(copy.name + ".wal").unlink()
    copy.unlink()
    with pytest.raises(LedgerBehind):
        await open_ledger(copy, clock=clock, settings=SMALL)


async def test_an_older_copy_that_went_another_way_is_noticed(duck, path, clock, tmp_path):
    hand = await running(duck, clock)
    older = killed(path, tmp_path / "older")
    await hand.stored(hand.step("here"))
    mark = path.with_name(path.name + ".head").read_bytes()
    other = await open_ledger(older, clock=clock, settings=SMALL)
    await begin(other, clock)
    await other.close()
    older.with_name(older.name + ".head").write_bytes(mark)
    with pytest.raises(LedgerBehind):
        await open_ledger(older, clock=clock, settings=SMALL)


async def test_a_file_of_a_newer_runtime_is_refused(duck, path, clock):
    await duck._group.run_in_writer(
        duck._database.writer.execute, "UPDATE meta SET number = 99 WHERE name = 'schema'"
    )
    await duck.close()
    with pytest.raises(DataError, match="schema 99"):
        await open_ledger(path, clock=clock, settings=SMALL)


async def test_a_damaged_file_is_a_data_error_and_stays_as_it_is(opener, path, clock):
    duck = await opener()
    await duck.close()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"garbage")
    damaged = path.read_bytes()
    with pytest.raises(DataError, match="Corrupt database file"):
        await open_ledger(path, clock=clock, settings=SMALL)
    assert path.read_bytes() == damaged


async def test_the_engine_can_reach_no_other_file(duck, tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")

    def steal(connection):
        connection.execute(f"SELECT * FROM read_csv('{tmp_path}/secret.csv')")

    def unlock(connection):
        connection.execute("SET enable_external_access = true")

    for attack in (steal, unlock):
        with pytest.raises(StoreUnavailable):
            await duck.read(attack)


def test_the_head_mark_reads_back_and_notices_damage(tmp_path):
    mark = HeadMark(tmp_path / "head")
    assert mark.read() == HeadPosition(0, GENESIS)
    for offset in (1, 10**12):
        mark.write(HeadPosition(offset, bytes(range(32))))
        assert mark.read() == HeadPosition(offset, bytes(range(32)))
    mark.close()
    text = mark.path.read_bytes()
    mark.path.write_bytes(text.replace(b"01", b"02"))
    with pytest.raises(LedgerBehind):
        mark.read()


def line_of(offset: int) -> bytes:
    """A copy of the mark, as it stands in the file."""
    return files._line(HeadPosition(offset, b"h" * 32))


def test_a_mark_of_one_copy_is_read_and_gets_a_second_one(tmp_path):
    """As Helmr 0.1.0 wrote it."""
    mark = HeadMark(tmp_path / "head")
    mark.path.write_bytes(line_of(7))
    assert mark.read().feed_offset == 7
    mark.write(HeadPosition(8, b"h" * 32))
    mark.sync()
    data = mark.path.read_bytes()
    assert [data[at : at + 96].split()[0] for at in (0, 4096)] == [b"%020d" % 7, b"%020d" % 8]
    assert mark.read().feed_offset == 8
    # An older Helmr reads the first block alone.
    assert data[:4096].split() == line_of(7).split()
    mark.close()
    assert mark.path.read_bytes().split() == 2 * line_of(8).split()


@pytest.mark.parametrize("block", [0, 4096])
def test_a_torn_copy_of_the_head_mark_is_no_refusal(tmp_path, block):
    mark = HeadMark(tmp_path / "head")
    for offset in (1, 2):
        mark.write(HeadPosition(offset, b"h" * 32))
        mark.sync()
    data = mark.path.read_bytes()
    mark.close()
    other = int(data[4096 - block :].split()[0])
    for length in (0, 1, 20, 94):
        mark.path.write_bytes(data[:block] + b"?" * (length + 1) + data[block + length + 1 :])
        assert mark.read().feed_offset == other, length


def test_of_the_head_mark_one_copy_is_on_disk_at_every_moment(tmp_path, monkeypatch):
    """A write and a sync in any order, one within the other too."""
    chance = random.Random(4)
    mark = HeadMark(tmp_path / "head")
    unsynced: set[int] = set()
    offset = synced = 0

    def write() -> None:
        nonlocal offset
        offset += 1
        mark.write(HeadPosition(offset, b"h" * 32))

    def pwrite(fd: int, data: bytes, place: int) -> int:
        unsynced.add(place)
        assert len(unsynced) == 1
        return real_pwrite(fd, data, place)

    def sync_data(fd: int) -> None:
        nonlocal synced
        fails, before = chance.random() < 0.2, offset
        for _ in range(chance.randrange(3)):
            write()
        if fails:
            raise OSError(errno.EIO, "simulated")
        unsynced.clear()
        synced = before

    write()
    mark.sync()
    real_pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(files, "sync_data", sync_data)
    for _ in range(500):
        if chance.random() < 0.5:
            write()
        else:
            with suppress(OSError):
                mark.sync()
        assert mark.read().feed_offset == offset
        assert mark._fd is not None
        copies = files._copies(mark._fd)
        on_disk = {
            copy.feed_offset
            for at, copy in zip((0, 4096), copies, strict=True)
            if copy and at not in unsynced
        }
        assert max(on_disk) >= synced
    monkeypatch.undo()
    mark.close()


async def test_the_head_mark_is_on_disk_soon_after_a_commit(duck, path, clock):
    await running(duck, clock)
    mark = duck._database.mark
    assert mark._unsynced
    async with asyncio.timeout(20):
        while mark._unsynced:
            await asyncio.sleep(0.05)


async def test_what_stands_in_for_the_log_is_on_disk_before_it_is_written_over(
    duck, path, clock, monkeypatch
):
    """The mark, and the name of the engine's own log whenever that was made again."""
    order: list[str] = []
    merged = CommitLog.merged

    def noted(log, number):
        order.append("written over")
        merged(log, number)

    monkeypatch.setattr(CommitLog, "merged", noted)
    monkeypatch.setattr(files, "sync_directory", lambda path: order.append("names"))
    monkeypatch.setattr(HeadMark, "sync", lambda mark: order.append("mark"))
    hand = await running(duck, clock)
    await duck.verify_chain(hand.session_id)
    assert order == ["mark", "written over"]
    await duck._group.run_in_writer(duck._database.writer.execute, "CHECKPOINT")
    order.clear()
    await hand.stored(hand.step_done())
    await duck.verify_chain(hand.session_id)
    assert order[:3] == ["names", "mark", "written over"]


async def test_a_failing_open_is_tried_again_at_the_next_call(path, clock):
    path.mkdir()
    actor = LedgerActor(path, clock=clock, settings=SMALL)
    with pytest.raises(StoreUnavailable):
        await actor.feed_head()
    assert (await actor.stats())["open"] is False
    path.rmdir()
    assert await actor.feed_head() == 0
    await actor.close()


async def test_an_open_waits_for_the_lock_of_a_dying_holder(opener, path, clock):
    duck = await opener()
    actor = LedgerActor(path, clock=clock, settings=SMALL, lock_patience_s=20)
    asking = asyncio.create_task(actor.feed_head())
    await asyncio.sleep(0)
    await duck.close()
    assert await asyncio.wait_for(asking, 20) == 0
    await actor.close()


async def test_the_engine_being_lost_is_healed_and_loses_nothing(duck, clock):
    hand = await running(duck, clock)
    await duck._group.run_in_writer(duck._database.writer.close)
    stored = await hand.stored(hand.step())
    assert stored.first_feed_offset == 4
    assert await duck.verify_chain(hand.session_id) == hand.seq
    assert (await duck.stats())["failure"] is None


async def test_a_writer_that_stopped_is_opened_anew(actor, clock, monkeypatch):
    hand = await running(actor, clock)
    flush = hand.flush(hand.step())

    def broken(self, entry, now):
        raise DataError("a mistake of ours")

    monkeypatch.setattr(LedgerIndex, "apply", broken)
    with pytest.raises(DataError):
        await actor.commit(flush)
    monkeypatch.undo()
    stored = await actor.commit(flush)
    assert stored.first_feed_offset == 4
    await hand.stored(hand.step_done())
    assert await actor.verify_chain(hand.session_id) == hand.seq


@pytest.mark.parametrize(
    "content", [b"x", b"not a database\n" * 1000, b"SQLite format 3\0" + b"\0" * 4096]
)
async def test_a_file_that_is_no_database_is_refused_as_such_and_left_alone(path, clock, content):
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(DataError, match="is not a DuckDB database"):
            await open_ledger(path, clock=clock, settings=SMALL)
    assert path.read_bytes() == content
