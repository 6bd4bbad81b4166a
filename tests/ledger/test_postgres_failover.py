"""A PostgreSQL that dies while its replica is promoted, and what becomes of the log of commits in it.

Two real servers with streaming replication, one list of addresses in the URL, and a ledger that goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from helmr.errors import LedgerBehind
from helmr_runtime.clock import FakeClock
from helmr_runtime.ledger.ledger import DuckLedger
from helmr_runtime.ledger.log.stores import open_log
from helmr_runtime.ledger.open import open_ledger
from tests import reaper
from tests.ledger.sessions import SMALL, Hand, running
from tests.ordinary.stand_in import PostgresServer, own_postgres
from tests.stack.cut import Cut

pytestmark = [pytest.mark.long, pytest.mark.allows_blocking, pytest.mark.timeout(300)]

SOCKET = ".s.PGSQL.5432"
LEVEL_S = 60.0
COMMITS = 40


@dataclass(frozen=True, slots=True)
class Replicated:
    """A server, its replica, and what is between them."""

    first: PostgresServer
    second: PostgresServer
    between: Cut

    @property
    def url(self) -> str:
        """Of both, as libpq takes it."""
        hosts = f"{self.first.folder},{self.second.folder}"
        return f"postgresql://helmr@/postgres?host={hosts}&target_session_attrs=read-write"

    def fail_over(self) -> None:
        """The first dies, and the second takes its place."""
        self.first.kill()
        self.second.promote()

    def cut_when_level(self) -> None:
        """Once the second has all that was acknowledged so far, it gets nothing more."""
        ends_s = time.monotonic() + LEVEL_S
        behind = "SELECT pg_current_wal_flush_lsn() - replay_lsn FROM pg_stat_replication"
        with psycopg.connect(self.first.url(), autocommit=True) as connection:
            while (found := connection.execute(behind).fetchall()) != [(0,)]:
                assert time.monotonic() < ends_s, found
                time.sleep(0.01)
        self.between.cut()


@contextmanager
def replicated(*, is_synchronous: bool) -> Iterator[Replicated]:
    """Both run, and the second has everything."""
    with ExitStack() as stack:
        settings = {"synchronous_standby_names": "*"} if is_synchronous else {}
        first = stack.enter_context(own_postgres(settings))
        if first is None:
            pytest.skip("PostgreSQL is not installed")
        folder = reaper.folder("helmr-cut-")
        stack.callback(folder.rmdir)
        stack.callback((folder / SOCKET).unlink)
        between = stack.enter_context(Cut(folder / SOCKET, first.folder / SOCKET))
        (folder / SOCKET).chmod(0o777)
        folder.chmod(0o755)
        second = stack.enter_context(own_postgres(primary=folder))
        assert second is not None
        _until_level(first, "sync" if is_synchronous else "async")
        yield Replicated(first, second, between)


def _until_level(server: PostgresServer, state: str) -> None:
    ends_s = time.monotonic() + LEVEL_S
    with psycopg.connect(server.url(), autocommit=True) as connection:
        while True:
            found = connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall()
            if found == [(state,)]:
                return
            assert time.monotonic() < ends_s, found
            time.sleep(0.05)


@asynccontextmanager
async def machine(folder: Path, url: str, clock: FakeClock) -> AsyncIterator[DuckLedger]:
    """A ledger with its log there."""
    ledger = await open_ledger(
        folder / "ledger.duckdb", clock=clock, settings=SMALL, log=open_log(url)
    )
    try:
        yield ledger
    finally:
        await ledger.close()


async def has_all(ledger: DuckLedger, hand: Hand) -> None:
    """Every entry that was acknowledged."""
    assert await ledger.verify_chain(hand.session_id) == hand.seq
    assert (await ledger.snapshot(hand.session_id)).entries[-1].hash == hand.last_hash


async def commits(hand: Hand, count: int) -> None:
    """One after the other, each acknowledged before the next."""
    for _ in range(count):
        await hand.stored(hand.accepted("x", stream_seq=hand.seq))


async def test_a_failover_to_a_synchronous_replica_loses_nothing(
    tmp_path: Path, clock: FakeClock
) -> None:
    with replicated(is_synchronous=True) as servers:
        async with machine(tmp_path / "a", servers.url, clock) as ledger:
            hand = await running(ledger, clock)
            before = hand.seq
            working = asyncio.create_task(commits(hand, COMMITS))
            async with asyncio.timeout(LEVEL_S):
                while hand.seq < before + COMMITS // 4:
                    await asyncio.sleep(0.005)
            await asyncio.to_thread(servers.fail_over)
            async with asyncio.timeout(LEVEL_S):
                await working
            await commits(hand, 3)
        async with machine(tmp_path / "b", servers.url, clock) as other:
            await has_all(other, hand)


async def test_a_synchronous_server_acknowledges_nothing_that_its_replica_lacks(
    tmp_path: Path, clock: FakeClock
) -> None:
    with replicated(is_synchronous=True) as servers:
        async with machine(tmp_path / "a", servers.url, clock) as ledger:
            hand = await running(ledger, clock)
            servers.between.cut()
            working = asyncio.create_task(commits(hand, 1))
            done, _ = await asyncio.wait([working], timeout=1.0)
            assert not done
            await asyncio.to_thread(servers.fail_over)
            async with asyncio.timeout(LEVEL_S):
                await working
        async with machine(tmp_path / "b", servers.url, clock) as other:
            await has_all(other, hand)


async def test_what_an_asynchronous_replica_lacks_the_runtime_at_work_stores_again(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with replicated(is_synchronous=False) as servers:
        async with machine(tmp_path / "a", servers.url, clock) as ledger:
            hand = await running(ledger, clock)
            await asyncio.to_thread(servers.cut_when_level)
            await commits(hand, 5)
            await asyncio.to_thread(servers.fail_over)
            async with asyncio.timeout(LEVEL_S):
                await commits(hand, 1)
        assert len([one for one in caplog.messages if "it is stored again" in one]) == 5
        async with machine(tmp_path / "b", servers.url, clock) as other:
            await has_all(other, hand)


async def test_if_it_ended_before_that_it_refuses_to_start_on_a_log_that_lacks_them(
    tmp_path: Path, clock: FakeClock
) -> None:
    with replicated(is_synchronous=False) as servers:
        async with machine(tmp_path / "a", servers.url, clock) as ledger:
            hand = await running(ledger, clock)
            await asyncio.to_thread(servers.cut_when_level)
            await commits(hand, 5)
        await asyncio.to_thread(servers.fail_over)
        with pytest.raises(LedgerBehind, match="ends before commit"):
            async with machine(tmp_path / "a", servers.url, clock):
                pass
