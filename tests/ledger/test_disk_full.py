"""A full disk stops acknowledgements, loses nothing acknowledged, and is over when there is room (S-65)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from helmr.errors import StoreUnavailable, TokenCompleted
from helmr.models import SessionsQuery
from helmr.wire import ids
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.database import Database
from helmr_runtime.ledger.open import open_ledger
from helmr_runtime.ledger.tables import lists
from helmr_runtime.ports import Flush
from tests.ledger.facts import complete_token, create_token
from tests.ledger.sessions import SMALL, Hand, running, start_of


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not possible here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(file: Path) -> None:
    """Take all room there is."""
    # Nothing but "no space left" ends this, and the test's own bound.
    with file.open("wb", buffering=0) as raw, contextlib.suppress(OSError):
        while True:
            raw.write(b"x" * 65536)


async def until_refused(ledger: DuckLedger, hand: Hand) -> Flush:
    """Commit large records until one is not acknowledged; that one."""
    async with asyncio.timeout(20):
        while True:
            flush = hand.flush(hand.accepted("y" * 200_000, stream_seq=hand.seq))
            try:
                await ledger.commit(flush)
            except StoreUnavailable:
                return flush


@pytest.mark.allows_blocking
async def test_a_full_disk_is_told_and_is_over_when_there_is_room(small_disk, clock):
    path = small_disk / "ledger.duckdb"
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    hand = await running(ledger, clock)
    ballast = small_disk / "ballast"
    fill(ballast)
    flush = await until_refused(ledger, hand)
    stats = await ledger.stats()
    assert stats["failing_since"] is not None
    assert stats["failure"]
    acknowledged = flush.first_seq - 1
    with pytest.raises(StoreUnavailable):
        await ledger.commit(flush)
    assert await ledger.verify_chain(hand.session_id) == acknowledged
    ballast.unlink()
    await ledger.commit(flush)
    assert (await ledger.stats())["failing_since"] is None
    assert await ledger.verify_chain(hand.session_id) == hand.seq
    await ledger.close()
    again = await open_ledger(path, clock=clock, settings=SMALL)
    assert await again.verify_chain(hand.session_id) == hand.seq
    await again.close()


@pytest.mark.allows_blocking
async def test_lists_show_what_was_acknowledged_while_the_disk_is_full(small_disk, clock):
    ledger = await open_ledger(small_disk / "ledger.duckdb", clock=clock, settings=SMALL)
    hand = await running(ledger, clock)
    await ledger.read_tables(lists.sessions, SessionsQuery(limit=10))
    ballast = small_disk / "ballast"
    fill(ballast)
    flush = await until_refused(ledger, hand)
    acknowledged = flush.first_seq - 1
    late = await started_while_full(ledger)
    for _ in range(2):  # nothing of the first look is left that would harm the second
        found = await ledger.rows.session(hand.session_id)
        assert found is not None
        assert found["last_seq"] == acknowledged
        page = await ledger.read_tables(lists.sessions, SessionsQuery(limit=200))
        assert {one["id"] for one in page["items"]} == {hand.session_id, *late}
        run = await ledger.rows.run(hand.run_id)
        assert run is not None
        assert run["status"] == "running"
        assert await ledger.rows.session(ids.new_id(ids.SESSION)) is None
    assert (await ledger.stats())["failing_since"] is not None
    ballast.unlink()
    await ledger.commit(flush)
    found = await ledger.rows.session(hand.session_id)
    assert found is not None
    assert found["last_seq"] == hand.seq
    assert await ledger.verify_chain(hand.session_id) == hand.seq
    await ledger.close()


async def started_while_full(ledger: DuckLedger) -> list[str]:
    """Sessions that still found room: they are acknowledged, so every list has them."""
    found: list[str] = []
    async with asyncio.timeout(20):
        while True:
            start = start_of()
            try:
                await ledger.start(start)
            except StoreUnavailable:
                return found
            found.append(start.session_id)


async def test_a_command_that_reads_is_decided_while_nothing_can_be_merged(
    tmp_path: Path, clock, monkeypatch
):
    """The loop of the commits waits for its read, and only another can answer that while nothing is merged."""
    path = tmp_path / "ledger.duckdb"
    ledger = await open_ledger(path, clock=clock, settings=SMALL)
    created = create_token()
    token_id = created.new.token_id
    await ledger.fact(created)
    assert (await ledger.fact(complete_token(token_id, 1)))["outcome"] == "completed"
    await ledger.close()
    again = await open_ledger(path, clock=clock, settings=SMALL)  # and has forgotten the entry
    hand = await running(again, clock)

    def refused(self):
        raise duckdb.IOException("No space left on device")

    monkeypatch.setattr(Database, "merge", refused)
    assert again._database.is_behind()
    async with asyncio.timeout(20):
        with pytest.raises(TokenCompleted):
            await again.fact(complete_token(token_id, 2))
        await hand.stored(hand.step())
    monkeypatch.undo()
    assert await again.verify_chain(hand.session_id) == hand.seq
    await again.close()
